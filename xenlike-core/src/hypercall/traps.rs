//! set_trap_table: registers the guest's exception handlers (arch-x86/xen.h, `struct trap_info`).

use guest_pv_abi::arch_x86::TrapInfo;
use guest_pv_abi::errno::{self, Errno};
use zerocopy::FromZeros;

use super::arguments::SetTrapTable;
use super::{Ctx, Outcome};
use crate::kit::Vaddr;
use crate::pv::state::outside_ring0;

/// Number of entries between two checks for preemption.
const AT_ONCE: u32 = 256;

/// `set_trap_table(traps)`: sets the entries of an array that ends with address 0. A null `traps` clears all entries.
/// A long array is processed in steps, and the call is continued after each.
pub fn set_trap_table(ctx: &mut Ctx<'_>, args: &mut SetTrapTable) -> Outcome {
    if args.traps.is_null() {
        ctx.st.pv_mut().entries_mut().0.fill(TrapInfo::new_zeroed());
        return Outcome::Done(0);
    }
    match set_some(ctx, args.traps) {
        Ok(None) => Outcome::Done(0),
        Ok(Some(next)) => {
            args.traps = next;
            Outcome::Again
        }
        Err(errno) => errno.into(),
    }
}

/// Sets up to [`AT_ONCE`] entries. Returns where to continue, or `None` at the end of the array.
fn set_some(ctx: &mut Ctx<'_>, mut at: Vaddr) -> Result<Option<Vaddr>, Errno> {
    for _ in 0..AT_ONCE {
        let mut trap: TrapInfo = ctx.guest().read(at)?;
        if trap.address == 0 {
            return Ok(None);
        }
        if !Vaddr(trap.address).is_canonical() {
            return Err(errno::EINVAL);
        }
        trap.cs = outside_ring0(ctx.st.pv().width, trap.cs);
        if let Some(slot) = ctx
            .st
            .pv_mut()
            .entries_mut()
            .0
            .get_mut(usize::from(trap.vector))
        {
            *slot = trap;
        }
        at = at
            .checked_add(ctx.guest().size::<TrapInfo>())
            .ok_or(errno::EFAULT)?;
    }
    Ok(Some(at))
}
