//! multicall: several hypercalls in one.

use core::mem::offset_of;

use guest_pv_abi::errno;
use guest_pv_abi::hypercall::MULTICALL;
use guest_pv_abi::xen::MulticallEntry;

use super::arguments::Multicall;
use super::{Ctx, Outcome};

/// Size of an entry in bytes: number, result and arguments.
const ENTRY: u64 = size_of::<MulticallEntry>() as u64;

/// `multicall(calls, count)`: performs each entry's call and stores its result. If a call is preempted, its progress
/// is stored in its entry's arguments and the multicall continues with that entry.
pub fn call(ctx: &mut Ctx<'_>, args: &mut Multicall) -> Outcome {
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
        // The number, the result and four arguments. No call has more.
        let entry = ctx.guest().read::<[u64; 6]>(at);
        let Ok([number, _, mut words @ ..]) = entry else {
            return errno::EFAULT.into();
        };
        let outcome = match number {
            // Nested multicalls are refused, so that the work of one call stays bounded.
            MULTICALL => errno::EINVAL.into(),
            number => super::call(ctx, number, &mut words),
        };
        match outcome {
            Outcome::Done(result) => {
                let place = at.wrapping_add(offset_of!(MulticallEntry, result) as u64);
                if ctx.guest().write(place, &(result as u64)).is_err() {
                    return errno::EFAULT.into();
                }
            }
            Outcome::Again => {
                let place = at.wrapping_add(offset_of!(MulticallEntry, args) as u64);
                if ctx.guest().write(place, &words).is_err() {
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
        at = at.wrapping_add(ENTRY);
    }
    Outcome::Done(0)
}
