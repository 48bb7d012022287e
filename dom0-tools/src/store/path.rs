//! Paths: names separated by `/`, absolute or relative to a domain's home (docs/misc/xenstore.txt).

use alloc::format;
use alloc::string::{String, ToString};

use guest_pv_abi::io_xenbus::{XENSTORE_ABS_PATH_MAX, XENSTORE_REL_PATH_MAX};
use guest_pv_abi::{Errno, errno};

use crate::hyper::DomId;

/// The event when a domain has been introduced to the store.
pub const INTRODUCED: &str = "@introduceDomain";
/// The event when a domain has ended.
pub const RELEASED: &str = "@releaseDomain";

/// The path of a domain's nodes.
#[must_use]
pub fn home(dom: DomId) -> String {
    format!("/local/domain/{dom}")
}

/// Makes a client's path absolute.
///
/// # Errors
/// EINVAL for an invalid path.
pub(super) fn absolute(dom: DomId, given: &[u8]) -> Result<String, Errno> {
    let text = core::str::from_utf8(given).map_err(|_| errno::EINVAL)?;
    let relative = is_relative(text);
    let most = if relative {
        XENSTORE_REL_PATH_MAX
    } else {
        XENSTORE_ABS_PATH_MAX
    };
    let fits = !text.is_empty() && text.len() <= most as usize;
    let whole = if relative {
        format!("{}/{text}", home(dom))
    } else {
        text.to_string()
    };
    if fits && is_path(&whole) {
        Ok(whole)
    } else {
        Err(errno::EINVAL)
    }
}

/// Whether the path is relative to the domain's home.
pub(super) fn is_relative(text: &str) -> bool {
    !text.starts_with(['/', '@'])
}

fn is_path(path: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-/_@".contains(&byte);
    let shape = path == "/"
        || path == INTRODUCED
        || path == RELEASED
        || path.starts_with('/') && !path.ends_with('/') && !path.contains("//");
    shape && path.bytes().all(fits)
}

/// The path of the node above; `None` for the root and for the special events.
pub(super) fn parent(path: &str) -> Option<&str> {
    match path.rfind('/')? {
        0 if path.len() == 1 => None,
        0 => Some("/"),
        at => path.get(..at),
    }
}

/// The last component of a path.
pub(super) fn name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The path of a child node.
pub(super) fn child(path: &str, name: &str) -> String {
    match path {
        "/" => format!("/{name}"),
        path => format!("{path}/{name}"),
    }
}

/// Whether `path` is `above` itself or somewhere below it.
pub(super) fn is_below(path: &str, above: &str) -> bool {
    match path.strip_prefix(above) {
        Some(rest) => rest.is_empty() || rest.starts_with('/') || above == "/",
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let of = |given: &str| absolute(DomId(3), given.as_bytes());
        assert_eq!(of("data/x"), Ok("/local/domain/3/data/x".to_string()));
        assert_eq!(of("/a-b/_c@"), Ok("/a-b/_c@".to_string()));
        assert_eq!(of("@releaseDomain"), Ok(RELEASED.to_string()));
        for bad in [
            "",
            "/a/",
            "/a//b",
            "a/",
            "//",
            "/ä",
            "/a b",
            "/a\0",
            "@other",
            "@releaseDomain/x",
        ] {
            assert_eq!(of(bad), Err(errno::EINVAL), "{bad:?}");
        }
        assert!(of(&"x".repeat(2048)).is_ok() && of(&"x".repeat(2049)).is_err());
        let long = format!("/{}", "x".repeat(3071));
        assert!(of(&long).is_ok() && of(&format!("{long}x")).is_err());
    }

    #[test]
    fn families() {
        assert_eq!(parent("/a/b"), Some("/a"));
        assert_eq!(parent("/a"), Some("/"));
        assert_eq!(parent("/"), None);
        assert_eq!(parent(RELEASED), None);
        assert_eq!(child("/", name("/x/y")), "/y");
        assert!(is_below("/a/b", "/a") && is_below("/a", "/a") && is_below("/a", "/"));
        assert!(!is_below("/ab", "/a") && !is_below("/a", "/a/b") && !is_below(RELEASED, "/"));
    }
}
