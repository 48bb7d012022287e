//! Attack: pass pointers into the hypervisor's range, into the canonical hole and over the edges of both to every
//! hypercall. None may be read or written through.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "makes calls with bad pointers")]

use samples::{Attack, BAD_ADDRESSES};
use xenlike_rt::abi::arch_x86::MACH2PHYS_VIRT_START;
use xenlike_rt::abi::errno;
use xenlike_rt::abi::hypercall::{
    CONSOLE_IO, EVENT_CHANNEL_OP, GRANT_TABLE_OP, MEMORY_OP, MMU_UPDATE, MMUEXT_OP, MULTICALL,
    PHYSDEV_OP, SCHED_OP, SET_TRAP_TABLE, VCPU_OP, XEN_VERSION,
};
use xenlike_rt::abi::xen::DOMID_SELF;
use xenlike_rt::abi::{
    Errno, event_channel, grant_table, memory, physdev, sched, vcpu, version, xen,
};
use xenlike_rt::hyper;

xenlike_rt::entry!(main);

/// Name, number and arguments of a call that reads or writes through the pointer `P`.
type Call = (&'static str, u64, [u64; 5]);
const P: u64 = 0x7fff_0000_dead_beef;
const SELF: u64 = DOMID_SELF as u64;

const CALLS: [Call; 30] = [
    ("set_trap_table", SET_TRAP_TABLE, [P, 0, 0, 0, 0]),
    ("mmu_update", MMU_UPDATE, [P, 1, 0, SELF, 0]),
    ("mmu_update, done", MMU_UPDATE, [P, 1, P, SELF, 0]),
    ("mmuext_op", MMUEXT_OP, [P, 1, 0, SELF, 0]),
    ("multicall", MULTICALL, [P, 1, 0, 0, 0]),
    (
        "console write",
        CONSOLE_IO,
        [xen::CONSOLEIO_WRITE as u64, 8, P, 0, 0],
    ),
    (
        "populate",
        MEMORY_OP,
        [memory::XENMEM_POPULATE_PHYSMAP as u64, P, 0, 0, 0],
    ),
    (
        "decrease",
        MEMORY_OP,
        [memory::XENMEM_DECREASE_RESERVATION as u64, P, 0, 0, 0],
    ),
    (
        "exchange",
        MEMORY_OP,
        [memory::XENMEM_EXCHANGE as u64, P, 0, 0, 0],
    ),
    (
        "memory map",
        MEMORY_OP,
        [memory::XENMEM_MEMORY_MAP as u64, P, 0, 0, 0],
    ),
    (
        "mapping of the M2P",
        MEMORY_OP,
        [memory::XENMEM_MACHPHYS_MAPPING as u64, P, 0, 0, 0],
    ),
    (
        "frames of the M2P",
        MEMORY_OP,
        [memory::XENMEM_MACHPHYS_MFN_LIST as u64, P, 0, 0, 0],
    ),
    (
        "current reservation",
        MEMORY_OP,
        [memory::XENMEM_CURRENT_RESERVATION as u64, P, 0, 0, 0],
    ),
    (
        "extraversion",
        XEN_VERSION,
        [version::XENVER_EXTRAVERSION as u64, P, 0, 0, 0],
    ),
    (
        "compile info",
        XEN_VERSION,
        [version::XENVER_COMPILE_INFO as u64, P, 0, 0, 0],
    ),
    (
        "capabilities",
        XEN_VERSION,
        [version::XENVER_CAPABILITIES as u64, P, 0, 0, 0],
    ),
    (
        "features",
        XEN_VERSION,
        [version::XENVER_GET_FEATURES as u64, P, 0, 0, 0],
    ),
    (
        "alloc_unbound",
        EVENT_CHANNEL_OP,
        [event_channel::EVTCHNOP_ALLOC_UNBOUND as u64, P, 0, 0, 0],
    ),
    (
        "bind_virq",
        EVENT_CHANNEL_OP,
        [event_channel::EVTCHNOP_BIND_VIRQ as u64, P, 0, 0, 0],
    ),
    (
        "status",
        EVENT_CHANNEL_OP,
        [event_channel::EVTCHNOP_STATUS as u64, P, 0, 0, 0],
    ),
    (
        "send",
        EVENT_CHANNEL_OP,
        [event_channel::EVTCHNOP_SEND as u64, P, 0, 0, 0],
    ),
    (
        "setup_table",
        GRANT_TABLE_OP,
        [grant_table::GNTTABOP_SETUP_TABLE as u64, P, 1, 0, 0],
    ),
    (
        "map_grant_ref",
        GRANT_TABLE_OP,
        [grant_table::GNTTABOP_MAP_GRANT_REF as u64, P, 1, 0, 0],
    ),
    (
        "grant copy",
        GRANT_TABLE_OP,
        [grant_table::GNTTABOP_COPY as u64, P, 1, 0, 0],
    ),
    (
        "query_size",
        GRANT_TABLE_OP,
        [grant_table::GNTTABOP_QUERY_SIZE as u64, P, 1, 0, 0],
    ),
    ("poll", SCHED_OP, [sched::SCHEDOP_POLL as u64, P, 0, 0, 0]),
    (
        "runstate",
        VCPU_OP,
        [vcpu::VCPUOP_GET_RUNSTATE_INFO as u64, 0, P, 0, 0],
    ),
    (
        "one-shot timer",
        VCPU_OP,
        [vcpu::VCPUOP_SET_SINGLESHOT_TIMER as u64, 0, P, 0, 0],
    ),
    (
        "initialise",
        VCPU_OP,
        [vcpu::VCPUOP_INITIALISE as u64, 0, P, 0, 0],
    ),
    (
        "set_iopl",
        PHYSDEV_OP,
        [physdev::PHYSDEVOP_SET_IOPL as u64, P, 0, 0, 0],
    ),
];

fn main() {
    let mut attack = Attack::new("hostile-pointers", "have bad pointers followed");
    let m2p = core::ptr::with_exposed_provenance::<u64>(MACH2PHYS_VIRT_START as usize);
    // SAFETY: the M2P's first page is readable.
    let before = unsafe { m2p.read_volatile() };
    for (name, number, arguments) in CALLS {
        for address in BAD_ADDRESSES {
            let arguments = arguments.map(|word| if word == P { address } else { word });
            // SAFETY: the pointer is outside of this guest's memory.
            let outcome = Errno::check(unsafe { hyper::raw(number, arguments) });
            match outcome {
                Err(errno::EFAULT) => {}
                // These return the number of extents done.
                Ok(0) if name == "populate" || name == "decrease" => {}
                outcome => attack.refused(name, outcome),
            }
        }
    }
    // SAFETY: as above.
    attack.holds(
        "the M2P is as before",
        unsafe { m2p.read_volatile() } == before,
    );
    attack.finish();
}
