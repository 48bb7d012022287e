//! Hypercalls: one table indexed by number (`hypercalls!` below), and a file or folder for each call or small group of
//! calls, named without `xen_`.
//!
//! The call's line in the table decodes the guest's words into named values ([`arguments`]), so handlers never see
//! registers. The call's file reads and checks the structures that they point to (which may fail), calls a service,
//! and maps the service's error to the errno that Xen uses. Each call ends in an [`Outcome`], which is applied in one
//! place. A new hypercall is one line of the table and one file; a new shape of arguments is a structure in
//! [`arguments`].
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

mod arguments;
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
mod outcome;
mod owner;
mod physdev;
mod platform;
mod refused;
mod sched_op;
mod segment;
mod sysctl;
mod table;
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

use guest_pv_abi::Width;
use guest_pv_abi::arch_x86::VcpuGuestContext;
use guest_pv_abi::errno::{self, Errno};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

pub use arguments::{InNarrowRegisters, InRegisters};
pub use outcome::Outcome;
pub(crate) use table::by_number;
pub use table::{
    PLACES, at_narrow_place, at_place, call, call_narrow, place, trace_call, trace_subcalls,
};

pub use crate::domain::Ctx;
use crate::domain::{self, Domain, Vcpu, VcpuState};
use crate::kit::indexed_heap::NoMemory;
use crate::kit::{DomId, Vaddr};
use crate::life::pausing;
use crate::mm::guest::Guest;
use crate::pv::narrow;

table::hypercalls! {
    // number                      class arguments            traced  handler
    SET_TRAP_TABLE                 plain SetTrapTable         []      => traps::set_trap_table;
    MMU_UPDATE                     plain Requests             [1]     => mmu_update::call;
    SET_GDT                        plain SetGdt               []      => descriptor::set_gdt;
    STACK_SWITCH                   hot   StackSwitch          []      => segment::stack_switch;
    SET_CALLBACKS                  plain SetCallbacks         []      => callback::set_callbacks;
    FPU_TASKSWITCH                 hot   FpuTaskswitch        []      => segment::fpu_taskswitch;
    SCHED_OP_COMPAT                plain Command              []      => sched_op::compat;
    PLATFORM_OP                    plain Structure            []      => platform::call;
    SET_DEBUGREG                   plain SetDebugreg          []      => debugreg::set;
    GET_DEBUGREG                   plain GetDebugreg          []      => debugreg::get;
    UPDATE_DESCRIPTOR              hot   UpdateDescriptor     []      => descriptor::update;
    MEMORY_OP                      plain MemoryOp             []      => memory::call;
    MULTICALL                      plain Multicall            [1]     => multicall::call;
    UPDATE_VA_MAPPING              hot   UpdateVaMapping      []      => update_va::call;
    SET_TIMER_OP                   hot   SetTimerOp           []      => timer_op::set;
    EVENT_CHANNEL_OP_COMPAT        plain Structure            []      => event_channel::compat;
    XEN_VERSION                    hot   Command              []      => version::call;
    CONSOLE_IO                     plain ConsoleIo            []      => console_io::call;
    PHYSDEV_OP_COMPAT              plain Structure            []      => physdev::compat;
    GRANT_TABLE_OP                 plain GrantTableOp         [0, 2]  => grant_table::call;
    VM_ASSIST                      plain VmAssist             []      => vm_assist::call;
    UPDATE_VA_MAPPING_OTHERDOMAIN  plain UpdateVaMappingOther []      => update_va::other_domain;
    IRET                           hot   Nothing              []      => iret::call;
    VCPU_OP                        plain VcpuOp               [0, 1]  => vcpu_op::call;
    SET_SEGMENT_BASE               hot   SetSegmentBase       []      => segment::set_base;
    MMUEXT_OP                      plain Requests             [1]     => mmuext::call;
    NMI_OP                         plain Command              []      => nmi_op::call;
    SCHED_OP                       hot   Command              [0]     => sched_op::call;
    CALLBACK_OP                    plain Command              []      => callback::call;
    EVENT_CHANNEL_OP               hot   Command              [0]     => event_channel::call;
    PHYSDEV_OP                     plain Command              []      => physdev::call;
    HVM_OP                         plain Command              []      => hvm_op::call;
    SYSCTL                         plain Structure            []      => sysctl::call;
    DOMCTL                         plain Structure            []      => domctl::call;
    KEXEC_OP                       plain Nothing              []      => refused::of_control;
    XENPMU_OP                      plain Nothing              []      => refused::xenpmu_op;
    DM_OP                          plain DmOp                 []      => refused::dm_op;
    HYPFS_OP                       plain Nothing              []      => refused::of_control;
    ARCH_0                         plain XenlikeOp            []      => xenlike::call;
    // xsm_op is absent, as in a Xen built without XSM: libxl changes its behaviour on any other answer than ENOSYS.
    // argo, xenoprof and tmem are absent as in a Xen built without them.
}

impl Ctx<'_> {
    /// EPERM unless the caller has control rights.
    pub fn require_control(&self) -> Result<(), Errno> {
        if self.dom.is_control() {
            Ok(())
        } else {
            Err(errno::EPERM)
        }
    }

    /// Looks up the domain `id` for the caller, which can name itself by its own id or DOMID_SELF. Only the boot
    /// domain itself can name the boot domain.
    pub fn named(&self, id: u16) -> Option<Arc<Domain>> {
        let id = DomId(id);
        if id == DomId::SELF || id == self.dom.id() {
            Some(Arc::clone(self.dom))
        } else {
            domain::lookup(id).filter(|_| id != DomId::BOOT)
        }
    }

    /// Looks up the domain `id` for a command that only a control domain may apply to other domains.
    pub fn target(&self, id: u16) -> Result<Arc<Domain>, Errno> {
        let target = self.named(id).ok_or(errno::ESRCH)?;
        if target.id() != self.dom.id() {
            self.require_control()?;
        }
        Ok(target)
    }
}

/// Reads a structure that is too large for the stack.
fn get_boxed<T: FromBytes + IntoBytes + FromZeros>(
    guest: Guest<'_>,
    at: Vaddr,
) -> Result<Box<T>, Errno> {
    let mut value = T::new_box_zeroed().map_err(|_| errno::ENOMEM)?;
    guest.read_bytes(value.as_mut_bytes(), at)?;
    Ok(value)
}

/// Reads the context of a vCPU of `dom`, which has that domain's form, whatever the caller's is.
fn get_context(guest: Guest<'_>, dom: &Domain, at: Vaddr) -> Result<Box<VcpuGuestContext>, Errno> {
    Ok(match dom.pages.width() {
        Width::Wide => get_boxed(guest, at)?,
        Width::Narrow => narrow::context::widen(&*get_boxed(guest, at)?).ok_or(errno::ENOMEM)?,
    })
}

/// Stops `vcpu`, which is not the caller, and calls `act` with its state (ADR 5). ERESTART asks for a continuation,
/// because the caller must leave its CPU first.
fn with_stopped<R>(
    ctx: &Ctx<'_>,
    vcpu: &Vcpu,
    act: impl FnOnce(&mut VcpuState) -> R,
) -> Result<R, Errno> {
    pausing::with_stopped(Some(ctx.vcpu), vcpu, act).map_err(|pausing::Again| errno::ERESTART)
}

/// The errno to return if the core's own memory runs out.
fn no_memory(_: NoMemory) -> Errno {
    errno::ENOMEM
}
