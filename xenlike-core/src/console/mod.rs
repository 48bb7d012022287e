//! The console: the serial port, the screen, the log ring, and what guests write and read.
//!
//! Everything printed goes through one lock into the log ring, a send queue and the screen. Nothing
//! waits for the serial port: the queue is emptied as the port takes it, at each write, at its
//! interrupt and at [`poll`]. Only in the first moments and in a panic is the port waited for.
//!
//! The core's own messages come by the `log` crate. Those with target `"guest"` are about what a
//! guest did, and obey `guest_loglvl`.

pub mod later;
pub mod level;
pub mod pci_uart;
pub mod ring;
pub mod screen;
pub mod serial;
pub mod switch;

use crate::kit::atomic::{AtomicBool, AtomicU32, Ordering};
use core::fmt::{self, Write};

use crate::arch::time;
use crate::kit::lock::wait_step;
use crate::kit::{DomId, GUEST_LOG, Lock, Once, Rank};
use ring::{LogRing, Queue};
use screen::Screen;
use serial::{Registers, Serial, Setting, Waiting};
use switch::{Reader, Switch, Typed};

/// What the core's lines start with.
const PREFIX: &str = "(xenlike) ";
/// Bytes of log that `dmesg` can show.
pub const LOG_BYTES: usize = 32 << 10;
const SEND_BYTES: usize = 64 << 10;
const INPUT_BYTES: usize = 1024;
const KEY_BYTES: usize = 16;
/// Bytes taken from the serial port in one go: more than its FIFO holds.
const MAX_RECEIVED: usize = 64;

struct Console {
    serial: Option<Serial>,
    /// What the serial port interrupts for; nothing while it is waited for.
    waiting: Option<Waiting>,
    screen: Option<Screen>,
    /// Whether domain 0 draws on the screen.
    screen_left: bool,
    log: LogRing<LOG_BYTES>,
    send: Queue<SEND_BYTES>,
    input: Queue<INPUT_BYTES>,
    /// Whom input is for.
    switch: Switch,
    /// Debug keys that were typed.
    keys: Queue<KEY_BYTES>,
    /// The domain whose line is being printed, unfinished.
    line_of: Option<DomId>,
    /// Whether the last byte printed ended a line.
    at_line_start: bool,
}

static CONSOLE: Lock<Console> = Lock::new(Rank::Console, Console::new());
/// Whether the serial port is waited for: at the very start, and in a panic.
static PATIENT: AtomicBool = AtomicBool::new(true);
/// Whether the screen may not show everything yet.
static BEHIND: AtomicBool = AtomicBool::new(false);
/// So many characters are drawn in one go: one takes some 600 stores on the largest screens.
const PIECE: usize = 32;
/// Whether the core goes on using the screen when there is a domain 0.
static KEEP_SCREEN: AtomicBool = AtomicBool::new(false);
/// What is called when somebody types.
static HOOKS: Once<Hooks> = Once::new();

/// What is called when somebody types.
#[derive(Clone, Copy, Debug)]
pub struct Hooks {
    /// Input for domain 0 arrived (it raises `VIRQ_CONSOLE`).
    pub input: fn(),
    /// A debug key was pressed.
    pub key: fn(u8),
}

impl Console {
    const fn new() -> Self {
        Self {
            serial: None,
            waiting: None,
            screen: None,
            screen_left: false,
            log: LogRing::new(),
            send: Queue::new(),
            input: Queue::new(),
            switch: Switch::new(),
            keys: Queue::new(),
            line_of: None,
            at_line_start: true,
        }
    }
    /// To the log, the screen and the serial port; domain 0's console, at which people type, not to
    /// the log.
    fn write(&mut self, bytes: &[u8]) {
        if self.line_of != Some(DomId::DOM0) {
            self.log.write(bytes);
        }
        self.show(bytes);
    }
    /// To the screen and the serial port.
    fn show(&mut self, bytes: &[u8]) {
        self.write_screen(bytes);
        for byte in bytes {
            if *byte == b'\n' {
                self.send_byte(b'\r');
            }
            self.send_byte(*byte);
        }
        self.pump();
        if let Some(last) = bytes.last() {
            self.at_line_start = *last == b'\n';
        }
    }
    fn write_screen(&mut self, bytes: &[u8]) {
        if let Some(screen) = self.screen.as_mut().filter(|_| !self.screen_left) {
            screen.write(bytes);
            self.draw();
        }
    }
    /// Draws some of what is not on the screen yet; all of it as long as the core waits for its devices.
    fn draw(&mut self) {
        let screen = self.screen.as_mut().filter(|_| !self.screen_left);
        let is_behind = screen.is_some_and(|screen| {
            while screen.draw(PIECE) {
                if !PATIENT.load(Ordering::Relaxed) {
                    return true;
                }
                // Others must not wait for this with a flush.
                wait_step();
            }
            false
        });
        BEHIND.store(is_behind, Ordering::Relaxed);
    }
    /// Of what domain 0 has drawn nothing stays.
    fn take_screen_back(&mut self) {
        if let Some(screen) = self.screen.as_mut().filter(|_| self.screen_left) {
            screen.clear();
            self.screen_left = false;
        }
    }
    fn send_byte(&mut self, byte: u8) {
        match self.serial {
            Some(serial) if PATIENT.load(Ordering::Relaxed) => {
                while let Some(earlier) = self.send.pop() {
                    serial.drain(earlier);
                }
                serial.drain(byte);
            }
            Some(_) => self.send.push(byte),
            None => {}
        }
    }
    /// Gives the port what it takes at once, and has it interrupt for the rest.
    fn pump(&mut self) {
        let Self {
            serial: Some(serial),
            send,
            waiting,
            ..
        } = self
        else {
            return;
        };
        if !send.is_empty() {
            serial.pump(|| send.pop());
        }
        if PATIENT.load(Ordering::Relaxed) {
            return;
        }
        let wanted = if send.is_empty() {
            Waiting::Nothing
        } else {
            Waiting::ToSend
        };
        if *waiting != Some(wanted) {
            serial.set_interrupts(wanted);
            *waiting = Some(wanted);
        }
        let lost = if send.is_empty() { send.take_lost() } else { 0 };
        if lost > 0 {
            let _ = write!(self, "\n[{lost} bytes of output lost]\n");
        }
    }
    /// What a domain wrote.
    fn write_of(&mut self, domain: DomId, bytes: &[u8]) {
        self.start_line(Some(domain));
        if domain == DomId::DOM0 || domain == DomId::BOOT {
            self.write(bytes);
            return;
        }
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            if self.at_line_start {
                let _ = write!(self, "({domain:?}) ");
            }
            self.write(line);
        }
    }
    /// A byte came in; whether domain 0 has something to read.
    fn typed(&mut self, byte: u8) -> bool {
        match self.switch.take(byte) {
            Typed::Held => false,
            Typed::For(Reader::Core, _, key) => {
                self.keys.push(key);
                false
            }
            Typed::For(Reader::Domain, held, byte) => {
                (0..held).for_each(|_| self.input.push(Switch::HELD));
                self.input.push(byte);
                true
            }
            Typed::Switched(reader) => {
                let whose = match reader {
                    Reader::Core => "the hypervisor: 'h' lists its keys",
                    Reader::Domain => "domain 0",
                };
                self.start_line(None);
                let _ = writeln!(self, "{PREFIX}serial input goes to {whose}");
                false
            }
        }
    }
    /// Makes sure that a line of somebody else's starts at the left.
    fn start_line(&mut self, of: Option<DomId>) {
        if self.line_of != of {
            if !self.at_line_start {
                self.write(b"\n");
            }
            self.line_of = of;
        }
    }
}

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.write(text.as_bytes());
        Ok(())
    }
}

impl Console {
    fn print_last(&mut self, args: fmt::Arguments<'_>) {
        self.take_screen_back();
        let _ = self.write_fmt(args);
    }
}

/// The core's messages.
struct Logger;

impl log::Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        level::may_be_shown(metadata.target(), metadata.level())
    }
    fn log(&self, record: &log::Record<'_>) {
        if !level::is_shown(record.target(), record.level(), time::now_ns()) {
            return;
        }
        let left_out = level::take_left_out();
        let mut console = CONSOLE.lock();
        console.start_line(None);
        if left_out > 0 {
            let _ = writeln!(
                console,
                "{PREFIX}{left_out} messages were too many and are lost"
            );
        }
        let _ = writeln!(console, "{PREFIX}{}", record.args());
    }
    fn flush(&self) {}
}

/// Notes in the log alone what a guest says of itself, if that is to be shown: on the serial port it would come
/// between the guest's own last lines.
pub fn note_of_guest(args: fmt::Arguments<'_>) {
    struct Log<'a>(&'a mut LogRing<LOG_BYTES>);
    impl Write for Log<'_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.write(text.as_bytes());
            Ok(())
        }
    }
    if level::is_shown(GUEST_LOG, log::Level::Warn, time::now_ns()) {
        let _ = writeln!(Log(&mut CONSOLE.lock().log), "{PREFIX}{args}");
    }
}

/// Starts logging, to the log ring alone until a device is added.
pub fn init() {
    // The logger can be set once; that is now.
    if log::set_logger(&Logger).is_ok() {
        log::set_max_level(log::LevelFilter::Trace);
    }
}

/// Sets up the serial port; what was logged so far goes out on it. Tells whether a port is there.
pub fn add_serial(registers: Registers, setting: Setting) -> bool {
    let Some(serial) = Serial::open(registers, setting) else {
        return false;
    };
    let mut console = CONSOLE.lock();
    console.serial = Some(serial);
    replay(&mut console, |console, bytes| {
        for byte in bytes {
            if *byte == b'\n' {
                console.send_byte(b'\r');
            }
            console.send_byte(*byte);
        }
    });
    true
}

/// Uses a screen; what was logged so far appears on it.
pub fn add_screen(screen: Screen) {
    let mut console = CONSOLE.lock();
    console.screen = Some(screen);
    replay(&mut console, Console::write_screen);
}

/// Gives what was logged to `show`, a piece at a time.
fn replay(console: &mut Console, show: impl Fn(&mut Console, &[u8])) {
    let (mut at, mut piece) = (0, [0; 256]);
    loop {
        let (start, count) = console.log.read(at, &mut piece);
        if count == 0 {
            return;
        }
        show(console, &piece[..count]);
        at = start + count as u64;
    }
}

/// The screen is mapped elsewhere from now on. Tells whether there is one in use.
pub fn move_screen(window: crate::arch::mmio::Window) -> bool {
    let mut console = CONSOLE.lock();
    let screen = console.screen.as_mut();
    screen.map(|screen| screen.move_to(window)).is_some()
}

/// The serial port's registers are mapped at `window` now; false if there is no port yet.
pub fn move_serial(window: crate::arch::mmio::Window) -> bool {
    let mut console = CONSOLE.lock();
    let serial = console.serial.as_mut();
    serial.map(|serial| serial.move_to(window)).is_some()
}

/// There is no serial port any more.
pub fn release_serial() {
    CONSOLE.lock().serial = None;
}

/// There is no screen any more.
pub fn release_screen() {
    CONSOLE.lock().screen = None;
}

/// Goes on drawing, a piece. Whether there is more; who has the console at the moment draws as well.
pub fn draw_some() -> bool {
    BEHIND.load(Ordering::Relaxed) && {
        if let Some(mut console) = CONSOLE.try_lock() {
            console.draw();
        }
        BEHIND.load(Ordering::Relaxed)
    }
}

/// The screen stays the core's when domain 0 starts (`vga=keep`).
pub fn keep_screen() {
    KEEP_SCREEN.store(true, Ordering::Relaxed);
}

/// Leaves the screen to domain 0, which draws on it from now on; of the core only a panic is seen there.
pub fn leave_screen() {
    if KEEP_SCREEN.load(Ordering::Relaxed) {
        return;
    }
    let mut console = CONSOLE.lock();
    if console.screen.is_some() && !console.screen_left {
        console.start_line(None);
        let _ = writeln!(console, "{PREFIX}the screen is domain 0's now");
        if let Some(screen) = console.screen.as_mut() {
            while screen.draw(PIECE) {
                wait_step();
            }
        }
        console.screen_left = true;
    }
}

/// From now on nothing waits for the serial port; it is emptied by its interrupt and by [`poll`].
pub fn stop_waiting() {
    PATIENT.store(false, Ordering::Relaxed);
    CONSOLE.lock().pump();
}

/// Sends everything that waits, and from now on waits for the serial port: the machine ends.
pub fn drain() {
    PATIENT.store(true, Ordering::Relaxed);
    let mut console = CONSOLE.lock();
    console.draw();
    let Some(serial) = console.serial else { return };
    while let Some(byte) = console.send.pop() {
        serial.drain(byte);
    }
}

/// The serial port's I/O ports, which no domain may touch.
pub fn serial_ports() -> Option<core::ops::Range<u16>> {
    CONSOLE.lock().serial.and_then(Serial::ports)
}

/// What a guest wrote by `CONSOLEIO_write`: the boot domain's and domain 0's as it is, another's
/// with its number before each line.
pub fn write_guest(domain: DomId, bytes: &[u8]) {
    CONSOLE.lock().write_of(domain, bytes);
}

/// Takes what was typed; gives how many bytes.
pub fn read(out: &mut [u8]) -> usize {
    let mut console = CONSOLE.lock();
    let mut count = 0;
    for slot in out {
        let Some(byte) = console.input.pop() else {
            break;
        };
        *slot = byte;
        count += 1;
    }
    count
}

/// Whether something typed waits to be read.
pub fn has_input() -> bool {
    !CONSOLE.lock().input.is_empty()
}

/// Sets what is called when somebody types.
pub fn set_hooks(hooks: Hooks) {
    HOOKS.call_once(|| hooks);
}

/// Takes what arrived at the serial port and sends what waits: from its interrupt, and now and then.
pub fn poll() {
    let mut console = CONSOLE.lock();
    let mut arrived = false;
    if let Some(serial) = console.serial {
        // A port that is broken or not there may have data always; what is left interrupts again.
        for byte in core::iter::from_fn(|| serial.receive()).take(MAX_RECEIVED) {
            arrived |= console.typed(byte);
        }
        // The interrupt is an edge: with a byte that came in meanwhile the line would stay up and no
        // edge would ever follow. Off and on again (in `pump`) makes one, if there is a cause.
        serial.stop_interrupts();
        console.waiting = None;
    }
    console.input.take_lost();
    console.pump();
    drop(console);
    let Some(hooks) = HOOKS.get() else { return };
    if arrived {
        (hooks.input)();
    }
    loop {
        // Not with the console locked: a key's answer is printed.
        let Some(key) = CONSOLE.lock().keys.pop() else {
            return;
        };
        (hooks.key)(key);
    }
}

/// Copies the log from position `from` on (XEN_SYSCTL_readconsole, `dmesg`): the position of the
/// first byte copied, and how many there were.
pub fn ring_read(from: u64, out: &mut [u8]) -> (u64, usize) {
    CONSOLE.lock().log.read(from, out)
}

/// Shows a piece of the log again, without noting it in the log once more, as soon as all before has been sent; tells
/// whether it has.
pub fn show_again(bytes: &[u8]) -> bool {
    let mut console = CONSOLE.lock();
    console.pump();
    let is_free = console.send.is_empty();
    if is_free {
        console.show(bytes);
    }
    is_free
}

/// The position behind the log's newest byte.
pub fn ring_end() -> u64 {
    CONSOLE.lock().log.end()
}

/// Prints in a panic: waits for the port, and does without the lock if its holder does not let go.
pub fn panic_print(args: fmt::Arguments<'_>) {
    static PATIENCE: AtomicU32 = AtomicU32::new(10_000_000);
    PATIENT.store(true, Ordering::Relaxed);
    for _ in 0..PATIENCE.load(Ordering::Relaxed) {
        if let Some(mut console) = CONSOLE.try_lock() {
            return console.print_last(args);
        }
        core::hint::spin_loop();
    }
    // It won't for the next line either.
    PATIENCE.store(0, Ordering::Relaxed);
    #[expect(unsafe_code, reason = "the holder is stopped or is this very CPU")]
    // SAFETY: the machine is ending; a mixed-up screen is better than silence.
    unsafe {
        (*CONSOLE.as_mut_ptr()).print_last(args);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use log::Log;
    use std::string::String;

    #[test]
    fn what_is_not_shown_takes_no_lock() {
        let _held = CONSOLE.lock();
        let quiet = log::Record::builder().level(log::Level::Debug).build();
        Logger.log(&quiet);
    }

    #[test]
    fn the_log_is_without_domain_0s_console() {
        let mut console = Console::new();
        console.start_line(None);
        console.write(b"core\n");
        console.write_of(DomId::BOOT, b"boot domain\n");
        console.write_of(DomId::DOM0, b"prompt> ");
        console.write_of(DomId(7), b"a\nb");
        console.write_of(DomId::DOM0, b"typed\n");
        console.start_line(None);
        console.write(b"core\n");
        let mut log = [0; 128];
        let (_, count) = console.log.read(0, &mut log);
        let log = String::from_utf8_lossy(&log[..count]);
        assert_eq!(log, "core\nboot domain\n(d7) a\n(d7) b\ncore\n");
    }
}
