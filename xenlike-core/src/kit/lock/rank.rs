//! The order of all locks.

/// A lock's rank. A CPU that holds a lock waits only for locks further down this list, and for one
/// of the same rank only at a higher address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Rank {
    /// The audit's counts: all CPUs stand still.
    #[cfg(feature = "audit")]
    Audit,
    /// One control call at a time.
    Control = 1,
    /// The id that the last domain got.
    NewId,
    /// What a domain's destruction keeps between two steps.
    Teardown,
    /// A domain's CPUID and MSR policy; held while an instruction is emulated.
    Policy,
    /// The index register of the CMOS and its data.
    Cmos,
    /// Whoever writes a domain's wall clock.
    WallClock,
    /// A domain's permissions and settings.
    Settings,
    /// A domain's shutdown state.
    Shutdown,
    /// A domain's watchdogs.
    Watchdogs,
    /// Who takes the machine's virtual IRQs.
    VirqHandlers,
    /// The trace buffers, while they are made.
    TraceBuffers,
    /// To where a vCPU is pinned for a while.
    Pinned,
    /// A mapper's grant handles.
    GrantHandles,
    /// A granter's entries.
    GrantEntries,
    /// The ports of a domain: two at a time.
    EventBook,
    /// What one port is connected to.
    EventChannel,
    /// How a domain gets its events.
    EventDelivery,
    /// The machine's interrupts.
    Interrupts,
    /// The I/O APICs.
    IoApics,
    /// The address register of PCI configuration and its data.
    PciConfig,
    /// Where a timer is queued.
    TimerPlace,
    /// A CPU's timers.
    Timers,
    /// A vCPU's runstate.
    Runstate,
    /// The scheduler's memory.
    SchedulerGrowth,
    /// A CPU's run queue: two at a time.
    RunQueue,
    /// A unit of the scheduler.
    Unit,
    /// A domain's budget of CPU time.
    Budget,
    /// The free slots of the scheduler.
    FreeUnits,
    /// The CPUs of the pools.
    Pools,
    /// One claim of memory at a time.
    Claims,
    /// A domain's lists of frames.
    FrameLists,
    /// Whoever changes a table of values by domain id.
    IdTable,
    /// The errors that machine checks reported.
    MachineChecks,
    /// The machine's wall clock.
    BootClock,
    /// Addresses for device registers.
    DeviceAddresses,
    /// Guest memory of the host tests.
    HostMemory,
    /// The frame allocator.
    Frames,
    /// The console.
    Console,
}
