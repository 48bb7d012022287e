//! Unpacks kernel payloads (gzip, xz, zstd and legacy lz4 frames) into a buffer of the size that the image states.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};
use structured_zstd::decoding::errors::FrameDecoderError;
use structured_zstd::decoding::{ContentChecksum, FrameDecoder};
use xz4rust::{XzDecoder, XzNextBlockResult};

use super::bytes::{u16_at, u32_at};

/// Maximum size of an unpacked kernel. It bounds the memory that a crafted file can request.
const MAX_UNPACKED: u32 = 1 << 30;
/// The highest compression ratio that is accepted for any format.
const MAX_RATIO: usize = 2000;
/// Maximum size of a payload's dictionary; `xz -9` stays within it.
const MAX_DICTIONARY: usize = 128 << 20;
const LZ4_LEGACY_MAGIC: u32 = 0x184c_2102;
/// Size of a legacy lz4 block before compression.
const LZ4_BLOCK: usize = 8 << 20;

/// The compression format of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Gzip,
    Xz,
    Zstd,
    Lz4,
}

impl Format {
    /// Identifies the format by the first bytes.
    ///
    /// # Errors
    /// A message that names the unsupported format.
    pub(super) fn of(payload: &[u8]) -> Result<Format, String> {
        let unsupported = match payload {
            [0x1f, 0x8b, ..] => return Ok(Format::Gzip),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => return Ok(Format::Xz),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => return Ok(Format::Zstd),
            [0x02, 0x21, 0x4c, 0x18, ..] => return Ok(Format::Lz4),
            _ => unsupported(payload).ok_or("packed in an unknown way")?,
        };
        Err(format!(
            "packed by {unsupported}, which is not supported (xz, zstd, gzip and lz4 are)"
        ))
    }

    /// The format's name, which is that of the program that unpacks it.
    fn name(self) -> &'static str {
        match self {
            Format::Gzip => "gzip",
            Format::Xz => "xz",
            Format::Zstd => "zstd",
            Format::Lz4 => "lz4",
        }
    }
}

/// Names of formats that are recognised but not supported.
fn unsupported(payload: &[u8]) -> Option<&'static str> {
    match payload {
        [b'B', b'Z', b'h', ..] => Some("bzip2"),
        [0x5d, 0, 0, ..] => Some("lzma"),
        [0x89, b'L', b'Z', b'O', ..] => Some("lzo"),
        _ => None,
    }
}

/// Why a file that is compressed as a whole is refused, if it is. Only gzip files state their unpacked size where
/// it is expected here.
pub(super) fn packed_as_a_whole(file: &[u8]) -> Option<String> {
    let supported = Format::of(file).ok().map(Format::name);
    let name = supported.or_else(|| unsupported(file))?;
    Some(format!("packed by {name} as a whole: unpack it first"))
}

/// Unpacks a payload whose last 4 bytes are its unpacked size, as in bzImages and gzip files.
///
/// # Errors
/// A message about the fault.
pub(super) fn unpack(payload: &[u8]) -> Result<Vec<u8>, String> {
    let format = Format::of(payload)?;
    let name = format.name();
    let body_len = payload.len().saturating_sub(4);
    let size = u32_at(payload, body_len).ok_or_else(|| format!("truncated {name} data"))?;
    // No kernel compresses that well, so these 4 bytes can't be its size.
    if size > MAX_UNPACKED || size as usize / MAX_RATIO > payload.len() {
        return Err(format!(
            "truncated or damaged {name} data: the end is missing"
        ));
    }
    let mut out = Vec::new();
    if out.try_reserve_exact(size as usize).is_err() {
        return Err(format!(
            "not enough memory to unpack {} MiB",
            (size >> 20) + 1
        ));
    }
    out.resize(size as usize, 0);
    let body = payload.get(..body_len).unwrap_or_default();
    let done = match format {
        Format::Gzip => gunzip(payload, &mut out),
        Format::Xz => unxz(body, &mut out),
        Format::Zstd => unzstd(body, &mut out),
        Format::Lz4 => unlz4(body, &mut out),
    };
    match done {
        Ok(len) if len == out.len() => Ok(out),
        Ok(len) => Err(format!(
            "truncated or damaged {name} data: they unpack to {len} bytes, not the {size} that the image states"
        )),
        Err(cause) => Err(format!("truncated or damaged {name} data: {cause}")),
    }
}

/// Length of the header of a gzip member (RFC 1952 §2.3).
fn gzip_header(data: &[u8]) -> Option<usize> {
    let flags = *data.get(3)?;
    let mut at = 10;
    if flags & 4 != 0 {
        at += 2 + usize::from(u16_at(data, at)?);
    }
    for text in [8, 16] {
        if flags & text != 0 {
            at += data.get(at..)?.iter().position(|&byte| byte == 0)? + 1;
        }
    }
    Some(at + if flags & 2 != 0 { 2 } else { 0 })
}

fn gunzip(data: &[u8], out: &mut [u8]) -> Result<usize, String> {
    let body = gzip_header(data)
        .and_then(|at| data.get(at..))
        .ok_or("its header is cut off")?;
    let mut state = alloc::boxed::Box::<DecompressorOxide>::default();
    let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, _, len) = decompress(&mut state, body, out, 0, flags);
    match status {
        TINFLStatus::Done => {
            // The trailer is the CRC-32 of the unpacked data, then its size (RFC 1952 §2.3.1).
            let wanted = u32_at(data, data.len().saturating_sub(8));
            let sum = crc32fast::hash(out.get(..len).unwrap_or_default());
            if wanted == Some(sum) {
                Ok(len)
            } else {
                Err("the checksum is wrong".to_string())
            }
        }
        TINFLStatus::HasMoreOutput => Err("there is more of it than the image states".to_string()),
        TINFLStatus::NeedsMoreInput | TINFLStatus::FailedCannotMakeProgress => {
            Err("it is cut off".to_string())
        }
        other => Err(format!("{other:?}")),
    }
}

fn unxz(mut data: &[u8], out: &mut [u8]) -> Result<usize, String> {
    let mut decoder = XzDecoder::in_heap_with_alloc_dict_size(0, MAX_DICTIONARY);
    let mut len = 0;
    loop {
        let space = out.get_mut(len..).unwrap_or_default();
        match decoder
            .decode(data, space)
            .map_err(|error| error.to_string())?
        {
            XzNextBlockResult::NeedMoreData(0, 0) if len == out.len() => {
                return Err("there is more of it than the image states".to_string());
            }
            XzNextBlockResult::NeedMoreData(0, 0) => return Err("it is cut off".to_string()),
            XzNextBlockResult::NeedMoreData(read, written) => {
                data = data.get(read..).unwrap_or_default();
                len += written;
            }
            XzNextBlockResult::EndOfStream(_, written) => return Ok(len + written),
        }
    }
}

/// Unpacks zstd frames (RFC 8878) and verifies their checksums.
pub(super) fn unzstd(data: &[u8], out: &mut [u8]) -> Result<usize, String> {
    let mut decoder = FrameDecoder::new();
    decoder.set_content_checksum(ContentChecksum::Verify);
    decoder.decode_all(data, out).map_err(|error| match error {
        FrameDecoderError::TargetTooSmall => {
            "there is more of it than the image states".to_string()
        }
        other => other.to_string(),
    })
}

/// Unpacks legacy frames: blocks of at most 8 MiB, each after its packed size (lz4_Frame_format.md, "Legacy frame").
fn unlz4(data: &[u8], out: &mut [u8]) -> Result<usize, String> {
    let (mut at, mut len) = (4, 0);
    while at < data.len() {
        let size = u32_at(data, at).ok_or("it is cut off")?;
        at += 4;
        if size == LZ4_LEGACY_MAGIC {
            continue;
        }
        let block = data
            .get(at..)
            .and_then(|rest| rest.get(..size as usize))
            .ok_or("it is cut off")?;
        let space = out.len().min(len + LZ4_BLOCK);
        let space = out.get_mut(len..space).unwrap_or_default();
        len += lz4_flex::block::decompress_into(block, space).map_err(|error| error.to_string())?;
        at += block.len();
    }
    Ok(len)
}
