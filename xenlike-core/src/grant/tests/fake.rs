//! A simulated machine with the owners of frames and with page-table entries by address, and
//! domains with tables.

use crate::kit::atomic::{AtomicU16, AtomicU32, Ordering::SeqCst};
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::grant::*;
use crate::kit::words::fake::FakePage;
use crate::kit::{DomId, Gfn, Maddr, Mfn, SharedWords, Vaddr};
use guest_pv_abi::grant_table as abi;

/// The source, the destination and the number of bytes of a copy.
type Copied = ((Mfn, u16), (Mfn, u16), u16);

/// The references of a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Refs {
    pub all: u32,
    pub writers: u32,
}

/// The machine, as one domain sees it: its own page-table entries, and all frames.
#[derive(Default)]
pub(super) struct FakeMachine {
    pub owners: BTreeMap<u64, DomId>,
    pub refs: BTreeMap<u64, Refs>,
    pub ptes: BTreeMap<(bool, u64), (Mfn, Access)>,
    pub copies: Vec<Copied>,
    pub flushes: u32,
}

fn key(at: HostAddr) -> (bool, u64) {
    match at {
        HostAddr::Pte(Maddr(a)) => (true, a),
        HostAddr::Va(Vaddr(a)) => (false, a),
    }
}

impl Machine for FakeMachine {
    type Bytes = Mfn;

    fn resolve(&self, gfn: Gfn, _: DomId) -> Result<Mfn, GrantError> {
        Ok(Mfn(gfn.0))
    }
    fn bytes(&self, mfn: Mfn) -> Option<Mfn> {
        Some(mfn)
    }
    fn get(&mut self, mfn: Mfn, owner: DomId, access: Access) -> Result<(), GrantError> {
        if self.owners.get(&mfn.0) != Some(&owner) {
            return Err(GrantError::BadPage);
        }
        let refs = self.refs.entry(mfn.0).or_default();
        refs.all += 1;
        refs.writers += u32::from(access == Access::Write);
        Ok(())
    }
    fn put(&mut self, mfn: Mfn, access: Access) {
        let refs = self.refs.get_mut(&mfn.0).unwrap();
        refs.all -= 1;
        refs.writers -= u32::from(access == Access::Write);
    }
    fn map(
        &mut self,
        at: HostAddr,
        mfn: Mfn,
        owner: DomId,
        bits: PteBits,
    ) -> Result<(), GrantError> {
        self.get(mfn, owner, bits.access)?;
        if key(at).1 >= 0x100_0000 {
            self.put(mfn, bits.access);
            return Err(GrantError::BadVirtAddr);
        }
        self.get(mfn, owner, bits.access)?;
        if let Some((old, access)) = self.ptes.insert(key(at), (mfn, bits.access)) {
            self.put(old, access);
        }
        Ok(())
    }
    fn unmap(&mut self, at: HostAddr, mfn: Mfn, access: Access) -> Result<(), GrantError> {
        match self.ptes.get(&key(at)) {
            Some(&mapped) if mapped == (mfn, access) => {
                self.ptes.remove(&key(at));
                self.put(mfn, access);
                Ok(())
            }
            _ => Err(GrantError::General),
        }
    }
    fn replace(
        &mut self,
        at: Vaddr,
        new: Vaddr,
        mfn: Mfn,
        access: Access,
    ) -> Result<(), GrantError> {
        let moved = *self.ptes.get(&(false, new.0)).ok_or(GrantError::General)?;
        self.unmap(HostAddr::Va(at), mfn, access)?;
        self.ptes.remove(&(false, new.0));
        self.ptes.insert((false, at.0), moved);
        Ok(())
    }
    fn flush(&mut self) {
        self.flushes += 1;
    }
    fn copy(&mut self, from: (Mfn, u16), to: (Mfn, u16), bytes: u16) -> Option<()> {
        let fits = |first: u16| u32::from(first) + u32::from(bytes) <= 4096;
        (fits(from.1) && fits(to.1)).then(|| self.copies.push((from, to, bytes)))
    }
}

/// A domain with one shared frame of entries, and with one of status words if its table is of version 2.
pub(super) struct Dom {
    pub table: Arc<Table<FakePage>>,
    pub page: FakePage,
    pub status: FakePage,
}

impl Dom {
    pub fn new(id: u16) -> Self {
        let limits = Limits {
            grant_frames: 2,
            maptrack_frames: 2,
            version: Version::V2,
            transitive: true,
        };
        let table = Table::new(DomId(id), limits).unwrap();
        let (page, status) = (FakePage::new(), FakePage::new());
        table.grow(1, &mut || Some(page.clone())).unwrap();
        Self {
            table,
            page,
            status,
        }
    }
    /// As `GNTTABOP_set_version`. The guest maps the status words if there are handles other than the test's
    /// and the table's.
    pub fn set_version(&self, version: Version) -> Result<(), Refused> {
        let new_page = || {
            self.status.zero();
            Some(self.status.clone())
        };
        let is_mapped = |page: &FakePage| page.handles() > 2;
        self.table.set_version(version, new_page, is_mapped)
    }
    fn header(&self, r: u32) -> &AtomicU32 {
        let at = self.table.version().offset_of(r);
        self.page.u32(at).unwrap()
    }
    /// Writes an entry in the layout of the table's version; `detail` is used in version 2 only.
    pub fn write_all(&self, r: u32, header: (u16, u16), detail: (u16, u16), frame: u64) {
        let at = self.table.version().offset_of(r);
        let word = |(low, high): (u16, u16)| u32::from(low) | u32::from(high) << 16;
        let second = self.page.u32(at + 4).unwrap();
        match self.table.version() {
            Version::V1 => second.store(frame as u32, SeqCst),
            Version::V2 => {
                second.store(word(detail), SeqCst);
                self.page.u64(at + 8).unwrap().store(frame, SeqCst);
            }
        }
        self.header(r).store(word(header), SeqCst);
    }
    pub fn write(&self, r: u32, flags: u16, dom: u16, frame: u32) {
        self.write_all(r, (flags, dom), (0, 0), frame.into());
    }
    pub fn grant(&self, r: u32, dom: u16, frame: u32) {
        self.write(r, abi::GTF_PERMIT_ACCESS, dom, frame);
    }
    pub fn flags(&self, r: u32) -> u16 {
        self.header(r).load(SeqCst) as u16
    }
    /// The status word of an entry in version 2.
    pub fn status(&self, r: u32) -> &AtomicU16 {
        self.status.u16(2 * r as usize).unwrap()
    }
    /// GTF_reading and GTF_writing, as the granter sees them.
    pub fn shown(&self, r: u32) -> u16 {
        let word = match self.table.version() {
            Version::V1 => self.flags(r),
            Version::V2 => self.status(r).load(SeqCst),
        };
        word & (abi::GTF_READING | abi::GTF_WRITING)
    }
}

/// A request to map entry `r` at virtual address `va`.
pub(super) fn at(r: u32, va: u64, access: Access) -> MapRequest {
    MapRequest {
        r,
        host: Some(HostAddr::Va(Vaddr(va))),
        device: Device::Unused,
        bits: PteBits {
            access,
            space: crate::grant::Space::Kernel,
            avail: 0,
        },
    }
}

/// Copies `bytes` bytes at `offset` of a granted frame to the same offset of the user's own frame, or back.
pub(super) fn copy_at(
    user: &Dom,
    (grant, own): (&CopySide<'_, FakePage>, &CopySide<'_, FakePage>),
    access: Access,
    (offset, bytes): (u16, u16),
    find: &impl Fn(DomId) -> Option<Arc<Table<FakePage>>>,
    m: &mut FakeMachine,
) -> Result<(), GrantError> {
    let sides = match access {
        Access::Read => (grant, own),
        Access::Write => (own, grant),
    };
    let piece = Piece {
        from: offset,
        to: offset,
        bytes,
    };
    copy(&user.table, sides, piece, find, m)
}

/// The request to unmap what [`at`] has mapped.
pub(super) fn off(handle: u32, va: u64) -> UnmapRequest {
    UnmapRequest {
        handle,
        host_addr: va,
        dev_bus_addr: 0,
        replace_by: None,
    }
}

/// Both steps of an unmapping, with the flush between them.
pub(super) fn unmap(
    dom: &Dom,
    m: &mut FakeMachine,
    request: &UnmapRequest,
) -> Result<(), GrantError> {
    let unmapping = dom.table.begin_unmap(request, m)?;
    m.flush();
    dom.table.finish_unmap(unmapping, m);
    Ok(())
}
