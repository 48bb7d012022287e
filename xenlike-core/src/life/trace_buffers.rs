//! The trace buffers. They are made once, at boot (`tbuf_size=`) or when a tool asks for them. They are never
//! freed, because the control domain may map them.

use alloc::vec::Vec;
use core::mem;

use crate::arch::percpu;
use crate::kit::{CpuId, Lock, MAX_CPUS, Mfn, PAGE_SIZE, Rank};
use crate::mm::SharedPage;
use crate::mm::alloc::{Where, alloc_frame, alloc_order, free};
use crate::pagetype::machine;
use crate::trace;

/// The maximum number of frames of all buffers together.
const MAX_FRAMES: u32 = 1 << 12;
/// The number of frames of `struct t_info`, as a power of two. The lists of [`MAX_FRAMES`] frames need
/// more than four.
const INFO_ORDER: u32 = 3;
/// The size of `struct t_info` in bytes, as the tool maps it.
pub const INFO_BYTES: u32 = (PAGE_SIZE as u32) << INFO_ORDER;
/// The position of the first list of frames in `struct t_info`, in words. Before it are the buffer size and an
/// offset for each CPU, of half a word each.
const FIRST_LIST: u32 = (MAX_CPUS as u32 + 1).div_ceil(2);
/// Restricts the frames to addresses below 2^44, so that a frame number fits in a word of the lists.
const PLACE: Where = Where::bits(44);

/// The buffers, while they are made and afterwards.
struct Buffers {
    /// The number of pages of each CPU's buffer; 0 if the buffers are neither made nor being made.
    pages: u32,
    /// The frames that have been allocated so far.
    frames: Vec<SharedPage>,
    /// The first frame of `struct t_info`, once the buffers are made.
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

/// Why no buffers were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The size is 0, or differs from that of the buffers that are being made.
    BadSize,
    /// The buffers exist already.
    Exist,
    /// There is no memory.
    NoMemory,
}

/// The progress of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The buffers exist, and tracing is on.
    Done,
    /// There is other work: call again.
    Again,
}

/// Returns the first frame of `struct t_info`, if the buffers exist.
pub fn info() -> Option<Mfn> {
    BUFFERS.lock().info
}

/// Makes buffers of `pages` pages for each CPU, or as many as are allowed, and switches tracing on. Stops when
/// `urgent` returns true.
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
            // No domain can have mapped them yet.
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
    /// Allocates the missing frames and makes buffers of them. `None` if there is no memory.
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

    /// Writes the description of the buffers, `struct t_info`.
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
