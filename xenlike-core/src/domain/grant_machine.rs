//! The machine behind the rules of grants: frames, and the page tables of the domain that maps.

use guest_pv_abi::Width;

use crate::grant::{Access, GrantError, HostAddr, Machine, PteBits, Space};
use crate::kit::{DomId, Gfn, Mfn, Vaddr};
use crate::mm::alloc::Past;
use crate::mm::{SharedPage, stale};
use crate::pagetype::{EntryAt, GuestRoot, Lent, Pte, Work, machine};

/// The lowest of the three bits of an entry that are free for the guest's use.
const AVAIL_SHIFT: u32 = 9;

/// The machine, for a domain that maps grants.
pub struct Mapper<'a> {
    /// The domain whose page tables are changed.
    pub owner: DomId,
    /// The number of the owner that CPUs note while they run on its tables.
    pub past: Past,
    /// The root under which virtual addresses are looked up; without one there are none.
    pub root: Option<&'a GuestRoot>,
    /// Work that a change of page tables leaves.
    pub work: &'a mut Work,
}

impl Mapper<'_> {
    #[inline(always)] // its result doesn't fit in two registers
    fn place(&self, at: HostAddr) -> Result<EntryAt, GrantError> {
        let place = match at {
            HostAddr::Pte(maddr) => EntryAt::machine(maddr),
            HostAddr::Va(va) => self.mapping(va),
        };
        place.ok_or(GrantError::General)
    }

    /// The width of the domain. One without a root has no table that could be changed.
    #[inline(always)] // an argument that must be a constant
    const fn width(&self) -> Width {
        match self.root {
            Some(root) => root.width(),
            None => Width::Wide,
        }
    }

    #[inline(always)] // the width is a constant for each caller
    fn map_in(
        &mut self,
        width: Width,
        at: HostAddr,
        mfn: Mfn,
        owner: DomId,
        bits: PteBits,
    ) -> Result<(), GrantError> {
        self.get_two(mfn, owner, bits.access)?;
        let entry = Pte::new(mfn, flags(width, bits));
        let mapped = self.place(at).and_then(|place| {
            let mapped = machine().map_grant(width, self.owner, place, entry, self.work);
            mapped.map_err(|_| GrantError::General)
        });
        mapped.inspect_err(|_| {
            self.put(mfn, bits.access);
            self.put(mfn, bits.access);
        })
    }

    #[inline(never)] // off the path of wide guests
    fn map_narrow(
        &mut self,
        at: HostAddr,
        mfn: Mfn,
        owner: DomId,
        bits: PteBits,
    ) -> Result<(), GrantError> {
        self.map_in(Width::Narrow, at, mfn, owner, bits)
    }

    #[inline(always)] // the width is a constant for each caller
    fn unmap_in(
        &mut self,
        width: Width,
        at: HostAddr,
        mfn: Mfn,
        access: Access,
    ) -> Result<(), GrantError> {
        let place = self.place(at)?;
        let lent = lent(mfn, access);
        let done = machine().unmap_grant(width, self.owner, place, lent, Pte(0), self.work);
        done.map_err(|_| GrantError::General)
    }

    #[inline(never)] // off the path of wide guests
    fn unmap_narrow(&mut self, at: HostAddr, mfn: Mfn, access: Access) -> Result<(), GrantError> {
        self.unmap_in(Width::Narrow, at, mfn, access)
    }

    #[inline]
    fn mapping(&self, va: Vaddr) -> Option<EntryAt> {
        let (table, index) = machine().l1_of_root(self.root?, va)?;
        Some(EntryAt { table, index })
    }

    /// Takes the references for two uses of a frame: the handle and the entry that maps it.
    #[inline(always)] // on the path of every mapping
    fn get_two(&mut self, mfn: Mfn, owner: DomId, access: Access) -> Result<(), GrantError> {
        if access == Access::Write && machine().take_writable_twice(mfn, owner) {
            return Ok(());
        }
        self.get(mfn, owner, access)?;
        let second = self.get(mfn, owner, access);
        second.inspect_err(|_| self.put(mfn, access))
    }
}

const fn lent(frame: Mfn, access: Access) -> Lent {
    match access {
        Access::Read => Lent::ToRead(frame),
        Access::Write => Lent::ToWrite(frame),
    }
}

const fn flags(width: Width, bits: PteBits) -> u64 {
    let writable = match bits.access {
        Access::Read => 0,
        Access::Write => Pte::WRITABLE,
    };
    let user = match (width, bits.space) {
        (Width::Narrow, Space::Kernel) => 0,
        _ => Pte::USER,
    };
    let avail = (bits.avail as u64 & 7) << AVAIL_SHIFT;
    Pte::PRESENT | Pte::MACHINE_SET | user | writable | avail
}

impl Machine for Mapper<'_> {
    type Bytes = SharedPage;

    /// Both domains are PV guests, which know their frames by the machine's numbers.
    #[inline]
    fn resolve(&self, gfn: Gfn, _owner: DomId) -> Result<Mfn, GrantError> {
        Ok(Mfn(gfn.0))
    }

    #[inline]
    fn bytes(&self, mfn: Mfn) -> Option<SharedPage> {
        SharedPage::new(mfn)
    }

    #[inline]
    fn get(&mut self, mfn: Mfn, owner: DomId, access: Access) -> Result<(), GrantError> {
        if access == Access::Write
            && let Some(writable) = machine().get_writable(mfn, owner)
        {
            writable.keep();
            return Ok(());
        }
        let page = machine().get_page(mfn, owner).ok_or(GrantError::BadPage)?;
        match access {
            Access::Read => {
                page.keep();
                Ok(())
            }
            // It is the owner's, but has a type that forbids it.
            Access::Write => Err(GrantError::General),
        }
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
        match self.width() {
            Width::Wide => self.map_in(Width::Wide, at, mfn, owner, bits),
            Width::Narrow => self.map_narrow(at, mfn, owner, bits),
        }
    }

    fn unmap(&mut self, at: HostAddr, mfn: Mfn, access: Access) -> Result<(), GrantError> {
        match self.width() {
            Width::Wide => self.unmap_in(Width::Wide, at, mfn, access),
            Width::Narrow => self.unmap_narrow(at, mfn, access),
        }
    }

    fn replace(
        &mut self,
        at: Vaddr,
        new: Vaddr,
        mfn: Mfn,
        access: Access,
    ) -> Result<(), GrantError> {
        let (place, from) = (self.mapping(at), self.mapping(new));
        let (place, from) = place.zip(from).ok_or(GrantError::General)?;
        let (width, lent) = (self.width(), lent(mfn, access));
        let done = machine().replace_grant(width, self.owner, place, lent, from, self.work);
        done.map_err(|_| GrantError::General)
    }

    fn flush(&mut self) {
        stale::flush_domain(self.past);
    }

    #[inline]
    fn copy(&mut self, from: (SharedPage, u16), to: (SharedPage, u16), bytes: u16) -> Option<()> {
        let ((source, from), (dest, to)) = (from, to);
        dest.copy_part(to.into(), &source, from.into(), bytes.into())
    }
}

#[cfg(test)]
mod tests;
