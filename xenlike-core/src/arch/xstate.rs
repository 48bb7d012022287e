//! XSAVE areas in the standard format (SDM vol. 1 §13.4): the layout of the components, the check of an area from
//! outside before XRSTOR gets it, and the area as the toolstack sees it.

/// The size in bytes of the FXSAVE image at the start of an area.
pub const LEGACY_BYTES: usize = 512;
/// The size in bytes of the XSAVE header behind it.
const HEADER_BYTES: usize = 64;
/// The size in bytes of the smallest area.
pub const MIN_BYTES: usize = LEGACY_BYTES + HEADER_BYTES;
/// The components in the FXSAVE image: x87 and SSE.
pub const LEGACY: u64 = 3;
/// Components, as bits of XCR0.
const X87: u64 = 1;
const SSE: u64 = 2;
const AVX: u64 = 4;
const AVX512: u64 = 0xe0;
/// Guests can only have components with numbers below this one.
const COMPONENTS: usize = 8;

const FCW_AT: usize = 0;
const MXCSR_AT: usize = 24;
const MXCSR_MASK_AT: usize = 28;
/// The x87 component is the part of the image below the XMM registers, without MXCSR and its mask.
const XMM_AT: usize = 160;
const XMM_END: usize = XMM_AT + 256;
/// The x87 control word and MXCSR after a reset (APM vol. 2 §11.5.10).
const FCW_RESET: u16 = 0x37f;
const MXCSR_RESET: u32 = 0x1f80;
/// The valid MXCSR bits of a CPU that states no mask (SDM vol. 1 §11.6.6).
const MXCSR_MASK_DEFAULT: u32 = 0xffbf;

/// Whether XCR0 can have this value where these components exist (SDM vol. 1 §13.3).
pub const fn is_valid_xcr0(value: u64, components: u64) -> bool {
    let avx512 = value & AVX512;
    value & !components == 0
        && value & X87 != 0
        && (value & AVX == 0 || value & SSE != 0)
        && (avx512 == 0 || (avx512 == AVX512 && value & AVX != 0))
}

/// The place of one component in an area.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Place {
    /// The offset of its first byte.
    pub offset: usize,
    /// Its size in bytes.
    pub bytes: usize,
}

/// The layout of a machine's components, and the values that it accepts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shape {
    /// The places by component number. Components in the FXSAVE image, and absent ones, have size 0.
    pub places: [Place; COMPONENTS],
    /// The components of the machine; 0 without XSAVE.
    pub components: u64,
    /// The bits of MXCSR that may be set.
    pub mxcsr_mask: u32,
}

/// Why an area from outside is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BadArea {
    /// It is inconsistent, or contains components that the guest may not have. The caller gets EINVAL.
    Invalid,
    /// It is in the compacted format, or uses reserved fields of the header. The caller gets EOPNOTSUPP.
    Format,
}

impl Shape {
    /// The shape of a machine with FXSAVE only.
    pub const LEGACY: Self = Self {
        places: [Place {
            offset: 0,
            bytes: 0,
        }; COMPONENTS],
        components: 0,
        mxcsr_mask: MXCSR_MASK_DEFAULT,
    };

    /// The shape of the machine with AVX that host tests pretend.
    #[cfg(test)]
    pub const PRETENDED: Self = {
        let mut shape = Self::LEGACY;
        shape.components = LEGACY | AVX;
        shape.places[2] = Place {
            offset: MIN_BYTES,
            bytes: 256,
        };
        shape
    };

    /// The shape of this machine, which has `components`.
    pub fn of_machine(components: u64) -> Self {
        let mut shape = Self {
            components,
            ..Self::LEGACY
        };
        for (number, place) in shape.places.iter_mut().enumerate().skip(2) {
            if components >> number & 1 != 0 {
                let [bytes, offset, ..] = super::cpu::cpuid(0xd, number as u32);
                *place = Place {
                    offset: offset as usize,
                    bytes: bytes as usize,
                };
            }
        }
        shape
    }

    /// This shape with the MXCSR mask that an FXSAVE image states.
    pub fn with_mxcsr_mask_of(self, image: &[u8]) -> Self {
        match u32_at(image, MXCSR_MASK_AT) {
            0 => self,
            mxcsr_mask => Self { mxcsr_mask, ..self },
        }
    }

    /// The size in bytes of an area that holds `components`; 0 for no components.
    pub fn bytes(&self, components: u64) -> usize {
        if components == 0 {
            return 0;
        }
        let ends = self.placed(components).map(|p| p.offset + p.bytes);
        ends.fold(MIN_BYTES, usize::max)
    }

    /// The places behind the header of those components that are in `components`.
    fn placed(&self, components: u64) -> impl Iterator<Item = Place> {
        let numbered = self.places.into_iter().enumerate();
        numbered
            .filter(move |(number, _)| components >> number & 1 != 0)
            .map(|(_, place)| place)
            .filter(|place| place.bytes != 0)
    }

    /// Whether the machine's XCR0 can have this value.
    pub const fn is_valid_xcr0(&self, value: u64) -> bool {
        is_valid_xcr0(value, self.components)
    }

    /// The smallest set of components that a guest must have enabled at some time if it has `xcr0` now and the
    /// components `told` in use.
    pub const fn ever(xcr0: u64, told: u64) -> u64 {
        let all = xcr0 | told | X87;
        let all = if all & AVX512 != 0 {
            all | AVX512 | AVX
        } else {
            all
        };
        if all & AVX != 0 { all | SSE } else { all }
    }

    /// Checks an area from outside for a guest that may use `allowed`, has `xcr0` set now, and has had
    /// `ever` enabled at some time.
    pub fn check(&self, area: &[u8], xcr0: u64, ever: u64, allowed: u64) -> Result<(), BadArea> {
        let Some(header) = area.get(LEGACY_BYTES..MIN_BYTES) else {
            return Err(BadArea::Invalid);
        };
        let possible = self.is_valid_xcr0(xcr0) && self.is_valid_xcr0(ever);
        if !possible || xcr0 & !ever != 0 || ever & !allowed != 0 || u64_at(header, 0) & !ever != 0
        {
            return Err(BadArea::Invalid);
        }
        if header.iter().skip(8).any(|byte| *byte != 0) {
            return Err(BadArea::Format);
        }
        if area.len() == self.bytes(ever) {
            Ok(())
        } else {
            Err(BadArea::Invalid)
        }
    }

    /// Makes `to`, an area for all components, hold the state in `from`, which was checked. XRSTOR accepts the result,
    /// because reserved MXCSR bits are cleared.
    pub fn load(&self, to: &mut [u8], from: &[u8]) {
        to.fill(0);
        for (to, from) in to.iter_mut().zip(from) {
            *to = *from;
        }
        self.tame_mxcsr(to);
    }

    /// Clears the reserved bits of an image's MXCSR, which would make XRSTOR fault.
    pub fn tame_mxcsr(&self, image: &mut [u8]) {
        let mxcsr = u32_at(image, MXCSR_AT) & self.mxcsr_mask;
        set(image, MXCSR_AT, &mxcsr.to_le_bytes());
    }

    /// Writes `from`, an area for all components as XSAVEOPT leaves it, to `to`, cut to its length. XSAVEOPT doesn't
    /// write a component in its initial configuration; the stale bytes of such a component are not copied.
    pub fn tell(&self, from: &[u8], to: &mut [u8]) {
        to.fill(0);
        let has = self.told(from);
        copy_legacy(from, to, has);
        set(to, LEGACY_BYTES, &has.to_le_bytes());
        for place in self.placed(has) {
            copy(from, to, place);
        }
    }

    /// The components of an area that are not in their initial configuration (XSTATE_BV).
    pub fn told(&self, area: &[u8]) -> u64 {
        match self.components {
            0 => LEGACY,
            all => {
                area.get(LEGACY_BYTES..)
                    .map_or(0, |header| u64_at(header, 0))
                    & all
            }
        }
    }
}

/// Writes the FXSAVE image of an area to `to`. Components outside `has` get their values after a reset.
pub fn copy_legacy(from: &[u8], to: &mut [u8], has: u64) {
    let whole = |offset, end| Place {
        offset,
        bytes: end - offset,
    };
    if has & 1 != 0 {
        copy(from, to, whole(0, MXCSR_AT));
        copy(from, to, whole(MXCSR_MASK_AT + 4, XMM_AT));
        copy(from, to, whole(XMM_END, LEGACY_BYTES));
    } else {
        set(to, FCW_AT, &FCW_RESET.to_le_bytes());
    }
    // XSAVE always stores MXCSR, whatever state the XMM registers are in.
    copy(from, to, whole(MXCSR_AT, MXCSR_MASK_AT + 4));
    if has & 2 != 0 {
        copy(from, to, whole(XMM_AT, XMM_END));
    }
}

/// Sets an area to the state after a reset.
pub fn reset(area: &mut [u8], components: u64) {
    area.fill(0);
    set(area, FCW_AT, &FCW_RESET.to_le_bytes());
    set(area, MXCSR_AT, &MXCSR_RESET.to_le_bytes());
    if components != 0 {
        set(area, LEGACY_BYTES, &LEGACY.to_le_bytes());
    }
}

fn copy(from: &[u8], to: &mut [u8], place: Place) {
    let range = place.offset..place.offset + place.bytes;
    if let (Some(to), Some(from)) = (to.get_mut(range.clone()), from.get(range)) {
        to.copy_from_slice(from);
    }
}

fn set(area: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(to) = area.get_mut(at..at + bytes.len()) {
        to.copy_from_slice(bytes);
    }
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
    word.map_or(0, |word| u64::from_le_bytes(*word))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..).and_then(|rest| rest.first_chunk());
    word.map_or(0, |word| u32::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;
    use std::vec::Vec;

    fn shape() -> Shape {
        Shape::PRETENDED
    }

    fn area(has: u64) -> Vec<u8> {
        let mut area = vec![0x5a; 832];
        area[LEGACY_BYTES..MIN_BYTES].fill(0);
        set(&mut area, LEGACY_BYTES, &has.to_le_bytes());
        area
    }

    #[test]
    fn sizes() {
        let sizes = [0, 1, 3, 7].map(|components| shape().bytes(components));
        assert_eq!(sizes, [0, 576, 576, 832]);
    }

    #[test]
    fn only_what_xrstor_takes_passes() {
        let shape = shape();
        let check = |area: &[u8], xcr0, ever| shape.check(area, xcr0, ever, 7);
        let good = area(7);
        assert_eq!(check(&good, 7, 7), Ok(()));
        assert_eq!(check(&good, 3, 7), Ok(()));
        assert_eq!(check(&area(3)[..576], 1, 3), Ok(()));
        let invalid = Err(BadArea::Invalid);
        // Sizes that don't fit the components.
        assert_eq!(check(&good[..576], 7, 7), invalid);
        assert_eq!(check(&good[..831], 7, 7), invalid);
        assert_eq!(check(&good[..575], 3, 3), invalid);
        assert_eq!(check(&area(3), 3, 3), invalid);
        // Impossible values of XCR0.
        for (xcr0, ever) in [
            (0, 7),
            (2, 7),
            (5, 7),
            (7, 3),
            (7, 5),
            (7, 0xf),
            (0xf, 0xf),
            (0xe7, 0xe7),
        ] {
            assert_eq!(check(&good, xcr0, ever), invalid, "{xcr0:#x} {ever:#x}");
        }
        // A component that the policy doesn't allow.
        assert_eq!(shape.check(&good, 7, 7, 3), invalid);
        // Unknown or reserved fields of the header.
        for bit in 3..64 {
            assert_eq!(check(&area(7 | 1 << bit), 7, 7), invalid, "bit {bit}");
        }
        assert_eq!(check(&area(4)[..576], 3, 3), invalid);
        for at in LEGACY_BYTES + 8..MIN_BYTES {
            let mut odd = good.clone();
            odd[at] = 0x80;
            assert_eq!(check(&odd, 7, 7), Err(BadArea::Format), "byte {at}");
        }
    }

    #[test]
    fn what_was_ever_on_can_have_been_on() {
        assert_eq!(Shape::ever(1, 0), 1);
        assert_eq!(Shape::ever(1, 4), 7);
        assert_eq!(Shape::ever(3, 0x40), 0xe7);
    }

    #[test]
    fn a_loaded_area_has_no_reserved_bit_of_mxcsr() {
        let mut to = vec![1; 832];
        let mut from = area(3);
        from[MXCSR_AT..MXCSR_AT + 4].fill(0xff);
        shape().load(&mut to, &from[..576]);
        assert_eq!(u32_at(&to, MXCSR_AT), MXCSR_MASK_DEFAULT);
        assert_eq!(to[..MXCSR_AT], from[..MXCSR_AT]);
        assert!(to[576..].iter().all(|byte| *byte == 0));
        let tells = shape().with_mxcsr_mask_of(&from);
        assert_eq!(tells.mxcsr_mask, 0x5a5a_5a5a);
        assert_eq!(shape().with_mxcsr_mask_of(&[0; 512]), shape());
    }

    #[test]
    fn what_is_in_its_first_state_is_told_as_that() {
        let mut to = vec![7; 832];
        shape().tell(&area(7), &mut to);
        assert_eq!(to, area(7));
        shape().tell(&area(0), &mut to);
        assert_eq!(to[..2], FCW_RESET.to_le_bytes());
        assert_eq!(to[MXCSR_AT..MXCSR_AT + 8], [0x5a; 8]);
        assert!(to[32..].iter().all(|byte| *byte == 0));
        // A shorter area, for a guest that never enabled AVX.
        let mut short = vec![7; 576];
        shape().tell(&area(3), &mut short);
        assert_eq!(short[..512], area(3)[..512]);
        assert_eq!(u64_at(&short, LEGACY_BYTES), 3);
    }
}
