//! Maps a grant (`GNTTABOP_map_grant_ref`).

use alloc::sync::Arc;

use super::entry::Use;
use super::handles::{Handle, Part};
use super::{GrantError, HostAddr, Machine, PteBits, Table};
use crate::kit::{Gfn, Mfn, SharedWords};

/// A request to map a grant.
#[derive(Clone, Copy, Debug)]
pub struct MapRequest {
    /// The number of the entry in the granter's table.
    pub r: u32,
    /// Where to map it for CPUs, if at all.
    pub host: Option<HostAddr>,
    /// Whether to map it for devices.
    pub device: Device,
    /// Whether the mapping is writable, and the guest's own bits of the page-table entry.
    pub bits: PteBits,
}

/// Whether devices are to use a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Device {
    /// Devices are to use it.
    Used,
    /// Devices are not to use it.
    Unused,
}

/// The result of mapping a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// The handle by which the grant is unmapped.
    pub handle: u32,
    /// The granted frame; its machine address is the address for devices.
    pub mfn: Mfn,
}

impl<P: SharedWords> Table<P> {
    /// Maps a grant of `granter` for this table's domain.
    ///
    /// # Errors
    /// As grant_table.h describes for each status. Nothing has changed then.
    pub fn map<M: Machine>(
        &self,
        granter: &Arc<Self>,
        request: &MapRequest,
        machine: &mut M,
    ) -> Result<Mapped, GrantError> {
        let access = request.bits.access;
        if request.host.is_none() && request.device == Device::Unused {
            return Err(GrantError::BadRef);
        }
        let handle = self.handles.lock().reserve()?;
        let mapped = granter
            .pin(request.r, self.dom(), access, Use::Map)
            .and_then(|gfn| {
                let made = make(granter, request, gfn, machine);
                made.inspect_err(|_| granter.unpin(request.r, access))
            });
        let mut handles = self.handles.lock();
        match mapped {
            Ok(mfn) => {
                let part = |wanted| if wanted { Part::Mapped } else { Part::No };
                handles.set(
                    handle,
                    Handle {
                        granter: Arc::clone(granter),
                        r: request.r,
                        mfn,
                        access,
                        host: part(request.host.is_some()),
                        device: part(request.device == Device::Used),
                        by_pte: matches!(request.host, Some(HostAddr::Pte(_))),
                    },
                );
                Ok(Mapped { handle, mfn })
            }
            Err(error) => {
                drop(handles.free(handle));
                Err(error)
            }
        }
    }
}

/// Takes the references of the handle, and writes the page-table entry. Either both happen or nothing. Returns the frame.
fn make<P: SharedWords, M: Machine>(
    granter: &Table<P>,
    request: &MapRequest,
    gfn: Gfn,
    machine: &mut M,
) -> Result<Mfn, GrantError> {
    let (bits, owner) = (request.bits, granter.dom());
    let mfn = machine.resolve(gfn, owner)?;
    match request.host {
        Some(at) => machine.map(at, mfn, owner, bits)?,
        None => machine.get(mfn, owner, bits.access)?,
    }
    Ok(mfn)
}
