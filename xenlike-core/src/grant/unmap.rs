//! Unmapping (`GNTTABOP_unmap_grant_ref`, `GNTTABOP_unmap_and_replace`), in two steps: first the
//! page-table entry goes; then, when every CPU has flushed it, the references and the entry's flags.

use super::handles::Part;
use super::{Access, GrantError, HostAddr, Machine, Table};
use crate::kit::{Maddr, Mfn, SharedWords, Vaddr};

/// What the mapper asks for.
#[derive(Clone, Copy, Debug)]
pub struct UnmapRequest {
    /// Its handle.
    pub handle: u32,
    /// The address under which it was mapped for CPUs; 0: leave that mapping.
    pub host_addr: u64,
    /// The address under which devices use it; 0: leave that mapping.
    pub dev_bus_addr: u64,
    /// The address whose page-table entry takes the place; none: the place becomes empty.
    pub replace_by: Option<Vaddr>,
}

/// An unmapping whose translations may still be cached: flush, then [`Table::finish_unmap`].
#[must_use = "the references go only when it is finished"]
#[derive(Debug)]
pub struct Unmapping {
    handle: u32,
    host: bool,
    device: bool,
}

/// What a handle says that unmapping needs.
struct Taken {
    mfn: Mfn,
    access: Access,
    by_pte: bool,
    host: bool,
    device: bool,
}

impl<P: SharedWords> Table<P> {
    /// Takes the mapping away, the first step.
    ///
    /// # Errors
    /// [`GrantError::BadHandle`]; [`GrantError::General`] if the addresses are not the handle's, and
    /// while another vCPU unmaps the same, which may yet fail.
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

    /// The last step, after the flush: lets go of the frame, and of the handle if nothing is left.
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

    /// Marks what the request unmaps as leaving, so that no other vCPU unmaps it too.
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
