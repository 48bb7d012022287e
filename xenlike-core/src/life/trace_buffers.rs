//! The trace buffers: made once, at boot (`tbuf_size=`) or when a tool asks for them, and never freed, since the
//! control domain may have them mapped.

use alloc::vec::Vec;
use core::mem;

use crate::arch::percpu;
use crate::kit::{CpuId, Lock, MAX_CPUS, Mfn, PAGE_SIZE, Rank};
use crate::mm::SharedPage;
use crate::mm::alloc::{Where, alloc_frame, alloc_order, free};
use crate::pagetype::machine;
use crate::trace;

/// Frames of all buffers together.
const MAX_FRAMES: u32 = 1 << 12;
/// Frames of `struct t_info`, as a power of two: with the lists of so many, they don't fit in four.
const INFO_ORDER: u32 = 3;
/// Its bytes, as the tool maps it.
pub const INFO_BYTES: u32 = (PAGE_SIZE as u32) << INFO_ORDER;
/// Where the lists of frames begin in it, in words: behind the size, and an offset for each CPU, in halves.
const FIRST_LIST: u32 = (MAX_CPUS as u32 + 1).div_ceil(2);
/// Bits of an address whose frame's number fits in a word of these lists.
const PLACE: Where = Where::bits(44);

/// The buffers.
struct Buffers {
    /// Pages of each CPU's; none: they are not there, nor being made.
    pages: u32,
    /// The frames of those that are being made.
    frames: Vec<SharedPage>,
    /// The first frame of `struct t_info`, once they are there.
    info: Option<Mfn>,
}

static BUFFERS: Lock<Buffers> = Lock::new(
    Rank::TraceBuffers,
    Buffers {
        pages: 0,
        frames: Vec::new(),
        info: None,
    },
);

/// Why there are no buffers of that size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// None, or not the size of those that there are.
    BadSize,
    /// They are there already.
    Exist,
    /// There is no memory.
    NoMemory,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The buffers are there, and tracing is on.
    Done,
    /// Something else is urgent: call again.
    Again,
}

/// The first frame of `struct t_info`, if the buffers are there.
pub fn info() -> Option<Mfn> {
    BUFFERS.lock().info
}

/// Makes buffers of `pages` pages for each CPU, or of as many as there may be, and switches tracing on. Stops when
/// something else is urgent.
///
/// # Errors
/// See [`Refused`].
pub fn make(pages: u32, urgent: impl Fn() -> bool) -> Result<Progress, Refused> {
    let cpus = percpu::online().count().max(1);
    let pages = pages.min(MAX_FRAMES.checked_div(cpus).unwrap_or_default());
    let mut buffers = BUFFERS.lock();
    if pages == 0 || buffers.pages != 0 && buffers.pages != pages {
        return Err(Refused::BadSize);
    }
    if buffers.info.is_some() {
        return Err(Refused::Exist);
    }
    buffers.pages = pages;
    match buffers.fill(pages.saturating_mul(cpus) as usize, urgent) {
        Some(Progress::Done) => {}
        Some(Progress::Again) => return Ok(Progress::Again),
        None => {
            // Nobody could map them yet.
            buffers.pages = 0;
            let frames = mem::take(&mut buffers.frames);
            frames.iter().for_each(|page| free(page.mfn(), 0));
            log::warn!("no memory for trace buffers of {pages} pages on each CPU");
            return Err(Refused::NoMemory);
        }
    }
    log::info!("trace buffers: {pages} pages on each of {cpus} CPUs");
    trace::switch(true);
    Ok(Progress::Done)
}

impl Buffers {
    /// Takes frames until there are enough, and makes buffers of them; nothing without memory.
    fn fill(&mut self, wanted: usize, urgent: impl Fn() -> bool) -> Option<Progress> {
        let missing = wanted.saturating_sub(self.frames.len());
        self.frames.try_reserve_exact(missing).ok()?;
        for _ in 0..missing {
            self.frames.push(SharedPage::new(alloc_frame(PLACE)?)?);
            if urgent() {
                return Some(Progress::Again);
            }
        }
        let info = alloc_order(INFO_ORDER, PLACE)?;
        self.describe(info);
        for page in &self.frames {
            machine().share_writable(page.mfn());
        }
        (0..1 << INFO_ORDER).for_each(|n| machine().share_read_only(info.add(n)));
        self.info = Some(info);
        for (cpu, pages) in (0..).zip(self.frames.chunks(self.pages as usize)) {
            trace::install(CpuId(cpu), pages.to_vec());
        }
        self.frames = Vec::new();
        Some(Progress::Done)
    }

    /// Writes `struct t_info`.
    fn describe(&self, info: Mfn) {
        let put = |at: u32, value: u32, bytes: usize| {
            let at = (at as usize).saturating_mul(bytes);
            if let Some(page) = SharedPage::new(info.add((at / PAGE_SIZE) as u64)) {
                let _ = page.write(
                    at % PAGE_SIZE,
                    value.to_le_bytes().get(..bytes).unwrap_or_default(),
                );
            }
        };
        put(0, self.pages, 2);
        let mut list = FIRST_LIST;
        for (cpu, pages) in (1..).zip(self.frames.chunks(self.pages as usize)) {
            put(cpu, list, 2);
            for (at, page) in (list..).zip(pages) {
                put(at, page.mfn().0 as u32, 4);
            }
            list = list.saturating_add(self.pages);
        }
    }
}
