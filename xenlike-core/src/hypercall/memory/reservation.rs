//! increase_reservation, decrease_reservation, populate_physmap and claim_pages: give a domain memory and take it
//! back.
//!
//! The first three return the number of extents done; most errors only end the count.

use ::alloc::sync::Arc;

use guest_pv_abi::Form;
use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::memory::{MemoryReservation, XENMEMF_POPULATE_ON_DEMAND, xenmemf_address_bits};

use super::{Ctx, EXTENT_SHIFT, MAX_ORDER, MemoryOp, Outcome};
use crate::domain::Domain;
use crate::kit::{Gfn, Mfn, Pfn, Vaddr};
use crate::mm::alloc::{self, Where};
use crate::mm::guest::Long;
use crate::mm::{heap, m2p};
use crate::pagetype::claims::ClaimError;
use crate::pagetype::{Charge, Progress, machine};

/// Number of single frames between two checks for preemption.
const STRIDE: u64 = 8;
/// From this order on, each continuation handles one extent.
const LARGE_ORDER: u32 = 7;

/// An element of the guest's list of extents: `u64` for a wide guest, `u32` for a narrow one. Each has an instance of the
/// calls that are made for every frame of a domain.
pub(super) trait Element: Form + Into<u64> {
    /// The number, of which a narrow guest gets the lower half. Its frames have no more.
    fn truncated(number: u64) -> Self;
}

impl Element for u64 {
    fn truncated(number: u64) -> Self {
        number
    }
}

impl Element for u32 {
    fn truncated(number: u64) -> Self {
        number as Self
    }
}

/// A decoded reservation call.
struct Extents {
    dom: Arc<Domain>,
    list: Vaddr,
    count: u64,
    order: u32,
    place: Where,
    flags: u32,
}

impl Extents {
    /// Decodes the call. Returns an outcome instead if there is nothing to do or the request is refused.
    #[inline]
    fn decode(ctx: &Ctx<'_>, args: &MemoryOp) -> Result<Self, Outcome> {
        let start = args.done();
        let nothing_more = Outcome::Done(start as i64);
        let Ok(asked) = ctx.guest().read::<MemoryReservation>(args.at) else {
            return Err(nothing_more);
        };
        let count = asked.nr_extents;
        if count > u64::from(u32::MAX >> EXTENT_SHIFT) || start >= count {
            return Err(nothing_more);
        }
        let Ok(dom) = ctx.target(asked.domid) else {
            return Err(nothing_more);
        };
        let place = place(asked.mem_flags).map_err(Outcome::from)?;
        if asked.extent_order > MAX_ORDER {
            return Err(nothing_more);
        }
        let (order, flags) = (asked.extent_order, asked.mem_flags);
        Ok(Self {
            dom,
            list: Vaddr(asked.extent_start.0),
            count,
            order,
            place,
            flags,
        })
    }

    /// The address of extent `n`'s entry in the caller's list.
    fn at<E>(&self, n: u64) -> Option<Vaddr> {
        // There are at most 2^26 extents, so the product doesn't overflow.
        self.list.checked_add(n.wrapping_mul(size_of::<E>() as u64))
    }

    fn frames(&self) -> u64 {
        1 << self.order
    }

    /// Calls `one` for each extent, until one fails.
    #[inline(always)] // one instance for each call and width
    fn each(
        &self,
        ctx: &mut Ctx<'_>,
        args: &mut MemoryOp,
        mut one: impl FnMut(&mut Ctx<'_>, u64) -> Option<()>,
    ) -> Outcome {
        let start = args.done();
        // Single frames take little time; zeroing a large block takes as long as one call may.
        let stride = if self.order == 0 { STRIDE } else { 1 };
        let is_large = self.order >= LARGE_ORDER;
        for n in start..self.count {
            if n != start && n.is_multiple_of(stride) && (is_large || ctx.preempted()) {
                return args.again(n);
            }
            if one(ctx, n).is_none() {
                return Outcome::Done(n as i64);
            }
        }
        Outcome::Done(self.count as i64)
    }
}

/// The limit on addresses that the caller requests. EINVAL if no frame can satisfy it.
pub(super) fn place(mem_flags: u32) -> Result<Where, Errno> {
    let bits = xenmemf_address_bits(mem_flags);
    if bits != 0 && bits <= 12 {
        Err(errno::EINVAL)
    } else {
        Ok(Where::bits(bits))
    }
}

pub(super) fn increase(ctx: &mut Ctx<'_>, args: &mut MemoryOp) -> Outcome {
    let extents = match Extents::decode(ctx, args) {
        Ok(extents) => extents,
        Err(outcome) => return outcome,
    };
    extents.each(ctx, args, |ctx, n| {
        let pages = &extents.dom.pages;
        let first = machine()
            .allocate(pages, extents.order, extents.place, Charge::Counted)
            .ok()?;
        if extents.list.0 == 0 {
            Some(())
        } else {
            ctx.guest().write_at(extents.list, n, &Long(first.0)).ok()
        }
    })
}

pub(super) fn populate<E: Element>(ctx: &mut Ctx<'_>, args: &mut MemoryOp) -> Outcome {
    let extents = match Extents::decode(ctx, args) {
        Ok(extents) => extents,
        Err(outcome) => return outcome,
    };
    if extents.flags & XENMEMF_POPULATE_ON_DEMAND != 0 {
        return Outcome::Done(args.done() as i64);
    }
    let mut stock = Stock::default();
    let outcome = extents.each(ctx, args, |ctx, n| {
        let at = extents.at::<E>(n)?;
        let pfn = ctx.guest().read::<E>(at).ok()?.into();
        let first = stock.take(&extents, n)?;
        for k in 0..extents.frames() {
            m2p::set(first.add(k), Pfn(pfn.wrapping_add(k)));
        }
        ctx.guest().write(at, &E::truncated(first.0)).ok()
    });
    stock.give_back(&extents);
    outcome
}

/// A stock of single frames, allocated a few at a time. A call can be preempted only between two such blocks, so no
/// frame of a block is returned for a continuation, and none is taken off a claim in vain.
#[derive(Default)]
struct Stock {
    next: Mfn,
    left: u64,
}

impl Stock {
    /// Order of the block that single frames are taken from.
    const ORDER: u32 = STRIDE.ilog2();

    /// Allocates extent `n` for the domain and returns its first frame.
    #[inline(always)] // one instance for each width
    fn take(&mut self, extents: &Extents, n: u64) -> Option<Mfn> {
        let pages = &extents.dom.pages;
        let allocate = |order| machine().allocate(pages, order, extents.place, Charge::Counted);
        let wanted = extents.count.saturating_sub(n);
        if extents.order == 0
            && self.left == 0
            && n.is_multiple_of(STRIDE)
            && wanted >= STRIDE
            && let Ok(block) = allocate(Self::ORDER)
        {
            (self.next, self.left) = (block, STRIDE);
        }
        if self.left == 0 {
            return allocate(extents.order).ok();
        }
        let first = self.next;
        (self.next, self.left) = (first.add(1), self.left.saturating_sub(1));
        Some(first)
    }

    /// Frees the frames that the guest was not given.
    fn give_back(self, extents: &Extents) {
        let mut leaving = machine().leaving(&extents.dom.pages);
        for k in 0..self.left {
            let _ = machine().disown(&extents.dom.pages, self.next.add(k), &mut leaving);
        }
    }
}

pub(super) fn decrease<E: Element>(ctx: &mut Ctx<'_>, args: &mut MemoryOp) -> Outcome {
    let extents = match Extents::decode(ctx, args) {
        Ok(extents) => extents,
        Err(outcome) => return outcome,
    };
    // What an earlier call left to do on page tables, before any frame goes: a page that such a table holds can't.
    if machine().finish(&mut ctx.st.work) == Progress::Again {
        return Outcome::Again;
    }
    let mut leaving = machine().leaving(&extents.dom.pages);
    extents.each(ctx, args, |ctx, n| {
        let gfn = ctx.guest().read::<E>(extents.at::<E>(n)?).ok()?;
        let first = extents.dom.resolve(Gfn(gfn.into()))?;
        for k in 0..extents.frames() {
            let mfn = first.add(k);
            machine()
                .disown(&extents.dom.pages, mfn, &mut leaving)
                .ok()?;
        }
        Some(())
    })
}

/// XENMEM_claim_pages: reserves memory for a domain that is being built.
pub(super) fn claim(ctx: &Ctx<'_>, at: Vaddr) -> Result<(), Errno> {
    let asked: MemoryReservation = ctx.guest().read(at)?;
    if asked.extent_start.0 != 0 || asked.extent_order != 0 || asked.mem_flags != 0 {
        return Err(errno::EINVAL);
    }
    ctx.require_control()?;
    let dom = ctx.target(asked.domid)?;
    let free = alloc::free_frames().saturating_sub(heap::frames_to_leave());
    dom.pages
        .claim(asked.nr_extents, free)
        .map_err(|why| match why {
            ClaimError::Invalid => errno::EINVAL,
            ClaimError::NoMemory => errno::ENOMEM,
        })
}
