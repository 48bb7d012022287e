//! XENMEM_exchange: exchanges frames for others, in larger or smaller blocks or at lower addresses. Linux allocates
//! device buffers with it. The domain's charge doesn't change.

use ::alloc::sync::Arc;
use ::alloc::vec::Vec;

use guest_pv_abi::Width;
use guest_pv_abi::errno::{self, Errno};
use guest_pv_abi::memory::{self as abi, MemoryExchange};

use super::reservation::place;
use super::{Ctx, MAX_ORDER, MemoryOp, Outcome};
use crate::domain::Domain;
use crate::kit::{Gfn, Mfn, Pfn, Vaddr};
use crate::mm::alloc::{self, Past, Where};
use crate::mm::guest::{Guest, Long, offset_in};
use crate::mm::{heap, layout, m2p};
use crate::pagetype::{Charge, machine};

/// Maximum number of frames of a chunk, the smallest amount that is a whole number of extents on both sides.
const CHUNK: usize = 1 << MAX_ORDER;
type Frames = Vec<Mfn>;

/// Offset of `nr_exchanged` in the structure, in bytes.
fn place_of_count(width: Width) -> u64 {
    offset_in!(width, abi::MemoryExchange, nr_exchanged)
}

/// The decoded arguments.
struct Exchange {
    dom: Arc<Domain>,
    place: Where,
    given: Side,
    wanted: Side,
    /// Number of the given side's extents in a chunk.
    chunk: u64,
}

struct Side {
    list: Vaddr,
    order: u32,
    count: u64,
}

impl Side {
    /// Number of extents in a chunk if the other side's extents are of order `other`.
    const fn extents(&self, other: u32) -> u64 {
        1 << other.saturating_sub(self.order)
    }
}

pub(super) fn call(ctx: &mut Ctx<'_>, args: &mut MemoryOp) -> Outcome {
    let at = args.at;
    let asked: MemoryExchange = match ctx.guest().read(at) {
        Ok(asked) => asked,
        Err(errno) => return errno.into(),
    };
    let exchange = match decode(ctx, &asked) {
        Ok(exchange) => exchange,
        Err(errno) => return errno.into(),
    };
    let mut done = asked.nr_exchanged;
    let first = done;
    let outcome = loop {
        if exchange.given.count.saturating_sub(done) < exchange.chunk {
            break Outcome::Done(0);
        }
        if done != first && ctx.preempted() {
            break args.again(0);
        }
        match one_chunk(
            ctx.guest(),
            &exchange,
            done.checked_div(exchange.chunk).unwrap_or(0),
        ) {
            Ok(()) => done = done.saturating_add(exchange.chunk),
            Err(errno) => break errno.into(),
        }
    };
    let place = at.wrapping_add(place_of_count(ctx.st.kind.width()));
    match ctx.guest().write(place, &Long(done)) {
        Ok(()) => outcome,
        Err(_) => errno::EFAULT.into(),
    }
}

fn decode(ctx: &Ctx<'_>, asked: &MemoryExchange) -> Result<Exchange, Errno> {
    let (given, wanted) = (&asked.in_, &asked.out);
    if given.extent_order.max(wanted.extent_order) > MAX_ORDER {
        return Err(errno::EPERM);
    }
    let frames = |side: &guest_pv_abi::memory::MemoryReservation| {
        side.nr_extents.checked_mul(1 << side.extent_order)
    };
    let matches = asked.nr_exchanged <= given.nr_extents
        && given.domid == wanted.domid
        && frames(given).is_some_and(|n| Some(n) == frames(wanted));
    if !matches {
        return Err(errno::EINVAL);
    }
    for side in [given, wanted] {
        let bytes = side.nr_extents.checked_mul(ctx.guest().size::<Long>());
        if !bytes.is_some_and(|n| layout::guest_range(Vaddr(side.extent_start.0), n)) {
            return Err(errno::EFAULT);
        }
    }
    let dom = ctx.target(given.domid)?;
    let place = place(wanted.mem_flags)?;
    let side = |r: &guest_pv_abi::memory::MemoryReservation| Side {
        list: Vaddr(r.extent_start.0),
        order: r.extent_order,
        count: r.nr_extents,
    };
    let (given, wanted) = (side(given), side(wanted));
    let chunk = given.extents(wanted.order);
    Ok(Exchange {
        dom,
        place,
        given,
        wanted,
        chunk,
    })
}

/// Exchanges one chunk. If memory for it can't be taken or allocated, the frames taken are returned.
fn one_chunk(guest: Guest<'_>, exchange: &Exchange, chunk: u64) -> Result<(), Errno> {
    let mut stolen = frames()?;
    let taken = steal(guest, exchange, chunk, &mut stolen)
        .and_then(|()| allocate(exchange).map(|blocks| (blocks, chunk)));
    match taken {
        // From here on the given frames are gone. An error of `hand_over` no longer brings them back.
        Ok((blocks, chunk)) => {
            for mfn in stolen {
                m2p::clear(mfn);
                alloc::free(mfn, 0);
            }
            hand_over(guest, exchange, chunk, &blocks)
        }
        Err(errno) => {
            give_back(&exchange.dom, stolen);
            Err(errno)
        }
    }
}

/// Allocates room for the frames of one chunk on the heap, because the CPU's only stack is small.
fn frames() -> Result<Frames, Errno> {
    if !heap::can_grow(size_of::<[Mfn; CHUNK]>() as u64) {
        return Err(errno::ENOMEM);
    }
    let mut frames = Frames::new();
    frames.try_reserve_exact(CHUNK).map_err(|_| errno::ENOMEM)?;
    Ok(frames)
}

fn steal(
    guest: Guest<'_>,
    exchange: &Exchange,
    chunk: u64,
    stolen: &mut Frames,
) -> Result<(), Errno> {
    let given = &exchange.given;
    for n in 0..exchange.chunk {
        let index = chunk.wrapping_mul(exchange.chunk).wrapping_add(n);
        let Long(first) = guest.read_at(given.list, index)?;
        for k in 0..1 << given.order {
            let gfn = Gfn(first.saturating_add(k));
            let mfn = exchange.dom.resolve(gfn).ok_or(errno::EINVAL)?;
            machine()
                .steal(&exchange.dom.pages, mfn, Charge::Exchanged)
                .map_err(|_| errno::EINVAL)?;
            stolen.push(mfn);
        }
    }
    Ok(())
}

fn allocate(exchange: &Exchange) -> Result<Frames, Errno> {
    let wanted = &exchange.wanted;
    let mut blocks = frames()?;
    // The domain has both sides for a while, so the new side must not come out of memory that is reserved for others.
    let others = exchange.dom.pages.claimed_by_others();
    let leave = heap::frames_to_leave().saturating_add(others);
    let place = exchange.place.and(exchange.dom.pages.reach());
    let allocate = || alloc::alloc_leaving(leave, wanted.order, place, Past::NOBODY);
    for _ in 0..wanted.extents(exchange.given.order) {
        let Some(block) = allocate() else {
            for block in blocks {
                alloc::free(block, wanted.order);
            }
            return Err(errno::ENOMEM);
        };
        blocks.push(block);
    }
    Ok(blocks)
}

/// Assigns the new blocks to the domain and writes their numbers to its list.
fn hand_over(
    guest: Guest<'_>,
    exchange: &Exchange,
    chunk: u64,
    blocks: &[Mfn],
) -> Result<(), Errno> {
    let (wanted, pages) = (&exchange.wanted, &exchange.dom.pages);
    let per_chunk = wanted.extents(exchange.given.order);
    let mut told = Ok(());
    for (n, block) in blocks.iter().enumerate() {
        if machine()
            .assign(pages, *block, wanted.order, Charge::Exchanged)
            .is_err()
        {
            alloc::free(*block, wanted.order);
            machine().uncharge(pages, 1 << wanted.order);
            told = Err(errno::EINVAL);
            continue;
        }
        let index = chunk.wrapping_mul(per_chunk).wrapping_add(n as u64);
        told = told.and(tell(guest, wanted, index, *block));
    }
    told
}

fn tell(guest: Guest<'_>, wanted: &Side, index: u64, block: Mfn) -> Result<(), Errno> {
    let Long(pfn) = guest.read_at(wanted.list, index)?;
    for k in 0..1 << wanted.order {
        m2p::set(block.add(k), Pfn(pfn.wrapping_add(k)));
    }
    guest
        .write_at(wanted.list, index, &Long(block.0))
        .map_err(|_| errno::EFAULT)
}

fn give_back(dom: &Domain, stolen: Frames) {
    for mfn in stolen {
        if machine()
            .assign(&dom.pages, mfn, 0, Charge::Exchanged)
            .is_err()
        {
            alloc::free(mfn, 0);
            machine().uncharge(&dom.pages, 1);
        }
    }
}
