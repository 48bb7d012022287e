//! Mitigations against speculation on the ways into ring 0 and out of it. The stubs are built without them. If boot chooses
//! one, it patches jumps to the hardened code over the instructions that [`sites`] names, before any guest runs. So a CPU
//! that needs none executes nothing for them.
//!
//! The hardened code is in the stubs' macros, in section `.text.harden`; it reads [`STEPS`].
#![expect(
    unsafe_code,
    reason = "refers to the stubs' table; sets SPEC_CTRL and EFER"
)]

use crate::kit::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::arch::desc::FLAT_RING3_SS;
use crate::arch::speculation::Choice;
use crate::arch::speculation::choice::path;
use crate::arch::{guest_choice, msr, percpu, section};
use crate::kit::cell::PerCpu;
use crate::kit::{MAX_CPUS, Once, Vaddr};

/// The settings that the hardened code reads.
#[repr(C)]
pub struct Steps {
    /// The measures to take: bits of [`path`].
    pub path: AtomicU8,
    /// A selector in memory, the operand of VERW.
    pub selector: AtomicU16,
    /// The value of SPEC_CTRL in ring 0.
    pub ring0: AtomicU32,
    /// The value of SPEC_CTRL while guests run.
    pub guest: AtomicU32,
}

/// The settings, set once at boot.
pub static STEPS: Steps = Steps {
    path: AtomicU8::new(0),
    selector: AtomicU16::new(FLAT_RING3_SS),
    ring0: AtomicU32::new(0),
    guest: AtomicU32::new(0),
};

static CHOICE: Once<Choice> = Once::new();

/// An instruction to patch, by a jump or a call of five bytes.
pub struct Site {
    /// Its address.
    pub at: Vaddr,
    /// The jump or call.
    pub bytes: [u8; 5],
}

/// A site as the stubs note it, with addresses relative to the table's start.
#[repr(C)]
#[derive(Clone, Copy)]
struct Noted {
    at: i32,
    to: i32,
    opcode: u32,
    /// The length of the instruction that is there.
    room: u32,
}

unsafe extern "C" {
    static harden_sites: Noted;
    static harden_sites_end: Noted;
}

/// Records the choice, and returns the instructions to patch. There are none if the choice needs no measure
/// in the stubs.
pub fn sites(choice: &Choice) -> impl Iterator<Item = Site> {
    let (ring0, guest) = choice.spec_ctrl.unwrap_or_default();
    STEPS.ring0.store(ring0, Ordering::Relaxed);
    STEPS.guest.store(guest, Ordering::Relaxed);
    STEPS.path.store(choice.path, Ordering::Release);
    CHOICE.call_once(|| *choice);
    let (first, end) = (&raw const harden_sites, &raw const harden_sites_end);
    // SAFETY: the table that the stubs define between these two labels.
    let noted = unsafe { section::entries(first, end) };
    assert!(
        noted.iter().all(|site| site.room >= 5),
        "a jump needs five bytes"
    );
    let needed = if choice.path == 0 { &[] } else { noted };
    needed.iter().map(move |site| {
        let at = (first as u64).wrapping_add_signed(i64::from(site.at));
        let [a, b, c, d] = (site.to - site.at - 5).to_le_bytes();
        Site {
            at: Vaddr(at),
            bytes: [site.opcode as u8, a, b, c, d],
        }
    })
}

/// EFER.AIBRSE: automatic IBRS (APM vol. 2 §3.1.7).
const EFER_AUTO_IBRS: u64 = 1 << 21;

/// Sets this CPU's registers as chosen, whatever the firmware left in SPEC_CTRL.
pub(super) fn init_cpu() {
    let Some(choice) = CHOICE.get() else {
        return;
    };
    // SAFETY: the CPU has these bits, and they affect nothing but speculation.
    unsafe {
        if let Some((ring0, _)) = choice.spec_ctrl {
            msr::write_safe(msr::nr::SPEC_CTRL, u64::from(ring0));
        }
        if choice.auto_ibrs {
            let efer = msr::read(msr::nr::EFER);
            msr::write_safe(msr::nr::EFER, efer | EFER_AUTO_IBRS);
        }
    }
}

/// Called before a vCPU of the domain with serial number `next` runs here: issues a prediction barrier if another domain ran
/// before, so that its training of the branch predictor can't steer this one.
pub(super) fn between_domains(next: u64) {
    static LAST: PerCpu<AtomicU64> = PerCpu::new([const { AtomicU64::new(0) }; MAX_CPUS]);
    if !CHOICE.get().is_some_and(|choice| choice.ibpb) {
        return;
    }
    let last = LAST.of(percpu::this_cpu());
    if last.swap(next, Ordering::Relaxed) != next {
        guest_choice::prediction_barrier();
    }
}

/// Called before this CPU sleeps: clears its buffers, which its sibling could otherwise sample.
pub(super) fn before_sleep() {
    if STEPS.path.load(Ordering::Relaxed) & path::VERW != 0 {
        guest_choice::clear_buffers(&STEPS.selector);
    }
}

/// The macros of the stubs. `CALL_RUST` and `LEAVE_RING0` note the sites that boot may patch.
macro_rules! macros {
    () => {
        r#"
.pushsection .rodata.harden, "a"
.balign 4
.global harden_sites
harden_sites:
.popsection

// Calls Rust on the way in. Patched, the call goes through the mitigations of the way in.
.macro CALL_RUST target
.Lsite\@:
    call \target
.pushsection .rodata.harden, "a"
    .long .Lsite\@ - harden_sites, .Lsteps\@ - harden_sites, 0xe8, 5
.popsection
.pushsection .text.harden, "ax"
.Lsteps\@:
    HARDEN_ENTRY
    jmp \target
.popsection
.endm

// Notes the instruction that follows, which ends at `behind`, as the start of the way out. Patched, it is a jump to
// `hardened`, which executes the mitigations and then the instruction.
.macro LEAVE_RING0 hardened behind
.Lsite\@:
.pushsection .rodata.harden, "a"
    .long .Lsite\@ - harden_sites, \hardened - harden_sites, 0xe9, \behind - .Lsite\@
.popsection
.endm

// Preserves rdi and rsi. The prediction barrier comes first. Then 32 calls fill the return stack buffer with addresses
// at which speculation stops, so that the guest's returns can't steer ours. After SPEC_CTRL is set, five times five taken
// branches push the guest's branches out of the history (Intel, "Branch History Injection").
.macro HARDEN_ENTRY
    test byte ptr [rip + {steps}], {step_ibpb}
    jz 1f
    mov ecx, 0x49
    mov eax, 1
    xor edx, edx
    wrmsr
1:  test byte ptr [rip + {steps}], {step_spec_ctrl}
    jz 2f
    mov ecx, 0x48
    mov eax, [rip + {steps} + {steps_ring0}]
    xor edx, edx
    wrmsr
2:  test byte ptr [rip + {steps}], {step_rsb}
    jz 5f
    mov eax, 16
3:  call 4f
6:  pause
    lfence
    jmp 6b
4:  call 8f
7:  pause
    lfence
    jmp 7b
8:  dec eax
    jnz 3b
    add rsp, 32 * 8
5:  test byte ptr [rip + {steps}], {step_history}
    jz 5f
    mov ecx, 5
    call 3f
    jmp 5f
    .balign 64
3:  call 4f
    ret
    .balign 64
4:  mov eax, 5
6:  jmp 7f
    nop
7:  dec eax
    jnz 6b
    dec ecx
    jnz 3b
    ret
5:  lfence
    xor eax, eax
    xor ecx, ecx
    xor edx, edx
.endm

// Clobbers rax, rcx and rdx, which the exit loads afterwards.
.macro HARDEN_EXIT
    test byte ptr [rip + {steps}], {step_spec_ctrl}
    jz 2f
    mov ecx, 0x48
    mov eax, [rip + {steps} + {steps_guest}]
    xor edx, edx
    wrmsr
2:  test byte ptr [rip + {steps}], {step_verw}
    jz 3f
    verw word ptr [rip + {steps} + {steps_selector}]
3:
.endm
"#
    };
}
pub(super) use macros;
