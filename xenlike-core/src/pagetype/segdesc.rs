//! The segment descriptors that a guest may have (AMD APM vol. 2 §4.7 and §4.8).

const PRESENT: u64 = 1 << 47;
/// Code or data, rather than a system segment or a gate.
const CODE_OR_DATA: u64 = 1 << 44;
const TYPE: u64 = 0xf << 40;
const DPL: u64 = 3 << 45;

/// Returns the descriptor as the core stores it, or `None` if a guest may not have it. Gates and descriptors of
/// tasks and LDTs are refused. Code and data segments get privilege level 3.
pub const fn check_descriptor(descriptor: u64) -> Option<u64> {
    if descriptor & PRESENT == 0 {
        // A descriptor that is not present always faults, so it is harmless.
        return Some(descriptor);
    }
    if descriptor & CODE_OR_DATA != 0 {
        return Some(descriptor | DPL);
    }
    // Type 0 is invalid for the CPU, so it is harmless.
    if descriptor & TYPE == 0 {
        Some(descriptor)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_guests_may_have() {
        let kernel_code = 0x00af_9b00_0000_ffff;
        let user_code = 0x00af_fb00_0000_ffff;
        assert_eq!(check_descriptor(0), Some(0));
        assert_eq!(check_descriptor(kernel_code), Some(user_code));
        assert_eq!(check_descriptor(user_code), Some(user_code));
        for system in [2u64, 9, 11, 12, 14, 15] {
            assert_eq!(check_descriptor(PRESENT | system << 40), None);
            assert_eq!(check_descriptor(system << 40), Some(system << 40));
        }
    }
}
