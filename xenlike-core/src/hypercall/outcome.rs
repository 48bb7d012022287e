//! What comes of a hypercall, as a value.

use guest_pv_abi::errno::Errno;

/// A call's arguments as the guest passed them: each decoder names them at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Args(pub [u64; 4]);

impl Args {
    /// The call stops, to be made again with `progress` for its arguments.
    pub fn again(&mut self, progress: [u64; 4]) -> Outcome {
        self.0 = progress;
        Outcome::Again
    }
}

/// How a call ended. Two words, so that it comes back in registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With this result: 0 or more, or a negated errno.
    Done(i64),
    /// Not yet: it is to be called again with the arguments as it left them, which hold its progress.
    Again,
    /// It replaced the caller's registers: there is no result to store.
    Replaced,
    /// The domain can't go on; the reason is for the log.
    Crash(&'static &'static str),
}

impl From<Result<i64, Errno>> for Outcome {
    fn from(result: Result<i64, Errno>) -> Self {
        Self::Done(result.unwrap_or_else(Errno::to_ret))
    }
}

impl From<Result<(), Errno>> for Outcome {
    fn from(result: Result<(), Errno>) -> Self {
        result.map(|()| 0).into()
    }
}

impl From<Errno> for Outcome {
    fn from(errno: Errno) -> Self {
        Self::Done(errno.to_ret())
    }
}
