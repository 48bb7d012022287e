//! The real machine under the rules of grants: frames, and a domain's page tables.

use crate::grant::{Access, GrantError, HostAddr, Machine, PteBits};
use crate::kit::{DomId, Mfn, Vaddr};
use crate::mm::{SharedPage, stale};
use crate::pagetype::{EntryAt, Pte, Work, machine};

/// Where the three bits of an entry that a guest may use as it likes start.
const AVAIL_SHIFT: u32 = 9;

/// The machine as a domain sees it that maps grants.
pub struct Mapper<'a> {
    /// Whose page tables.
    pub owner: DomId,
    /// The root of the tables in which virtual addresses are meant; none: there is no such address.
    pub root: Option<Mfn>,
    /// What changing page tables leaves to do.
    pub work: &'a mut Work,
}

impl Mapper<'_> {
    fn place(&self, at: HostAddr) -> Result<EntryAt, GrantError> {
        match at {
            HostAddr::Pte(maddr) => Ok(EntryAt::Machine(maddr)),
            HostAddr::Va(va) => {
                let root = self.root.ok_or(GrantError::General)?;
                Ok(EntryAt::Virtual(root, va))
            }
        }
    }
}

impl Machine for Mapper<'_> {
    fn get(&mut self, mfn: Mfn, owner: DomId, access: Access) -> Result<(), GrantError> {
        let page = machine().get_page(mfn, owner).ok_or(GrantError::BadPage)?;
        match access {
            Access::Read => {
                page.keep();
            }
            Access::Write => {
                let writable = machine().get_writable(mfn, owner);
                writable.ok_or(GrantError::General)?.keep();
            }
        }
        Ok(())
    }

    fn put(&mut self, mfn: Mfn, access: Access) {
        match access {
            Access::Read => machine().put_page(mfn),
            Access::Write => machine().put_simple(mfn),
        }
    }

    fn map(
        &mut self,
        at: HostAddr,
        mfn: Mfn,
        owner: DomId,
        bits: PteBits,
    ) -> Result<(), GrantError> {
        let place = self.place(at)?;
        let mut flags = Pte::PRESENT | Pte::USER | Pte::MACHINE_SET;
        if bits.access == Access::Write {
            flags |= Pte::WRITABLE;
        }
        flags |= u64::from(bits.avail & 7) << AVAIL_SHIFT;
        let mapped = machine().map_grant(self.owner, place, Pte::new(mfn, flags), owner, self.work);
        mapped.map_err(|_| GrantError::General)
    }

    fn unmap(&mut self, at: HostAddr, mfn: Mfn) -> Result<(), GrantError> {
        let place = self.place(at)?;
        let done = machine().unmap_grant(self.owner, place, mfn, Pte(0), self.work);
        done.map_err(|_| GrantError::General)
    }

    fn replace(&mut self, at: Vaddr, new: Vaddr, mfn: Mfn) -> Result<(), GrantError> {
        let root = self.root.ok_or(GrantError::General)?;
        let place = EntryAt::Virtual(root, at);
        let done = machine().replace_grant(self.owner, place, mfn, (root, new), self.work);
        done.map_err(|_| GrantError::General)
    }

    fn flush(&mut self) {
        stale::flush(stale::now());
    }

    fn copy(&mut self, from: (Mfn, u16), to: (Mfn, u16), bytes: u16) {
        if let (Some(source), Some(dest)) = (SharedPage::new(from.0), SharedPage::new(to.0)) {
            // Both ranges lie in their pages: the rules have seen to it.
            let _copied = dest.copy_part(to.1.into(), &source, from.1.into(), bytes.into());
        }
    }
}
