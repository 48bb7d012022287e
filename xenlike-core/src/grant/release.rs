//! A mapper's end: all its handles go, preemptibly.

use super::{Machine, Table};
use crate::kit::SharedWords;

/// How far letting go got.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sweep {
    /// No handle is left.
    Done,
    /// Interrupted: call again.
    Again,
}

/// Handles looked at between two looks at whether something else is urgent.
const SWEEP_STEP: u32 = 64;

impl<P: SharedWords> Table<P> {
    /// Ends all uses that this domain, which does not run any more, has of others' grants. The
    /// references that its page-table entries hold go with its page tables.
    pub fn release_handles<M: Machine>(
        &self,
        urgent: &mut dyn FnMut() -> bool,
        machine: &mut M,
    ) -> Sweep {
        loop {
            for _ in 0..SWEEP_STEP {
                let mut handles = self.handles.lock();
                handles.dying = true;
                let n = handles.cursor;
                if n >= handles.len() {
                    return Sweep::Done;
                }
                handles.cursor = n.saturating_add(1);
                if handles.get(n).is_none() {
                    continue;
                }
                let gone = handles.free(n);
                drop(handles);
                if let Some(handle) = gone {
                    machine.put(handle.mfn, handle.access);
                    handle.granter.unpin(handle.r, handle.access);
                }
            }
            if urgent() {
                return Sweep::Again;
            }
        }
    }
}
