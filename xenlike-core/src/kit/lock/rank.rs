//! The order in which locks may be taken. ARCHITECTURE.md, "Locks", has the table of what each lock guards.

/// The rank of a lock. A CPU that holds a lock waits only for locks further down this list, or for one of the same rank
/// at a higher address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Rank {
    /// The counts of the audit, which runs while all other CPUs stand still.
    #[cfg(feature = "audit")]
    Audit,
    /// Serializes control calls; tried, never waited for.
    Control = 1,
    /// The id that the newest domain got.
    NewId,
    /// The progress of a domain's destruction between two of its steps.
    Teardown,
    /// A domain's CPUID and MSR policy; held while an instruction is emulated.
    Policy,
    /// The index and data registers of the CMOS.
    Cmos,
    /// Serializes writers of a domain's wall clock.
    WallClock,
    /// The permissions and settings of a domain.
    Settings,
    /// The shutdown state of a domain.
    Shutdown,
    /// The watchdogs of a domain.
    Watchdogs,
    /// Which domain handles each of the machine's virtual IRQs.
    VirqHandlers,
    /// The trace buffers while they are allocated.
    TraceBuffers,
    /// The temporary pinning of a vCPU to a CPU.
    Pinned,
    /// The grant handles of a domain that maps other domains' frames.
    GrantHandles,
    /// The grant entries of a domain.
    GrantEntries,
    /// The event-channel ports of a domain; two of these locks may be held.
    EventBook,
    /// The connection of one port.
    EventChannel,
    /// The way in which a domain's events are delivered.
    EventDelivery,
    /// The physical interrupts that domains use.
    Interrupts,
    /// The frames of devices that domain 0 may only read.
    DeviceFrames,
    /// The index and data registers of the I/O APICs.
    IoApics,
    /// The address and data registers of PCI configuration space.
    PciConfig,
    /// The queue in which a timer is.
    TimerPlace,
    /// The timer queue of a CPU.
    Timers,
    /// The runstate of a vCPU: how long it ran, waited and slept.
    Runstate,
    /// The scheduler's memory and the set of its CPUs.
    SchedulerGrowth,
    /// The run queue of a CPU; two of these locks may be held.
    RunQueue,
    /// The scheduling state of one unit.
    Unit,
    /// The budget of CPU time of a domain.
    Budget,
    /// The scheduler's list of free units.
    FreeUnits,
    /// The CPUs of each pool.
    Pools,
    /// Serializes claims of memory.
    Claims,
    /// The lists of a domain's frames.
    FrameLists,
    /// Serializes changes of a table of values by domain id; lookups take no lock.
    IdTable,
    /// The queue of errors that machine checks reported.
    MachineChecks,
    /// The wall-clock time at boot.
    BootClock,
    /// The allocator of virtual addresses for device registers.
    DeviceAddresses,
    /// The guest memory of the host tests.
    #[cfg(not(target_os = "none"))]
    HostMemory,
    /// The allocator of machine frames.
    Frames,
    /// The console: serial port, screen, log ring.
    Console,
}
