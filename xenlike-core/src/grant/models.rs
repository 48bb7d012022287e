//! Models of entries, handles and their end, which explore the interleavings of a few CPUs.
//!
//! There are two domains: a granter with one entry, and a mapper with two vCPUs, whose page tables have two
//! places. A place is changed by compare-exchange, as in `pagetype`. The models check that:
//!
//! - While a place maps the frame, the entry has a use and the frame has a reference (access doesn't
//!   outlive its handle).
//! - After the granter has revoked the grant (by compare-exchange; in version 2, by clearing the flags and then
//!   reading the status word), no place maps the frame, there is no reference to it, and no new one is taken.
//! - In the end there are as many uses as handles, and exactly the references that belong to them.

use std::sync::Arc;
use std::vec::Vec;

use loom::thread;

use super::*;
use crate::kit::atomic::model::explore;
use crate::kit::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use crate::kit::words::fake::FakePage;
use crate::kit::{DomId, Gfn, Maddr, Mfn, SharedWords, Vaddr};

const GRANTER: DomId = DomId(1);
const MAPPER: DomId = DomId(2);
const FRAME: Mfn = Mfn(100);
const WRITABLE: u64 = 1 << 62;

/// The references to the granted frame, and the places that may map it.
struct Mmu {
    refs: AtomicU32,
    /// Nonzero once the granter has revoked the grant; then no reference may be taken any more.
    taken_back: AtomicU32,
    places: [AtomicU64; 2],
}

/// The machine, as one CPU sees it.
#[derive(Clone)]
struct Cpu(Arc<Mmu>);

const fn entry(mfn: Mfn, access: Access) -> u64 {
    match access {
        Access::Read => mfn.0,
        Access::Write => mfn.0 | WRITABLE,
    }
}

impl Cpu {
    fn place(&self, at: HostAddr) -> &AtomicU64 {
        let (HostAddr::Pte(Maddr(n)) | HostAddr::Va(Vaddr(n))) = at;
        &self.0.places[n as usize - 1]
    }
}

impl Machine for Cpu {
    type Bytes = Mfn;

    fn resolve(&self, gfn: Gfn, _: DomId) -> Result<Mfn, GrantError> {
        Ok(Mfn(gfn.0))
    }
    fn bytes(&self, mfn: Mfn) -> Option<Mfn> {
        Some(mfn)
    }
    fn get(&mut self, mfn: Mfn, owner: DomId, _: Access) -> Result<(), GrantError> {
        assert_eq!(owner, GRANTER);
        if mfn != FRAME {
            return Err(GrantError::BadPage);
        }
        self.0.refs.fetch_add(1, SeqCst);
        let taken_back = self.0.taken_back.load(SeqCst);
        assert_eq!(taken_back, 0, "used, but not granted any more");
        Ok(())
    }
    fn put(&mut self, _: Mfn, _: Access) {
        assert_ne!(self.0.refs.fetch_sub(1, SeqCst), 0, "a reference too few");
    }
    fn map(
        &mut self,
        at: HostAddr,
        mfn: Mfn,
        owner: DomId,
        bits: PteBits,
    ) -> Result<(), GrantError> {
        self.get(mfn, owner, bits.access)?;
        self.get(mfn, owner, bits.access)?;
        let old = self.place(at).swap(entry(mfn, bits.access), SeqCst);
        if old != 0 {
            self.put(mfn, bits.access);
        }
        Ok(())
    }
    fn unmap(&mut self, at: HostAddr, mfn: Mfn, access: Access) -> Result<(), GrantError> {
        let mapped = entry(mfn, access);
        let cleared = self.place(at).compare_exchange(mapped, 0, SeqCst, SeqCst);
        cleared.map_err(|_| GrantError::General)?;
        self.put(mfn, access);
        Ok(())
    }
    fn replace(&mut self, _: Vaddr, _: Vaddr, _: Mfn, _: Access) -> Result<(), GrantError> {
        Err(GrantError::General)
    }
    fn flush(&mut self) {}
    fn copy(&mut self, _: (Mfn, u16), _: (Mfn, u16), _: u16) -> Option<()> {
        assert_ne!(
            self.0.refs.load(SeqCst),
            0,
            "the frame is nobody's any more"
        );
        Some(())
    }
}

/// The two domains and the machine.
#[derive(Clone)]
struct World {
    granter: Arc<Table<FakePage>>,
    mapper: Arc<Table<FakePage>>,
    version: Version,
    page: FakePage,
    status: FakePage,
    cpu: Cpu,
}

impl World {
    /// Like [`World::new`], with a table of version 2.
    fn of_version_2() -> Self {
        let mut world = Self::new();
        let status = world.status.clone();
        let changed = world
            .granter
            .set_version(Version::V2, || Some(status.clone()), |_| false);
        changed.unwrap();
        world.version = Version::V2;
        // The first entry has kept its grant. Touches the atomics of version 2.
        for place in [1, 2] {
            let handle = world.map(place, Access::Write).unwrap();
            world.unmap(handle, place).unwrap();
        }
        world
    }

    /// Entry 0 is granted to the mapper. Touches each atomic once before the first thread starts.
    fn new() -> Self {
        let limits = Limits {
            grant_frames: 1,
            maptrack_frames: 1,
            version: Version::V2,
            transitive: true,
        };
        let page = FakePage::new();
        let world = Self {
            granter: Table::new(GRANTER, limits).unwrap(),
            mapper: Table::new(MAPPER, limits).unwrap(),
            cpu: Cpu(Arc::new(Mmu {
                refs: AtomicU32::new(0),
                taken_back: AtomicU32::new(0),
                places: [AtomicU64::new(0), AtomicU64::new(0)],
            })),
            version: Version::V1,
            page,
            status: FakePage::new(),
        };
        let grown = world.granter.grow(1, &mut || Some(world.page.clone()));
        grown.unwrap();
        world.page.u32(4).unwrap().store(FRAME.0 as u32, SeqCst);
        world.flags().store(GRANTED, SeqCst);
        for place in [1, 2] {
            let handle = world.map(place, Access::Write).unwrap();
            world.unmap(handle, place).unwrap();
        }
        world
    }

    /// Returns the marks of uses, by a load without a lock, as a guest reads them.
    fn shown(&self) -> u16 {
        let word = match self.version {
            Version::V1 => self.flags().load(SeqCst) as u16,
            Version::V2 => self.status.u16(0).unwrap().load(SeqCst),
        };
        word & (abi::GTF_READING | abi::GTF_WRITING)
    }

    /// Like [`World::end_access`], for a table of version 2: clears the grant first, which has ended if no use
    /// is shown after that.
    fn revoke(&self) {
        self.flags().store(0, SeqCst);
        if self.shown() == 0 {
            self.cpu.0.taken_back.store(1, SeqCst);
            self.assert_unused();
        }
    }

    /// Returns the word with the entry's flags and grantee.
    fn flags(&self) -> &AtomicU32 {
        self.page.u32(0).unwrap()
    }

    fn map(&self, place: u64, access: Access) -> Result<u32, GrantError> {
        let request = MapRequest {
            r: 0,
            host: Some(HostAddr::Va(Vaddr(place))),
            device: Device::Unused,
            bits: PteBits {
                access,
                space: crate::grant::Space::Kernel,
                avail: 0,
            },
        };
        let mapped = self
            .mapper
            .map(&self.granter, &request, &mut self.cpu.clone());
        mapped.map(|mapped| mapped.handle)
    }

    fn unmap(&self, handle: u32, place: u64) -> Result<(), GrantError> {
        let request = UnmapRequest {
            handle,
            host_addr: place,
            dev_bus_addr: 0,
            replace_by: None,
        };
        let mut cpu = self.cpu.clone();
        let unmapping = self.mapper.begin_unmap(&request, &mut cpu)?;
        cpu.flush();
        self.mapper.finish_unmap(unmapping, &mut cpu);
        Ok(())
    }

    /// Unmaps, which may be refused.
    fn try_unmap(&self, handle: u32, place: u64) {
        if let Err(error) = self.unmap(handle, place) {
            assert!(matches!(error, GrantError::BadHandle | GrantError::General));
        }
    }

    /// Maps at `place`, checks that the entry shows the use, and unmaps.
    fn map_for_a_while(&self, place: u64, access: Access) {
        if let Ok(handle) = self.map(place, access) {
            let mark = match access {
                Access::Read => abi::GTF_READING,
                Access::Write => abi::GTF_READING | abi::GTF_WRITING,
            };
            assert_eq!(self.shown() & mark, mark);
            self.unmap(handle, place).unwrap();
        }
    }

    /// Copies out of the granted frame.
    fn copy(&self) {
        let (from, mut cpu) = (CopySide::Grant(&self.granter, 0), self.cpu.clone());
        let piece = Piece {
            from: 0,
            to: 0,
            bytes: 8,
        };
        if let Ok(held) = hold(&self.mapper, &from, Access::Read, &mut cpu) {
            copy_held(&held, &held, piece, &mut cpu).unwrap();
            let_go(&held, &mut cpu);
        }
    }

    /// Revokes the grant if it is unused, in the way that the public header prescribes.
    fn end_access(&self) {
        let ended = self.flags().compare_exchange(GRANTED, 0, SeqCst, SeqCst);
        if ended.is_ok() {
            self.cpu.0.taken_back.store(1, SeqCst);
            self.assert_unused();
        }
    }

    fn mapped(&self) -> usize {
        let places = self.cpu.0.places.iter();
        places.filter(|place| place.load(SeqCst) != 0).count()
    }

    fn assert_unused(&self) {
        assert_eq!(self.mapped(), 0, "mapped, but not granted any more");
        assert_eq!(self.cpu.0.refs.load(SeqCst), 0);
    }

    /// Checks what must hold when no call is under way.
    fn assert_counts(&self) {
        let handles = self.mapper.in_use(|_| ()).len();
        let uses = self.granter.uses(0).unwrap();
        let mapped = self.mapped();
        assert_eq!((uses.readers + uses.writers) as usize, handles);
        assert!(mapped <= handles, "{mapped} mappings, {handles} handles");
        assert_eq!(self.cpu.0.refs.load(SeqCst) as usize, handles + mapped);
        let ended = self.version == Version::V1 && self.flags().load(SeqCst) == 0;
        let is_alive = self.granter.with_frame(0, |_| ()).is_some();
        assert!((self.shown() != 0) == (handles != 0) || ended || !is_alive);
    }
}

/// The header of the entry: granted to the mapper, and not in use.
const GRANTED: u32 = abi::GTF_PERMIT_ACCESS as u32 | (MAPPER.0 as u32) << 16;

/// The actions of one CPU. It gets the handles that [`race`] has made.
type Act = fn(&World, &[u32]);

/// Maps the grant at the places in `first`, and then explores the interleavings of `acts`, each on a CPU
/// of its own.
fn race(preemptions: usize, first: &'static [u64], acts: &'static [Act]) {
    race_in(World::new, preemptions, first, acts);
}

/// Like [`race`], in a world that `new` makes.
fn race_in(new: fn() -> World, preemptions: usize, first: &'static [u64], acts: &'static [Act]) {
    explore(preemptions, move || {
        let world = new();
        let map = |place: &u64| world.map(*place, Access::Write).unwrap();
        let handles: Vec<u32> = first.iter().map(map).collect();
        let cpus: Vec<_> = acts[1..]
            .iter()
            .map(|act| {
                let (world, handles) = (world.clone(), handles.clone());
                thread::spawn(move || act(&world, &handles))
            })
            .collect();
        acts[0](&world, &handles);
        for cpu in cpus {
            cpu.join().unwrap();
        }
        world.assert_counts();
    });
}

/// Up to 2 preemptions.
#[test]
fn a_grant_is_not_taken_back_while_it_is_mapped() {
    race(
        2,
        &[],
        &[
            |world, _| world.end_access(),
            |world, _| world.map_for_a_while(1, Access::Write),
            |world, _| world.map_for_a_while(2, Access::Read),
        ],
    );
}

/// Up to 2 preemptions.
#[test]
fn a_grant_is_not_taken_back_while_it_is_copied() {
    race(
        2,
        &[],
        &[
            |world, _| world.end_access(),
            |world, _| world.map_for_a_while(1, Access::Write),
            |world, _| world.copy(),
        ],
    );
}

/// Up to 2 preemptions.
#[test]
fn a_handle_ends_once() {
    race(
        2,
        &[1],
        &[
            |world, handles| world.try_unmap(handles[0], 1),
            |world, handles| world.try_unmap(handles[0], 1),
            |world, _| world.end_access(),
        ],
    );
}

/// Up to 2 preemptions. Each unmapping names the place of the other handle's mapping. Both may succeed, and
/// then nothing is mapped.
#[test]
fn two_handles_are_unmapped_crosswise() {
    race(
        2,
        &[1, 2],
        &[
            |world, handles| world.try_unmap(handles[0], 2),
            |world, handles| world.try_unmap(handles[1], 2),
            |world, _| world.end_access(),
        ],
    );
    race(
        2,
        &[1, 2],
        &[
            |world, handles| world.try_unmap(handles[0], 2),
            |world, handles| world.try_unmap(handles[1], 1),
            |world, _| world.end_access(),
        ],
    );
}

/// Up to 2 preemptions. A granter that overwrites its entry harms only itself.
#[test]
fn a_granter_changes_its_entry_meanwhile() {
    race(
        2,
        &[],
        &[
            |world, _| {
                world.flags().store(0, SeqCst);
                world.page.u32(4).unwrap().store(7, SeqCst);
                world.flags().store(GRANTED, SeqCst);
                world.page.u32(4).unwrap().store(FRAME.0 as u32, SeqCst);
            },
            |world, _| {
                if let Ok(handle) = world.map(1, Access::Write) {
                    world.unmap(handle, 1).unwrap();
                }
            },
            |world, _| world.copy(),
        ],
    );
}

/// Up to 2 preemptions. The granter is destroyed while uses of its grant begin and end.
#[test]
fn a_granter_dies_meanwhile() {
    race(
        2,
        &[1],
        &[
            |world, _| world.granter.retire(),
            |world, handles| world.unmap(handles[0], 1).unwrap(),
            |world, _| {
                if let Ok(handle) = world.map(2, Access::Read) {
                    world.unmap(handle, 2).unwrap();
                }
            },
        ],
    );
}

/// Up to 2 preemptions.
#[test]
fn a_grant_of_version_2_is_not_taken_back_while_it_is_mapped() {
    race_in(
        World::of_version_2,
        2,
        &[],
        &[
            |world, _| world.revoke(),
            |world, _| world.map_for_a_while(1, Access::Write),
            |world, _| world.map_for_a_while(2, Access::Read),
        ],
    );
}

/// Up to 3 preemptions of two CPUs. With a third CPU there are too many interleavings.
#[test]
fn a_grant_of_version_2_is_not_taken_back_while_it_is_copied() {
    race_in(
        World::of_version_2,
        3,
        &[],
        &[|world, _| world.revoke(), |world, _| world.copy()],
    );
}

/// Up to 3 preemptions of two CPUs. The use that ends and the use that begins share a status word.
#[test]
fn a_grant_of_version_2_shows_the_use_that_remains() {
    race_in(
        World::of_version_2,
        3,
        &[1],
        &[
            |world, handles| world.unmap(handles[0], 1).unwrap(),
            |world, _| {
                world.map_for_a_while(2, Access::Read);
                world.revoke();
            },
        ],
    );
}

/// Up to 2 preemptions. The version changes back and forth while uses of an entry begin and end.
#[test]
fn a_version_changes_meanwhile() {
    race_in(
        World::of_version_2,
        2,
        &[1],
        &[
            |world, _| {
                let set = |version| {
                    let page = || Some(world.status.clone());
                    world.granter.set_version(version, page, |_| false).unwrap();
                };
                set(Version::V1);
                set(Version::V2);
            },
            |world, handles| world.unmap(handles[0], 1).unwrap(),
            |world, _| {
                let handle = world.map(2, Access::Read).unwrap();
                world.unmap(handle, 2).unwrap();
            },
        ],
    );
}
