//! `struct xenctl_bitmap`: sets of CPUs and nodes in a toolstack's memory (xen.h).

use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::xen::CtlBitmap;

use crate::kit::{CpuSet, Vaddr};
use crate::mm::guest::Guest;

/// Size in bytes of the core's own CPU set.
const OWN_BYTES: usize = size_of::<CpuSet>();
/// Maximum number of bytes of a caller's bitmap that `write` defines. This bounds its work; real bitmaps are
/// shorter.
const MAX_BYTES: usize = 4096;

/// Reads a CPU set from the caller's bitmap. Bits beyond the length that the caller states are clear.
pub fn read(guest: Guest<'_>, map: &CtlBitmap) -> Result<CpuSet, Errno> {
    let bits = map.nr_bits.min(u64::BITS);
    let mut bytes = [0; OWN_BYTES];
    let wanted = bits.div_ceil(8) as usize;
    if let Some(start) = bytes.get_mut(..wanted) {
        guest.read_bytes(start, Vaddr(map.bitmap.0))?;
    }
    let set = CpuSet(u64::from_le_bytes(bytes));
    Ok(set.and(CpuSet::first_n(bits)))
}

/// Writes a set to the caller's bitmap and zeroes its remaining bytes, up to [`MAX_BYTES`].
pub fn write(guest: Guest<'_>, map: &CtlBitmap, set: CpuSet) -> Result<(), Errno> {
    const NONE: [u8; 64] = [0; 64];
    let room = (map.nr_bits.div_ceil(8) as usize).min(MAX_BYTES);
    let bytes = set.and(CpuSet::first_n(map.nr_bits)).0.to_le_bytes();
    let own = bytes.get(..room).unwrap_or(&bytes);
    guest.write_bytes(Vaddr(map.bitmap.0), own)?;
    let mut done = own.len();
    while done < room {
        let piece = NONE.get(..room.saturating_sub(done)).unwrap_or(&NONE);
        let at = map.bitmap.offset(done as u64).ok_or(errno::EFAULT)?;
        guest.write_bytes(Vaddr(at.0), piece)?;
        done = done.saturating_add(piece.len());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mm::guest::map_fake;
    use guest_pv_abi::GuestHandle;

    const VA: u64 = 0x5200_0000;
    const GUEST: Guest<'static> = Guest::loaded(guest_pv_abi::Width::Wide);

    fn map(nr_bits: u32) -> CtlBitmap {
        CtlBitmap {
            bitmap: GuestHandle(VA),
            nr_bits,
            _gap0: [0; 4],
        }
    }

    #[test]
    fn bits_beyond_the_callers_are_cut() {
        map_fake(Vaddr(VA), 1);
        GUEST.write_bytes(Vaddr(VA), &[0xff; 16]).unwrap();
        assert_eq!(read(GUEST, &map(10)), Ok(CpuSet(0x3ff)));
        assert_eq!(read(GUEST, &map(1000)), Ok(CpuSet::ALL));
        assert_eq!(read(GUEST, &map(0)), Ok(CpuSet::EMPTY));
        write(GUEST, &map(4), CpuSet(0xf5)).unwrap();
        let mut seen = [0; 16];
        GUEST.read_bytes(&mut seen, Vaddr(VA)).unwrap();
        assert_eq!(seen[..2], [5, 0xff]);
        write(GUEST, &map(100), CpuSet(0x102)).unwrap();
        GUEST.read_bytes(&mut seen, Vaddr(VA)).unwrap();
        assert_eq!(seen[..14], [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff]);
        assert_eq!(write(GUEST, &map(u32::MAX), CpuSet::EMPTY), Ok(()));
        let nowhere = CtlBitmap {
            bitmap: GuestHandle(0x7777_0000),
            ..map(8)
        };
        assert_eq!(read(GUEST, &nowhere), Err(errno::EFAULT));
    }
}
