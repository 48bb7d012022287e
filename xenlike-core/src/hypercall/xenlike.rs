//! The boot domain's private hypercall, which creates domain 0, once, in one of two ways. For all other domains, the
//! number means mca.

use guest_pv_abi::domctl::CreateDomain;
use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::xenlike::{XENLIKE_BECOME_DOM0, XENLIKE_CREATE_DOM0};

use super::arguments::XenlikeOp;
use super::{Ctx, Outcome, domctl};
use crate::domain::Rights;
use crate::kit::DomId;
use crate::kit::Vaddr;
use crate::life::{create, hardware_domain};

/// `xenlike_op(op, argument)`: dispatches the command, or calls mca if the caller is not the boot domain.
pub fn call(ctx: &mut Ctx<'_>, args: &mut XenlikeOp) -> Outcome {
    let op = args.op as u32;
    #[cfg(feature = "audit")]
    if op == guest_pv_abi::xenlike::XENLIKE_AUDIT {
        return audit(args);
    }
    if ctx.dom.rights() != Rights::Boot {
        return super::mca::call(ctx, Vaddr(args.op as u64)).into();
    }
    match op {
        XENLIKE_BECOME_DOM0 => become_dom0(ctx).into(),
        XENLIKE_CREATE_DOM0 => create_dom0(ctx, args.arg).into(),
        _ => errno::ENOSYS.into(),
    }
}

/// `xenlike_op(XENLIKE_AUDIT, 0)`, from any domain: audits the whole machine. The call is repeated until the audit
/// has finished.
#[cfg(feature = "audit")]
fn audit(args: &mut XenlikeOp) -> Outcome {
    use crate::audit::{Verdict, verdict};
    if args.arg.is_null() {
        args.arg = Vaddr(crate::audit::ask().into());
        return Outcome::Again;
    }
    match verdict(args.arg.0 as u32) {
        Verdict::Open => Outcome::Again,
        Verdict::Agreed => Outcome::Done(0),
        Verdict::Failed => errno::EIO.into(),
        Verdict::Unknown => errno::EINVAL.into(),
    }
}

/// Turns the calling boot domain into domain 0.
fn become_dom0(ctx: &mut Ctx<'_>) -> Result<(), Errno> {
    hardware_domain::become_dom0(ctx.dom).map_err(|refused| match refused {
        hardware_domain::Refused::Exists => errno::EEXIST,
        hardware_domain::Refused::InUse => errno::EBUSY,
    })?;
    log::info!("the boot domain is domain 0 now");
    Ok(())
}

/// Creates domain 0, empty and paused, for the boot domain to fill.
fn create_dom0(ctx: &Ctx<'_>, argument: Vaddr) -> Result<(), Errno> {
    let config = ctx.guest().read::<CreateDomain>(argument)?;
    let dom = create::create(Some(DomId::DOM0), Rights::Control, &config)
        .map_err(domctl::create_errno)?;
    hardware_domain::give(&dom);
    Ok(())
}
