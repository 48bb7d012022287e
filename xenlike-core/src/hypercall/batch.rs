//! The common part of mmu_update and mmuext_op: a list of requests, processed in order, that can be preempted between
//! two requests or inside one and continued later.
//!
//! `call(requests, count, done, foreign)`. A preempted call has MMU_UPDATE_PREEMPTED set in its count. If all
//! requests are done and only an old table remains to be taken apart, the continuation has no requests, and the
//! result to return is kept in its last argument.

use guest_pv_abi::Form;
use guest_pv_abi::errno::{self, Errno};

use super::arguments::Requests;
use super::{Ctx, Outcome};
use crate::kit::Vaddr;
use crate::mm::guest::Guest;
use crate::pagetype::{Progress, Refused, machine};

/// MMU_UPDATE_PREEMPTED, a bit of the count: the call is a continuation.
const PREEMPTED: u32 = 1 << 31;

/// Number of requests between two checks for preemption.
pub type Stride = u32;

/// Why a request did not complete.
pub enum Stop {
    /// The request was refused. The batch ends with this error.
    Errno(Errno),
    /// The request was preempted. The batch continues with this request.
    Again,
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Invalid => Self::Errno(errno::EINVAL),
            Refused::Busy => Self::Errno(errno::EBUSY),
            Refused::NotPermitted => Self::Errno(errno::EPERM),
            Refused::Again => Self::Again,
        }
    }
}

/// A decoded batch.
pub struct Batch {
    requests: Vaddr,
    count: u32,
    /// Where to write the number of completed requests; 0 if the caller doesn't want it.
    done_at: Vaddr,
    /// The domains whose tables and frames are meant, as the caller encoded them.
    pub foreign: u32,
    /// Number of requests that completed before this continuation.
    before: u32,
}

impl Batch {
    /// Decodes a call. Returns an outcome instead if leftover work has to be continued first, or if the call was only
    /// continued for such work and is now complete.
    pub fn begin(ctx: &mut Ctx<'_>, args: &Requests) -> Result<Self, Outcome> {
        let Requests {
            requests,
            count,
            done_at,
            foreign,
        } = *args;
        if machine().finish(&mut ctx.st.work) == Progress::Again {
            return Err(Outcome::Again);
        }
        if count == PREEMPTED && requests.is_null() {
            return Err(Outcome::Done(i64::from(foreign as i32)));
        }
        let before = if count & PREEMPTED != 0 && !done_at.is_null() {
            ctx.guest().read::<u32>(done_at).unwrap_or(0)
        } else {
            0
        };
        Ok(Self {
            requests,
            count: count & !PREEMPTED,
            done_at,
            foreign,
            before,
        })
    }

    /// Processes the requests in order, each with `one`.
    pub fn run<T: Form, const FORM: bool>(
        self,
        ctx: &mut Ctx<'_>,
        args: &mut Requests,
        stride: Stride,
        mut one: impl FnMut(&mut Ctx<'_>, T) -> Result<(), Stop>,
    ) -> Outcome {
        let mut at = self.requests;
        let mut done = 0u32;
        let stopped = loop {
            if done == self.count {
                break None;
            }
            // The last request may have left a table half taken apart. That work is finished first, at the start of
            // the continuation, because the vCPU's `Work` has room for only a few tables.
            if !ctx.st.work.is_empty()
                || (done > 0 && done.is_multiple_of(stride) && ctx.preempted())
            {
                break Some(Stop::Again);
            }
            let Ok(request) = Guest::in_form::<FORM>().read::<T>(at) else {
                break Some(Stop::Errno(errno::EFAULT));
            };
            if let Err(stop) = one(ctx, request) {
                break Some(stop);
            }
            done = done.wrapping_add(1);
            at = at.wrapping_add(Guest::in_form::<FORM>().size::<T>());
        };
        if !self.done_at.is_null() {
            // As in Xen, a bad pointer is not reported here.
            let _ = ctx
                .guest()
                .write(self.done_at, &self.before.wrapping_add(done));
        }
        let result = match stopped {
            Some(Stop::Again) => {
                // The request that stopped is not counted as done. The continuation repeats it, finds its table
                // partial, and goes on from there.
                let left = self.count.wrapping_sub(done) | PREEMPTED;
                (args.requests, args.count) = (at, left);
                return Outcome::Again;
            }
            Some(Stop::Errno(errno)) => errno.to_ret(),
            None => 0,
        };
        if ctx.st.work.is_empty() {
            Outcome::Done(result)
        } else {
            *args = Requests {
                requests: Vaddr(0),
                count: PREEMPTED,
                done_at: Vaddr(0),
                foreign: result as i32 as u32,
            };
            Outcome::Again
        }
    }
}
