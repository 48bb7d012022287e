//! Messages in the ring: a header, and a payload of strings (io/xs_wire.h).

use alloc::vec::Vec;

use guest_pv_abi::io_xenbus::{SockMsg, XENSTORE_PAYLOAD_MAX, XS_ERROR, XS_WATCH_EVENT};
use guest_pv_abi::{Errno, errno};
use zerocopy::IntoBytes;

/// Size of a header in bytes.
pub(super) const HEADER: usize = size_of::<SockMsg>();

/// A complete request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The kind of request, its transaction, and the payload's length.
    pub header: SockMsg,
    /// The arguments of the request.
    pub payload: Vec<u8>,
}

impl Message {
    /// The answer's message. A result that is too long becomes an error.
    pub(super) fn answer(&self, result: Result<Vec<u8>, Errno>) -> Vec<u8> {
        let result = result.and_then(|payload| match payload.len() {
            0..=MAX_PAYLOAD => Ok(payload),
            _ => Err(errno::E2BIG),
        });
        match result {
            Ok(payload) => encode(self.header, &payload),
            Err(errno) => {
                let name = errno.name().unwrap_or("EINVAL");
                let header = SockMsg {
                    type_: XS_ERROR,
                    ..self.header
                };
                encode(header, &string(name))
            }
        }
    }

    /// The strings of the payload, each terminated by NUL. Bytes after the last NUL are ignored.
    pub(super) fn strings(&self) -> impl Iterator<Item = &[u8]> {
        let end = self
            .payload
            .iter()
            .rposition(|&byte| byte == 0)
            .map_or(0, |at| at + 1);
        let text = self.payload.get(..end).unwrap_or_default();
        text.split_inclusive(|&byte| byte == 0)
            .filter_map(|part| part.strip_suffix(&[0]))
    }

    /// The only string of the payload.
    ///
    /// # Errors
    /// EINVAL if the payload isn't one string.
    pub(super) fn one(&self) -> Result<&[u8], Errno> {
        match self.payload.split_last() {
            Some((0, text)) if !text.contains(&0) => Ok(text),
            _ => Err(errno::EINVAL),
        }
    }

    /// The first string of the payload, and all bytes after it.
    ///
    /// # Errors
    /// EINVAL without a NUL.
    pub(super) fn first(&self) -> Result<(&[u8], &[u8]), Errno> {
        let end = self.payload.iter().position(|&byte| byte == 0);
        let (first, rest) = self.payload.split_at(end.ok_or(errno::EINVAL)?);
        Ok((first, rest.get(1..).unwrap_or_default()))
    }

    /// The first two strings of the payload.
    ///
    /// # Errors
    /// EINVAL if there are fewer.
    pub(super) fn two(&self) -> Result<(&[u8], &[u8]), Errno> {
        let mut strings = self.strings();
        strings.next().zip(strings.next()).ok_or(errno::EINVAL)
    }
}

/// Maximum length of a payload in bytes.
pub(super) const MAX_PAYLOAD: usize = XENSTORE_PAYLOAD_MAX as usize;

/// A text with a NUL appended.
pub(super) fn string(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

fn encode(header: SockMsg, payload: &[u8]) -> Vec<u8> {
    let header = SockMsg {
        len: payload.len() as u32,
        ..header
    };
    [header.as_bytes(), payload].concat()
}

/// The message for a watch event; `None` if it would be longer than a message may be.
pub(super) fn event(path: &str, token: &[u8]) -> Option<Vec<u8>> {
    let payload = [path.as_bytes(), b"\0", token, b"\0"].concat();
    let header = SockMsg {
        type_: XS_WATCH_EVENT,
        ..SockMsg::default()
    };
    (payload.len() <= MAX_PAYLOAD).then(|| encode(header, &payload))
}
