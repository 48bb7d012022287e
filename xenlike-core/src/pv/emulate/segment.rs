//! The segments that are loaded in a vCPU's segment registers, looked up in its descriptor tables.

use guest_pv_abi::Width;
use guest_pv_abi::arch_x86::{FLAT_RING3_CS32, FLAT_RING3_CS64, FLAT_RING3_DS32, narrow};

use super::super::state::State;
use super::table;
use crate::arch::seg;
use crate::domain::Ctx;
use crate::emul::{Bits, Segment, SegmentName};
use crate::kit::Vaddr;
use crate::mm::directmap::SharedPage;

/// The flat segments of guests in the hypervisor's page of every GDT: 32-bit code, data, 64-bit code. Their privilege
/// level doesn't matter here.
const FLAT_CODE32: Option<Segment> = decode(0x00cf_fb00_0000_ffff);
const FLAT_DATA: Option<Segment> = decode(0x00cf_f300_0000_ffff);
const FLAT_CODE64: Option<Segment> = decode(0x00af_fb00_0000_ffff);
/// The table indicator of a selector: it names an entry of the LDT.
const LOCAL: u16 = 4;

/// The segment that is loaded in a register; nothing if it is null, not present, or not a code or data segment.
#[inline]
pub fn of(ctx: &Ctx<'_>, name: SegmentName) -> Option<Segment> {
    match name {
        // No narrow guest has code in the segment with this selector.
        SegmentName::Cs if ctx.regs.cs as u16 == FLAT_RING3_CS64 => FLAT_CODE64,
        SegmentName::Cs => named(ctx.st.pv(), ctx.regs.cs as u16),
        SegmentName::Ss => named(ctx.st.pv(), ctx.regs.ss as u16),
        data => of_data(ctx.st.pv(), data),
    }
}

/// The segment in a register that isn't in the trap frame.
#[inline(never)] // keeps reads of registers off the path of cs and ss
fn of_data(st: &State, name: SegmentName) -> Option<Segment> {
    let [ds, es, fs, gs] = seg::selectors();
    let selector = match name {
        SegmentName::Cs | SegmentName::Ss => return None,
        SegmentName::Ds => ds,
        SegmentName::Es => es,
        SegmentName::Fs => fs,
        SegmentName::Gs => gs,
    };
    named(st, selector)
}

/// The segment of a selector.
#[inline(never)] // off the path of 64-bit code
fn named(st: &State, selector: u16) -> Option<Segment> {
    match (st.width, selector) {
        (Width::Wide, FLAT_RING3_CS64) => FLAT_CODE64,
        (Width::Wide, FLAT_RING3_CS32)
        | (Width::Narrow, narrow::FLAT_RING1_CS | narrow::FLAT_RING3_CS) => FLAT_CODE32,
        (Width::Wide, FLAT_RING3_DS32)
        | (Width::Narrow, narrow::FLAT_RING1_DS | narrow::FLAT_RING3_DS) => FLAT_DATA,
        (_, own) => decode(descriptor(st, own)?),
    }
}

/// A descriptor in the guest's own part of its tables.
#[inline(never)] // off the path of flat segments
fn descriptor(st: &State, selector: u16) -> Option<u64> {
    let index = u32::from(selector >> 3);
    let offset = u64::from(index) * 8;
    if selector & LOCAL != 0 {
        let inside = index < st.ldt.entries;
        return inside.then(|| table::kernel_word(st, Vaddr(st.ldt.base.wrapping_add(offset))))?;
    }
    if index == 0 || index >= st.gdt.entries {
        return None;
    }
    let frame = (*st.gdt.frames.get((offset >> 12) as usize)?)?;
    let word = SharedPage::new(frame)?.u64((offset & 0xfff) as usize)?;
    Some(word.load(crate::kit::atomic::Ordering::Relaxed))
}

/// Decodes a code or data descriptor (APM vol. 2 §4.7); `None` if it is of another kind or not present.
const fn decode(descriptor: u64) -> Option<Segment> {
    let (present, code_or_data) = (bit(descriptor, 47), bit(descriptor, 44));
    if !present || !code_or_data {
        return None;
    }
    let (code, readable_or_writable) = (bit(descriptor, 43), bit(descriptor, 41));
    let limit = (descriptor & 0xffff | descriptor >> 32 & 0xf_0000) as u32;
    let base = descriptor >> 16 & 0xff_ffff | descriptor >> 32 & 0xff00_0000;
    let bits = match (code && bit(descriptor, 53), bit(descriptor, 54)) {
        (true, _) => Bits::SixtyFour,
        (false, true) => Bits::ThirtyTwo,
        (false, false) => Bits::Sixteen,
    };
    Some(Segment {
        base: if matches!(bits, Bits::SixtyFour) {
            0
        } else {
            base
        },
        limit: if bit(descriptor, 55) {
            limit << 12 | 0xfff
        } else {
            limit
        },
        bits,
        readable: !code || readable_or_writable,
        writable: !code && readable_or_writable,
    })
}

const fn bit(word: u64, n: u32) -> bool {
    word >> n & 1 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_descriptors() {
        let code = FLAT_CODE64.unwrap();
        assert_eq!(
            (code.bits, code.base, code.limit),
            (Bits::SixtyFour, 0, u32::MAX)
        );
        assert_eq!((code.readable, code.writable), (true, false));
        assert_eq!(FLAT_CODE32.unwrap().bits, Bits::ThirtyTwo);
        assert!(FLAT_DATA.unwrap().writable);
    }

    #[test]
    fn fields_and_absence() {
        // 32-bit data with base 0x12345678 and limit 0x9abcd; without bit 47 it is not present.
        let data = 0x1249_f234_5678_abcd;
        let segment = decode(data).unwrap();
        assert_eq!(
            (segment.base, segment.limit, segment.bits),
            (0x1234_5678, 0x9_abcd, Bits::ThirtyTwo)
        );
        assert_eq!(decode(data & !(1 << 47)), None);
        assert_eq!(decode(data & !(1 << 44)), None);
    }
}
