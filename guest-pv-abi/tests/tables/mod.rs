//! The tables to compare: the headers, the numbers, the structures.

use guest_pv_abi::layout::AbiLayout;
use guest_pv_abi::*;

/// A structure of the crate and its layout.
pub struct Structure {
    /// Name of the crate's module.
    pub module: &'static str,
    /// Name of the type in C.
    pub c_name: &'static str,
    /// Size of the structure in bytes.
    pub size: usize,
    /// C path and offset in bytes of each field.
    pub fields: &'static [(&'static str, usize)],
}

fn structure<T: AbiLayout>(path: &'static str) -> Structure {
    Structure {
        module: path.split(':').next().unwrap_or(path).trim(),
        c_name: T::C_NAME,
        size: T::SIZE,
        fields: T::FIELDS,
    }
}

/// Calls `$list` with the module and the name of each structure that both widths have.
macro_rules! both_widths {
    ($list:ident) => {
        $list! {
            xen: MmuextOp MmuUpdate MulticallEntry VcpuTimeInfo VcpuInfo SharedInfo StartInfo
                MultibootModList VgaConsoleInfo CtlBitmap;
            arch_x86: ArchVcpuInfo ArchSharedInfo TrapInfo CpuUserRegs VcpuGuestContext
                ArchDomainConfig CpuidLeaf MsrEntry;
            callback: CallbackRegister CallbackUnregister;
            domctl: Domctl CreateDomain GetDomainInfo GetPageFrameInfo3 ShadowOpStats ShadowOp
                MaxMem NodeAffinity SetDomainHandle SetDebugging HypercallInit SetTimeOffset
                AddressSize SendTrigger SetTarget Subscribe SetAccessRequired CacheFlush PagingMempool Vnuma
                VcpuContext GetVcpuInfo VcpuAffinity MaxVcpus SchedCredit SchedCredit2 SchedRtds
                SchedulerOp HvmContext ExtVcpuContext CpuPolicy DebugOp TscInfo VcpuExtState VcpuMsr
                VcpuMsrs IrqPermission GsiPermission IomemPermission IoportPermission AssignDevice
                MemoryMapping IoportMapping SetVirqHandler;
            sysctl: Sysctl ReadConsole PhysInfo SchedId PerfcDesc PerfcOp GetDomainInfoList
                DebugKeys CpuInfo GetCpuInfo AvailHeap GetPmstat CpuHotplug PmOp CpuTopo CpuTopoInfo
                MemInfo NumaInfo CpupoolOp CreditSchedule Credit2Schedule SchedulerOp PciTopoInfo
                CpuLevellingCaps CpuFeatureset CpuPolicy TbufOp;
            trace: TBuf;
            event_channel: EvtchnAllocUnbound EvtchnBindInterdomain EvtchnBindVirq EvtchnBindPirq
                EvtchnBindIpi EvtchnClose EvtchnSend EvtchnStatus EvtchnBindVcpu EvtchnUnmask
                EvtchnReset EvtchnInitControl EvtchnExpandArray EvtchnSetPriority EvtchnOp
                EvtchnFifoControlBlock;
            grant_table: GrantEntryV1 GnttabMapGrantRef GnttabUnmapGrantRef GnttabSetupTable
                GnttabDumpTable GnttabTransfer GnttabCopyPtr GnttabCopy GnttabQuerySize
                GnttabUnmapAndReplace GnttabSetVersion GnttabGetStatusFrames GnttabGetVersion
                GnttabSwapGrantRef GnttabCacheFlush;
            memory: MemoryReservation MemoryExchange MachphysMfnList MachphysMapping AddToPhysmap
                AddToPhysmapBatch RemoveFromPhysmap MemoryMap ForeignMemoryMap PodTarget
                ReservedDeviceMemoryMap MemAccessOp MemAcquireResource VnumaTopologyInfo;
            physdev: PhysdevEoi PhysdevPirqEoiGmfn PhysdevIrqStatusQuery PhysdevSetIopl
                PhysdevSetIobitmap PhysdevApic PhysdevIrq PhysdevMapPirq PhysdevUnmapPirq
                PhysdevManagePci PhysdevManagePciExt PhysdevSetupGsi PhysdevGetFreePirq
                PhysdevPciMmcfgReserved PhysdevPciDeviceAdd PhysdevPciDevice PhysdevDbgpOp
                PhysdevOp;
            platform: PlatformOp Settime32 Settime64 AddMemtype DelMemtype ReadMemtype FirmwareInfo
                SetProcessorPminfo
                EnterAcpiSleep Getidletime PcpuInfo PcpuVersion CpuOl CpuHotadd MemHotadd
                CoreParking ResourceEntry ResourceOp Symdata UcodeRevision
                MicrocodeUpdate MicrocodeUpdate2;
            sched: SchedShutdown SchedPoll SchedRemoteShutdown SchedWatchdog SchedPinOverride;
            vcpu: VcpuRunstateInfo VcpuRegisterRunstateMemoryArea VcpuSetPeriodicTimer
                VcpuSetSingleshotTimer VcpuRegisterVcpuInfo VcpuGetPhysid
                VcpuRegisterTimeMemoryArea;
            version: CompileInfo PlatformParameters FeatureInfo Varbuf;
            nmi: NmiCallback;
            mca: McFetch McPhyscpuinfo McinfoMsr McLogicalCpu McinfoCommon McinfoGlobal McinfoBank McInfo;
            hvm_params: HvmParam HvmXentrace;
            io_console: ConsInterface;
            io_xenbus: SockMsg DomainInterface;
            hvm_start_info: HvmStartInfo HvmModlistEntry HvmMemmapTableEntry;
        }
    };
}

/// The headers, as `#include <…>` names them.
pub const HEADERS: &[&str] = &[
    // First, since others use its macros without including it.
    "xen/xen.h",
    "xen/arch-x86/xen-mca.h",
    "xen/arch-x86/cpufeatureset.h",
    "xen/arch-x86/cpuid.h",
    "xen/arch-x86/hvm/start_info.h",
    "xen/argo.h",
    "xen/callback.h",
    "xen/domctl.h",
    "xen/elfnote.h",
    "xen/errno.h",
    "xen/event_channel.h",
    "xen/features.h",
    "xen/grant_table.h",
    "xen/hvm/dm_op.h",
    "xen/hvm/hvm_op.h",
    "xen/hvm/params.h",
    "xen/hypfs.h",
    "xen/io/console.h",
    "xen/io/xs_wire.h",
    "xen/kexec.h",
    "xen/memory.h",
    "xen/nmi.h",
    "xen/physdev.h",
    "xen/platform.h",
    "xen/pmu.h",
    "xen/sched.h",
    "xen/sysctl.h",
    "xen/trace.h",
    "xen/vcpu.h",
    "xen/version.h",
    "xen/xenoprof.h",
];

/// Each module with its numbers.
pub fn numbers() -> Vec<(&'static str, &'static [(&'static str, i64)])> {
    vec![
        ("xen", xen::hypercall::NUMBERS_U64),
        ("xen", xen::NUMBERS_U32),
        ("xen", xen::NUMBERS_U64),
        ("xen", xen::NUMBERS_U16),
        ("xen", xen::NUMBERS_USIZE),
        ("arch_x86", arch_x86::NUMBERS_U32_XEN),
        ("arch_x86", arch_x86::NUMBERS_USIZE),
        ("arch_x86", arch_x86::NUMBERS_U64_XEN),
        ("arch_x86", arch_x86::NUMBERS_U16),
        ("arch_x86", arch_x86::NUMBERS_U64_XEN_X86_64),
        ("arch_x86", arch_x86::NUMBERS_U32_XEN_X86_64),
        ("callback", callback::NUMBERS_U32),
        ("domctl", domctl::NUMBERS_U32),
        ("sysctl", sysctl::NUMBERS_U32),
        ("sysctl", sysctl::NUMBERS_USIZE),
        ("trace", trace::NUMBERS_U32),
        ("elfnote", elfnote::NUMBERS_U32),
        ("event_channel", event_channel::NUMBERS_U32),
        ("features", features::NUMBERS_U32),
        ("grant_table", grant_table::NUMBERS_U32),
        ("grant_table", grant_table::NUMBERS_U16),
        ("grant_table", grant_table::NUMBERS_I16),
        ("memory", memory::NUMBERS_U32),
        ("memory", memory::NUMBERS_I64),
        ("memory", memory::NUMBERS_U64),
        ("physdev", physdev::NUMBERS_U32),
        ("platform", platform::NUMBERS_U32),
        ("sched", sched::NUMBERS_U32),
        ("vcpu", vcpu::NUMBERS_U32),
        ("vcpu", vcpu::NUMBERS_U64),
        ("version", version::NUMBERS_U32),
        ("version", version::NUMBERS_USIZE),
        ("nmi", nmi::NUMBERS_U32),
        ("mca", mca::NUMBERS_U32),
        ("mca", mca::NUMBERS_U16),
        ("hvm_params", hvm_params::NUMBERS_U32_PARAMS),
        ("hvm_params", hvm_params::NUMBERS_I64),
        ("hvm_params", hvm_params::NUMBERS_U32_HVM_OP),
        ("io_xenbus", io_xenbus::NUMBERS_U32),
        ("io_xenbus", io_xenbus::NUMBERS_USIZE),
        ("cpuid", cpuid::NUMBERS_U32),
        ("hvm_start_info", hvm_start_info::NUMBERS_U32),
        ("others", others::NUMBERS_U32_KEXEC),
        ("others", others::NUMBERS_U32_DM_OP),
        ("others", others::NUMBERS_U32_PMU),
        ("others", others::NUMBERS_U32_XENOPROF),
        ("others", others::NUMBERS_U32_HYPFS),
        ("others", others::NUMBERS_U32_ARGO),
        ("cpufeatureset", cpufeatureset::NUMBERS_U32),
    ]
}

/// The numbers that differ for i386.
pub fn narrow_numbers() -> Vec<&'static [(&'static str, i64)]> {
    vec![arch_x86::narrow::NUMBERS_U16, arch_x86::narrow::NUMBERS_U64]
}

/// The structures of the headers for x86_64.
pub fn structures() -> Vec<Structure> {
    macro_rules! wide {
        ($($module:ident: $($name:ident)*;)*) => {
            vec![$($(structure::<$module::$name>(stringify!($module))),*),*]
        };
    }
    let mut all = both_widths!(wide);
    all.push(structure::<arch_x86::IretContext>("arch_x86"));
    all
}

/// The structures of the headers for i386.
pub fn narrow_structures() -> Vec<Structure> {
    macro_rules! narrow {
        ($($module:ident: $($name:ident)*;)*) => {
            vec![$($(structure::<<$module::$name as Form>::Narrow>(stringify!($module))),*),*]
        };
    }
    let mut all = both_widths!(narrow);
    all.push(structure::<arch_x86::narrow::Callback>("arch_x86"));
    all
}
