//! TLB flushes requested by guests.

use guest_pv_abi::errno::Errno;

use super::Ctx;
use crate::arch::tlb;
use crate::domain::Domain;
use crate::kit::{CpuSet, Vaddr};
use crate::mm::guest::{Guest, Long};

/// The translations to flush.
#[derive(Clone, Copy)]
pub enum What {
    /// All translations.
    All,
    /// The translation of one page.
    Page(Vaddr),
}

impl What {
    /// Flushes on this CPU.
    pub fn local(self) {
        match self {
            Self::All => tlb::flush_local(),
            Self::Page(at) => tlb::invlpg_local(at),
        }
    }

    /// Flushes on every CPU that has a vCPU of `dom` loaded.
    pub fn everywhere(self, dom: &Domain) {
        self.on(cpus(dom, |_| true));
    }

    /// Flushes on every CPU that has one of the caller's vCPUs loaded whose bit is set in the guest's bitmap at
    /// `mask`.
    pub fn where_set(self, ctx: &Ctx<'_>, mask: Vaddr) -> Result<(), Errno> {
        let mut words = [0u64; 128];
        let needed = ctx.dom.vcpus().len().div_ceil(64);
        for (n, word) in words.iter_mut().take(needed).enumerate() {
            *word = word_of(ctx.guest(), mask, n as u64)?;
        }
        let is_set = |vcpu: u32| {
            words
                .get(vcpu as usize / 64)
                .is_some_and(|w| w >> (vcpu % 64) & 1 != 0)
        };
        self.on(cpus(ctx.dom, is_set));
        Ok(())
    }

    fn on(self, cpus: CpuSet) {
        match self {
            Self::All => tlb::flush_cpus(cpus),
            Self::Page(at) => tlb::invlpg_cpus(cpus, at),
        }
    }
}

/// Word `n` of a bitmap that consists of the guest's `unsigned long`s. A narrow guest's may end with the lower half.
fn word_of(guest: Guest<'_>, bitmap: Vaddr, n: u64) -> Result<u64, Errno> {
    if guest.size::<Long>() == size_of::<u64>() as u64 {
        return Ok(guest.read_at(bitmap, n)?);
    }
    let half = |n| guest.read_at::<Long>(bitmap, n);
    let n = n.saturating_mul(2);
    Ok(half(n)?.0 | half(n.saturating_add(1)).map_or(0, |high| high.0 << 32))
}

fn cpus(dom: &Domain, chosen: impl Fn(u32) -> bool) -> CpuSet {
    dom.vcpus()
        .iter()
        .filter(|vcpu| chosen(vcpu.id.0))
        .filter_map(|vcpu| vcpu.cpu())
        .fold(CpuSet::EMPTY, |set, cpu| set.or(CpuSet::one(cpu)))
}
