//! The trace buffers: made once, at boot (`tbuf_size=`) or when a tool asks for them, and never freed, since the
//! control domain may have them mapped.

use alloc::vec::Vec;

use crate::arch::percpu;
use crate::kit::atomic::Ordering;
use crate::kit::{CpuId, Lock, MAX_CPUS, Mfn, PAGE_SIZE, Rank};
use crate::mm::SharedPage;
use crate::mm::alloc::{Where, alloc_frame, alloc_order, free};
use crate::pagetype::machine;
use crate::trace;

/// Frames of all buffers together.
const MAX_FRAMES: u32 = 1 << 12;
/// Where the lists of frames begin in `struct t_info`, in words: behind the size, and an offset for each CPU.
const FIRST_LIST: u32 = (MAX_CPUS as u32 + 1).div_ceil(2);
/// Bits of an address whose frame's number fits in a word of these lists.
const ADDRESS_BITS: u32 = 44;

/// The buffers, once they are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// Pages of each CPU's.
    pub pages: u32,
    /// The first frame of `struct t_info`, which has the frames of all buffers.
    pub info: Mfn,
    /// Its frames.
    pub info_frames: u32,
}

/// How far they are.
enum State {
    Nothing,
    Making(Making),
    Made(Made),
}

struct Making {
    asked: u32,
    cpus: u32,
    pages: u32,
    frames: Vec<SharedPage>,
}

static STATE: Lock<State> = Lock::new(Rank::TraceBuffers, State::Nothing);

/// Why there are no buffers of that size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// None, or not the size of those that there are.
    BadSize,
    /// They are there already, or another call makes them.
    Busy,
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

/// The buffers, if they are there.
pub fn made() -> Option<Made> {
    match &*STATE.lock() {
        State::Made(made) => Some(*made),
        _ => None,
    }
}

/// Makes buffers of `asked` pages for each CPU, or of as many as there may be, and switches tracing on. Stops when
/// something else is urgent.
///
/// # Errors
/// See [`Refused`].
pub fn make(asked: u32, urgent: impl Fn() -> bool) -> Result<Progress, Refused> {
    let mut state = STATE.lock();
    let mut making = match core::mem::replace(&mut *state, State::Nothing) {
        State::Nothing if asked == 0 => return Err(Refused::BadSize),
        State::Nothing => Making::new(asked),
        State::Making(making) if making.asked == asked => making,
        other => {
            let differs = matches!(&other, State::Made(made) if made.pages != asked);
            *state = other;
            return Err(if differs {
                Refused::BadSize
            } else {
                Refused::Busy
            });
        }
    };
    match making.step(urgent) {
        Ok(Progress::Again) => {
            *state = State::Making(making);
            Ok(Progress::Again)
        }
        Ok(Progress::Done) => {
            let made = making.finish()?;
            *state = State::Made(made);
            trace::switch(true);
            Ok(Progress::Done)
        }
        Err(refused) => {
            making.undo();
            Err(refused)
        }
    }
}

impl Making {
    fn new(asked: u32) -> Self {
        let cpus = percpu::online().count().max(1);
        let most = MAX_FRAMES.checked_div(cpus).unwrap_or(1);
        if asked > most {
            log::info!("trace buffers: {asked} pages for each CPU reduced to {most}");
        }
        Self {
            asked,
            cpus,
            pages: asked.min(most),
            frames: Vec::new(),
        }
    }

    /// Takes frames until there are enough, or something else is urgent.
    fn step(&mut self, urgent: impl Fn() -> bool) -> Result<Progress, Refused> {
        let wanted = self.pages.saturating_mul(self.cpus) as usize;
        let missing = wanted.saturating_sub(self.frames.len());
        self.frames
            .try_reserve_exact(missing)
            .map_err(|_| Refused::NoMemory)?;
        for _ in 0..missing {
            let frame = alloc_frame(Where::bits(ADDRESS_BITS)).ok_or(Refused::NoMemory)?;
            self.frames.extend(SharedPage::new(frame));
            if urgent() {
                return Ok(Progress::Again);
            }
        }
        Ok(Progress::Done)
    }

    /// Gives the frames back, which nobody could map yet.
    fn undo(self) {
        log::warn!(
            "trace buffers: there is no memory for {} pages on each CPU",
            self.pages
        );
        for page in self.frames {
            free(page.mfn(), 0);
        }
    }

    /// Writes `struct t_info` and shares all of it.
    fn finish(self) -> Result<Made, Refused> {
        let bytes = (FIRST_LIST as usize)
            .saturating_add(self.frames.len())
            .saturating_mul(size_of::<u32>());
        let info_frames = bytes.div_ceil(PAGE_SIZE);
        let order = info_frames.next_power_of_two().trailing_zeros();
        let Some(info) = alloc_order(order, Where::bits(ADDRESS_BITS)) else {
            self.undo();
            return Err(Refused::NoMemory);
        };
        let word = |index: usize| {
            let at = index.saturating_mul(size_of::<u32>());
            let page = SharedPage::new(info.add((at / PAGE_SIZE) as u64))?;
            page.u32(at % PAGE_SIZE)
        };
        // Two halves in a word: the size, then an offset for each CPU.
        let offset = |cpu: u32| match cpu {
            _ if cpu >= self.cpus => 0,
            _ => FIRST_LIST.saturating_add(cpu.saturating_mul(self.pages)),
        };
        let halves = core::iter::once(self.pages).chain((0..MAX_CPUS as u32).map(offset));
        let halves: Vec<u32> = halves.chain([0]).collect();
        let head = halves.chunks_exact(2).map(|pair| match pair {
            [low, high] => low | high << 16,
            _ => 0,
        });
        let lists = self.frames.iter().map(|page| page.mfn().0 as u32);
        for (index, value) in head.chain(lists).enumerate() {
            if let Some(word) = word(index) {
                word.store(value, Ordering::Relaxed);
            }
        }
        for page in &self.frames {
            machine().share_writable(page.mfn());
        }
        (0..info_frames as u64).for_each(|n| machine().share_read_only(info.add(n)));
        for (cpu, pages) in (0..).zip(self.frames.chunks(self.pages as usize)) {
            trace::install(CpuId(cpu), trace::Pages(pages.to_vec()));
        }
        log::info!(
            "trace buffers: {} pages for each of {} CPUs",
            self.pages,
            self.cpus
        );
        Ok(Made {
            pages: self.pages,
            info,
            info_frames: info_frames as u32,
        })
    }
}
