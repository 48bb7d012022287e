//! The outcome of a hypercall, as a value.

use guest_pv_abi::errno::{EFAULT, ERESTART, Errno};

use crate::mm::guest::Fault;

/// How a call ended. It fits in two words, so that it is returned in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The call is complete with this result: 0 or more, or a negated errno.
    Done(i64),
    /// The call was preempted. It is to be repeated with the arguments as the handler left them, which hold its
    /// progress.
    Again,
    /// The call replaced the caller's registers, so there is no result to store.
    Replaced,
    /// The domain can't continue and is crashed. The string is the reason for the log.
    Crash(&'static &'static str),
}

/// ERESTART never reaches a guest. It asks for a continuation with the arguments as they are.
impl From<Result<i64, Errno>> for Outcome {
    #[inline(always)] // the errno is mostly a constant, so the test for ERESTART folds away
    fn from(result: Result<i64, Errno>) -> Self {
        match result {
            Ok(value) => Self::Done(value),
            Err(errno) => errno.into(),
        }
    }
}

impl From<Result<(), Errno>> for Outcome {
    #[inline(always)] // see above
    fn from(result: Result<(), Errno>) -> Self {
        result.map(|()| 0).into()
    }
}

impl From<Errno> for Outcome {
    #[inline(always)] // see above
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
