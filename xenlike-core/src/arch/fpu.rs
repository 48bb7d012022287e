//! The FPU state of vCPUs: XSAVE where the CPU has it, FXSAVE elsewhere. It is switched with the vCPU and never lazily,
//! because registers that are left loaded can be read by speculation.

use crate::kit::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use core::ptr::NonNull;

use super::xstate::{self, Shape};
use crate::kit::cell::PerCpu;
use crate::kit::{MAX_CPUS, Once};

/// XCR0 bits: the state components (SDM vol. 1 §13.1).
pub mod xcr0 {
    #![cfg_attr(clippy, expect(missing_docs, reason = "the manual's names"))]
    pub const X87: u64 = 1;
    pub const SSE: u64 = 2;
    pub const AVX: u64 = 4;
    pub const AVX512: u64 = 0xe0;
    /// The components that guests may use.
    pub const OFFERED: u64 = X87 | SSE | AVX | AVX512;
}

pub use super::xstate::LEGACY_BYTES;

/// The shape before [`detect`]: the FXSAVE image alone, with room for the XSAVE header.
#[cfg(not(test))]
const AT_FIRST: Shape = Shape::LEGACY;
#[cfg(not(test))]
const AREA_AT_FIRST: u32 = xstate::MIN_BYTES as u32;
/// Host tests pretend that the machine has AVX.
#[cfg(test)]
const AT_FIRST: Shape = Shape::PRETENDED;
#[cfg(test)]
const AREA_AT_FIRST: u32 = xstate::MIN_BYTES as u32 + 256;

/// All components that the machine has and that guests may use; 0 without XSAVE.
static HOST_XCR0: AtomicU64 = AtomicU64::new(AT_FIRST.components);
static AREA_BYTES: AtomicU32 = AtomicU32::new(AREA_AT_FIRST);
/// The layout of the components in a state area.
static SHAPE: Once<Shape> = Once::new();
static OPTIMISED: AtomicBool = AtomicBool::new(false);
/// Whether FXRSTOR leaves another task's last instruction addresses in place (older AMD CPUs).
static LEAKS_POINTERS: AtomicBool = AtomicBool::new(false);
/// The XCR0 that each CPU has loaded.
static XCR0: PerCpu<AtomicU64> = PerCpu::new([const { AtomicU64::new(0) }; MAX_CPUS]);

/// The XCR0 components that guests may enable; 0 without XSAVE.
pub fn host_xcr0() -> u64 {
    HOST_XCR0.load(Ordering::Relaxed)
}

/// The size of a state area in bytes.
pub fn area_bytes() -> usize {
    AREA_BYTES.load(Ordering::Relaxed) as usize
}

/// The layout of the components in a state area.
pub fn shape() -> &'static Shape {
    SHAPE.get().unwrap_or(&AT_FIRST)
}

/// The FPU state of a vCPU, valid while the vCPU doesn't run.
pub struct State {
    area: NonNull<u8>,
    layout: Layout,
}

#[expect(
    unsafe_code,
    reason = "an allocation of a size known at boot, and FPU instructions"
)]
mod state {
    use super::*;

    // SAFETY: the state owns its area, which is tied to no CPU.
    unsafe impl Send for State {}
    // SAFETY: shared references only read.
    unsafe impl Sync for State {}

    impl State {
        /// A state with the values after a reset; `None` if memory is short.
        pub fn new() -> Option<Self> {
            let layout = Layout::from_size_align(area_bytes(), 64).ok()?;
            // SAFETY: the size is not zero.
            let area = NonNull::new(unsafe { alloc_zeroed(layout) })?;
            let mut state = Self { area, layout };
            state.reset();
            Some(state)
        }
        /// The bytes of the whole area.
        pub fn bytes(&self) -> &[u8] {
            // SAFETY: allocated with this size, and initialised by zeroing.
            unsafe { core::slice::from_raw_parts(self.area.as_ptr(), self.layout.size()) }
        }
        /// The bytes of the whole area, for writing. They must stay a valid image, or [`Self::restore`] faults: for an
        /// image from a guest, call [`Self::set_legacy`].
        pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
            // SAFETY: as for `bytes`, and exclusively borrowed.
            unsafe { core::slice::from_raw_parts_mut(self.area.as_ptr(), self.layout.size()) }
        }
    }

    impl Drop for State {
        fn drop(&mut self) {
            // SAFETY: allocated with this layout.
            unsafe { dealloc(self.area.as_ptr(), self.layout) };
        }
    }

    #[cfg(target_os = "none")]
    mod instructions {
        use super::super::*;
        use core::arch::asm;

        pub fn set_xcr0_register(value: u64) {
            // SAFETY: the value is valid: checked by `Shape::is_valid_xcr0`, or the host's own.
            unsafe {
                asm!("xsetbv", in("ecx") 0, in("eax") value as u32, in("edx") (value >> 32) as u32, options(nostack, preserves_flags));
            }
        }
        pub fn save(area: *mut u8, components: u64) {
            // SAFETY: the area is aligned, and large enough for the components.
            unsafe {
                if components == 0 {
                    asm!("fxsave64 [{}]", in(reg) area, options(nostack, preserves_flags));
                } else if OPTIMISED.load(Ordering::Relaxed) {
                    asm!("xsaveopt64 [{}]", in(reg) area, in("eax") u32::MAX, in("edx") u32::MAX, options(nostack, preserves_flags));
                } else {
                    asm!("xsave64 [{}]", in(reg) area, in("eax") u32::MAX, in("edx") u32::MAX, options(nostack, preserves_flags));
                }
            }
        }
        /// Returns whether the machine accepted the image.
        pub fn restore(area: *const u8, components: u64) -> bool {
            let taken: u32;
            // SAFETY: the area is aligned, and large enough for the components; if the machine refuses the image, the
            // fault lands behind the instruction with `taken` still 0.
            unsafe {
                // On these CPUs FXRSTOR and XRSTOR only load the last instruction's addresses if an exception is
                // pending in the image. A load from memory replaces those of the previous guest; without pending
                // exceptions and with a free register it can't fault.
                if LEAKS_POINTERS.load(Ordering::Relaxed) {
                    let zero = 0_u32;
                    asm!("fnclex", "ffree st(7)", "fild dword ptr [{}]", in(reg) &raw const zero, options(nostack, preserves_flags));
                }
                if components == 0 {
                    asm!(
                        "2: fxrstor64 [{area}]",
                        "mov {taken:e}, 1",
                        "3:",
                        crate::extable!("2b", "3b"),
                        area = in(reg) area, taken = inout(reg) 0 => taken,
                        options(nostack, preserves_flags),
                    );
                } else {
                    asm!(
                        "2: xrstor64 [{area}]",
                        "mov {taken:e}, 1",
                        "3:",
                        crate::extable!("2b", "3b"),
                        area = in(reg) area, taken = inout(reg) 0 => taken,
                        in("eax") u32::MAX, in("edx") u32::MAX,
                        options(nostack, preserves_flags),
                    );
                }
            }
            taken != 0
        }
    }
    #[cfg(target_os = "none")]
    pub use instructions::{restore, save, set_xcr0_register};

    #[cfg(not(target_os = "none"))]
    mod instructions {
        pub fn set_xcr0_register(_value: u64) {}
        pub fn save(_area: *mut u8, _components: u64) {}
        pub fn restore(_area: *const u8, _components: u64) -> bool {
            true
        }
    }
    #[cfg(not(target_os = "none"))]
    pub use instructions::{restore, save, set_xcr0_register};
}

impl State {
    /// Sets the state to the values after a reset.
    pub fn reset(&mut self) {
        xstate::reset(self.bytes_mut(), host_xcr0());
    }
    /// Saves this CPU's registers into the state. CR0.TS must be clear.
    pub fn save(&mut self) {
        let components = host_xcr0();
        let area = self.bytes_mut().as_mut_ptr();
        with_all_components(components, || state::save(area, components));
    }
    /// Loads the state into this CPU's registers. CR0.TS must be clear. Images are checked before they get
    /// here. If the machine refuses one nevertheless, the vCPU gets the state after a reset, so that it
    /// can't see another vCPU's registers.
    pub fn restore(&mut self) {
        let components = host_xcr0();
        let load = |state: &Self| {
            let area = state.bytes().as_ptr();
            let mut taken = false;
            with_all_components(components, || taken = state::restore(area, components));
            taken
        };
        if !load(self) {
            log::error!("the machine refuses an FPU state; the vCPU gets the one after a reset");
            self.reset();
            load(self);
        }
    }
    /// The FXSAVE image of the state.
    pub fn legacy(&self) -> [u8; LEGACY_BYTES] {
        let mut image = [0; LEGACY_BYTES];
        xstate::copy_legacy(self.bytes(), &mut image, shape().told(self.bytes()));
        image
    }
    /// Sets the state from an FXSAVE image that a guest or the toolstack passed. Components outside it get their reset
    /// values. Reserved MXCSR bits, which would fault, are cleared.
    pub fn set_legacy(&mut self, image: &[u8; LEGACY_BYTES]) {
        self.reset();
        let bytes = self.bytes_mut();
        bytes[..LEGACY_BYTES].copy_from_slice(image);
        shape().tame_mxcsr(bytes);
    }
    /// Writes the state to `area`, as much as its length allows: see [`Shape::tell`].
    pub fn tell(&self, area: &mut [u8]) {
        shape().tell(self.bytes(), area);
    }
    /// The components that are not in their initial configuration.
    pub fn told(&self) -> u64 {
        shape().told(self.bytes())
    }
    /// Sets the state from an area that [`Shape::check`] has accepted.
    pub fn load_checked(&mut self, area: &[u8]) {
        shape().load(self.bytes_mut(), area);
    }
}

/// Runs `work` with all components of the machine enabled, because XSAVE and XRSTOR skip those that are disabled in
/// XCR0, even if they contain a guest's data.
#[inline]
fn with_all_components(components: u64, work: impl FnOnce()) {
    let now = XCR0.of(super::percpu::this_cpu()).load(Ordering::Relaxed);
    if now == components {
        work();
    } else {
        set_xcr0(components);
        work();
        set_xcr0(now);
    }
}

/// Sets this CPU's XCR0 to a guest's, which is valid ([`Shape::is_valid_xcr0`]), or 0, which stands for x87 and SSE.
/// Does nothing on a machine without XSAVE.
#[inline]
pub fn set_xcr0(value: u64) {
    let value = match value {
        0 => xcr0::X87 | xcr0::SSE,
        _ => value,
    };
    let mine = XCR0.of(super::percpu::this_cpu());
    if host_xcr0() != 0 && mine.load(Ordering::Relaxed) != value {
        state::set_xcr0_register(value);
        mine.store(value, Ordering::Relaxed);
    }
}

/// Detects the machine's components. Called once, on the boot CPU, with CR4.OSXSAVE set.
pub fn detect() {
    let f = super::cpu::features();
    LEAKS_POINTERS.store(
        f.vendor == super::cpu::Vendor::Amd && !f.restores_fp_pointers,
        Ordering::Relaxed,
    );
    if !f.xsave {
        set_shape(0);
        return;
    }
    let [low, _, _, high] = super::cpu::cpuid(0xd, 0);
    let mut all = (u64::from(high) << 32 | u64::from(low)) & xcr0::OFFERED;
    // The components of AVX-512 can only be enabled together (SDM vol. 1 §13.3).
    if all & xcr0::AVX512 != xcr0::AVX512 {
        all &= !xcr0::AVX512;
    }
    HOST_XCR0.store(all, Ordering::Relaxed);
    OPTIMISED.store(f.xsaveopt, Ordering::Relaxed);
    set_xcr0(all);
    // With XCR0 set, EBX is the size of the area for exactly these components.
    let [_, bytes, _, _] = super::cpu::cpuid(0xd, 0);
    AREA_BYTES.store(bytes, Ordering::Relaxed);
    set_shape(all);
}

/// Records the layout of the components, and the valid MXCSR bits, which an FXSAVE image states.
fn set_shape(components: u64) {
    #[repr(align(16))]
    struct Image([u8; LEGACY_BYTES]);
    let mut image = Image([0; LEGACY_BYTES]);
    state::save(image.0.as_mut_ptr(), 0);
    SHAPE.call_once(|| Shape::of_machine(components).with_mxcsr_mask_of(&image.0));
}

/// Sets up this CPU's FPU.
pub fn init_cpu() {
    set_xcr0(host_xcr0());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_from_outside_cannot_fault() {
        let mut state = State::new().unwrap();
        state.set_legacy(&[0xff; LEGACY_BYTES]);
        assert_eq!(state.legacy()[24..28], [0xbf, 0xff, 0, 0]);
        assert!(state.bytes()[LEGACY_BYTES + 8..].iter().all(|b| *b == 0));
    }
}
