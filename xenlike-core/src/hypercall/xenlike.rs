//! The boot domain's private hypercall: domain 0 comes into being, once, in one of two ways. To
//! everybody else the number means mca.

use guest_pv_abi::domctl::CreateDomain;
use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::xenlike::{XENLIKE_BECOME_DOM0, XENLIKE_CREATE_DOM0};

use super::{Args, Ctx, domctl, get};
use crate::domain::Rights;
use crate::kit::DomId;
use crate::life::{create, hardware};

/// `xenlike_op(op, argument)`.
#[inline(never)] // one body for both tables
pub fn call(ctx: &mut Ctx<'_>, args: Args) -> Result<i64, Errno> {
    if ctx.dom.rights() != Rights::Boot {
        return super::mca::call(ctx, args);
    }
    let [op, argument, ..] = args.0;
    match op as u32 {
        XENLIKE_BECOME_DOM0 => become_dom0(ctx)?,
        XENLIKE_CREATE_DOM0 => create_dom0(argument)?,
        _ => return Err(errno::ENOSYS),
    }
    Ok(0)
}

/// `xenlike_op(XENLIKE_AUDIT, 0)`, from any domain: an audit of the whole machine. The call is made again
/// until that has been.
#[cfg(feature = "audit")]
pub fn audit(args: &mut Args) -> super::Outcome {
    use crate::audit::{Verdict, verdict};
    // The last two are the caller's own, for all it knows.
    let [op, number, third, fourth] = args.0;
    if number == 0 {
        return args.again([op, u64::from(crate::audit::ask()), third, fourth]);
    }
    match verdict(number as u32) {
        Verdict::Open => args.again([op, number, third, fourth]),
        Verdict::Agreed => super::Outcome::Done(0),
        Verdict::Failed => errno::EIO.into(),
        Verdict::Unknown => errno::EINVAL.into(),
    }
}

/// The caller goes on as domain 0.
fn become_dom0(ctx: &mut Ctx<'_>) -> Result<(), Errno> {
    hardware::become_dom0(ctx.dom).map_err(|refused| match refused {
        hardware::Refused::Exists => errno::EEXIST,
        hardware::Refused::InUse => errno::EBUSY,
    })?;
    log::info!("the boot domain is domain 0 now");
    Ok(())
}

/// Domain 0 is made, empty and paused, for the caller to fill.
fn create_dom0(argument: u64) -> Result<(), Errno> {
    let config = get::<CreateDomain>(argument)?;
    let dom = create::create(Some(DomId::DOM0), Rights::Control, &config)
        .map_err(domctl::create_errno)?;
    hardware::give(&dom);
    Ok(())
}
