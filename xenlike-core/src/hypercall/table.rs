//! Expands the table of hypercalls to code: one dispatch table for `syscall`, one for calls within multicalls, and
//! the list of arguments that a trace records for each call.

use arrayvec::ArrayVec;
use guest_pv_abi::hypercall as number;
use guest_pv_abi::trace::{TRC_PV_HYPERCALL_SUBCALL, hypercall_argument};

use super::arguments::{Arguments, NarrowWords, Passed, Words};
use super::{Ctx, Outcome, carry_out, iret, mmuext, multicall, traced};
use crate::kit::AtomicRef;

/// Each line has the number, cost class, arguments, indexes of traced arguments, and handler.
///
/// A handler is `fn(&mut Ctx, &mut Arguments) -> impl Into<Outcome>`. The cost classes are:
/// - `plain`: one instance, shared by both tables. A call that returns [`Outcome::Again`] has written its progress to
///   its arguments.
/// - `hot`: inlined into both tables, so that arguments that the call doesn't read never go through memory. The
///   handler gets `&Arguments`, so its continuation always has the arguments that the guest passed.
macro_rules! hypercalls {
    ($($number:ident $class:ident $arguments:ident $traced:tt => $handler:path;)*) => {
        /// Performs hypercall `number`.
        #[inline(always)] // a constant number leaves only its line
        fn carry_out(number: u64, ctx: &mut Ctx<'_>, passed: impl arguments::Passed) -> Outcome {
            match number {
                $(guest_pv_abi::hypercall::$number => {
                    table::carry_out_as!($class $number, $handler, arguments::$arguments, ctx, passed)
                })*
                _ => guest_pv_abi::errno::ENOSYS.into(),
            }
        }

        /// The indexes of hypercall `number`'s arguments that a trace records.
        const fn traced(number: u64) -> &'static [u8] {
            match number {
                $(guest_pv_abi::hypercall::$number => &$traced,)*
                _ => &[],
            }
        }
    };
}
pub(super) use hypercalls;

/// Calls a handler according to its cost class.
macro_rules! carry_out_as {
    (hot $number:ident, $handler:path, $arguments:ty, $ctx:ident, $passed:ident) => {{
        let args = $passed.decode::<$arguments>($ctx.regs);
        $handler($ctx, &args).into()
    }};
    (plain $number:ident, $handler:path, $arguments:ty, $ctx:ident, $passed:ident) => {{
        #[inline(never)] // see `hypercalls`
        #[expect(non_snake_case, reason = "the call's name in backtraces and profiles")]
        fn $number(ctx: &mut Ctx<'_>, args: &mut $arguments) -> Outcome {
            $handler(ctx, args).into()
        }
        let mut args = $passed.decode::<$arguments>($ctx.regs);
        let outcome = $number($ctx, &mut args);
        if outcome == Outcome::Again {
            $passed.encode($ctx.regs, args);
        }
        outcome
    }};
}
pub(super) use carry_out_as;

/// Length of a table of hypercalls: a slot for each number, and the last slot for all unknown numbers.
pub const PLACES: usize = 64;
/// The slot of all unknown numbers.
const OTHERS: u64 = PLACES as u64 - 1;

/// The slot of hypercall `number`. `min` compiles to a conditional move, so there is no branch for speculation to
/// bypass (Spectre v1).
#[inline(always)]
pub fn place(number: u64) -> usize {
    number.min(OTHERS) as usize
}

/// Builds a table of one function's instances, one per number, so that each call has only its own stack frame.
macro_rules! by_number {
    ($one:ident) => {
        $crate::hypercall::by_number!($one:
            0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31
            32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60
            61 62 63)
    };
    ($one:ident: $($number:literal)*) => { [$($one::<$number>),*] };
}
pub(crate) use by_number;

/// Performs the hypercall whose slot is `PLACE`.
#[inline(always)] // see `hypercalls`
pub fn at_place<const PLACE: u64>(ctx: &mut Ctx<'_>, passed: impl Passed) -> Outcome {
    carry_out(PLACE, ctx, passed)
}

/// Performs the hypercall whose slot is `PLACE` for a narrow guest.
#[inline(always)] // see `hypercalls`
pub fn at_narrow_place<const PLACE: u64>(ctx: &mut Ctx<'_>, passed: impl Passed) -> Outcome {
    // These differ so much, or are so hot, that a narrow guest has an instance of its own.
    match PLACE {
        number::IRET => iret::call_narrow(ctx),
        number::SET_SEGMENT_BASE => guest_pv_abi::errno::ENOSYS.into(),
        number::MULTICALL => with(ctx, passed, multicall::call_narrow),
        number::MMUEXT_OP => with(ctx, passed, mmuext::call_narrow),
        _ => carry_out(PLACE, ctx, passed),
    }
}

fn with<A: Arguments>(
    ctx: &mut Ctx<'_>,
    passed: impl Passed,
    handler: fn(&mut Ctx<'_>, &mut A) -> Outcome,
) -> Outcome {
    let mut args = passed.decode::<A>(ctx.regs);
    let outcome = handler(ctx, &mut args);
    if outcome == Outcome::Again {
        passed.encode(ctx.regs, args);
    }
    outcome
}

/// A table entry for hypercalls made from within another.
type Handler = fn(&mut Ctx<'_>, u64, &mut Words) -> Outcome;
static HANDLERS: [Handler; PLACES] = by_number!(subcall_at);
/// The table in use. Tracing swaps the whole table, so that calls test no flag while tracing is off.
static SUBCALLS: AtomicRef<[Handler; PLACES]> = AtomicRef::new(&HANDLERS);

fn subcall_at<const PLACE: u64>(ctx: &mut Ctx<'_>, _number: u64, words: &mut Words) -> Outcome {
    at_place::<PLACE>(ctx, words)
}

/// The same for narrow guests.
type NarrowHandler = fn(&mut Ctx<'_>, u64, &mut NarrowWords) -> Outcome;
static NARROW_HANDLERS: [NarrowHandler; PLACES] = by_number!(narrow_subcall_at);
static NARROW_SUBCALLS: AtomicRef<[NarrowHandler; PLACES]> = AtomicRef::new(&NARROW_HANDLERS);

fn narrow_subcall_at<const PLACE: u64>(
    ctx: &mut Ctx<'_>,
    _number: u64,
    words: &mut NarrowWords,
) -> Outcome {
    at_narrow_place::<PLACE>(ctx, words)
}

/// Performs hypercall `number` from within another of a narrow guest.
pub fn call_narrow(ctx: &mut Ctx<'_>, number: u64, words: &mut NarrowWords) -> Outcome {
    by_table(NARROW_SUBCALLS.get(), ctx, number, words)
}

/// Performs hypercall `number` from within another.
pub fn call(ctx: &mut Ctx<'_>, number: u64, words: &mut Words) -> Outcome {
    by_table(SUBCALLS.get(), ctx, number, words)
}

#[inline(always)] // one instance per table
fn by_table<W>(
    table: &[fn(&mut Ctx<'_>, u64, &mut W) -> Outcome; PLACES],
    ctx: &mut Ctx<'_>,
    number: u64,
    words: &mut W,
) -> Outcome {
    match table.get(place(number)) {
        Some(handler) => handler(ctx, number, words),
        None => Outcome::from(guest_pv_abi::errno::ENOSYS),
    }
}

/// Turns tracing of calls from within others on or off.
pub fn trace_subcalls(whether: bool) {
    static TRACED: [Handler; PLACES] = [traced_subcall; PLACES];
    static NARROW_TRACED: [NarrowHandler; PLACES] = [traced_narrow_subcall; PLACES];
    SUBCALLS.set(if whether { &TRACED } else { &HANDLERS });
    NARROW_SUBCALLS.set(if whether {
        &NARROW_TRACED
    } else {
        &NARROW_HANDLERS
    });
}

fn traced_subcall(ctx: &mut Ctx<'_>, number: u64, words: &mut Words) -> Outcome {
    trace_call(TRC_PV_HYPERCALL_SUBCALL, number, words);
    by_table(&HANDLERS, ctx, number, words)
}

fn traced_narrow_subcall(ctx: &mut Ctx<'_>, number: u64, words: &mut NarrowWords) -> Outcome {
    trace_call(TRC_PV_HYPERCALL_SUBCALL, number, words);
    by_table(&NARROW_HANDLERS, ctx, number, words)
}

/// Records a hypercall with the arguments that Xen records: the low halves of the same words for guests of both widths.
pub fn trace_call<W: Copy + Into<u64>>(event: u32, number: u64, words: &[W]) {
    let traced = traced(number);
    let bits = traced
        .iter()
        .fold(0, |bits, &n| bits | hypercall_argument(n.into()));
    let mut record = ArrayVec::<u32, 3>::new();
    record.push(number.min(0xf_ffff) as u32 | bits);
    let kept = traced.iter().filter_map(|&n| words.get(usize::from(n)));
    record.extend(kept.map(|&word| word.into() as u32));
    crate::trace::record(event, &record);
}

#[cfg(test)]
mod tests {
    use super::*;
    use guest_pv_abi::hypercall as nr;

    #[test]
    fn every_number_has_a_place_below_the_last() {
        let numbers = [nr::HYPFS_OP, nr::ARCH_0, nr::ARCH_7];
        assert!(numbers.iter().all(|&number| number < OTHERS));
        assert_eq!(place(u64::MAX), PLACES - 1);
    }
}
