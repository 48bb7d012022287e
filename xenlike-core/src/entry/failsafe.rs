//! The failsafe callback: the guest's registers name segments or an address that can't be loaded.

use super::syscall;
use crate::arch::seg;
use crate::domain::trap::Bounce;
use crate::hypercall::Ctx;

/// Enters the failsafe callback with the selectors as they are: null where one could not be loaded.
pub fn enter(ctx: &mut Ctx<'_>) {
    let segments = seg::selectors();
    let callback = ctx.st.callbacks.failsafe;
    let bounce = Bounce {
        selectors: Some(segments),
        ..callback.into()
    };
    syscall::bounce(ctx, bounce);
}
