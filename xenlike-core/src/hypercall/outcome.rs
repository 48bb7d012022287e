//! What comes of a hypercall, as a value.

use guest_pv_abi::errno::{EFAULT, ERESTART, Errno};

use crate::mm::guest::Fault;

/// How a call ended. Two words, so that it comes back in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With this result: 0 or more, or a negated errno.
    Done(i64),
    /// Not yet: the call is to be made again with the arguments as the handler left them, which hold its progress.
    Again,
    /// It replaced the caller's registers: there is no result to store.
    Replaced,
    /// The domain can't go on; the reason is for the log.
    Crash(&'static &'static str),
}

/// ERESTART, which no guest sees, asks for a continuation with the arguments as they are.
impl From<Result<i64, Errno>> for Outcome {
    #[inline(always)] // mostly the errno is known
    fn from(result: Result<i64, Errno>) -> Self {
        match result {
            Ok(value) => Self::Done(value),
            Err(errno) => errno.into(),
        }
    }
}

impl From<Result<(), Errno>> for Outcome {
    #[inline(always)] // as above
    fn from(result: Result<(), Errno>) -> Self {
        result.map(|()| 0).into()
    }
}

impl From<Errno> for Outcome {
    #[inline(always)] // as above
    fn from(errno: Errno) -> Self {
        if errno == ERESTART {
            Self::Again
        } else {
            Self::Done(errno.to_ret())
        }
    }
}

impl From<Fault> for Errno {
    fn from(Fault: Fault) -> Self {
        EFAULT
    }
}

impl From<Fault> for Outcome {
    fn from(fault: Fault) -> Self {
        Errno::from(fault).into()
    }
}
