//! The trace buffers (`XEN_SYSCTL_tbuf_op`): enabling tracing, and reading the buffers as xentrace does.

use alloc::vec;
use alloc::vec::Vec;

use guest_pv_abi::errno;
use guest_pv_abi::sysctl::{self as abi, TbufOp};
use guest_pv_abi::trace::TRC_ALL;
use guest_pv_abi::xen::DOMID_XEN;

use super::machine::{self, sysctl_in};
use super::{Args, CallError, DomId, Hypercalls, Mfn, PAGE};
use crate::trace::records::window;

const WORD: usize = 4;
/// Size of `struct t_buf` in bytes.
const HEAD: usize = 8;
/// Maximum size of `struct t_info` in pages.
const MAX_INFO: usize = 256;
/// Maximum size of a CPU's buffer in pages.
const MAX_PAGES: usize = 1024;
const XEN: DomId = DomId(DOMID_XEN);
const WHAT: &str = "trace";

/// Enabled tracing, until it is [closed](Tracer::close).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracer {
    /// The frames of each CPU's buffer.
    buffers: Vec<Vec<Mfn>>,
    /// The events that were enabled before.
    events: u32,
}

fn tbuf_op<H: Hypercalls + ?Sized>(h: &mut H, body: TbufOp) -> Result<TbufOp, CallError> {
    sysctl_in(&mut Args::new(h), abi::XEN_SYSCTL_TBUF_OP, &body).map_err(CallError::of(WHAT))
}

fn command<H: Hypercalls + ?Sized>(h: &mut H, cmd: u32, number: u32) -> Result<TbufOp, CallError> {
    let body = TbufOp {
        cmd,
        evt_mask: number,
        size: number,
        ..TbufOp::default()
    };
    tbuf_op(h, body)
}

impl Tracer {
    /// Enables tracing. Creates buffers of `pages` pages for each CPU unless there are some. Records that they
    /// already hold are skipped.
    ///
    /// # Errors
    /// If the hypervisor refuses the call.
    pub fn open<H: Hypercalls + ?Sized>(h: &mut H, pages: u32) -> Result<Tracer, CallError> {
        match command(h, abi::XEN_SYSCTL_TBUFOP_SET_SIZE, pages) {
            // The buffers exist already, with this or another size.
            Err(error) if matches!(error.errno, errno::EBUSY | errno::EINVAL) => {}
            done => drop(done?),
        }
        let info = command(h, abi::XEN_SYSCTL_TBUFOP_GET_INFO, 0)?;
        let cpus = machine::host(h)?.cpus as usize;
        let frames = (info.size as usize).div_ceil(PAGE).min(MAX_INFO);
        let frames: Vec<Mfn> = (0..frames as u64)
            .map(|n| Mfn(info.buffer_mfn.saturating_add(n)))
            .collect();
        let mut bytes = Vec::new();
        h.read_frames(XEN, &frames, &mut |page| bytes.extend_from_slice(page))
            .map_err(CallError::of(WHAT))?;
        let buffers = lists(&bytes, cpus).ok_or(CallError {
            what: WHAT,
            errno: errno::EINVAL,
        })?;
        let tracer = Tracer {
            buffers,
            events: info.evt_mask,
        };
        tracer.skip(h)?;
        command(h, abi::XEN_SYSCTL_TBUFOP_SET_EVT_MASK, TRC_ALL)?;
        command(h, abi::XEN_SYSCTL_TBUFOP_ENABLE, 0)?;
        Ok(tracer)
    }

    /// Disables tracing. Records in the buffers can still be read.
    ///
    /// # Errors
    /// If the hypervisor refuses the call.
    pub fn close<H: Hypercalls + ?Sized>(&self, h: &mut H) -> Result<(), CallError> {
        command(h, abi::XEN_SYSCTL_TBUFOP_DISABLE, 0)?;
        command(h, abi::XEN_SYSCTL_TBUFOP_SET_EVT_MASK, self.events).map(drop)
    }

    /// Takes the new records of all CPUs, in the format of xentrace's files.
    ///
    /// # Errors
    /// If the hypervisor refuses the call.
    pub fn read<H: Hypercalls + ?Sized>(&self, h: &mut H) -> Result<Vec<u8>, CallError> {
        let mut all = Vec::new();
        for (cpu, buffer) in (0..).zip(&self.buffers) {
            let records = take(h, buffer)?;
            if !records.is_empty() {
                let head = window(cpu, records.len() as u32);
                all.extend(head.into_iter().flat_map(u32::to_le_bytes));
                all.extend(records);
            }
        }
        Ok(all)
    }

    fn skip<H: Hypercalls + ?Sized>(&self, h: &mut H) -> Result<(), CallError> {
        self.buffers
            .iter()
            .try_for_each(|buffer| take(h, buffer).map(drop))
    }
}

/// The frames of each CPU's buffer, as listed in `struct t_info`.
fn lists(info: &[u8], cpus: usize) -> Option<Vec<Vec<Mfn>>> {
    let half = |at: usize| {
        let bytes = info.get(2 * at..2 * at + 2)?;
        Some(usize::from(u16::from_le_bytes(bytes.try_into().ok()?)))
    };
    let pages = half(0).filter(|pages| (1..=MAX_PAGES * 4).contains(pages))?;
    let list = |cpu: usize| {
        let start = half(1 + cpu).filter(|start| *start != 0)? * WORD;
        let bytes = info.get(start..start + pages * WORD)?;
        let frames = bytes.as_chunks::<WORD>().0.iter();
        Some(
            frames
                .map(|word| Mfn(u32::from_le_bytes(*word).into()))
                .collect(),
        )
    };
    (0..cpus).map(list).collect()
}

/// The word at offset `at` of a buffer's header.
fn word(head: &[u8], at: usize) -> u32 {
    let bytes = head
        .get(at..at + WORD)
        .and_then(|bytes| bytes.try_into().ok());
    u32::from_le_bytes(bytes.unwrap_or_default())
}

/// Takes a CPU's new records. The CPU keeps recording, so the order matters: its producer index is read first, then
/// the records up to there, and only then the consumer index is advanced. Each step uses a mapping of its own, so
/// that the accesses can't be reordered.
fn take<H: Hypercalls + ?Sized>(h: &mut H, frames: &[Mfn]) -> Result<Vec<u8>, CallError> {
    let what = CallError::of(WHAT);
    let first = frames.get(..1).unwrap_or_default();
    let (mut cons, mut prod) = (0, 0);
    h.read_frames(XEN, first, &mut |head| {
        (cons, prod) = (word(head, 0), word(head, WORD))
    })
    .map_err(&what)?;
    let size = (frames.len() * PAGE).saturating_sub(HEAD);
    let range = range(cons as usize, prod as usize, size);
    if cons == prod {
        return Ok(Vec::new());
    }
    let mut bytes = vec![0; 0];
    h.read_frames(XEN, frames, &mut |pages| bytes.extend_from_slice(pages))
        .map_err(&what)?;
    bytes.drain(..HEAD.min(bytes.len()));
    let mut records = Vec::new();
    for part in range {
        records.extend_from_slice(bytes.get(part).unwrap_or_default());
    }
    h.with_frames(XEN, first, &mut |head| {
        if let Some(cons) = head.get_mut(..WORD) {
            cons.copy_from_slice(&prod.to_le_bytes());
        }
    })
    .map_err(&what)?;
    Ok(records)
}

/// The byte ranges between two indices of a ring of `size` bytes; indices count modulo twice the size. Empty if
/// the indices are invalid.
fn range(cons: usize, prod: usize, size: usize) -> [core::ops::Range<usize>; 2] {
    const NOTHING: core::ops::Range<usize> = 0..0;
    if size == 0 || cons >= 2 * size || prod >= 2 * size {
        return [NOTHING; 2];
    }
    let count = (prod + 2 * size - cons) % (2 * size);
    if count > size {
        return [NOTHING; 2];
    }
    let start = cons % size;
    let end = start + count;
    if end <= size {
        [start..end, NOTHING]
    } else {
        [start..size, 0..end - size]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn ranges_are_inside(cons in any::<usize>(), prod in any::<usize>(), size in 0..100_usize) {
            let (cons, prod) = (cons >> 57, prod >> 57);
            for part in range(cons, prod, size) {
                prop_assert!(part.start <= part.end && part.end <= size);
            }
        }

        #[test]
        fn lists_of_anything(info in prop::collection::vec(any::<u8>(), 0..200), cpus in 0..80_usize) {
            if let Some(lists) = lists(&info, cpus) {
                prop_assert_eq!(lists.len(), cpus);
            }
        }
    }

    #[test]
    fn a_ring_that_wraps() {
        assert_eq!(range(90, 110, 100), [90..100, 0..10]);
        assert_eq!(range(190, 10, 100), [90..100, 0..10]);
        assert_eq!(range(10, 110, 100), [10..100, 0..10]);
        assert_eq!(range(10, 10, 100), [10..10, 0..0]);
        assert_eq!(range(10, 111, 100), [0..0, 0..0]);
    }

    #[test]
    fn lists_of_frames() {
        // Two pages for each of two CPUs, after three 16-bit numbers and one for alignment.
        let halves = [2_u16, 2, 4, 0].into_iter().flat_map(u16::to_le_bytes);
        let frames = [10_u32, 11, 12, 13].into_iter().flat_map(u32::to_le_bytes);
        let info: Vec<u8> = halves.chain(frames).collect();
        let expected = [[10, 11], [12, 13]]
            .map(|list| list.map(Mfn).to_vec())
            .to_vec();
        assert_eq!(lists(&info, 2), Some(expected));
        assert_eq!(lists(&info, 3), None);
    }
}
