//! multicall: several hypercalls in one.

use core::mem::offset_of;

use guest_pv_abi::errno;
use guest_pv_abi::hypercall::MULTICALL;
use guest_pv_abi::xen::MulticallEntry;

use guest_pv_abi::narrow;

use super::arguments::Multicall;
use super::{Ctx, Outcome};
use crate::kit::Vaddr;
use crate::mm::guest::Fault;

/// An entry in the guest's form.
trait Entry {
    /// The argument words.
    type Words: Copy;
    const BYTES: u64;
    const RESULT: u64;
    const ARGS: u64;

    /// Reads the number and the arguments.
    fn read(ctx: &Ctx<'_>, at: Vaddr) -> Result<(u64, Self::Words), Fault>;
    /// Performs the call.
    fn call(ctx: &mut Ctx<'_>, number: u64, words: &mut Self::Words) -> Outcome;
    /// Writes the result of the call.
    fn tell(ctx: &Ctx<'_>, at: Vaddr, result: i64) -> Result<(), Fault>;
    /// Writes the progress of a call that continues.
    fn write(ctx: &Ctx<'_>, at: Vaddr, words: &Self::Words) -> Result<(), Fault>;
}

/// An entry of a wide guest.
struct OfWide;
/// An entry of a narrow guest.
struct OfNarrow;

impl Entry for OfWide {
    type Words = [u64; 4];
    const BYTES: u64 = size_of::<MulticallEntry>() as u64;
    const RESULT: u64 = offset_of!(MulticallEntry, result) as u64;
    const ARGS: u64 = offset_of!(MulticallEntry, args) as u64;

    #[inline(always)] // one call per entry
    fn read(ctx: &Ctx<'_>, at: Vaddr) -> Result<(u64, Self::Words), Fault> {
        // The number, the result and four arguments. No call has more.
        let [number, _, words @ ..] = ctx.guest().read_as_is::<[u64; 6]>(at)?;
        Ok((number, words))
    }
    #[inline(always)] // see above
    fn call(ctx: &mut Ctx<'_>, number: u64, words: &mut Self::Words) -> Outcome {
        super::call(ctx, number, words)
    }
    #[inline(always)] // see above
    fn tell(ctx: &Ctx<'_>, at: Vaddr, result: i64) -> Result<(), Fault> {
        ctx.guest().write(at, &(result as u64))
    }
    fn write(ctx: &Ctx<'_>, at: Vaddr, words: &Self::Words) -> Result<(), Fault> {
        ctx.guest().write(at, words)
    }
}

impl Entry for OfNarrow {
    type Words = [u32; 6];
    const BYTES: u64 = size_of::<narrow::MulticallEntry>() as u64;
    const RESULT: u64 = offset_of!(narrow::MulticallEntry, result) as u64;
    const ARGS: u64 = offset_of!(narrow::MulticallEntry, args) as u64;

    fn read(ctx: &Ctx<'_>, at: Vaddr) -> Result<(u64, Self::Words), Fault> {
        let [number, _, words @ ..] = ctx.guest().read_as_is::<[u32; 8]>(at)?;
        Ok((number.into(), words))
    }
    fn call(ctx: &mut Ctx<'_>, number: u64, words: &mut Self::Words) -> Outcome {
        super::call_narrow(ctx, number, words)
    }
    fn tell(ctx: &Ctx<'_>, at: Vaddr, result: i64) -> Result<(), Fault> {
        ctx.guest().write(at, &(result as u32))
    }
    fn write(ctx: &Ctx<'_>, at: Vaddr, words: &Self::Words) -> Result<(), Fault> {
        ctx.guest().write(at, words)
    }
}

/// `multicall(calls, count)`: performs each entry's call and stores its result. If a call is preempted, its progress
/// is stored in its entry's arguments and the multicall continues with that entry.
pub fn call(ctx: &mut Ctx<'_>, args: &mut Multicall) -> Outcome {
    calls::<OfWide>(ctx, args)
}

/// The same for a narrow guest.
pub fn call_narrow(ctx: &mut Ctx<'_>, args: &mut Multicall) -> Outcome {
    calls::<OfNarrow>(ctx, args)
}

#[inline(always)] // one instance for each width
fn calls<E: Entry>(ctx: &mut Ctx<'_>, args: &mut Multicall) -> Outcome {
    let Multicall {
        calls: mut at,
        count,
    } = *args;
    for left in (1..=count).rev() {
        if left != count && ctx.preempted() {
            *args = Multicall {
                calls: at,
                count: left,
            };
            return Outcome::Again;
        }
        let Ok((number, mut words)) = E::read(ctx, at) else {
            return errno::EFAULT.into();
        };
        let outcome = match number {
            // Nested multicalls are refused, so that the work of one call stays bounded.
            MULTICALL => errno::EINVAL.into(),
            number => E::call(ctx, number, &mut words),
        };
        match outcome {
            Outcome::Done(result) => {
                let place = at.wrapping_add(E::RESULT);
                if E::tell(ctx, place, result).is_err() {
                    return errno::EFAULT.into();
                }
            }
            Outcome::Again => {
                let place = at.wrapping_add(E::ARGS);
                if E::write(ctx, place, &words).is_err() {
                    return errno::EFAULT.into();
                }
                *args = Multicall {
                    calls: at,
                    count: left,
                };
                return Outcome::Again;
            }
            // The call replaced the guest's registers, so the entries after it never run.
            Outcome::Replaced => return Outcome::Replaced,
            crash @ Outcome::Crash(_) => return crash,
        }
        at = at.wrapping_add(E::BYTES);
    }
    Outcome::Done(0)
}
