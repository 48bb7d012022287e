//! The mitigations for this machine, chosen from its facts, its bugs and the wishes. No path does work
//! that its CPU doesn't need.

use core::fmt;

use super::facts::{BHI_CTRL, Facts, caps, ext8b, ext21a, leaf7d};
use super::{Bugs, Wishes};

/// The steps of the ways into and out of ring 0, as bits that the stubs test.
pub mod path {
    /// On entry, SPEC_CTRL is set to ring 0's value; on exit, to that of guests.
    pub const SPEC_CTRL: u8 = 1;
    /// On entry, the return stack buffer is overwritten.
    pub const RSB: u8 = 2;
    /// On exit, and before a CPU sleeps, VERW clears the CPU's buffers.
    pub const VERW: u8 = 4;
    /// On entry, a barrier separates the guest's indirect branches from ring 0's (IBPB).
    pub const IBPB: u8 = 8;
    /// On entry, the branch history is overwritten.
    pub const HISTORY: u8 = 16;
}

/// Bits of IA32_SPEC_CTRL (SDM vol. 4, APM vol. 2 §3.2.9).
mod spec_ctrl {
    pub const IBRS: u32 = 1;
    pub const STIBP: u32 = 2;
    pub const SSBD: u32 = 4;
    pub const PSFD: u32 = 0x80;
    pub const BHI_DIS_S: u32 = 0x400;
}

/// The mitigations that are used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Choice {
    /// The steps on entry and exit: bits of [`path`].
    pub path: u8,
    /// The values of SPEC_CTRL in ring 0 and while guests run; `None` if the CPU doesn't have it.
    pub spec_ctrl: Option<(u32, u32)>,
    /// Whether EFER's bit for automatic IBRS is set.
    pub auto_ibrs: bool,
    /// Whether a barrier (IBPB) separates the vCPUs of two domains on a CPU.
    pub ibpb: bool,
    /// Whether AVX is hidden from guests, which then have no gathers.
    pub hides_avx: bool,
}

impl Choice {
    /// The choice for a CPU with these facts and bugs.
    pub fn of(cpu: &Facts, bugs: Bugs, wishes: &Wishes) -> Self {
        let leaf7 = |bit| cpu.leaf7d & bit != 0;
        let ext8 = |bit| cpu.ext8b & bit != 0;
        let wanted = |wish: Option<bool>, default, possible| wish.unwrap_or(default) && possible;

        let has_ibrs = leaf7(leaf7d::IBRSB) || ext8(ext8b::IBRS);
        let has_auto = cpu.ext21a & ext21a::AUTO_IBRS != 0;
        let always = cpu.caps & caps::IBRS_ALL != 0 || ext8(ext8b::IBRS_ALWAYS);
        let ibrs = wanted(wishes.ibrs, true, has_ibrs || has_auto);
        let auto_ibrs = ibrs && has_auto;
        // IBRS only protects ring 0 after a write that follows the entry (SDM, Indirect Branch Restricted Speculation),
        // unless the CPU says that one write is enough for good.
        let at_entry = ibrs && !auto_ibrs && !always && wishes.msr_sc != Some(false);
        let has_stibp = leaf7(leaf7d::STIBP) || ext8(ext8b::STIBP);
        let stibp = wanted(wishes.stibp, ext8(ext8b::STIBP_ALWAYS), has_stibp);
        let ssbd = wanted(wishes.ssbd, false, leaf7(leaf7d::SSBD) || ext8(ext8b::SSBD));
        let psfd = wanted(wishes.psfd, false, ext8(ext8b::PSFD));

        let has_history_off = cpu.leaf72d & BHI_CTRL != 0;
        let history_off = wanted(wishes.bhi_dis_s, bugs.history, has_history_off);
        let history = wishes.bhb_entry.unwrap_or(bugs.history && !history_off);
        let has_ibpb = leaf7(leaf7d::IBRSB) || ext8(ext8b::IBPB);
        let ibpb_entry = wanted(wishes.ibpb_entry, bugs.returns, has_ibpb);

        let bit = |on: bool, bit: u32| if on { bit } else { 0 };
        let both = bit(stibp, spec_ctrl::STIBP)
            | bit(ssbd, spec_ctrl::SSBD)
            | bit(psfd, spec_ctrl::PSFD)
            | bit(ibrs && !auto_ibrs && always, spec_ctrl::IBRS)
            | bit(history_off, spec_ctrl::BHI_DIS_S);
        let has_spec_ctrl = has_ibrs || has_stibp || ext8(ext8b::SSBD) || ext8(ext8b::PSFD);
        // SMEP protects ring 0 from entries that a guest left in the return stack buffer, unless that is narrow.
        let rsb = wishes.rsb.unwrap_or(!cpu.smep || bugs.narrow_rsb);
        let clears_buffers = bugs.mds && leaf7(leaf7d::MD_CLEAR);
        let clears_scheduler = bugs.tsa && cpu.ext21a & ext21a::VERW_CLEAR != 0;
        let verw = wishes.verw.unwrap_or(clears_buffers || clears_scheduler);
        let step = |on: bool, step: u8| if on { step } else { 0 };
        Self {
            path: step(at_entry, path::SPEC_CTRL)
                | step(rsb, path::RSB)
                | step(verw, path::VERW)
                | step(ibpb_entry, path::IBPB)
                | step(history, path::HISTORY),
            spec_ctrl: has_spec_ctrl.then_some((both | bit(at_entry, spec_ctrl::IBRS), both)),
            auto_ibrs,
            ibpb: wanted(wishes.ibpb, true, has_ibpb),
            hides_avx: wishes.gds_mit.unwrap_or(bugs.gather) && bugs.gather,
        }
    }

    /// Whether ring 0's indirect branches ignore what a guest taught the predictor.
    fn restricts_branches(&self) -> bool {
        self.auto_ibrs
            || self
                .spec_ctrl
                .is_some_and(|(own, _)| own & spec_ctrl::IBRS != 0)
    }
}

/// Formats a list for the boot messages.
impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (own, guests) = self.spec_ctrl.unwrap_or_default();
        let has = |bit| own & guests & bit != 0;
        let on_path = |step| self.path & step != 0;
        let ibrs = self.restricts_branches();
        let parts = [
            (!ibrs, "no IBRS"),
            (self.auto_ibrs, "automatic IBRS"),
            (has(spec_ctrl::IBRS), "IBRS always on"),
            (on_path(path::SPEC_CTRL), "IBRS set on entry"),
            (on_path(path::RSB), "RSB overwritten on entry"),
            (on_path(path::IBPB), "IBPB on entry"),
            (
                on_path(path::HISTORY),
                "branch history overwritten on entry",
            ),
            (on_path(path::VERW), "VERW on exit"),
            (self.ibpb, "IBPB between domains"),
            (has(spec_ctrl::STIBP), "STIBP"),
            (has(spec_ctrl::SSBD), "SSBD"),
            (has(spec_ctrl::PSFD), "PSFD"),
            (has(spec_ctrl::BHI_DIS_S), "BHI_DIS_S"),
            (self.hides_avx, "AVX hidden from guests"),
        ];
        let mut between = "";
        for (_, name) in parts.iter().filter(|(on, _)| *on) {
            write!(f, "{between}{name}")?;
            between = ", ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
