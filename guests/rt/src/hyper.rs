//! Hypercalls with their arguments as structures and their results as `Result`.

#![expect(unsafe_code, reason = "makes hypercalls")]

use guest_pv_abi::call::{hypercall1, hypercall2, hypercall3, hypercall4, hypercall5};
use guest_pv_abi::xen::{CONSOLEIO_READ, CONSOLEIO_WRITE, MmuUpdate, MmuextOp, MulticallEntry};
use guest_pv_abi::xenlike::XENLIKE_AUDIT;
use guest_pv_abi::{Errno, GuestHandle, errno, hypercall, sched};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A hypercall's outcome: its non-negative value or its error number.
pub type Outcome = Result<u64, Errno>;

/// A structure that a hypercall reads and writes.
pub trait Argument: FromBytes + IntoBytes + Immutable {}
impl<T: FromBytes + IntoBytes + Immutable> Argument for T {}

/// Any hypercall with any arguments.
///
/// # Safety
/// The caller answers for what the call does to its memory, page tables and registers.
pub unsafe fn raw(number: u64, a: [u64; 5]) -> i64 {
    // SAFETY: the caller's promise.
    unsafe { hypercall5(number, a[0], a[1], a[2], a[3], a[4]) }
}

/// A call of the shape (sub-operation, pointer to its structure).
fn op<T: Argument>(number: u64, cmd: u32, argument: &mut T) -> Outcome {
    let pointer = GuestHandle::of_mut(argument);
    // SAFETY: the hypervisor writes this structure alone, and any bytes are a value of it.
    Errno::check(unsafe { hypercall2(number, u64::from(cmd), pointer.0) })
}

macro_rules! ops {
    ($($name:ident, $number:ident, $doc:literal;)*) => { $(
        #[doc = $doc]
        ///
        /// # Errors
        /// What the hypervisor answers.
        pub fn $name<T: Argument>(cmd: u32, argument: &mut T) -> Outcome {
            op(hypercall::$number, cmd, argument)
        }
    )* };
}

ops! {
    sched_op, SCHED_OP, "`SCHEDOP_*` with its structure.";
    event_channel_op, EVENT_CHANNEL_OP, "`EVTCHNOP_*` with its structure.";
    memory_op, MEMORY_OP, "`XENMEM_*` with its structure. Pointers inside are the caller's business.";
    xen_version, XEN_VERSION, "`XENVER_*` with its buffer.";
    physdev_op, PHYSDEV_OP, "`PHYSDEVOP_*` with its structure.";
    callback_op, CALLBACK_OP, "`CALLBACKOP_*` with its structure.";
    hvm_op, HVM_OP, "`HVMOP_*` with its structure.";
    xenlike_op, ARCH_0, "xenlike's private hypercall: `XENLIKE_*` with its structure.";
}

/// A sub-operation without a structure (`XENVER_VERSION`, `SCHEDOP_YIELD`, …).
///
/// # Errors
/// What the hypervisor answers.
pub fn op_without_argument(number: u64, cmd: u32) -> Outcome {
    // SAFETY: no pointer is passed.
    Errno::check(unsafe { hypercall2(number, u64::from(cmd), 0) })
}

/// What an audit of the hypervisor came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audit {
    /// All that it counts agrees.
    Agrees,
    /// It or an earlier one found something; the hypervisor's console says what.
    Differs,
    /// This hypervisor is no test build.
    Unknown,
}

/// Has a test build of xenlike recount every reference of the machine, this domain's among them.
#[must_use]
pub fn audit() -> Audit {
    match op_without_argument(hypercall::ARCH_0, XENLIKE_AUDIT) {
        Ok(_) => Audit::Agrees,
        Err(errno::EIO) => Audit::Differs,
        Err(_) => Audit::Unknown,
    }
}

/// A call whose one argument is its structure: domctl, sysctl, platform_op.
///
/// # Errors
/// What the hypervisor answers.
pub fn control<T: Argument>(number: u64, argument: &mut T) -> Outcome {
    let pointer = GuestHandle::of_mut(argument);
    // SAFETY: as in `op`; pointers inside the structure are the caller's business.
    Errno::check(unsafe { hypercall1(number, pointer.0) })
}

/// `VCPUOP_*` for a vCPU, with its structure.
///
/// # Errors
/// What the hypervisor answers.
pub fn vcpu_op<T: Argument>(cmd: u32, vcpu: u32, argument: &mut T) -> Outcome {
    let pointer = GuestHandle::of_mut(argument);
    // SAFETY: as in `op`.
    Errno::check(unsafe {
        hypercall3(
            hypercall::VCPU_OP,
            u64::from(cmd),
            u64::from(vcpu),
            pointer.0,
        )
    })
}

/// `GNTTABOP_*` over an array.
///
/// # Errors
/// What the hypervisor answers; each element has a status besides.
pub fn grant_table_op<T: Argument>(cmd: u32, arguments: &mut [T]) -> Outcome {
    let pointer = GuestHandle::of_mut(arguments);
    let count = arguments.len() as u64;
    // SAFETY: as in `op`, over `count` structures.
    Errno::check(unsafe { hypercall3(hypercall::GRANT_TABLE_OP, u64::from(cmd), pointer.0, count) })
}

/// mmu_update: page-table entries and M2P entries. `domain` owns the frames that the entries name
/// (`DOMID_SELF` for this domain).
///
/// # Errors
/// What the hypervisor answers; entries before the failing one are done.
///
/// # Safety
/// The caller answers for what the page tables map afterwards.
pub unsafe fn mmu_update(updates: &[MmuUpdate], domain: u16) -> Outcome {
    let (pointer, count) = (GuestHandle::of(updates), updates.len() as u64);
    // SAFETY: the caller's promise.
    Errno::check(unsafe {
        hypercall4(
            hypercall::MMU_UPDATE,
            pointer.0,
            count,
            0,
            u64::from(domain),
        )
    })
}

/// mmuext_op on this domain's tables.
///
/// # Errors
/// What the hypervisor answers; requests before the failing one are done.
///
/// # Safety
/// The caller answers for the base pointers and what becomes of the frames.
pub unsafe fn mmuext_op(requests: &[MmuextOp]) -> Outcome {
    let (pointer, count) = (GuestHandle::of(requests), requests.len() as u64);
    let domain = u64::from(guest_pv_abi::xen::DOMID_SELF);
    // SAFETY: the caller's promise.
    Errno::check(unsafe { hypercall4(hypercall::MMUEXT_OP, pointer.0, count, 0, domain) })
}

/// update_va_mapping: one entry of the current tables, by virtual address. `flags` are `UVMF_*`.
///
/// # Errors
/// What the hypervisor answers.
///
/// # Safety
/// The caller answers for what the address maps afterwards.
pub unsafe fn update_va_mapping(address: u64, entry: u64, flags: u64) -> Outcome {
    // SAFETY: the caller's promise.
    Errno::check(unsafe { hypercall3(hypercall::UPDATE_VA_MAPPING, address, entry, flags) })
}

/// Several hypercalls in one; each entry gets its result.
///
/// # Errors
/// What the hypervisor answers for the whole.
///
/// # Safety
/// That of each call.
pub unsafe fn multicall(calls: &mut [MulticallEntry]) -> Outcome {
    let (pointer, count) = (GuestHandle::of_mut(calls), calls.len() as u64);
    // SAFETY: the caller's promise.
    Errno::check(unsafe { hypercall2(hypercall::MULTICALL, pointer.0, count) })
}

/// Writes to the hypervisor's console.
///
/// # Errors
/// EPERM where the domain may not.
pub fn console_write(bytes: &[u8]) -> Outcome {
    let (pointer, count) = (GuestHandle::of(bytes), bytes.len() as u64);
    // SAFETY: the hypervisor only reads the bytes.
    Errno::check(unsafe {
        hypercall3(
            hypercall::CONSOLE_IO,
            u64::from(CONSOLEIO_WRITE),
            count,
            pointer.0,
        )
    })
}

/// Reads from the hypervisor's console; the value is the number of bytes.
///
/// # Errors
/// EPERM where the domain may not.
pub fn console_read(bytes: &mut [u8]) -> Outcome {
    let (pointer, count) = (GuestHandle::of_mut(bytes), bytes.len() as u64);
    // SAFETY: the hypervisor writes at most these bytes.
    Errno::check(unsafe {
        hypercall3(
            hypercall::CONSOLE_IO,
            u64::from(CONSOLEIO_READ),
            count,
            pointer.0,
        )
    })
}

/// Asks for an event at a system time in nanoseconds (`VIRQ_TIMER`); 0 cancels.
///
/// # Errors
/// What the hypervisor answers.
pub fn set_timer(system_time_ns: u64) -> Outcome {
    // SAFETY: no pointer is passed.
    Errno::check(unsafe { hypercall1(hypercall::SET_TIMER_OP, system_time_ns) })
}

/// Gives the CPU to whoever else can run.
pub fn yield_now() {
    let _ = op_without_argument(hypercall::SCHED_OP, sched::SCHEDOP_YIELD);
}

/// Sleeps until an event is pending for this vCPU; opens its upcalls.
pub fn block() {
    let _ = op_without_argument(hypercall::SCHED_OP, sched::SCHEDOP_BLOCK);
}

/// Any hypercall makes the hypervisor deliver a pending upcall on its way out; this is the cheapest.
pub(crate) fn force_upcall() {
    let _ = op_without_argument(
        hypercall::XEN_VERSION,
        guest_pv_abi::version::XENVER_VERSION,
    );
}
