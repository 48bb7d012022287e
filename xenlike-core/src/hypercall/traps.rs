//! set_trap_table: the guest's exception handlers (arch-x86/xen.h, `struct trap_info`).

use guest_pv_abi::arch_x86::TrapInfo;
use guest_pv_abi::errno::{self, Errno};
use zerocopy::FromZeros;

use super::{Args, Ctx, get};
use crate::domain::trap::fix_code_selector;

/// `set_trap_table(traps)`: an array that ends with address 0. NULL clears all.
#[inline(never)] // one body for both tables
pub fn set_trap_table(ctx: &mut Ctx<'_>, args: Args) -> Result<(), Errno> {
    let mut at = args.0[0];
    if at == 0 {
        ctx.st.traps.fill(TrapInfo::new_zeroed());
        return Ok(());
    }
    // A table without an end stops at the 257th entry: there are only 256 vectors to set.
    for _ in 0..=256u32 {
        let mut trap: TrapInfo = get(at)?;
        if trap.address == 0 {
            return Ok(());
        }
        trap.cs = fix_code_selector(trap.cs);
        if let Some(slot) = ctx.st.traps.get_mut(usize::from(trap.vector)) {
            *slot = trap;
        }
        at = at
            .checked_add(size_of::<TrapInfo>() as u64)
            .ok_or(errno::EFAULT)?;
    }
    Err(errno::EINVAL)
}
