//! The end of a mapper: releases all of its handles, in steps that can be interrupted.

use super::{Machine, Table};
use crate::kit::SharedWords;

/// The progress of releasing a mapper's handles.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sweep {
    /// No handle is left.
    Done,
    /// Interrupted by other work: call again.
    Again,
}

/// The number of handles that are checked before looking for urgent work again.
const SWEEP_STEP: u32 = 64;

impl<P: SharedWords> Table<P> {
    /// Ends all uses of other domains' grants by this domain, whose vCPUs no longer run. The references of its
    /// page-table entries are dropped with its page tables.
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
