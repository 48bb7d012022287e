//! Messages as they lie in the ring: a header and a payload of strings (io/xs_wire.h).

use alloc::vec::Vec;

use guest_pv_abi::io_xenbus::{SockMsg, XENSTORE_PAYLOAD_MAX, XS_ERROR, XS_WATCH_EVENT};
use guest_pv_abi::{Errno, errno};
use zerocopy::IntoBytes;

/// Bytes of a header.
pub(super) const HEADER: usize = size_of::<SockMsg>();

/// A request, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What is asked.
    pub header: SockMsg,
    /// With what.
    pub payload: Vec<u8>,
}

impl Message {
    /// An answer to this; one that is too long is an error.
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

    /// The payload's strings, each ended by NUL; what is behind the last NUL is none.
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

    /// The payload's only string.
    ///
    /// # Errors
    /// EINVAL if it is not one.
    pub(super) fn one(&self) -> Result<&[u8], Errno> {
        match self.payload.split_last() {
            Some((0, text)) if !text.contains(&0) => Ok(text),
            _ => Err(errno::EINVAL),
        }
    }

    /// The payload's first string, and all bytes behind it.
    ///
    /// # Errors
    /// EINVAL without a NUL.
    pub(super) fn first(&self) -> Result<(&[u8], &[u8]), Errno> {
        let end = self.payload.iter().position(|&byte| byte == 0);
        let (first, rest) = self.payload.split_at(end.ok_or(errno::EINVAL)?);
        Ok((first, rest.get(1..).unwrap_or_default()))
    }

    /// The payload's first two strings.
    ///
    /// # Errors
    /// EINVAL if there are fewer.
    pub(super) fn two(&self) -> Result<(&[u8], &[u8]), Errno> {
        let mut strings = self.strings();
        strings.next().zip(strings.next()).ok_or(errno::EINVAL)
    }
}

/// Longest payload.
pub(super) const MAX_PAYLOAD: usize = XENSTORE_PAYLOAD_MAX as usize;

/// A text with its NUL.
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

/// The message of a watch's event; none if it is longer than a message may be.
pub(super) fn event(path: &str, token: &[u8]) -> Option<Vec<u8>> {
    let payload = [path.as_bytes(), b"\0", token, b"\0"].concat();
    let header = SockMsg {
        type_: XS_WATCH_EVENT,
        ..SockMsg::default()
    };
    (payload.len() <= MAX_PAYLOAD).then(|| encode(header, &payload))
}
