//! Unmaps a grant (`GNTTABOP_unmap_grant_ref`, `GNTTABOP_unmap_and_replace`), in two steps. First the
//! page-table entry is cleared. Then, after every CPU has flushed the translation, the references are dropped
//! and the marks of the grant entry are cleared.

use super::handles::Part;
use super::{Access, GrantError, HostAddr, Machine, Table};
use crate::kit::{Maddr, Mfn, SharedWords, Vaddr};

/// A request to unmap a grant.
#[derive(Clone, Copy, Debug)]
pub struct UnmapRequest {
    /// The handle of the mapping.
    pub handle: u32,
    /// The address at which the grant is mapped for CPUs; 0 to keep that mapping.
    pub host_addr: u64,
    /// The address by which devices use the grant; 0 to keep that mapping.
    pub dev_bus_addr: u64,
    /// The address whose page-table entry replaces the mapping; `None` to leave the entry empty.
    pub replace_by: Option<Vaddr>,
}

/// An unmapping whose translations may still be cached. The caller must flush, and then
/// call [`Table::finish_unmap`].
#[must_use = "the references go only when it is finished"]
#[derive(Debug)]
pub struct Unmapping {
    handle: u32,
    host: bool,
    device: bool,
}

/// The facts about a handle that unmapping needs.
struct Taken {
    mfn: Mfn,
    access: Access,
    by_pte: bool,
    host: bool,
    device: bool,
}

impl<P: SharedWords> Table<P> {
    /// The first step: removes the mapping.
    ///
    /// # Errors
    /// [`GrantError::BadHandle`] if there is no such mapping. [`GrantError::General`] if the addresses are not
    /// those of the handle, or if another vCPU is unmapping the grant, which may still fail.
    pub fn begin_unmap<M: Machine>(
        &self,
        request: &UnmapRequest,
        machine: &mut M,
    ) -> Result<Unmapping, GrantError> {
        let taken = self.take_parts(request)?;
        if taken.host {
            let at = Vaddr(request.host_addr);
            let (mfn, access) = (taken.mfn, taken.access);
            let done = match (request.replace_by, taken.by_pte) {
                (None, true) => machine.unmap(HostAddr::Pte(Maddr(request.host_addr)), mfn, access),
                (None, false) => machine.unmap(HostAddr::Va(at), mfn, access),
                (Some(new), false) => machine.replace(at, new, mfn, access),
                (Some(_), true) => Err(GrantError::General),
            };
            if let Err(error) = done {
                self.restore(request.handle, &taken);
                return Err(error);
            }
        }
        Ok(Unmapping {
            handle: request.handle,
            host: taken.host,
            device: taken.device,
        })
    }

    /// The second step, after the flush: releases the handle and its references, if neither mapping is left.
    pub fn finish_unmap<M: Machine>(&self, unmapping: Unmapping, machine: &mut M) {
        let mut handles = self.handles.lock();
        let Some(handle) = handles.get(unmapping.handle) else {
            return;
        };
        if unmapping.host {
            handle.host = Part::No;
        }
        if unmapping.device {
            handle.device = Part::No;
        }
        let over = if handle.is_over() {
            handles.free(unmapping.handle)
        } else {
            None
        };
        drop(handles);
        if let Some(handle) = over {
            machine.put(handle.mfn, handle.access);
            handle.granter.unpin(handle.r, handle.access);
        }
    }

    /// Marks the mappings of the request as leaving, so that no other vCPU unmaps them at the same time.
    fn take_parts(&self, request: &UnmapRequest) -> Result<Taken, GrantError> {
        let mut handles = self.handles.lock();
        let handle = handles.get(request.handle).ok_or(GrantError::BadHandle)?;
        if handle.host == Part::No && handle.device == Part::No {
            return Err(GrantError::BadHandle);
        }
        let (wants_host, wants_device) = (request.host_addr != 0, request.dev_bus_addr != 0);
        if wants_host && handle.host == Part::Leaving
            || wants_device && handle.device == Part::Leaving
        {
            return Err(GrantError::General);
        }
        let host = wants_host && handle.host == Part::Mapped;
        let device = wants_device && handle.device == Part::Mapped;
        if device && request.dev_bus_addr != handle.mfn.maddr().0 {
            return Err(GrantError::General);
        }
        if host {
            handle.host = Part::Leaving;
        }
        if device {
            handle.device = Part::Leaving;
        }
        let (mfn, access, by_pte) = (handle.mfn, handle.access, handle.by_pte);
        Ok(Taken {
            mfn,
            access,
            by_pte,
            host,
            device,
        })
    }

    fn restore(&self, handle: u32, taken: &Taken) {
        if let Some(handle) = self.handles.lock().get(handle) {
            if taken.host {
                handle.host = Part::Mapped;
            }
            if taken.device {
                handle.device = Part::Mapped;
            }
        }
    }
}
