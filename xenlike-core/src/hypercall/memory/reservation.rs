//! Memory comes and goes: increase_reservation, decrease_reservation, populate_physmap, claims.
//!
//! These calls return how many extents they did; most errors only end the count.

use ::alloc::sync::Arc;

use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::memory::{MemoryReservation, XENMEMF_POPULATE_ON_DEMAND, xenmemf_address_bits};

use super::{Ctx, EXTENT_SHIFT, MAX_ORDER, MemoryOp, Outcome};
use crate::domain::Domain;
use crate::kit::{Gfn, Mfn, Pfn, Vaddr};
use crate::mm::alloc::{self, Where};
use crate::mm::{heap, m2p};
use crate::pagetype::claims::ClaimError;
use crate::pagetype::{Charge, Progress, machine};

/// Single frames done between two looks at what else the CPU has to do.
const STRIDE: u64 = 8;
/// Extents of this order and above are done one a call.
const LARGE_ORDER: u32 = 7;

/// A reservation call, decoded.
struct Extents {
    dom: Arc<Domain>,
    list: Vaddr,
    count: u64,
    order: u32,
    place: Where,
    flags: u32,
}

impl Extents {
    /// Decodes the call, or tells what it comes to already.
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

    /// Where the number of extent `n`'s first frame is in the caller's list.
    fn at(&self, n: u64) -> Option<Vaddr> {
        // There are at most 2^26 extents: the product does not overflow.
        self.list
            .checked_add(n.wrapping_mul(size_of::<u64>() as u64))
    }

    fn frames(&self) -> u64 {
        1 << self.order
    }

    /// Does one extent after the other, until one fails.
    fn each(
        &self,
        ctx: &mut Ctx<'_>,
        args: &mut MemoryOp,
        mut one: impl FnMut(&mut Ctx<'_>, u64) -> Option<()>,
    ) -> Outcome {
        let start = args.done();
        // Frames one by one are small work; to zero a large block takes as long as a call may.
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

/// Where frames may be, by the address bits that the caller wants them to fit in.
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
            ctx.guest().write(extents.at(n)?, &first.0).ok()
        }
    })
}

pub(super) fn populate(ctx: &mut Ctx<'_>, args: &mut MemoryOp) -> Outcome {
    let extents = match Extents::decode(ctx, args) {
        Ok(extents) => extents,
        Err(outcome) => return outcome,
    };
    if extents.flags & XENMEMF_POPULATE_ON_DEMAND != 0 {
        return Outcome::Done(args.done() as i64);
    }
    let mut stock = Stock::default();
    let outcome = extents.each(ctx, args, |ctx, n| {
        let at = extents.at(n)?;
        let pfn = ctx.guest().read::<u64>(at).ok()?;
        let first = stock.take(&extents, n)?;
        for k in 0..extents.frames() {
            m2p::set(first.add(k), Pfn(pfn.wrapping_add(k)));
        }
        ctx.guest().write(at, &first.0).ok()
    });
    stock.give_back(&extents);
    outcome
}

/// Single frames are allocated a few at a time. A call is continued only between two such blocks, so
/// that none of their frames goes back, and a claim that they were taken off has been of use.
#[derive(Default)]
struct Stock {
    next: Mfn,
    left: u64,
}

impl Stock {
    /// Order of the block that single frames come from.
    const ORDER: u32 = STRIDE.ilog2();

    /// The first frame of extent `n`, the domain's.
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

    /// What the guest was not told of goes back.
    fn give_back(self, extents: &Extents) {
        let mut leaving = machine().leaving(&extents.dom.pages);
        for k in 0..self.left {
            let _ = machine().disown(&extents.dom.pages, self.next.add(k), &mut leaving);
        }
    }
}

pub(super) fn decrease(ctx: &mut Ctx<'_>, args: &mut MemoryOp) -> Outcome {
    let extents = match Extents::decode(ctx, args) {
        Ok(extents) => extents,
        Err(outcome) => return outcome,
    };
    let mut leaving = machine().leaving(&extents.dom.pages);
    extents.each(ctx, args, |ctx, n| {
        let first = extents
            .dom
            .resolve(Gfn(ctx.guest().read(extents.at(n)?).ok()?))?;
        for k in 0..extents.frames() {
            let mfn = first.add(k);
            machine()
                .disown(&extents.dom.pages, mfn, &mut leaving)
                .ok()?;
        }
        // Nothing is left of a table that only the domain's ownership kept.
        (machine().finish(&mut ctx.st.work) == Progress::Done).then_some(())
    })
}

/// XENMEM_claim_pages: memory is set aside for a domain that is being built.
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
