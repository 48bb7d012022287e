//! The segment descriptors that a guest may have (AMD APM vol. 2 §4.7 and §4.8).

use guest_pv_abi::Width;

const PRESENT: u64 = 1 << 47;
/// Code or data, rather than a system segment or a gate.
const CODE_OR_DATA: u64 = 1 << 44;
const TYPE: u64 = 0xf << 40;
const DPL: u64 = 3 << 45;
const RING_1: u64 = 1 << 45;
/// Of the descriptors of segments: those of code.
const CODE: u64 = 1 << 43;
/// Of the descriptors of code: those of 64-bit code.
const LONG: u64 = 1 << 53;

/// Returns the descriptor as the core stores it, or `None` if a guest may not have it. Gates and descriptors of
/// tasks and LDTs are refused. Code and data segments get privilege level 3.
pub const fn check_descriptor(descriptor: u64, width: Width) -> Option<u64> {
    if descriptor & PRESENT == 0 {
        // A descriptor that is not present always faults, so it is harmless.
        return Some(descriptor);
    }
    if descriptor & CODE_OR_DATA != 0 {
        return match width {
            Width::Wide => Some(descriptor | DPL),
            // With 64-bit code, ring 1 could reach the hypervisor's memory.
            Width::Narrow if descriptor & (CODE | LONG) == CODE | LONG => None,
            Width::Narrow if descriptor & DPL == 0 => Some(descriptor | RING_1),
            Width::Narrow => Some(descriptor),
        };
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
        let check_descriptor = |descriptor| check_descriptor(descriptor, Width::Wide);
        assert_eq!(check_descriptor(0), Some(0));
        assert_eq!(check_descriptor(kernel_code), Some(user_code));
        assert_eq!(check_descriptor(user_code), Some(user_code));
        for system in [2u64, 9, 11, 12, 14, 15] {
            assert_eq!(check_descriptor(PRESENT | system << 40), None);
            assert_eq!(check_descriptor(system << 40), Some(system << 40));
        }
    }

    #[test]
    fn narrow_guests_have_rings_1_to_3_and_no_64_bit_code() {
        let check = |descriptor| check_descriptor(descriptor, Width::Narrow);
        let (code32, data) = (0x00cf_9b00_0000_ffff, 0x00cf_9300_0000_ffff);
        for segment in [code32, data] {
            assert_eq!(check(segment), Some(segment | RING_1));
            for ring in 1..=3 {
                assert_eq!(check(segment | ring << 45), Some(segment | ring << 45));
                assert_eq!(check(code32 & !(1 << 54) | LONG | ring << 45), None);
                assert_eq!(check(code32 | LONG | ring << 45), None);
            }
        }
        // The bit has no meaning in data segments, nor in segments that are not present.
        assert_eq!(check(data | LONG), Some(data | LONG | RING_1));
        assert_eq!(
            check(LONG | CODE | CODE_OR_DATA),
            Some(LONG | CODE | CODE_OR_DATA)
        );
        for gate in [12_u64, 14, 15, 5] {
            assert_eq!(check(PRESENT | gate << 40 | DPL), None);
        }
    }
}
