//! Random operations of three domains; after each, everything is counted from scratch.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;

use super::fake::*;
use crate::grant::*;
use crate::kit::{DomId, Mfn};
use guest_pv_abi::grant_table as abi;

const DOMS: u16 = 3;
const REFS: u32 = 4;

#[derive(Clone, Debug)]
enum Op {
    Grant {
        dom: usize,
        r: u32,
        to: u16,
        frame: u32,
        readonly: bool,
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

fn access() -> impl Strategy<Value = Access> {
    prop_oneof![Just(Access::Read), Just(Access::Write)]
}

fn op() -> impl Strategy<Value = Op> {
    let dom = 0..usize::from(DOMS);
    let (r, va) = (0..REFS, 1..5u64);
    prop_oneof![
        4 => (dom.clone(), r.clone(), 0..DOMS, 0..3u32, any::<bool>()).prop_map(
            |(dom, r, to, frame, readonly)| Op::Grant { dom, r, to, frame, readonly }),
        1 => (dom.clone(), r.clone(), any::<u16>()).prop_map(
            |(dom, r, flags)| Op::Scribble { dom, r, flags }),
        8 => (dom.clone(), dom.clone(), r.clone(), va.clone(), access(), any::<bool>()).prop_map(
            |(dom, granter, r, va, access, device)| Op::Map { dom, granter, r, va, access, device }),
        6 => (dom.clone(), 0..8u32, va.clone(), any::<bool>()).prop_map(
            |(dom, handle, va, device)| Op::Unmap { dom, handle, va, device }),
        3 => (dom.clone(), dom.clone(), r.clone(), 0..3u64, access()).prop_map(
            |(dom, granter, r, own, access)| Op::Copy { dom, granter, r, own, access }),
        1 => (dom.clone(), r.clone(), r).prop_map(|(dom, a, b)| Op::Swap { dom, a, b }),
        1 => va.prop_map(|va| Op::Zap { va }),
        1 => dom.prop_map(|dom| Op::Release { dom }),
    ]
}

struct World {
    doms: Vec<Dom>,
    machine: FakeMachine,
    scribbled: Vec<[bool; REFS as usize]>,
}

/// Each domain's entries have addresses of their own, as with separate page tables.
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
        let scribbled = vec![[false; REFS as usize]; DOMS.into()];
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
            } => {
                if doms[dom].table.uses(r).unwrap().is_unused() {
                    let flags = if readonly { abi::GTF_READONLY } else { 0 };
                    let frame = dom as u32 * 100 + frame;
                    doms[dom].write(r, abi::GTF_PERMIT_ACCESS | flags, to, frame);
                    self.scribbled[dom][r as usize] = false;
                }
            }
            Op::Scribble { dom, r, flags } => {
                doms[dom].write(r, flags, 0, u32::from(flags));
                self.scribbled[dom][r as usize] = true;
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
                access,
            } => {
                let grant = (CopySide::Grant(&doms[granter].table, r), 0);
                let own = (CopySide::Frame(Mfn(dom as u64 * 100 + own)), 0);
                let (from, to) = if access == Access::Read {
                    (grant, own)
                } else {
                    (own, grant)
                };
                let _ = copy(&doms[dom].table, from, to, 16, m);
            }
            Op::Swap { dom, a, b } => {
                if doms[dom].table.swap(a, b).is_ok() {
                    self.scribbled[dom].swap(a as usize, b as usize);
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
            for r in 0..REFS {
                let count = |write| {
                    uses.get(&(granter.table.dom(), r, write))
                        .copied()
                        .unwrap_or(0)
                };
                let told = granter.table.uses(r).unwrap();
                assert_eq!((told.readers, told.writers), (count(false), count(true)));
                if !scribbled[r as usize] {
                    let flags = granter.flags(r);
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
