//! Hypercalls: one match over the numbers ([`carry_out`]), then one file a call.
//!
//! Each file decodes the guest's words into named values (which may fail), calls a service, and maps
//! the service's error to the errno Xen uses. Nothing of a guest's register reaches further than its
//! decoder. What comes of a call is an [`Outcome`], applied in one place.
#![cfg_attr(
    not(test),
    warn(
        clippy::indexing_slicing,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::arithmetic_side_effects
    )
)]

pub mod outcome;

mod batch;
mod callback;
mod console_io;
mod ctl_bitmap;
mod debugreg;
mod descriptor;
mod domctl;
mod event_channel;
mod flush;
mod grant_table;
mod hvm_op;
mod iret;
mod mca;
mod memory;
mod mmu_update;
mod mmuext;
mod multicall;
mod nmi_op;
mod owner;
mod physdev;
mod platform;
mod refused;
mod sched_op;
mod segment;
mod sysctl;
#[cfg(test)]
mod tests;
mod timer_op;
mod traps;
mod update_va;
mod vcpu_op;
mod version;
mod vm_assist;
mod xenlike;

use alloc::boxed::Box;
use alloc::sync::Arc;

use arrayvec::ArrayVec;
use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::hypercall as nr;
use guest_pv_abi::trace::{TRC_PV_HYPERCALL_SUBCALL, hypercall_argument};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes};

pub use iret::call as iret;
pub use outcome::{Args, Outcome};

use crate::arch::frame::TrapFrame;
pub use crate::domain::Ctx;
use crate::domain::{self, Domain, Vcpu, VcpuState};
use crate::kit::heap::NoMemory;
use crate::kit::{AtomicRef, DomId, Vaddr};
use crate::life::pausing;
use crate::mm::guest_copy;

impl Ctx<'_> {
    /// Control rights, or EPERM.
    pub fn require_control(&self) -> Result<(), Errno> {
        if self.dom.is_control() {
            Ok(())
        } else {
            Err(errno::EPERM)
        }
    }

    /// The domain that the caller calls `id`: itself by its own id or DOMID_SELF. Nobody else can
    /// name the boot domain.
    pub fn named(&self, id: u16) -> Option<Arc<Domain>> {
        let id = DomId(id);
        if id == DomId::SELF || id == self.dom.id() {
            Some(Arc::clone(self.dom))
        } else {
            domain::lookup(id).filter(|_| id != DomId::BOOT)
        }
    }

    /// The domain that the caller calls `id`, for something that a control domain may do to others.
    pub fn target(&self, id: u16) -> Result<Arc<Domain>, Errno> {
        let target = self.named(id).ok_or(errno::ESRCH)?;
        if target.id() != self.dom.id() {
            self.require_control()?;
        }
        Ok(target)
    }
}

/// The arguments of a hypercall by `syscall` from guest kernel mode: in rdi, rsi, rdx and r10 (no call
/// has more); its number is in rax, and there goes its result (xen-x86_64.h).
#[inline]
pub const fn arguments(regs: &TrapFrame) -> Args {
    Args([regs.rdi, regs.rsi, regs.rdx, regs.r10])
}

/// Puts a continued call's progress into the registers of its own arguments. The others belong to
/// the guest, whose compiler counts on them to stay.
pub fn set_arguments(regs: &mut TrapFrame, args: &Args) {
    let count = match regs.rax {
        nr::DOMCTL | nr::SYSCTL | nr::PLATFORM_OP => 1,
        nr::MEMORY_OP | nr::MULTICALL | nr::EVENT_CHANNEL_OP => 2,
        nr::CONSOLE_IO | nr::GRANT_TABLE_OP | nr::VCPU_OP | nr::UPDATE_VA_MAPPING => 3,
        _ => 4,
    };
    let TrapFrame {
        rdi, rsi, rdx, r10, ..
    } = regs;
    for (register, value) in [rdi, rsi, rdx, r10].into_iter().zip(args.0).take(count) {
        *register = value;
    }
}

/// The places of a table of hypercalls: one for each number, and the last for all others.
pub const PLACES: usize = 64;
/// The last place.
pub const OTHERS: u64 = PLACES as u64 - 1;

/// The place of hypercall `number`, bounded without a branch that speculation could pass.
#[inline(always)]
pub fn place(number: u64) -> usize {
    number.min(OTHERS) as usize
}

/// A table by number of a function's instances: each call pays for its own stack frame and no other's.
macro_rules! by_number {
    ($one:ident) => {
        $crate::hypercall::by_number!($one:
            0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
            32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60
            61 62 63)
    };
    ($one:ident: $($number:literal)*) => { [$($one::<$number>),*] };
}
pub(crate) use by_number;

/// A hypercall from within another.
type Handler = fn(&mut Ctx<'_>, u64, &mut Args) -> Outcome;
static HANDLERS: [Handler; PLACES] = by_number!(at_place);
/// The table that calls go by: another one while they are traced, so that nothing is tested while they are not.
static SUBCALLS: AtomicRef<[Handler; PLACES]> = AtomicRef::new(&HANDLERS);

/// Calls hypercall `number` from within another.
pub fn call(ctx: &mut Ctx<'_>, number: u64, args: &mut Args) -> Outcome {
    by_table(SUBCALLS.get(), ctx, number, args)
}

#[inline(always)] // one body each
fn by_table(table: &[Handler; PLACES], ctx: &mut Ctx<'_>, number: u64, args: &mut Args) -> Outcome {
    match table.get(place(number)) {
        Some(handler) => handler(ctx, number, args),
        None => Outcome::from(errno::ENOSYS),
    }
}

/// Has calls from within others traced, or not.
pub fn trace_subcalls(whether: bool) {
    static TRACED: [Handler; PLACES] = [traced; PLACES];
    SUBCALLS.set(if whether { &TRACED } else { &HANDLERS });
}

fn traced(ctx: &mut Ctx<'_>, number: u64, args: &mut Args) -> Outcome {
    trace_call(TRC_PV_HYPERCALL_SUBCALL, number, args);
    by_table(&HANDLERS, ctx, number, args)
}

/// Records a hypercall with those of its arguments that Xen records.
pub fn trace_call(event: u32, number: u64, args: &Args) {
    let kept: &[u32] = match number {
        nr::MMU_UPDATE | nr::MULTICALL | nr::MMUEXT_OP => &[1],
        nr::GRANT_TABLE_OP => &[0, 2],
        nr::VCPU_OP => &[0, 1],
        nr::SCHED_OP | nr::EVENT_CHANNEL_OP => &[0],
        _ => &[],
    };
    let mut record = ArrayVec::<u32, 3>::new();
    let bits = kept.iter().fold(0, |bits, &n| bits | hypercall_argument(n));
    record.push(number.min(0xf_ffff) as u32 | bits);
    let words = kept.iter().filter_map(|&n| args.0.get(n as usize));
    record.extend(words.map(|word| *word as u32));
    crate::trace::record(event, &record);
}

/// Carries out hypercall `number`, whose place is `PLACE`.
#[inline(always)] // what the call does not look at need not be put in memory for it
pub fn at_place<const PLACE: u64>(ctx: &mut Ctx<'_>, number: u64, args: &mut Args) -> Outcome {
    carry_out(if PLACE == OTHERS { number } else { PLACE }, ctx, args)
}

/// Carries out hypercall `number`. A new hypercall is one line here and one file.
#[inline(always)] // of a number that is known, nothing but its line is left
fn carry_out(number: u64, ctx: &mut Ctx<'_>, args: &mut Args) -> Outcome {
    match number {
        nr::SET_TRAP_TABLE => traps::set_trap_table(ctx, args),
        nr::MMU_UPDATE => mmu_update::call(ctx, args),
        nr::SET_GDT => descriptor::set_gdt(ctx, *args).into(),
        nr::STACK_SWITCH => segment::stack_switch(ctx, *args).into(),
        nr::SET_CALLBACKS => callback::set_callbacks(ctx, *args).into(),
        nr::FPU_TASKSWITCH => segment::fpu_taskswitch(ctx, *args).into(),
        nr::SCHED_OP_COMPAT => sched_op::compat(ctx, args),
        nr::SET_DEBUGREG => debugreg::set(ctx, *args).into(),
        nr::GET_DEBUGREG => debugreg::get(ctx, *args).into(),
        nr::UPDATE_DESCRIPTOR => descriptor::update(ctx, *args).into(),
        nr::MEMORY_OP => memory::call(ctx, args),
        nr::MULTICALL => multicall::call(ctx, args),
        nr::UPDATE_VA_MAPPING => update_va::call(ctx, args),
        nr::UPDATE_VA_MAPPING_OTHERDOMAIN => update_va::other_domain(ctx, args),
        nr::SET_TIMER_OP => timer_op::set(ctx, *args).into(),
        nr::XEN_VERSION => version::call(ctx, *args).into(),
        nr::CONSOLE_IO => console_io::call(ctx, args),
        nr::VM_ASSIST => vm_assist::call(ctx, *args).into(),
        nr::IRET => match iret::call(ctx.vcpu, ctx.dom, ctx.st, ctx.regs) {
            Ok(()) => Outcome::Replaced,
            Err(stuck) => Outcome::Crash(stuck.why()),
        },
        nr::VCPU_OP => vcpu_op::call(ctx, args),
        nr::SET_SEGMENT_BASE => segment::set_base(ctx, *args).into(),
        nr::MMUEXT_OP => mmuext::call(ctx, args),
        nr::SCHED_OP => sched_op::call(ctx, args),
        nr::EVENT_CHANNEL_OP => event_channel::call(ctx, args),
        nr::EVENT_CHANNEL_OP_COMPAT => event_channel::compat(ctx, args),
        nr::GRANT_TABLE_OP => grant_table::call(ctx, args),
        nr::SYSCTL => sysctl::call(ctx, *args),
        nr::DOMCTL => domctl::call(ctx, args),
        #[cfg(feature = "audit")]
        nr::ARCH_0 if args.0[0] as u32 == guest_pv_abi::xenlike::XENLIKE_AUDIT => {
            xenlike::audit(args)
        }
        nr::ARCH_0 => xenlike::call(ctx, *args).into(),
        nr::NMI_OP => nmi_op::call(ctx, *args).into(),
        nr::PHYSDEV_OP => physdev::call(ctx, *args).into(),
        nr::PHYSDEV_OP_COMPAT => physdev::compat(ctx, *args).into(),
        nr::HVM_OP => hvm_op::call(ctx, *args).into(),
        nr::PLATFORM_OP => platform::call(ctx, *args).into(),
        nr::CALLBACK_OP => callback::call(ctx, *args).into(),
        _ => refused::call(ctx, number, *args).into(),
    }
}

/// Reads a structure at a guest address.
fn get<T: FromBytes + IntoBytes>(at: u64) -> Result<T, Errno> {
    guest_copy::read(Vaddr(at)).map_err(|_| errno::EFAULT)
}

/// Reads a structure too large for the stack.
fn get_boxed<T: FromBytes + IntoBytes + FromZeros>(at: u64) -> Result<Box<T>, Errno> {
    let mut value = T::new_box_zeroed().map_err(|_| errno::ENOMEM)?;
    guest_copy::copy_from_guest(value.as_mut_bytes(), Vaddr(at)).map_err(|_| errno::EFAULT)?;
    Ok(value)
}

/// Writes a structure to a guest address.
fn put<T: IntoBytes + Immutable>(at: u64, value: &T) -> Result<(), Errno> {
    guest_copy::write(Vaddr(at), value).map_err(|_| errno::EFAULT)
}

/// Calls `act` with the state of a vCPU, not the caller, that is stopped for so long. ERESTART asks for a
/// continuation: the caller has to leave its CPU first.
fn with_stopped<R>(
    ctx: &Ctx<'_>,
    vcpu: &Vcpu,
    act: impl FnOnce(&mut VcpuState) -> R,
) -> Result<R, Errno> {
    pausing::with_stopped(Some(ctx.vcpu), vcpu, act).map_err(|pausing::Again| errno::ERESTART)
}

/// The errno for a lack of the core's own memory.
fn no_memory(_: NoMemory) -> Errno {
    errno::ENOMEM
}

#[cfg(test)]
mod continuation_tests {
    use super::*;

    #[test]
    fn a_continuation_leaves_the_guests_own_registers_alone() {
        let mut regs = TrapFrame {
            rax: nr::MEMORY_OP,
            rdx: 7,
            r10: 8,
            r8: 9,
            ..TrapFrame::default()
        };
        set_arguments(&mut regs, &Args([1, 2, 0, 0]));
        assert_eq!((regs.rdi, regs.rsi), (1, 2));
        assert_eq!((regs.rdx, regs.r10, regs.r8), (7, 8, 9));
    }
}
