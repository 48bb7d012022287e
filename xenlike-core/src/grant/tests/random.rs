//! Random operations of three domains. After each of them, everything is counted from scratch.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::fake::*;
use crate::grant::*;
use crate::kit::atomic::Ordering::SeqCst;
use crate::kit::{DomId, Mfn};
use guest_pv_abi::grant_table as abi;

const DOMS: u16 = 3;
/// Two of the entries that keep their grants when the version changes, and two others.
const REFS: [u32; 4] = [0, 1, 8, 9];

#[derive(Clone, Debug)]
enum Op {
    Grant {
        dom: usize,
        r: u32,
        to: u16,
        frame: u32,
        readonly: bool,
        kind: Kind,
    },
    Version {
        dom: usize,
        version: Version,
    },
    Scribble {
        dom: usize,
        r: u32,
        flags: u16,
    },
    Map {
        dom: usize,
        granter: usize,
        r: u32,
        va: u64,
        access: Access,
        device: bool,
    },
    Unmap {
        dom: usize,
        handle: u32,
        va: u64,
        device: bool,
    },
    Copy {
        dom: usize,
        granter: usize,
        r: u32,
        own: u64,
        offset: u16,
        access: Access,
    },
    Swap {
        dom: usize,
        a: u32,
        b: u32,
    },
    Zap {
        va: u64,
    },
    Release {
        dom: usize,
    },
}

/// What is granted. In a table of version 1, this is always a page.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Page,
    Part(u16, u16),
    Through(u16, u32),
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        2 => Just(Kind::Page),
        1 => (0..40u16, 0..40u16).prop_map(|(first, bytes)| Kind::Part(first, bytes)),
        2 => (0..DOMS, prop::sample::select(&REFS[..])).prop_map(|(dom, r)| Kind::Through(dom, r)),
    ]
}

fn access() -> impl Strategy<Value = Access> {
    prop_oneof![Just(Access::Read), Just(Access::Write)]
}

fn op() -> impl Strategy<Value = Op> {
    let dom = 0..usize::from(DOMS);
    let (r, va) = (prop::sample::select(&REFS[..]), 1..5u64);
    prop_oneof![
        4 => (dom.clone(), r.clone(), 0..DOMS, 0..3u32, any::<bool>(), kind()).prop_map(
            |(dom, r, to, frame, readonly, kind)| Op::Grant { dom, r, to, frame, readonly, kind }),
        1 => (dom.clone(), prop_oneof![Just(Version::V1), Just(Version::V2)]).prop_map(
            |(dom, version)| Op::Version { dom, version }),
        1 => (dom.clone(), r.clone(), any::<u16>()).prop_map(
            |(dom, r, flags)| Op::Scribble { dom, r, flags }),
        8 => (dom.clone(), dom.clone(), r.clone(), va.clone(), access(), any::<bool>()).prop_map(
            |(dom, granter, r, va, access, device)| Op::Map { dom, granter, r, va, access, device }),
        6 => (dom.clone(), 0..8u32, va.clone(), any::<bool>()).prop_map(
            |(dom, handle, va, device)| Op::Unmap { dom, handle, va, device }),
        5 => (dom.clone(), dom.clone(), r.clone(), 0..3u64, 0..40u16, access()).prop_map(
            |(dom, granter, r, own, offset, access)| Op::Copy { dom, granter, r, own, offset, access }),
        1 => (dom.clone(), r.clone(), r).prop_map(|(dom, a, b)| Op::Swap { dom, a, b }),
        1 => va.prop_map(|va| Op::Zap { va }),
        1 => dom.prop_map(|dom| Op::Release { dom }),
    ]
}

struct World {
    doms: Vec<Dom>,
    machine: FakeMachine,
    /// The entries that the granter itself has overwritten.
    scribbled: Vec<BTreeMap<u32, bool>>,
}

/// Gives each domain addresses of its own, like separate page tables.
fn place(dom: usize, va: u64) -> u64 {
    dom as u64 * 0x10_0000 + va * 0x1000
}

impl World {
    fn new() -> Self {
        let mut machine = FakeMachine::default();
        for dom in 0..DOMS {
            for frame in 0..3 {
                machine
                    .owners
                    .insert(u64::from(dom) * 100 + frame, DomId(dom));
            }
        }
        let scribbled = vec![REFS.map(|r| (r, false)).into(); DOMS.into()];
        Self {
            doms: (0..DOMS).map(Dom::new).collect(),
            machine,
            scribbled,
        }
    }

    fn run(&mut self, op: &Op) {
        let (doms, m) = (&self.doms, &mut self.machine);
        match *op {
            Op::Grant {
                dom,
                r,
                to,
                frame,
                readonly,
                kind,
            } => {
                self.grant(dom, r, (to, readonly), frame, kind);
            }
            Op::Version { dom, version } => {
                self.set_version(dom, version);
            }
            Op::Scribble { dom, r, flags } => {
                doms[dom].write(r, flags, 0, u32::from(flags));
                if doms[dom].table.version() == Version::V2 {
                    doms[dom].status(r).store(flags, SeqCst);
                }
                self.scribbled[dom].insert(r, true);
            }
            Op::Map {
                dom,
                granter,
                r,
                va,
                access,
                device,
            } => {
                let mut request = at(r, place(dom, va), access);
                request.device = if device { Device::Used } else { Device::Unused };
                let _ = doms[dom].table.map(&doms[granter].table, &request, m);
            }
            Op::Unmap {
                dom,
                handle,
                va,
                device,
            } => {
                let mut request = off(handle, place(dom, va));
                request.dev_bus_addr = if device { 100 << 12 } else { 0 };
                let _ = unmap(&doms[dom], m, &request);
            }
            Op::Copy {
                dom,
                granter,
                r,
                own,
                offset,
                access,
            } => {
                self.copy(dom, (granter, r), own, offset, access);
            }
            Op::Swap { dom, a, b } => {
                if doms[dom].table.swap(a, b).is_ok() {
                    let (of_a, of_b) = (self.scribbled[dom][&a], self.scribbled[dom][&b]);
                    self.scribbled[dom].extend([(a, of_a || of_b), (b, of_a || of_b)]);
                }
            }
            Op::Zap { va } => {
                if let Some((mfn, access)) = m.ptes.remove(&(false, va * 0x1000)) {
                    m.put(mfn, access);
                }
            }
            Op::Release { dom } => {
                let table = &doms[dom].table;
                assert_eq!(table.release_handles(&mut || false, m), Sweep::Done);
            }
        }
    }

    /// The granter writes an entry that is not in use.
    fn grant(&mut self, dom: usize, r: u32, (to, readonly): (u16, bool), frame: u32, kind: Kind) {
        let granter = &self.doms[dom];
        if !granter.table.uses(r).unwrap().is_unused() {
            return;
        }
        let readonly = if readonly { abi::GTF_READONLY } else { 0 };
        let frame = u64::from(dom as u32 * 100 + frame);
        let is_v2 = granter.table.version() == Version::V2;
        let (flags, detail, frame) = match kind {
            Kind::Part(first, bytes) if is_v2 => {
                let flags = abi::GTF_PERMIT_ACCESS | abi::GTF_SUB_PAGE;
                (flags, (first, bytes), frame)
            }
            Kind::Through(dom, r) if is_v2 => (abi::GTF_TRANSITIVE, (dom, 0), r.into()),
            _ => (abi::GTF_PERMIT_ACCESS, (0, 0), frame),
        };
        granter.write_all(r, (flags | readonly, to), detail, frame);
        if is_v2 {
            granter.status(r).store(0, SeqCst);
        }
        self.scribbled[dom].insert(r, false);
    }

    /// Copies to or from the granter's entry, from or to a frame of `dom`.
    fn copy(&mut self, dom: usize, entry: (usize, u32), own: u64, offset: u16, access: Access) {
        let (doms, m) = (&self.doms, &mut self.machine);
        let grant = CopySide::Grant(&doms[entry.0].table, entry.1);
        let own = CopySide::Frame(Mfn(dom as u64 * 100 + own));
        let find = |id: DomId| doms.get(usize::from(id.0)).map(|dom| dom.table.clone());
        let before = m.copies.len();
        let copied = copy_at(&doms[dom], (&grant, &own), access, (offset, 16), &find, m);
        assert_eq!(copied.is_ok(), m.copies.len() > before);
    }

    fn set_version(&mut self, dom: usize, version: Version) {
        let granter = &self.doms[dom];
        let old = granter.table.version();
        let is_used = |r| !granter.table.uses(r).unwrap().is_unused();
        let others = REFS[2..].iter().any(|&r| is_used(r));
        let set = granter.set_version(version);
        if version != old && others {
            assert!(set.is_err());
        }
        if version != old && set.is_ok() {
            // The change of version has rewritten the marks.
            self.scribbled[dom] = REFS.map(|r| (r, false)).into();
        }
    }

    fn recount(&self) {
        let mut refs = self.machine.refs.clone();
        for (mfn, access) in self.machine.ptes.values() {
            let refs = refs.get_mut(&mfn.0).unwrap();
            refs.all -= 1;
            refs.writers -= u32::from(*access == Access::Write);
        }
        let mut uses = BTreeMap::new();
        for user in &self.doms {
            for (granter, r, mfn, access) in user
                .table
                .in_use(|h| (h.granter.dom(), h.r, h.mfn, h.access))
            {
                *uses
                    .entry((granter, r, access == Access::Write))
                    .or_insert(0) += 1;
                let refs = refs.get_mut(&mfn.0).unwrap();
                refs.all -= 1;
                refs.writers -= u32::from(access == Access::Write);
            }
        }
        assert!(
            refs.values().all(|r| *r == Refs::default()),
            "left over: {refs:?}"
        );
        for (granter, scribbled) in self.doms.iter().zip(&self.scribbled) {
            for r in REFS {
                let count = |write| {
                    uses.get(&(granter.table.dom(), r, write))
                        .copied()
                        .unwrap_or(0)
                };
                let told = granter.table.uses(r).unwrap();
                assert_eq!((told.readers, told.writers), (count(false), count(true)));
                if !scribbled[&r] {
                    let flags = granter.shown(r);
                    assert_eq!(flags & abi::GTF_READING != 0, !told.is_unused());
                    assert_eq!(flags & abi::GTF_WRITING != 0, told.writers != 0);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn every_use_is_counted(ops in prop::collection::vec(op(), 1..80)) {
        let mut world = World::new();
        for op in &ops {
            world.run(op);
            world.recount();
        }
    }
}
