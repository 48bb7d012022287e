//! readconsole (`xl dmesg`) and debug_keys.

use crate::kit::atomic::{AtomicU64, Ordering};

use guest_pv_abi::errno;
use guest_pv_abi::sysctl::{DebugKeys, ReadConsole, Sysctl};

use super::{Answer, Back};
use crate::console::{LOG_BYTES, ring_read};
use crate::keys;
use crate::kit::Vaddr;
use crate::mm::guest::Guest;

/// Bytes copied to the caller at a time.
const PIECE: usize = 512;
/// Maximum number of keys handled by one call.
const MAX_KEYS: u32 = 64;

/// The log's position of the last clear. Bytes before it are not read again.
static CLEARED: AtomicU64 = AtomicU64::new(0);

/// XEN_SYSCTL_readconsole: returns the log from the last clear, or from the end of the caller's previous read if that
/// is later.
pub fn read(guest: Guest<'_>, op: &mut Sysctl) -> Answer {
    let mut body = op.u.get::<ReadConsole>();
    let cleared = CLEARED.load(Ordering::Relaxed);
    let mut from = match body.incremental {
        0 => cleared,
        _ => position(cleared, body.index),
    };
    let mut at = body.buffer.0;
    let mut left = (body.count as usize).min(LOG_BYTES);
    let mut given = 0_u32;
    let mut piece = [0; PIECE];
    while left > 0 {
        let room = piece.get_mut(..left.min(PIECE)).unwrap_or_default();
        let (start, count) = ring_read(from, room);
        let Some(bytes) = room.get(..count).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        guest.write_bytes(Vaddr(at), bytes)?;
        at = at.saturating_add(count as u64);
        from = start.saturating_add(count as u64);
        left = left.saturating_sub(count);
        given = given.saturating_add(count as u32);
    }
    (body.count, body.index) = (given, from as u32);
    if body.clear != 0 {
        CLEARED.store(from, Ordering::Relaxed);
    }
    op.u.set(&body);
    Ok(Back::Write)
}

/// The position whose low 32 bits are `index`, or `cleared` if that is later.
fn position(cleared: u64, index: u32) -> u64 {
    let behind = index.wrapping_sub(cleared as u32) as i32;
    cleared.saturating_add(behind.max(0) as u64)
}

/// XEN_SYSCTL_debug_keys: handles keys as if they were typed at the console.
pub fn debug_keys(guest: Guest<'_>, op: &mut Sysctl) -> Answer {
    let body = op.u.get::<DebugKeys>();
    for n in 0..body.nr_keys.min(MAX_KEYS) {
        let at = body.keys.offset(n.into()).ok_or(errno::EFAULT)?;
        let key = guest.read::<u8>(Vaddr(at.0))?;
        keys::press(key);
    }
    Ok(Back::Keep)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_beyond_32_bits() {
        let cleared = 0xffff_fff0;
        assert_eq!(position(cleared, 0x100), 0x1_0000_0100);
        assert_eq!(position(cleared, 0xffff_fff8), 0xffff_fff8);
        // The position that was read last has been cleared since.
        assert_eq!(position(cleared, 0xffff_ffe0), cleared);
        assert_eq!(position(0x300, 0), 0x300);
    }
}
