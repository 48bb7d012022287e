//! Unpacking zstd frames (RFC 8878) straight into a buffer of the whole size: what was written before is the window.

mod bits;
mod block;
mod fse;
mod huffman;
mod literals;
mod output;
mod sequences;
mod states;

use block::Decoder;
use twox_hash::XxHash64;

/// What is wrong with the data; prints behind "damaged zstd data: ".
pub type Fault = &'static str;

const CUT_OFF: Fault = "it is cut off";

const MAGIC: u32 = 0xfd2f_b528;
/// Frames that hold no data of the kernel's: 16 magic numbers (§3.1.2).
const SKIPPABLE: u32 = 0x184d_2a50;

/// Unpacks all frames into `out`, which is at most 2 GiB; how many bytes they were.
pub fn decode(mut data: &[u8], out: &mut [u8]) -> Result<usize, Fault> {
    let mut decoder = Decoder::new();
    let mut len = 0;
    while !data.is_empty() {
        let magic = take_number(&mut data, 4)? as u32;
        if magic & !0xf == SKIPPABLE {
            let bytes = take_number(&mut data, 4)? as usize;
            take(&mut data, bytes)?;
            continue;
        }
        if magic != MAGIC {
            return Err("there is something else behind a frame");
        }
        len = frame(&mut decoder, &mut data, out, len)?;
    }
    Ok(len as usize)
}

/// One frame behind its magic number (§3.1.1): the window's and the content's sizes say nothing new, as all of the
/// output is the window and the image states its size.
fn frame(
    decoder: &mut Decoder,
    data: &mut &[u8],
    out: &mut [u8],
    start: u32,
) -> Result<u32, Fault> {
    let descriptor = take_number(data, 1)?;
    if descriptor & 8 != 0 {
        return Err("its frame header has a reserved bit set");
    }
    let single_segment = descriptor >> 5 & 1;
    take(data, 1 - single_segment as usize)?;
    let dictionary_bytes = [0, 1, 2, 4][descriptor as usize & 3];
    if take_number(data, dictionary_bytes)? != 0 {
        return Err("it needs a dictionary");
    }
    let size_bytes = match descriptor >> 6 {
        0 => single_segment as usize,
        log => 1 << log,
    };
    take(data, size_bytes)?;
    decoder.begin_frame();
    let mut at = start;
    loop {
        let header = take_number(data, 3)?;
        at = decoder.block(header, data, out, at)?;
        if header & 1 != 0 {
            break;
        }
    }
    if descriptor & 4 != 0 {
        let content = out.get(start as usize..at as usize).unwrap_or_default();
        if take_number(data, 4)? as u32 != XxHash64::oneshot(0, content) as u32 {
            return Err("its checksum is wrong");
        }
    }
    Ok(at)
}

/// The first `count` bytes, which are gone then.
fn take<'a>(data: &mut &'a [u8], count: usize) -> Result<&'a [u8], Fault> {
    data.split_off(..count).ok_or(CUT_OFF)
}

/// A little-endian number of at most 8 bytes.
fn take_number(data: &mut &[u8], bytes: usize) -> Result<u64, Fault> {
    let bytes = take(data, bytes)?;
    Ok(bytes
        .iter()
        .rev()
        .fold(0, |number, &byte| number << 8 | u64::from(byte)))
}

#[cfg(test)]
mod tests;
