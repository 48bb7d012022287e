//! settscinfo and gettscinfo. Domains always use the native TSC at the machine's rate.

use alloc::sync::Arc;

use guest_pv_abi::cpuid as abi;
use guest_pv_abi::domctl::{Domctl, TscInfo};
use guest_pv_abi::errno;

use super::{Answer, Answered, not_itself};
use crate::arch::time;
use crate::domain::Domain;
use crate::hypercall::Ctx;
use crate::kit::atomic::Ordering;

/// XEN_DOMCTL_settscinfo: records the mode. EINVAL for an unknown mode.
pub fn set(ctx: &Ctx<'_>, dom: &Arc<Domain>, op: &Domctl) -> Answered {
    not_itself(ctx, dom)?;
    // The padding is not checked, because libxc of Xen 4.17 leaves it uninitialised.
    match op.u.get::<TscInfo>().tsc_mode {
        // The default mode is native if the TSC is invariant, or if there is no better clock.
        mode @ (abi::XEN_CPUID_TSC_MODE_DEFAULT
        | abi::XEN_CPUID_TSC_MODE_NEVER_EMULATE
        | abi::XEN_CPUID_TSC_MODE_ALWAYS_EMULATE) => {
            dom.tsc_mode.store(mode, Ordering::Relaxed);
            Ok(Answer::Done)
        }
        _ => Err(errno::EINVAL),
    }
}

/// XEN_DOMCTL_gettscinfo: returns the mode, the TSC's rate in kHz and the time in ns.
pub fn get(ctx: &Ctx<'_>, dom: &Arc<Domain>, op: &mut Domctl) -> Answered {
    not_itself(ctx, dom)?;
    op.u.set(&TscInfo {
        tsc_mode: dom.tsc_mode.load(Ordering::Relaxed),
        gtsc_khz: time::tsc_scale().khz as u32,
        incarnation: 0,
        pad: 0,
        elapsed_nsec: time::now_ns(),
    });
    Ok(Answer::Write)
}
