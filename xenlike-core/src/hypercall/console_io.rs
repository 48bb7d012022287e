//! console_io: the machine's console, for control domains.

use guest_pv_abi::errno;
use guest_pv_abi::xen::{CONSOLEIO_READ, CONSOLEIO_WRITE};

use super::arguments::ConsoleIo;
use super::{Ctx, Outcome};
use crate::console;

/// Bytes copied between two checks for preemption.
const CHUNK: usize = 128;

/// `console_io(cmd, count, buffer)`: writes to or reads from the console. EPERM for domains without control rights.
pub fn call(ctx: &mut Ctx<'_>, args: &mut ConsoleIo) -> Outcome {
    if !ctx.dom.is_control() {
        return errno::EPERM.into();
    }
    match args.cmd {
        CONSOLEIO_WRITE => write(ctx, args),
        // The result is the number of bytes read, and must not look like an error.
        CONSOLEIO_READ if args.count > i32::MAX as u32 => errno::E2BIG.into(),
        CONSOLEIO_READ => read(ctx, args),
        _ => errno::ENOSYS.into(),
    }
}

fn write(ctx: &Ctx<'_>, args: &mut ConsoleIo) -> Outcome {
    let first = args.count;
    let mut chunk = [0; CHUNK];
    while args.count > 0 {
        if args.count != first && ctx.preempted() {
            return Outcome::Again;
        }
        let n = args.count.min(CHUNK as u32);
        let Some(bytes) = chunk.get_mut(..n as usize) else {
            break;
        };
        if ctx.guest().read_bytes(bytes, args.buffer).is_err() {
            return errno::EFAULT.into();
        }
        console::write_guest(ctx.dom.id(), bytes);
        args.count = args.count.saturating_sub(n);
        args.buffer = args.buffer.wrapping_add(n.into());
    }
    Outcome::Done(0)
}

/// Copies typed bytes to the guest, as many as fit, and returns their number.
fn read(ctx: &Ctx<'_>, args: &ConsoleIo) -> Outcome {
    let mut total = 0_u32;
    let mut chunk = [0; CHUNK];
    while total < args.count {
        let room = args.count.saturating_sub(total).min(CHUNK as u32);
        let Some(bytes) = chunk.get_mut(..room as usize) else {
            break;
        };
        let n = console::read(bytes);
        let Some(typed) = bytes.get(..n).filter(|typed| !typed.is_empty()) else {
            break;
        };
        if ctx
            .guest()
            .write_bytes(args.buffer.wrapping_add(total.into()), typed)
            .is_err()
        {
            return errno::EFAULT.into();
        }
        total = total.saturating_add(n as u32);
    }
    Outcome::Done(total.into())
}
