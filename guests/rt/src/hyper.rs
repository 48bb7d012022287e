//! Hypercalls that take their arguments as structures and return a `Result`.

#![expect(unsafe_code, reason = "makes hypercalls")]

use guest_pv_abi::call::{hypercall1, hypercall2, hypercall3, hypercall4, hypercall5};
use guest_pv_abi::xen::{CONSOLEIO_READ, CONSOLEIO_WRITE, MmuUpdate, MmuextOp, MulticallEntry};
use guest_pv_abi::xenlike::XENLIKE_AUDIT;
use guest_pv_abi::{Errno, GuestHandle, Long, errno, hypercall, sched};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::arch;

/// The outcome of a hypercall: its non-negative value or its errno.
pub type Outcome = Result<u64, Errno>;

/// A structure that a hypercall reads and writes as bytes.
pub trait Argument: FromBytes + IntoBytes + Immutable {}
impl<T: FromBytes + IntoBytes + Immutable> Argument for T {}

/// Makes any hypercall with five raw arguments, of which a 32-bit guest passes the low halves.
///
/// # Safety
/// The caller must know what the call does to its memory, page tables and registers.
pub unsafe fn raw(number: u64, a: [u64; 5]) -> i64 {
    // SAFETY: the caller's promise.
    unsafe {
        hypercall5(
            number,
            a[0] as Long,
            a[1] as Long,
            a[2] as Long,
            a[3] as Long,
            a[4] as Long,
        )
    }
}

/// A call with the arguments (sub-operation, pointer to its structure).
fn op<T: Argument>(number: u64, cmd: u32, argument: &mut T) -> Outcome {
    let pointer = GuestHandle::of_mut(argument);
    // SAFETY: the hypervisor writes only this structure, and any bytes are a valid value of it.
    Errno::check(unsafe { hypercall2(number, Long::from(cmd), pointer.0) })
}

macro_rules! ops {
    ($($name:ident, $number:ident, $doc:literal;)*) => { $(
        #[doc = $doc]
        ///
        /// # Errors
        /// The errno that the hypervisor returned.
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

/// A sub-operation that takes no structure (`XENVER_VERSION`, `SCHEDOP_YIELD`, …).
///
/// # Errors
/// The errno that the hypervisor returned.
pub fn op_without_argument(number: u64, cmd: u32) -> Outcome {
    // SAFETY: no pointer is passed.
    Errno::check(unsafe { hypercall2(number, Long::from(cmd), 0) })
}

/// The result of an audit of the hypervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audit {
    /// Everything that the audit counts agrees.
    Agrees,
    /// This audit or an earlier one found a disagreement; the hypervisor's console has the details.
    Differs,
    /// This hypervisor isn't a test build, so it has no audit.
    Unknown,
}

/// Asks a test build of xenlike to recount every reference of the machine, including this domain's.
#[must_use]
pub fn audit() -> Audit {
    match op_without_argument(hypercall::ARCH_0, XENLIKE_AUDIT) {
        Ok(_) => Audit::Agrees,
        Err(errno::EIO) => Audit::Differs,
        Err(_) => Audit::Unknown,
    }
}

/// A call whose only argument is its structure: domctl, sysctl, platform_op.
///
/// # Errors
/// The errno that the hypervisor returned.
pub fn control<T: Argument>(number: u64, argument: &mut T) -> Outcome {
    let pointer = GuestHandle::of_mut(argument);
    // SAFETY: as in `op`; the caller is responsible for pointers inside the structure.
    Errno::check(unsafe { hypercall1(number, pointer.0) })
}

/// `VCPUOP_*` for one vCPU, with its structure.
///
/// # Errors
/// The errno that the hypervisor returned.
pub fn vcpu_op<T: Argument>(cmd: u32, vcpu: u32, argument: &mut T) -> Outcome {
    let pointer = GuestHandle::of_mut(argument);
    // SAFETY: as in `op`.
    Errno::check(unsafe {
        hypercall3(
            hypercall::VCPU_OP,
            Long::from(cmd),
            Long::from(vcpu),
            pointer.0,
        )
    })
}

/// `GNTTABOP_*` over an array of structures.
///
/// # Errors
/// The errno of the whole call; besides, each element receives its own status.
pub fn grant_table_op<T: Argument>(cmd: u32, arguments: &mut [T]) -> Outcome {
    let pointer = GuestHandle::of_mut(arguments);
    let count = arguments.len() as Long;
    // SAFETY: as in `op`, over `count` structures.
    Errno::check(unsafe {
        hypercall3(hypercall::GRANT_TABLE_OP, Long::from(cmd), pointer.0, count)
    })
}

/// mmu_update: sets page-table entries and M2P entries. `domain` owns the frames that the entries
/// name (`DOMID_SELF` for this domain).
///
/// # Errors
/// The errno that the hypervisor returned; entries before the failing one were set.
///
/// # Safety
/// The caller is responsible for what the page tables map afterwards.
pub unsafe fn mmu_update(updates: &[MmuUpdate], domain: u16) -> Outcome {
    let (pointer, count) = (GuestHandle::of(updates), updates.len() as Long);
    // SAFETY: the caller's promise.
    Errno::check(unsafe {
        hypercall4(
            hypercall::MMU_UPDATE,
            pointer.0,
            count,
            0,
            Long::from(domain),
        )
    })
}

/// mmuext_op on this domain's page tables.
///
/// # Errors
/// The errno that the hypervisor returned; requests before the failing one were carried out.
///
/// # Safety
/// The caller is responsible for the base pointers and for the use of the frames.
pub unsafe fn mmuext_op(requests: &[MmuextOp]) -> Outcome {
    let (pointer, count) = (GuestHandle::of(requests), requests.len() as Long);
    let domain = Long::from(guest_pv_abi::xen::DOMID_SELF);
    // SAFETY: the caller's promise.
    Errno::check(unsafe { hypercall4(hypercall::MMUEXT_OP, pointer.0, count, 0, domain) })
}

/// update_va_mapping: sets one L1 entry of the current tables, by virtual address. `flags` are `UVMF_*`.
///
/// # Errors
/// The errno that the hypervisor returned.
///
/// # Safety
/// The caller is responsible for what the address maps afterwards.
pub unsafe fn update_va_mapping(address: u64, entry: u64, flags: u64) -> Outcome {
    // SAFETY: the caller's promise.
    unsafe { arch::update_va_mapping(address, entry, flags) }
}

/// update_descriptor: writes a descriptor at a machine address.
///
/// # Errors
/// The errno that the hypervisor returned.
///
/// # Safety
/// The caller is responsible for the use of the descriptor, or of the page if it is no descriptor table.
pub unsafe fn update_descriptor(machine: u64, descriptor: u64) -> Outcome {
    // SAFETY: the caller's promise.
    unsafe { arch::update_descriptor(machine, descriptor) }
}

/// Makes several hypercalls in one; each entry receives its result.
///
/// # Errors
/// The errno of the whole call.
///
/// # Safety
/// The conditions of each call apply.
pub unsafe fn multicall(calls: &mut [MulticallEntry]) -> Outcome {
    let (pointer, count) = (GuestHandle::of_mut(calls), calls.len() as Long);
    // SAFETY: the caller's promise.
    Errno::check(unsafe { hypercall2(hypercall::MULTICALL, pointer.0, count) })
}

/// Writes to the hypervisor's console.
///
/// # Errors
/// EPERM if the domain isn't allowed to.
pub fn console_write(bytes: &[u8]) -> Outcome {
    let (pointer, count) = (GuestHandle::of(bytes), bytes.len() as Long);
    // SAFETY: the hypervisor only reads the bytes.
    Errno::check(unsafe {
        hypercall3(
            hypercall::CONSOLE_IO,
            Long::from(CONSOLEIO_WRITE),
            count,
            pointer.0,
        )
    })
}

/// Reads from the hypervisor's console; returns the number of bytes.
///
/// # Errors
/// EPERM if the domain isn't allowed to.
pub fn console_read(bytes: &mut [u8]) -> Outcome {
    let (pointer, count) = (GuestHandle::of_mut(bytes), bytes.len() as Long);
    // SAFETY: the hypervisor writes at most these bytes.
    Errno::check(unsafe {
        hypercall3(
            hypercall::CONSOLE_IO,
            Long::from(CONSOLEIO_READ),
            count,
            pointer.0,
        )
    })
}

/// Requests an event (`VIRQ_TIMER`) at a system time in nanoseconds; 0 cancels it.
///
/// # Errors
/// The errno that the hypervisor returned.
pub fn set_timer(system_time_ns: u64) -> Outcome {
    arch::set_timer(system_time_ns)
}

/// Suspends the domain. The toolstack finds the start info page by its machine frame `start_info` in the register of the
/// third argument. The result is 1 if the toolstack resumed the domain instead of restoring it.
pub(crate) fn suspend(start_info: u64) -> Outcome {
    let argument = sched::SchedShutdown {
        reason: sched::SHUTDOWN_SUSPEND,
    };
    // SAFETY: the hypervisor only reads the structure; the third argument is for the toolstack.
    Errno::check(unsafe {
        hypercall3(
            hypercall::SCHED_OP,
            Long::from(sched::SCHEDOP_SHUTDOWN),
            GuestHandle::of(&argument).0,
            start_info as Long,
        )
    })
}

/// Yields the CPU to any other vCPU that is ready.
pub fn yield_now() {
    let _ = op_without_argument(hypercall::SCHED_OP, sched::SCHEDOP_YIELD);
}

/// Unmasks upcalls and sleeps until an event is pending for this vCPU.
pub fn block() {
    let _ = op_without_argument(hypercall::SCHED_OP, sched::SCHEDOP_BLOCK);
}

/// Makes the hypervisor deliver a pending upcall, as any hypercall does on its way out. This one is the cheapest.
pub(crate) fn force_upcall() {
    let _ = op_without_argument(
        hypercall::XEN_VERSION,
        guest_pv_abi::version::XENVER_VERSION,
    );
}
