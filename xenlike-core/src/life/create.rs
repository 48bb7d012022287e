//! Creates a domain: first every service's part of it, then its entry in the list of domains.

use alloc::sync::Arc;

use guest_pv_abi::arch_x86::{XEN_X86_EMU_PIT, XEN_X86_MISC_FLAGS_MAX};
use guest_pv_abi::domctl::{CreateDomain, XEN_DOMCTL_CDF_XS_DOMAIN, XEN_DOMCTL_GRANT_VERSION_MASK};
use guest_pv_abi::trace::{TRC_DOM0_DOM_ADD, TRC_SCHED_DOM_ADD};

use crate::cpuid;
use crate::domain::page::HeldPage;
use crate::domain::{Domain, Parts, Rights, registry, time};
use crate::grant::Version;
use crate::kit::{CpuSet, DomId, Lock, Rank};
use crate::life::pools;
use crate::mm::alloc::{Where, alloc_frame};
use crate::mm::{SharedPage, heap};
use crate::pagetype::{self, DomainPages, l1tf, machine};
use crate::pv::state::area::Area;
use crate::{event, grant, trace};

/// The maximum number of vCPUs of a domain.
pub const MAX_VCPUS: u32 = 512;
/// The default number of grant frames, as on Xen.
const GRANT_FRAMES: u32 = 64;
/// The default number of blocks of grant handles of a guest: 8192 handles, which take 192 KiB of the
/// hypervisor's own memory. Few guests map anything. For one that serves others as a backend, the configuration
/// asks for more.
const MAPTRACK_FRAMES: u32 = 32;
/// The default for a control domain, which serves all guests (Xen's default for all domains).
const CONTROL_MAPTRACK_FRAMES: u32 = 1024;
/// The maximum of each of the two.
const MAX_GRANT_FRAMES: u32 = 4096;
const MAX_MAPTRACK_FRAMES: u32 = 8192;
/// Heap bytes that a domain may take before it has vCPUs.
const HEAP_BYTES: u64 = 256 * 1024;
/// Heap bytes that a vCPU may take.
const HEAP_BYTES_PER_VCPU: u64 = 24 * 1024;

/// Why a domain was not created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateError {
    /// The configuration asks for something that a PV domain of this hypervisor can't have.
    BadConfig,
    /// There is no such CPU pool.
    NoSuchPool,
    /// The requested id is not free.
    IdTaken,
    /// There is no memory, or no free id.
    NoMemory,
}

/// The checked sizes of a configuration.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    vcpus: u32,
    /// The CPUs of the domain's pool.
    cpus: CpuSet,
    grants: grant::Limits,
}

/// Creates a domain with the id `wanted`, or with any free id. It is paused once by the toolstack and
/// has no vCPUs.
///
/// # Errors
/// See [`CreateError`]. Nothing is left behind then.
pub fn create(
    wanted: Option<DomId>,
    rights: Rights,
    config: &CreateDomain,
) -> Result<Arc<Domain>, CreateError> {
    let sizes = check(config, rights)?;
    let per_vcpu = HEAP_BYTES_PER_VCPU * u64::from(sizes.vcpus);
    if !heap::can_grow(HEAP_BYTES.saturating_add(per_vcpu)) {
        return Err(CreateError::NoMemory);
    }
    let id = pick_id(wanted, rights)?;
    let pages = Arc::new(DomainPages::new(id, 0));
    pagetype::register(Arc::clone(&pages)).map_err(|_| CreateError::IdTaken)?;
    let made = assemble(id, rights, config, sizes, Arc::clone(&pages)).and_then(|dom| {
        dom.share.set_pool(config.cpupool_id, sizes.cpus);
        // As on Xen, the first frame of the grant table exists from the start.
        let first = dom.grow_grants(1);
        let listed = first
            .map_err(|_| CreateError::NoMemory)
            .and_then(|()| registry::insert(Arc::clone(&dom)).map_err(|_| CreateError::IdTaken));
        listed.inspect_err(|_| {
            dom.grants.retire();
            machine().unshare(dom.shared.mfn());
        })?;
        Ok(dom)
    });
    if made.is_err() {
        pagetype::forget(id, &pages);
    } else {
        let events = [TRC_SCHED_DOM_ADD, TRC_DOM0_DOM_ADD];
        trace::if_on(|| {
            events
                .iter()
                .for_each(|event| trace::record(*event, &[id.0.into()]))
        });
    }
    made
}

/// Validates a configuration. The checks and their errors are those of Xen 4.20.
fn check(config: &CreateDomain, rights: Rights) -> Result<Sizes, CreateError> {
    let offer = grant::offer();
    let version = Version::of_number(config.grant_opts & XEN_DOMCTL_GRANT_VERSION_MASK)
        .filter(|&version| version <= offer.version);
    let possible = config.flags & !XEN_DOMCTL_CDF_XS_DOMAIN == 0
        && config.iommu_opts == 0
        && (1..=MAX_VCPUS).contains(&config.max_vcpus)
        && config.grant_opts & !XEN_DOMCTL_GRANT_VERSION_MASK == 0
        && config.altp2m_opts == 0
        && config.vmtrace_size == 0
        && config.arch.emulation_flags & !XEN_X86_EMU_PIT == 0
        && config.arch.misc_flags & !XEN_X86_MISC_FLAGS_MAX == 0;
    let grant_frames = limit(config.max_grant_frames, GRANT_FRAMES, MAX_GRANT_FRAMES);
    let grant_frames = grant_frames.filter(|&frames| frames > 0);
    let maptrack = match rights {
        Rights::None => MAPTRACK_FRAMES,
        Rights::Control | Rights::Boot => CONTROL_MAPTRACK_FRAMES,
    };
    let maptrack = limit(config.max_maptrack_frames, maptrack, MAX_MAPTRACK_FRAMES);
    let (Some(grant_frames), Some(maptrack_frames), Some(version), true) =
        (grant_frames, maptrack, version, possible)
    else {
        return Err(CreateError::BadConfig);
    };
    Ok(Sizes {
        vcpus: config.max_vcpus,
        cpus: pools::cpus(config.cpupool_id).ok_or(CreateError::NoSuchPool)?,
        grants: grant::Limits {
            grant_frames,
            maptrack_frames,
            version,
            transitive: offer.transitive,
        },
    })
}

/// Returns a count of the configuration, of which a negative one means the default. `None` if it
/// is above `most`.
fn limit(asked: i32, default: u32, most: u32) -> Option<u32> {
    let count = u32::try_from(asked).unwrap_or(default);
    (count <= most).then_some(count)
}

/// Returns the requested id if it is free, or else the next free id after the last one that was chosen here.
fn pick_id(wanted: Option<DomId>, rights: Rights) -> Result<DomId, CreateError> {
    static LAST: Lock<u16> = Lock::new(Rank::NewId, 0);
    if let Some(id) = wanted {
        // Ids from the boot domain's up are not available to other domains.
        let usable = id < DomId::BOOT || id == DomId::BOOT && rights == Rights::Boot;
        let free = usable && registry::lookup(id).is_none() && pagetype::registered(id).is_none();
        return if free {
            Ok(id)
        } else {
            Err(CreateError::IdTaken)
        };
    }
    let mut last = LAST.lock();
    let id = registry::free_id(last.wrapping_add(1)).ok_or(CreateError::NoMemory)?;
    *last = id.0;
    Ok(id)
}

fn assemble(
    id: DomId,
    rights: Rights,
    config: &CreateDomain,
    sizes: Sizes,
    pages: Arc<DomainPages>,
) -> Result<Arc<Domain>, CreateError> {
    let area = Area::new(sizes.vcpus).map_err(|_| CreateError::NoMemory)?;
    pages.set_own_slot(area.l4_entry());
    pages.set_hides_absent(match rights {
        Rights::None => l1tf::policy().domus,
        Rights::Control | Rights::Boot => l1tf::policy().dom0,
    });
    let grants = grant::Table::new(id, sizes.grants).map_err(|_| CreateError::NoMemory)?;
    // A narrow guest finds the page by a 32-bit address. Which width the guest has is only known later.
    let frame = alloc_frame(Where::LOW).or_else(|| alloc_frame(Where::ANY));
    let frame = frame.ok_or(CreateError::NoMemory)?;
    machine().share(&pages, frame);
    let finish = || {
        let shared = SharedPage::new(frame)?;
        let limits = event::Limits {
            vcpus: sizes.vcpus,
            max_port: config.max_evtchn_port,
        };
        let events = event::Table::new(id, limits, HeldPage::of_core(shared)).ok()?;
        Some(Arc::new(Domain::new(Parts {
            id,
            rights,
            pages,
            events,
            grants,
            max_vcpus: sizes.vcpus,
            shared,
            area,
            cpuid: cpuid::machine().pv_default.clone(),
            handle: config.handle,
            is_xenstore: config.flags & XEN_DOMCTL_CDF_XS_DOMAIN != 0,
            misc_flags: config.arch.misc_flags,
        })))
    };
    let Some(dom) = finish() else {
        machine().unshare(frame);
        return Err(CreateError::NoMemory);
    };
    time::publish_wall_clock(&dom);
    Ok(dom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    fn plain() -> CreateDomain {
        let mut config = CreateDomain::new_zeroed();
        config.max_vcpus = 1;
        config.max_grant_frames = -1;
        config.max_maptrack_frames = -1;
        config.grant_opts = 1;
        config
    }

    #[test]
    fn configurations() {
        let maptrack = |rights| check(&plain(), rights).unwrap().grants.maptrack_frames;
        assert_eq!(maptrack(Rights::None), MAPTRACK_FRAMES);
        assert_eq!(maptrack(Rights::Control), CONTROL_MAPTRACK_FRAMES);
        let bad = |change: fn(&mut CreateDomain)| {
            let mut config = plain();
            change(&mut config);
            check(&config, Rights::None).err()
        };
        let refused = Some(CreateError::BadConfig);
        assert_eq!(bad(|c| c.flags = 1), refused);
        assert_eq!(bad(|c| c.max_vcpus = 0), refused);
        assert_eq!(bad(|c| c.max_vcpus = u32::MAX), refused);
        assert_eq!(bad(|c| c.grant_opts = 2), None);
        assert_eq!(bad(|c| c.grant_opts = 0), refused);
        assert_eq!(bad(|c| c.grant_opts = 3), refused);
        assert_eq!(bad(|c| c.grant_opts = 0x12), refused);
        assert_eq!(bad(|c| c.max_grant_frames = i32::MAX), refused);
        assert_eq!(bad(|c| c.max_grant_frames = 0), refused);
        assert_eq!(bad(|c| c.arch.emulation_flags = 1), refused);
        assert_eq!(bad(|c| c.cpupool_id = 1), Some(CreateError::NoSuchPool));
    }

    #[test]
    fn a_failed_creation_leaves_nothing() {
        assert_eq!(
            create(Some(DomId(0x7fe5)), Rights::None, &plain()).err(),
            Some(CreateError::IdTaken)
        );
        assert!(pagetype::registered(DomId(0x7fe5)).is_none());
        let boots = create(Some(DomId::BOOT), Rights::None, &plain());
        assert_eq!(boots.err(), Some(CreateError::IdTaken));
    }
}
