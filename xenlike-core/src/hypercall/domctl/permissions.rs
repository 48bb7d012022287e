//! A domain's rights to ports, memory and interrupts of the machine. A toolstack can pass on only rights that its own
//! domain has.

use alloc::sync::Arc;
use core::ops::RangeInclusive;

use guest_pv_abi::domctl::{
    Domctl, GsiPermission, IomemPermission, IoportPermission, IrqPermission, MemoryMapping,
    XEN_DOMCTL_GSI_ACTION_MASK, XEN_DOMCTL_GSI_GRANT,
};
use guest_pv_abi::errno::{self, Errno};

use super::{Answer, Answered};
use crate::domain::Domain;
use crate::hypercall::Ctx;
use crate::kit::rangeset::RangeSet;

/// Number of I/O ports.
const PORTS: u64 = 0x1_0000;
/// One past the highest frame number, for 52 address bits.
const FRAMES: u64 = 1 << 40;
/// Maximum number of frames of one memory_mapping call.
const MAX_MAPPED: u64 = 64;
/// Maximum number of ranges in each of a domain's sets.
const MAX_RANGES: usize = 1024;

/// Selects one of a domain's sets.
#[derive(Clone, Copy)]
enum Kind {
    Ports,
    Iomem,
    Irqs,
}

impl Kind {
    /// Calls `act` with the rights of this kind that a domain has.
    fn with<R>(self, dom: &Domain, act: impl FnOnce(&mut RangeSet) -> R) -> R {
        match self {
            Self::Ports => act(&mut dom.io_rights.lock().ports),
            Self::Iomem => act(&mut dom.pages.io_memory.lock()),
            Self::Irqs => act(&mut dom.io_rights.lock().irqs),
        }
    }
}

fn change(
    ctx: &Ctx<'_>,
    dom: &Arc<Domain>,
    kind: Kind,
    range: RangeInclusive<u64>,
    allow: u8,
) -> Answered {
    if !kind.with(ctx.dom, |own| own.contains(range.clone())) {
        return Err(errno::EPERM);
    }
    kind.with(dom, |set| {
        if set.len() >= MAX_RANGES {
            return Err(errno::ENOMEM);
        }
        if allow != 0 {
            set.insert(range);
        } else {
            set.remove(range);
        }
        Ok(Answer::Done)
    })
}

/// The range of `count` numbers from `first` on. EINVAL if it is empty or not below `end`.
fn range(first: u64, count: u64, end: u64) -> Result<RangeInclusive<u64>, Errno> {
    let last = count
        .checked_sub(1)
        .and_then(|n| first.checked_add(n))
        .ok_or(errno::EINVAL)?;
    if last < end {
        Ok(first..=last)
    } else {
        Err(errno::EINVAL)
    }
}

/// XEN_DOMCTL_ioport_permission: grants or revokes a range of I/O ports.
pub fn ioport(ctx: &Ctx<'_>, dom: &Arc<Domain>, op: &Domctl) -> Answered {
    let body = op.u.get::<IoportPermission>();
    let ports = range(body.first_port.into(), body.nr_ports.into(), PORTS)?;
    change(ctx, dom, Kind::Ports, ports, body.allow_access)
}

/// XEN_DOMCTL_iomem_permission: grants or revokes a range of frames of I/O memory.
pub fn iomem(ctx: &Ctx<'_>, dom: &Arc<Domain>, op: &Domctl) -> Answered {
    let body = op.u.get::<IomemPermission>();
    // As in Xen, 0 frames at 0 means the whole address space, which no domain has.
    if body.first_mfn == 0 && body.nr_mfns == 0 {
        return Err(errno::EPERM);
    }
    let frames = range(body.first_mfn, body.nr_mfns, FRAMES)?;
    change(ctx, dom, Kind::Iomem, frames, body.allow_access)
}

/// XEN_DOMCTL_irq_permission: grants or revokes an interrupt.
pub fn irq(ctx: &Ctx<'_>, dom: &Arc<Domain>, op: &Domctl) -> Answered {
    let body = op.u.get::<IrqPermission>();
    if body.pad != [0; 3] {
        return Err(errno::EINVAL);
    }
    let irq = u64::from(body.pirq);
    change(ctx, dom, Kind::Irqs, irq..=irq, body.allow_access)
}

/// XEN_DOMCTL_gsi_permission: grants or revokes an interrupt line, by its GSI.
pub fn gsi(ctx: &Ctx<'_>, dom: &Arc<Domain>, op: &Domctl) -> Answered {
    let body = op.u.get::<GsiPermission>();
    if body.flags & !XEN_DOMCTL_GSI_ACTION_MASK != 0 {
        return Err(errno::EINVAL);
    }
    let irq = u64::from(body.gsi);
    // Line 0 is the PC's timer, which can't be given to a domain.
    if irq == 0 {
        return Err(errno::EINVAL);
    }
    let allow = u8::from(body.flags == XEN_DOMCTL_GSI_GRANT);
    change(ctx, dom, Kind::Irqs, irq..=irq, allow)
}

/// XEN_DOMCTL_memory_mapping: only checks rights and limits, because PV domains map frames themselves.
pub fn memory_mapping(ctx: &Ctx<'_>, dom: &Arc<Domain>, op: &Domctl) -> Answered {
    let body = op.u.get::<MemoryMapping>();
    let frames = range(body.first_mfn, body.nr_mfns, FRAMES)?;
    range(body.first_gfn, body.nr_mfns, FRAMES)?;
    let allowed = |dom: &Domain| dom.pages.io_memory.lock().contains(frames.clone());
    if !allowed(ctx.dom) || !allowed(dom) {
        return Err(errno::EPERM);
    }
    if body.nr_mfns > MAX_MAPPED {
        return Err(errno::E2BIG);
    }
    Ok(Answer::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        assert_eq!(range(0, PORTS, PORTS), Ok(0..=0xffff));
        assert_eq!(range(1, PORTS, PORTS), Err(errno::EINVAL));
        assert_eq!(range(5, 0, PORTS), Err(errno::EINVAL));
        assert_eq!(range(u64::MAX, 2, u64::MAX), Err(errno::EINVAL));
    }
}
