//! Creates a domain from its configuration, step by step as a toolstack does, and undoes all steps if one fails.

use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use core::fmt;

use guest_pv_abi::Width;
use guest_pv_abi::version::{XEN_CAPABILITIES_INFO_LEN, XENVER_CAPABILITIES};

use crate::boot::Dom0Options;
use crate::build::{self, BuildError, Contents, Kind, Progress};
use crate::config::{DomainConfig, Pinning};
use crate::hyper::{
    self, CallError, DomId, Hypercalls, Mfn, NewDomain, Port, VcpuId, domain, event, machine,
    memory,
};
use crate::image::{Image, ImageError, PvKernel};

/// Memory that libxl allows a domain beyond its own, in KiB, for frames that are exchanged (LIBXL_MAXMEM_CONSTANT).
pub(super) const EXTRA_KIB: u64 = 1024;
/// Highest event channel port, with xl's default.
const EVENT_CHANNELS: u32 = 1023;

/// The source of the files that a configuration names.
pub trait Files {
    /// Reads the file called `name`.
    ///
    /// # Errors
    /// A message that contains the name.
    fn read(&self, name: &str) -> Result<Cow<'_, [u8]>, String>;
}

/// A domain that has been created and is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Created {
    /// The id of the domain.
    pub id: DomId,
    /// Machine frame of its console ring.
    pub console: Mfn,
    /// Its port of the console's event channel.
    pub console_port: Port,
    /// Machine frame of its Xenstore ring.
    pub store: Mfn,
    /// Its port of Xenstore's event channel.
    pub store_port: Option<Port>,
}

/// Why a domain was not created. Prints as one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreateError {
    /// A file can't be read.
    File(String),
    /// The kernel image is unusable, or the domain can't be built.
    Build(BuildError),
    /// The hypervisor refused a call.
    Call(CallError),
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CreateError::File(cause) => f.write_str(cause),
            CreateError::Build(error) => error.fmt(f),
            CreateError::Call(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for CreateError {}

impl From<CallError> for CreateError {
    fn from(error: CallError) -> Self {
        CreateError::Call(error)
    }
}

impl From<BuildError> for CreateError {
    fn from(error: BuildError) -> Self {
        CreateError::Build(error)
    }
}

impl From<ImageError> for CreateError {
    fn from(error: ImageError) -> Self {
        CreateError::Build(BuildError::Image(error))
    }
}

/// Whether a Xenstore will serve the domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// A Xenstore will serve the domain.
    Served,
    /// The domain will have no Xenstore.
    Absent,
}

/// Creates a paused domain. `handle` is its UUID if the configuration has none; `backend` serves its console.
///
/// # Errors
/// A message about the cause. The domain is removed again.
pub fn create<H: Hypercalls + ?Sized>(
    h: &mut H,
    config: &DomainConfig,
    files: &dyn Files,
    handle: [u8; 16],
    backend: DomId,
    store: Store,
    progress: &mut dyn Progress,
) -> Result<Created, CreateError> {
    let kernel = files.read(&config.kernel).map_err(CreateError::File)?;
    let initrd = config
        .ramdisk
        .as_ref()
        .map(|name| files.read(name))
        .transpose();
    let initrd = initrd.map_err(CreateError::File)?;
    progress.unpacking(&config.kernel, kernel.len() as u64);
    let image = Image::open(&config.kernel, &kernel)?;
    let mut contents = contents(config, &image, initrd.as_deref());
    let (kernel, _) = build::plan(&contents).map_err(|error| named(error, config))?;
    check_width(h, &image, &kernel)?;
    let new = NewDomain {
        handle: config.uuid.unwrap_or(handle),
        max_vcpus: config.max_vcpus,
        max_event_channels: EVENT_CHANNELS,
        max_grant_frames: config.max_grant_frames,
        max_maptrack_frames: config.max_maptrack_frames,
        max_grant_version: config.max_grant_version,
    };
    let id = domain::create(h, &new)?;
    let mut fill = || -> Result<Created, CreateError> {
        limit(h, id, config)?;
        let console = event::alloc_unbound(h, id, backend)?;
        let store = match store {
            Store::Served => Some(event::alloc_unbound(h, id, backend)?),
            Store::Absent => None,
        };
        contents.kind = Kind::Guest {
            backend,
            console,
            store,
        };
        let built =
            build::build(h, id, &contents, progress).map_err(|error| named(error, config))?;
        Ok(Created {
            id,
            console: built.console,
            console_port: console,
            store: built.store,
            store_port: store,
        })
    };
    let created = fill();
    if created.is_err() {
        // The first error is the one to report.
        let _ = domain::destroy(h, id);
    }
    created
}

/// The contents that the builder makes for a configuration. The ports are filled in later.
pub(super) fn contents<'a>(
    config: &'a DomainConfig,
    image: &'a Image<'a>,
    initrd: Option<&'a [u8]>,
) -> Contents<'a> {
    Contents {
        image,
        initrd,
        cmdline: &config.cmdline,
        pages: config.memory_mib << 8,
        kind: Kind::Guest {
            backend: DomId::ZERO,
            console: Port(0),
            store: None,
        },
    }
}

/// The word in `xen_caps` of a hypervisor that runs narrow PV kernels.
const NARROW_GUESTS: &str = "xen-3.0-x86_32p";

/// Checks that the hypervisor runs kernels of this width.
fn check_width<H: Hypercalls + ?Sized>(
    h: &mut H,
    image: &Image,
    kernel: &PvKernel,
) -> Result<(), CreateError> {
    if kernel.width == Width::Wide {
        return Ok(());
    }
    let caps = machine::words(h, XENVER_CAPABILITIES, XEN_CAPABILITIES_INFO_LEN)?;
    if caps.split_whitespace().any(|word| word == NARROW_GUESTS) {
        return Ok(());
    }
    let cause = alloc::format!(
        "a 32-bit PV kernel, which this hypervisor does not run (its xen_caps lack {NARROW_GUESTS})"
    );
    Err(image.error(cause).into())
}

/// Adds the domain's name to an error that is not about a file.
pub(super) fn named(error: BuildError, config: &DomainConfig) -> CreateError {
    CreateError::Build(match error {
        BuildError::Layout(cause) => BuildError::Layout(alloc::format!("{}: {cause}", config.name)),
        error => error,
    })
}

/// Sets everything but the contents of memory: vCPUs, memory limit, affinity, weight, the memory map.
fn limit<H: Hypercalls + ?Sized>(
    h: &mut H,
    id: DomId,
    config: &DomainConfig,
) -> Result<(), CreateError> {
    domain::set_max_vcpus(h, id, config.max_vcpus)?;
    domain::set_max_memory(h, id, (config.max_memory_mib << 10) + EXTRA_KIB)?;
    let cpus = machine::host(h)?.cpus;
    for vcpu in 0..config.max_vcpus {
        let set = match &config.pinning {
            Pinning::Any => None,
            Pinning::All(set) => Some(set),
            Pinning::Each(sets) => sets.get(vcpu as usize).and_then(Option::as_ref),
        };
        let Some(set) = set else { continue };
        let bitmap = super::pin::bitmap(set, cpus)
            .map_err(|cause| CreateError::File(alloc::format!("{}: cpus={cause}", config.name)))?;
        domain::set_affinity(h, id, VcpuId(vcpu), &bitmap)?;
    }
    if config.weight.is_some() || config.cap.is_some() {
        let sched = machine::scheduler(h)?;
        machine::optional(domain::set_weight_and_cap(
            h,
            id,
            sched,
            config.weight,
            config.cap,
        ))?;
    }
    let map = [hyper::E820Entry {
        addr: 0,
        size: config.max_memory_mib << 20,
        type_: guest_pv_abi::memory::E820_RAM,
    }];
    machine::optional(memory::set_memory_map(h, id, &map))?;
    Ok(())
}

/// The parts from which domain 0 is made.
#[derive(Debug)]
pub struct Dom0<'a> {
    /// Contents of the kernel's file.
    pub kernel: &'a [u8],
    /// Contents of the initrd, if any.
    pub initrd: Option<&'a [u8]>,
    /// The kernel's command line.
    pub cmdline: &'a str,
    /// Number of vCPUs, at most.
    pub vcpus: u32,
    /// The options that determine its memory.
    pub options: &'a Dom0Options,
    /// The screen that it inherits, with the number of valid bytes.
    pub screen: ([u8; 40], u32),
}

/// Creates domain 0, paused.
///
/// # Errors
/// A message about the cause.
pub fn create_dom0<H: Hypercalls + ?Sized>(
    h: &mut H,
    dom0: &Dom0,
    progress: &mut dyn Progress,
) -> Result<DomId, CreateError> {
    progress.unpacking("of Domain-0", dom0.kernel.len() as u64);
    let image = Image::open("of Domain-0", dom0.kernel)?;
    // Asked only now, since unpacking the kernel used some of the machine's memory.
    let (pages, most_pages) = dom0.options.pages(machine::host(h)?.free_pages);
    let (screen, screen_bytes) = dom0.screen;
    let contents = Contents {
        image: &image,
        initrd: dom0.initrd,
        cmdline: dom0.cmdline,
        pages,
        kind: Kind::Dom0 {
            screen,
            screen_bytes,
        },
    };
    let (kernel, _) = build::plan(&contents)?;
    check_width(h, &image, &kernel)?;
    let new = NewDomain {
        handle: [0; 16],
        max_vcpus: dom0.vcpus,
        max_event_channels: u32::MAX,
        max_grant_frames: None,
        max_maptrack_frames: None,
        max_grant_version: None,
    };
    let id = domain::create_dom0(h, &new)?;
    domain::set_max_vcpus(h, id, dom0.vcpus)?;
    domain::set_max_memory(h, id, most_pages.saturating_mul(4))?;
    build::build(h, id, &contents, progress)?;
    Ok(id)
}

/// A UUID for a domain whose configuration has none: version 4 (RFC 9562 §5.4), from a seed that never repeats.
#[must_use]
pub fn random_uuid(seed: u64) -> [u8; 16] {
    // SplitMix64 (Steele, Lea, Flood 2014) spreads the seed over all bits.
    let mix = |n: u64| {
        let mut z = seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    };
    let mut uuid = (u128::from(mix(1)) << 64 | u128::from(mix(2))).to_be_bytes();
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

/// A UUID in its usual notation.
#[must_use]
pub fn uuid_text(uuid: &[u8; 16]) -> String {
    let hex: String = uuid
        .iter()
        .map(|byte| alloc::format!("{byte:02x}"))
        .collect();
    let part = |range: core::ops::Range<usize>| hex.get(range).unwrap_or_default().to_string();
    [
        part(0..8),
        part(8..12),
        part(12..16),
        part(16..20),
        part(20..32),
    ]
    .join("-")
}
