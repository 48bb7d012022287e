//! Error numbers of hypercalls.
//!
//! Source: Xen's public header `errno.h`.

use core::fmt;

/// An error number as a hypercall returns it, kept positive.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Errno(
    /// The error number as a positive value.
    pub i32,
);

impl Errno {
    /// The negative value that the hypercall leaves in rax.
    #[must_use]
    pub const fn to_ret(self) -> i64 {
        -(self.0 as i64)
    }

    /// Interprets a hypercall's result: `Ok` with a value of at least 0, or the error.
    ///
    /// # Errors
    /// Values in -4095..=-1, the range of `errno.h`, become the error number.
    pub const fn check(ret: i64) -> Result<u64, Self> {
        match ret {
            -4095..=-1 => Err(Self(-(ret as i32))),
            value => Ok(value as u64),
        }
    }

    /// The name of the error in the header, without the prefix `XEN_`.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        NAMES
            .iter()
            .find(|(_, value)| *value == self.0)
            .map(|(name, _)| *name)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl core::error::Error for Errno {}

macro_rules! errnos {
    ($($name:ident = $value:literal;)*) => {
        $(
            #[doc = concat!("`XEN_", stringify!($name), "`.")]
            pub const $name: Errno = Errno($value);
        )*

        /// Name and value of each error number. Of two names for one value, the first is the usual one.
        pub const NAMES: &[(&str, i32)] = &[$((stringify!($name), $value)),*];
    };
}

errnos! {
    EPERM = 1;
    ENOENT = 2;
    ESRCH = 3;
    EINTR = 4;
    EIO = 5;
    ENXIO = 6;
    E2BIG = 7;
    ENOEXEC = 8;
    EBADF = 9;
    ECHILD = 10;
    EAGAIN = 11;
    EWOULDBLOCK = 11;
    ENOMEM = 12;
    EACCES = 13;
    EFAULT = 14;
    EBUSY = 16;
    EEXIST = 17;
    EXDEV = 18;
    ENODEV = 19;
    ENOTDIR = 20;
    EISDIR = 21;
    EINVAL = 22;
    ENFILE = 23;
    EMFILE = 24;
    ENOSPC = 28;
    EROFS = 30;
    EMLINK = 31;
    EDOM = 33;
    ERANGE = 34;
    EDEADLK = 35;
    EDEADLOCK = 35;
    ENAMETOOLONG = 36;
    ENOLCK = 37;
    ENOSYS = 38;
    ENOTEMPTY = 39;
    ENODATA = 61;
    ETIME = 62;
    EBADMSG = 74;
    EOVERFLOW = 75;
    EILSEQ = 84;
    ERESTART = 85;
    ENOTSOCK = 88;
    EMSGSIZE = 90;
    EOPNOTSUPP = 95;
    EADDRINUSE = 98;
    EADDRNOTAVAIL = 99;
    ENOBUFS = 105;
    EISCONN = 106;
    ENOTCONN = 107;
    ETIMEDOUT = 110;
    ECONNREFUSED = 111;
}
