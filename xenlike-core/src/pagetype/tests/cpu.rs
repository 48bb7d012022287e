//! What a CPU could do: walks everything under each root, by the CPU's rules alone, and checks the rights that result.

use std::format;
use std::string::String;

use super::fake::{FRAMES, Fake, IO, IO_TABLE};
use crate::kit::{DomId, Mfn};
use crate::mm::frame::{Kind, State};
use crate::pagetype::{Memory, PageType, Pte, Types};

const RIGHTS: u64 = Pte::WRITABLE | Pte::USER;

impl Types<Fake> {
    /// Checks that no domain can write to a page table, a page of descriptors, or a frame that is not its own. All
    /// 512 entries of a root count, whatever the width of its owner.
    pub(super) fn check_reach(&self) -> Result<(), String> {
        for mfn in (1..FRAMES).map(Mfn) {
            let state = self.0.state(mfn);
            let root = match state.has(State::NARROW) {
                true => PageType::L3,
                false => PageType::L4,
            };
            if state.type_bits() == root as u64 && state.has(State::VALIDATED) {
                let owner = self.0.frame(mfn).unwrap().owner();
                self.walk(mfn, root as u32, RIGHTS, owner)
                    .map_err(|what| format!("under the root {mfn:?}: {what}"))?;
            }
        }
        Ok(())
    }

    fn walk(&self, table: Mfn, level: u32, rights: u64, owner: DomId) -> Result<(), String> {
        for index in 0..512 {
            let pte = self.get(table, index);
            if !pte.is_present() {
                continue;
            }
            let rights = rights & pte.0;
            if level == 1 || pte.has(Pte::PAT_OR_LARGE) {
                self.reached(pte.mfn(), rights, owner)?;
            } else if self.0.frame(pte.mfn()).is_none() {
                return Err(format!("{table:?}[{index}] names no RAM as a table"));
            } else {
                self.walk(pte.mfn(), level - 1, rights, owner)?;
            }
        }
        Ok(())
    }

    fn reached(&self, mfn: Mfn, rights: u64, owner: DomId) -> Result<(), String> {
        let writable = rights & Pte::WRITABLE != 0;
        let Some(frame) = self.0.frame(mfn) else {
            // The hypervisor's own mappings in a narrow domain are for its kernel, to read.
            let io = [IO, IO_TABLE].contains(&mfn) && owner == DomId(0);
            return match rights {
                0 => Ok(()),
                _ if io => Ok(()),
                _ => Err(format!("{mfn:?}, which is no RAM, with rights {rights}")),
            };
        };
        let state = frame.load();
        if state.kind() != Kind::Used {
            return Err(format!("{mfn:?}, which is {state:?}"));
        }
        if writable && state.type_bits() != PageType::Writable as u64 {
            return Err(format!("{mfn:?} can be written, and is {state:?}"));
        }
        let lent = frame.owner() == DomId(0) || owner == DomId(0);
        if frame.owner() != owner && !lent {
            return Err(format!("{mfn:?} of {:?}", frame.owner()));
        }
        Ok(())
    }
}
