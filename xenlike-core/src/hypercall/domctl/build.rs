//! The calls of a domain builder: create a domain, its vCPUs and its hypercall page, set its memory limit, and
//! destroy it.

use alloc::sync::Arc;

use guest_pv_abi::Width;
use guest_pv_abi::arch_x86::ArchDomainConfig;
use guest_pv_abi::domctl::{AddressSize, CreateDomain, Domctl, HypercallInit, MaxMem, MaxVcpus};
use guest_pv_abi::errno::{self, Errno};

use super::{Answer, Answered, not_itself};
use crate::domain::{Domain, Rights, TooLate};
use crate::hypercall::Ctx;
use crate::kit::{DomId, Gfn, PAGE_SIZE};
use crate::life::create::CreateError;
use crate::life::destroy::Progress;
use crate::life::vcpus::{self, NotMade};
use crate::life::{create, destroy as end, hypercall_page};
use crate::pv::narrow;

/// Size of a page in KiB.
const PAGE_KIB: u64 = PAGE_SIZE as u64 / 1024;
/// Maximum number of pages of a domain, because Xen counts them in 32 bits.
const MAX_PAGES: u64 = u32::MAX as u64;

/// Maps the reason of a refused creation to an errno.
pub fn create_errno(error: CreateError) -> Errno {
    match error {
        CreateError::BadConfig => errno::EINVAL,
        CreateError::NoSuchPool => errno::ENOENT,
        CreateError::IdTaken => errno::EEXIST,
        CreateError::NoMemory => errno::ENOMEM,
    }
}

/// Converts the structure of Xen 4.17's toolstack. It lacks `altp2m_opts`, so all fields after that are one word
/// further up.
const fn of_4_17(config: CreateDomain) -> CreateDomain {
    CreateDomain {
        altp2m_opts: 0,
        vmtrace_size: config.altp2m_opts,
        cpupool_id: config.vmtrace_size,
        arch: ArchDomainConfig {
            emulation_flags: config.cpupool_id,
            misc_flags: config.arch.emulation_flags,
        },
        ..config
    }
}

/// XEN_DOMCTL_createdomain: creates a domain under the requested id, or under a free one if that is 0 or reserved.
pub fn create(op: &mut Domctl, is_of_4_17: bool) -> Answered {
    let mut config = op.u.get::<CreateDomain>();
    if is_of_4_17 {
        config = of_4_17(config);
    }
    let wanted = DomId(op.domain);
    let named = wanted.0 > 0 && wanted < DomId::FIRST_RESERVED;
    let dom =
        create::create(named.then_some(wanted), Rights::None, &config).map_err(create_errno)?;
    op.domain = dom.id().0;
    Ok(Answer::Write)
}

/// XEN_DOMCTL_destroydomain: destroys a domain, in as many continuations as that takes.
pub fn destroy(ctx: &Ctx<'_>, dom: &Arc<Domain>) -> Answered {
    not_itself(ctx, dom)?;
    match end::destroy(dom) {
        Progress::Done => Ok(Answer::Done),
        Progress::Again => Ok(Answer::Again),
    }
}

/// XEN_DOMCTL_max_vcpus: creates the vCPUs. EINVAL unless the number equals the one given to createdomain.
pub fn max_vcpus(ctx: &Ctx<'_>, dom: &Arc<Domain>, op: &Domctl) -> Answered {
    not_itself(ctx, dom)?;
    if op.u.get::<MaxVcpus>().max != dom.max_vcpus {
        return Err(errno::EINVAL);
    }
    match vcpus::make_all(dom) {
        Ok(()) => Ok(Answer::Done),
        Err(NotMade::InMaking) => Ok(Answer::Again),
        Err(NotMade::NoMemory) => Err(errno::ENOMEM),
        Err(NotMade::Dying) => Err(errno::EINVAL),
    }
}

/// XEN_DOMCTL_max_mem: sets the memory limit. If the domain has more already, it keeps that and gets no more.
pub fn max_mem(dom: &Domain, op: &Domctl) -> Answered {
    let kib = op.u.get::<MaxMem>().max_memkb;
    dom.pages.set_max((kib / PAGE_KIB).min(MAX_PAGES));
    Ok(Answer::Done)
}

/// XEN_DOMCTL_hypercall_init: fills a frame of the domain with the hypercall page.
pub fn hypercall_init(dom: &Domain, op: &Domctl) -> Answered {
    let gfn = Gfn(op.u.get::<HypercallInit>().gmfn);
    let frame = dom.resolve(gfn).ok_or(errno::EINVAL)?;
    hypercall_page::fill_guest_frame(dom, frame).map_err(|_| errno::EINVAL)?;
    Ok(Answer::Done)
}

/// XEN_DOMCTL_set_address_size: sets the width of the domain's kernel, before the domain has memory.
pub fn set_address_size(dom: &Domain, op: &Domctl) -> Answered {
    let width = match op.u.get::<AddressSize>().size {
        64 => Width::Wide,
        32 => Width::Narrow,
        _ => return Err(errno::EINVAL),
    };
    dom.set_width(width).map_err(|TooLate| errno::EACCES)?;
    if width == Width::Narrow {
        narrow::note_one();
    }
    Ok(Answer::Done)
}

/// XEN_DOMCTL_get_address_size: returns the width of the domain's kernel in bits.
pub fn get_address_size(dom: &Domain, op: &mut Domctl) -> Answered {
    let size = match dom.pages.width() {
        Width::Wide => 64,
        Width::Narrow => 32,
    };
    op.u.set(&AddressSize { size });
    Ok(Answer::Write)
}
