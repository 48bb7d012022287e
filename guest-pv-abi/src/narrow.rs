//! The structures of a 32-bit guest, under the names of the 64-bit guest's structures that differ from them.

pub use crate::GuestHandle32 as GuestHandle;
pub use crate::arch_x86::narrow::{Callback, CpuUserRegs, VcpuGuestContext};

macro_rules! narrow {
    ($($module:ident: $($name:ident)*;)*) => { $($(
        #[doc = concat!("The narrow form of [`", stringify!($module), "::", stringify!($name), "`](crate::", stringify!($module), "::", stringify!($name), ").")]
        pub type $name = <crate::$module::$name as crate::Form>::Narrow;
    )*)* };
}

narrow! {
    arch_x86: ArchVcpuInfo ArchSharedInfo TrapInfo;
    callback: CallbackRegister;
    domctl: CacheFlush;
    grant_table: GnttabSetupTable GnttabTransfer GnttabCopyPtr GnttabCopy GnttabGetStatusFrames;
    mca: McFetch McPhyscpuinfo McLogicalCpu;
    memory: MemoryReservation MemoryExchange MachphysMfnList MachphysMapping AddToPhysmap
        AddToPhysmapBatch RemoveFromPhysmap MemoryMap ForeignMemoryMap PodTarget ReservedDeviceMemoryMap
        MemAccessOp MemAcquireResource;
    nmi: NmiCallback;
    physdev: PhysdevPirqEoiGmfn PhysdevSetIobitmap PhysdevApic PhysdevMapPirq PhysdevOp;
    platform: AddMemtype ReadMemtype FirmwareInfo EfiConfigTable EfiVendor EfiMemory SetProcessorPminfo
        Getidletime ResourceOp Symdata MicrocodeUpdate MicrocodeUpdate2;
    sched: SchedPoll;
    vcpu: VcpuRunstateInfo VcpuRegisterRunstateMemoryArea VcpuSetSingleshotTimer
        VcpuRegisterTimeMemoryArea;
    version: PlatformParameters;
    xen: MmuextOp MulticallEntry VcpuInfo SharedInfo StartInfo;
}
