//! getpageframeinfo3: returns the type of each given frame, for a toolstack that saves a domain.

use guest_pv_abi::domctl::{self as abi, Domctl, GetPageFrameInfo3};
use guest_pv_abi::errno;

use super::{Answer, Answered};
use crate::domain::Domain;
use crate::kit::{Gfn, Vaddr};
use crate::mm::frame::State;
use crate::mm::guest::{Guest, Long};
use crate::pagetype::{PageType, machine};

/// Maximum number of frames of one call, as in Xen.
const MAX_FRAMES: u64 = 1024;

/// XEN_DOMCTL_getpageframeinfo3: replaces each frame number in the caller's array by the frame's type.
pub fn getpageframeinfo3(guest: Guest<'_>, dom: &Domain, op: &Domctl) -> Answered {
    let body = op.u.get::<GetPageFrameInfo3>();
    if body.num > MAX_FRAMES {
        return Err(errno::E2BIG);
    }
    let array = Vaddr(body.array.0);
    for n in 0..body.num {
        let frame = guest.read_at::<Long>(array, n)?.0;
        let kind = u64::from(kind_of(dom, Gfn(frame)));
        guest.write_at(array, n, &Long(kind))?;
    }
    Ok(Answer::Done)
}

/// The XEN_DOMCTL_PFINFO_* value of a frame.
fn kind_of(dom: &Domain, gfn: Gfn) -> u32 {
    let held = dom
        .resolve(gfn)
        .and_then(|mfn| machine().get_page(mfn, dom.id()));
    let Some(page) = held else {
        return abi::XEN_DOMCTL_PFINFO_XTAB;
    };
    let state = page.frame().load();
    let kind = match PageType::from_bits(state.type_bits()) {
        PageType::L1 => abi::XEN_DOMCTL_PFINFO_L1TAB,
        PageType::L2 | PageType::L2Last => abi::XEN_DOMCTL_PFINFO_L2TAB,
        PageType::L3 => abi::XEN_DOMCTL_PFINFO_L3TAB,
        PageType::L4 => abi::XEN_DOMCTL_PFINFO_L4TAB,
        _ => return abi::XEN_DOMCTL_PFINFO_NOTAB,
    };
    if state.type_refs() == 0 {
        return abi::XEN_DOMCTL_PFINFO_NOTAB;
    }
    if state.has(State::PINNED) {
        kind | abi::XEN_DOMCTL_PFINFO_LPINTAB
    } else {
        kind
    }
}
