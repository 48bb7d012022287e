//! Permissions of a node. Its owner may do everything; the entry of another domain, or else the first entry, says
//! what that domain may do.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use guest_pv_abi::{Errno, errno};

use crate::hyper::DomId;

/// The rights that an entry grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// No rights, `n`.
    None,
    /// The right to read, `r`.
    Read,
    /// The right to write, `w`.
    Write,
    /// Both rights, `b`.
    Both,
}

/// The right that an operation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// To read the node.
    Read,
    /// To write the node.
    Write,
    /// To change the permissions.
    Own,
}

impl Access {
    fn of_letter(letter: u8) -> Option<Access> {
        Some(match letter {
            b'n' => Access::None,
            b'r' => Access::Read,
            b'w' => Access::Write,
            b'b' => Access::Both,
            _ => return None,
        })
    }

    fn letter(self) -> char {
        match self {
            Access::None => 'n',
            Access::Read => 'r',
            Access::Write => 'w',
            Access::Both => 'b',
        }
    }

    fn grants(self, want: Want) -> bool {
        match want {
            Want::Read => matches!(self, Access::Read | Access::Both),
            Want::Write => matches!(self, Access::Write | Access::Both),
            Want::Own => false,
        }
    }
}

/// The permissions of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Perms {
    /// The owner, which may do everything.
    pub owner: DomId,
    /// The rights of domains that have no entry of their own.
    pub others: Access,
    /// The rights of single domains.
    pub named: Vec<(DomId, Access)>,
}

impl Perms {
    /// Permissions for the owner alone.
    #[must_use]
    pub fn private(owner: DomId) -> Perms {
        Perms {
            owner,
            others: Access::None,
            named: Vec::new(),
        }
    }

    /// Permissions of a node that domain 0 owns and `dom` may read.
    #[must_use]
    pub fn readable_by(dom: DomId) -> Perms {
        Perms {
            named: alloc::vec![(dom, Access::Read)],
            ..Perms::private(DomId::ZERO)
        }
    }

    /// Whether `dom` has the right.
    #[must_use]
    pub fn allow(&self, dom: DomId, want: Want) -> bool {
        let named = || self.named.iter().find(|(named, _)| *named == dom);
        dom == DomId::ZERO
            || dom == self.owner
            || named()
                .map_or(self.others, |(_, access)| *access)
                .grants(want)
    }

    /// Number of entries, including the owner's.
    #[must_use]
    pub fn entries(&self) -> usize {
        1 + self.named.len()
    }

    /// Parses entries such as `n0` and `r3`.
    ///
    /// # Errors
    /// EINVAL if an entry is malformed, or there is none.
    pub(super) fn parse<'a>(mut entries: impl Iterator<Item = &'a [u8]>) -> Result<Perms, Errno> {
        let (owner, others) = parse_entry(entries.next().ok_or(errno::EINVAL)?)?;
        Ok(Perms {
            owner,
            others,
            named: entries.map(parse_entry).collect::<Result<_, _>>()?,
        })
    }

    /// The entries as text, each in the syntax of xenstore-chmod.
    pub fn words(&self) -> impl Iterator<Item = String> {
        let first = core::iter::once(&(self.owner, self.others))
            .copied()
            .collect::<Vec<_>>();
        let all = first.into_iter().chain(self.named.iter().copied());
        all.map(|(dom, access)| alloc::format!("{}{dom}", access.letter()))
    }
}

impl fmt::Display for Perms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words().collect::<Vec<_>>().join(","))
    }
}

fn parse_entry(entry: &[u8]) -> Result<(DomId, Access), Errno> {
    let (letter, digits) = entry.split_first().ok_or(errno::EINVAL)?;
    let access = Access::of_letter(*letter).ok_or(errno::EINVAL)?;
    Ok((domain(digits)?, access))
}

/// Parses a domain's decimal number.
///
/// # Errors
/// EINVAL if it isn't a number.
pub(super) fn domain(digits: &[u8]) -> Result<DomId, Errno> {
    let all_digits = digits.iter().all(u8::is_ascii_digit);
    let text = core::str::from_utf8(digits).ok().filter(|_| all_digits);
    let number = text.and_then(|text| text.parse().ok());
    number.map(DomId).ok_or(errno::EINVAL)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn perms(text: &str) -> Result<Perms, Errno> {
        Perms::parse(text.split(',').map(str::as_bytes))
    }

    #[test]
    fn entries_are_read_and_written() {
        for text in ["n0", "r3", "n0,r7,b9", "w65535,n1"] {
            assert_eq!(alloc::format!("{}", perms(text).unwrap()), text);
        }
        for bad in ["", "x1", "r", "r65536", "r-1", "r1x", "n0,", "r+1"] {
            assert_eq!(perms(bad), Err(errno::EINVAL), "{bad}");
        }
    }

    #[test]
    fn the_first_entry_is_for_owner_and_others() {
        let perms = perms("r3,b4,n5").unwrap();
        for (dom, read, write, own) in [
            (0, true, true, true),
            (3, true, true, true),
            (4, true, true, false),
            (5, false, false, false),
            (6, true, false, false),
        ] {
            let allow = |want| perms.allow(DomId(dom), want);
            assert_eq!(
                (allow(Want::Read), allow(Want::Write), allow(Want::Own)),
                (read, write, own),
                "{dom}"
            );
        }
    }
}
