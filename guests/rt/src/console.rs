//! The domain's console: the ring shared with the toolstack's console, or the hypervisor's own
//! console for domain 0 and the boot domain.

#![expect(unsafe_code, reason = "shares a ring with the console's other end")]

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering, fence};

use guest_pv_abi::event_channel::{EVTCHNOP_SEND, EvtchnSend};
use guest_pv_abi::io_console::ConsInterface;
use guest_pv_abi::xen::SIF_INITDOMAIN;

use crate::arch::from_long;
use crate::info::start_info;
use crate::memory::{direct, pfn_of_mfn};
use crate::sync::Lock;
use crate::{hyper, time};

/// How long to wait on a full ring before output is dropped. The ring may have no reader at all.
const PATIENCE_NS: u64 = time::SECOND_NS;

/// Address of the ring; 0 if the domain uses the hypervisor's console.
static RING: AtomicU64 = AtomicU64::new(0);

/// Keeps lines from different vCPUs apart. Holds whether the reader was last seen asleep.
static OUT: Lock<Reader> = Lock::new(Reader::Awake);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reader {
    Awake,
    /// The reader did not empty a full ring in time. Output is dropped at once until it does.
    Asleep,
}

/// Finds the ring in the start info page.
pub(crate) fn init() {
    let info = start_info();
    if info.flags & SIF_INITDOMAIN == 0 && info.console_mfn != 0 {
        RING.store(
            direct(pfn_of_mfn(from_long(info.console_mfn))),
            Ordering::Relaxed,
        );
    }
}

fn ring() -> Option<*mut ConsInterface> {
    match RING.load(Ordering::Relaxed) {
        0 => None,
        address => Some(core::ptr::with_exposed_provenance_mut(address as usize)),
    }
}

fn notify() {
    let port = start_info().console_evtchn;
    let _ = hyper::event_channel_op(EVTCHNOP_SEND, &mut EvtchnSend { port });
}

/// Puts as many bytes into the ring as fit; returns their number.
fn put(ring: *mut ConsInterface, bytes: &[u8]) -> usize {
    // SAFETY: the ring page is mapped for good; indices are read and written with volatile accesses,
    // and the mask keeps offsets inside.
    unsafe {
        let consumed = (&raw const (*ring).out_cons).read_volatile();
        let mut produced = (&raw const (*ring).out_prod).read_volatile();
        let out = (&raw mut (*ring).out).cast::<u8>();
        let size = size_of_val(&(*ring).out);
        let used = produced.wrapping_sub(consumed) as usize;
        let room = size.saturating_sub(used).min(bytes.len());
        for byte in &bytes[..room] {
            out.add(produced as usize & (size - 1))
                .write_volatile(*byte);
            produced = produced.wrapping_add(1);
        }
        // The reader must not see the new index before the bytes.
        fence(Ordering::Release);
        (&raw mut (*ring).out_prod).write_volatile(produced);
        room
    }
}

/// Writes all bytes. Waits for a slow reader, but gives up on a missing one.
fn write_ring(ring: *mut ConsInterface, mut bytes: &[u8], reader: &mut Reader) {
    let mut deadline = None;
    while !bytes.is_empty() {
        let written = put(ring, bytes);
        bytes = &bytes[written..];
        notify();
        if written > 0 {
            *reader = Reader::Awake;
            deadline = None;
        } else if *reader == Reader::Asleep {
            return;
        } else {
            let now = time::now_ns();
            if now > *deadline.get_or_insert(now + PATIENCE_NS) {
                *reader = Reader::Asleep;
                return;
            }
            hyper::yield_now();
        }
    }
}

/// Writes bytes to the console. Drops them if its ring stays full.
pub fn write(bytes: &[u8]) {
    let mut reader = OUT.lock();
    match ring() {
        Some(ring) => write_ring(ring, bytes, &mut reader),
        None => {
            let _ = hyper::console_write(bytes);
        }
    }
}

/// Reads typed bytes without waiting, up to the buffer's length; returns their number.
pub fn read(buffer: &mut [u8]) -> usize {
    let Some(ring) = ring() else {
        return hyper::console_read(buffer).unwrap_or(0) as usize;
    };
    // SAFETY: as in `put`, for the other direction.
    let taken = unsafe {
        let mut consumed = (&raw const (*ring).in_cons).read_volatile();
        let produced = (&raw const (*ring).in_prod).read_volatile();
        fence(Ordering::Acquire);
        let input = (&raw const (*ring).in_).cast::<u8>();
        let size = size_of_val(&(*ring).in_);
        let waiting = (produced.wrapping_sub(consumed) as usize).min(size);
        let taken = waiting.min(buffer.len());
        for byte in &mut buffer[..taken] {
            *byte = input.add(consumed as usize & (size - 1)).read_volatile();
            consumed = consumed.wrapping_add(1);
        }
        // The bytes are read before the writer may overwrite them.
        fence(Ordering::Release);
        (&raw mut (*ring).in_cons).write_volatile(consumed);
        taken
    };
    if taken > 0 {
        notify();
    }
    taken
}

/// Waits until the ring's reader has taken all output, for a quarter of a second at most.
pub fn flush() {
    let Some(ring) = ring() else { return };
    let end = time::now_ns() + PATIENCE_NS / 4;
    // SAFETY: as in `put`.
    let emptied = || unsafe {
        (&raw const (*ring).out_cons).read_volatile()
            == (&raw const (*ring).out_prod).read_volatile()
    };
    while !emptied() && time::now_ns() < end {
        hyper::yield_now();
    }
}

/// The console as a `fmt::Write`.
#[derive(Debug)]
pub struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write(text.as_bytes());
        Ok(())
    }
}

/// Writes to both consoles without taking locks, for panics.
#[derive(Debug)]
pub struct Emergency;

impl fmt::Write for Emergency {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let _ = hyper::console_write(text.as_bytes());
        if let Some(ring) = ring() {
            write_ring(ring, text.as_bytes(), &mut Reader::Awake);
        }
        Ok(())
    }
}

/// Prints formatted output in one piece, so that output of other vCPUs can't interleave.
#[doc(hidden)]
pub fn print(arguments: fmt::Arguments<'_>) {
    let text = alloc::fmt::format(arguments);
    write(text.as_bytes());
}

/// Prints to the domain's console.
#[macro_export]
macro_rules! print {
    ($($argument:tt)*) => { $crate::console::print(::core::format_args!($($argument)*)) };
}

/// Prints to the domain's console and ends the line.
#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($argument:tt)*) => { $crate::console::print(::core::format_args!("{}\n", ::core::format_args!($($argument)*))) };
}
