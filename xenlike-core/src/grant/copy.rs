//! Copying by the hypervisor (`GNTTABOP_copy`): one bounded piece inside two pages.

use alloc::sync::Arc;

use super::entry::Use;
use super::{Access, GrantError, Machine, Table};
use crate::kit::{Mfn, PAGE_SIZE, SharedWords};

/// One side of a copy.
pub enum CopySide<'a, P> {
    /// A frame of the caller's own.
    Frame(Mfn),
    /// A grant to the caller.
    Grant(&'a Arc<Table<P>>, u32),
}

/// A side with its references taken.
struct Held<'a, P> {
    mfn: Mfn,
    access: Access,
    grant: Option<(&'a Table<P>, u32)>,
}

/// Copies `bytes` bytes for the domain of `caller`, each side given with the offset in its page.
///
/// # Errors
/// As grant_table.h says for each status; nothing has been copied then.
pub fn copy<P: SharedWords, M: Machine>(
    caller: &Table<P>,
    from: (CopySide<'_, P>, u16),
    to: (CopySide<'_, P>, u16),
    bytes: u16,
    machine: &mut M,
) -> Result<(), GrantError> {
    for offset in [from.1, to.1] {
        if usize::from(offset).saturating_add(usize::from(bytes)) > PAGE_SIZE {
            return Err(GrantError::BadCopyArg);
        }
    }
    let source = hold(caller, &from.0, Access::Read, machine)?;
    let copied = hold(caller, &to.0, Access::Write, machine).map(|dest| {
        machine.copy((source.mfn, from.1), (dest.mfn, to.1), bytes);
        let_go(&dest, machine);
    });
    let_go(&source, machine);
    copied
}

fn hold<'a, P: SharedWords, M: Machine>(
    caller: &Table<P>,
    side: &CopySide<'a, P>,
    access: Access,
    machine: &mut M,
) -> Result<Held<'a, P>, GrantError> {
    match *side {
        CopySide::Frame(mfn) => {
            machine.get(mfn, caller.dom(), access)?;
            Ok(Held {
                mfn,
                access,
                grant: None,
            })
        }
        CopySide::Grant(granter, r) => {
            let mfn = granter.pin(r, caller.dom(), access, Use::Copy)?;
            let got = machine.get(mfn, granter.dom(), access);
            got.inspect_err(|_| granter.unpin(r, access))?;
            Ok(Held {
                mfn,
                access,
                grant: Some((granter, r)),
            })
        }
    }
}

fn let_go<P: SharedWords, M: Machine>(held: &Held<'_, P>, machine: &mut M) {
    machine.put(held.mfn, held.access);
    if let Some((granter, r)) = held.grant {
        granter.unpin(r, held.access);
    }
}
