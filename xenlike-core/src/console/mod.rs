//! The console: the serial port, the screen, the log ring, and what guests write and read.
//!
//! Everything that is printed goes, under one lock, into the log ring, a send queue and the screen. Nothing waits for
//! the serial port: the queue is emptied as fast as the port accepts bytes, at each write, at the port's interrupt, and
//! in [`poll`]. The port is waited for only in the first moments and in a panic.
//!
//! The core's own messages come through the `log` crate. Those with target `"guest"` are about what a
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

/// The prefix of the core's lines.
const PREFIX: &str = "(xenlike) ";
/// The size in bytes of the log that `dmesg` can show.
pub const LOG_BYTES: usize = 32 << 10;
const SEND_BYTES: usize = 64 << 10;
const INPUT_BYTES: usize = 1024;
const KEY_BYTES: usize = 16;
/// The number of bytes that are taken from the serial port at once; more than its FIFO holds.
const MAX_RECEIVED: usize = 64;

struct Console {
    serial: Option<Serial>,
    /// The interrupts that are enabled at the serial port; `None` while the port is waited for, and
    /// when they must be set.
    waiting: Option<Waiting>,
    screen: Option<Screen>,
    /// Whether the screen was handed to domain 0.
    screen_left: bool,
    log: LogRing<LOG_BYTES>,
    send: Queue<SEND_BYTES>,
    input: Queue<INPUT_BYTES>,
    /// Decides who gets the input.
    switch: Switch,
    /// Debug keys that were typed and not handled yet.
    keys: Queue<KEY_BYTES>,
    /// The domain whose unfinished line was printed last.
    line_of: Option<DomId>,
    /// Whether the last byte printed ended a line.
    at_line_start: bool,
}

static CONSOLE: Lock<Console> = Lock::new(Rank::Console, Console::new());
/// Whether to wait for the devices: in the first moments, and in a panic.
static PATIENT: AtomicBool = AtomicBool::new(true);
/// Whether the screen may not show everything yet.
static BEHIND: AtomicBool = AtomicBool::new(false);
/// The number of characters that are drawn at once. A character takes about 600 stores on the largest screens.
const PIECE: usize = 32;
/// Whether the core keeps the screen when domain 0 starts.
static KEEP_SCREEN: AtomicBool = AtomicBool::new(false);
/// The functions that are called for input.
static HOOKS: Once<Hooks> = Once::new();

/// The functions that are called for input.
#[derive(Clone, Copy, Debug)]
pub struct Hooks {
    /// Called when input for domain 0 has arrived; raises `VIRQ_CONSOLE`.
    pub input: fn(),
    /// Called with each debug key.
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
    /// Writes to the log, the screen and the serial port. Output of domain 0's console, which people type at,
    /// stays out of the log.
    fn write(&mut self, bytes: &[u8]) {
        if self.line_of != Some(DomId::DOM0) {
            self.log.write(bytes);
        }
        self.show(bytes);
    }
    /// Writes to the screen and the serial port.
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
    /// Draws a piece of what is not on the screen yet; everything, while the core waits for its devices.
    fn draw(&mut self) {
        let screen = self.screen.as_mut().filter(|_| !self.screen_left);
        let is_behind = screen.is_some_and(|screen| {
            while screen.draw(PIECE) {
                if !PATIENT.load(Ordering::Relaxed) {
                    return true;
                }
                // Another CPU may be waiting for this one to flush.
                wait_step();
            }
            false
        });
        BEHIND.store(is_behind, Ordering::Relaxed);
    }
    /// Takes the screen back from domain 0, and clears it.
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
    /// Sends what the port accepts at once, and enables its interrupt for the rest.
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
    /// Prints what a domain wrote.
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
    /// Handles a byte of input; returns whether domain 0 has something to read.
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
    /// Ends the line of another writer, so that the next output starts on a line of its own.
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

/// The sink of the `log` crate.
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

/// Records what a guest says about itself in the log only, if such messages are shown. On the serial port it would
/// appear among the guest's own last lines.
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
    // The logger can only be set once, which is here.
    if log::set_logger(&Logger).is_ok() {
        log::set_max_level(log::LevelFilter::Trace);
    }
}

/// Opens the serial port and sends it the log so far. Returns whether the port exists.
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

/// Uses a screen, and shows the log so far on it.
pub fn add_screen(screen: Screen) {
    let mut console = CONSOLE.lock();
    console.screen = Some(screen);
    replay(&mut console, Console::write_screen);
}

/// Passes the log so far to `show`, piece by piece.
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

/// Uses the screen's memory at another mapping. Returns false if no screen is in use.
pub fn move_screen(window: crate::arch::mmio::Window) -> bool {
    let mut console = CONSOLE.lock();
    let screen = console.screen.as_mut();
    screen.map(|screen| screen.move_to(window)).is_some()
}

/// Uses the serial port's registers at another mapping. Returns false if no port is in use.
pub fn move_serial(window: crate::arch::mmio::Window) -> bool {
    let mut console = CONSOLE.lock();
    let serial = console.serial.as_mut();
    serial.map(|serial| serial.move_to(window)).is_some()
}

/// Stops using the serial port.
pub fn release_serial() {
    CONSOLE.lock().serial = None;
}

/// Stops using the screen.
pub fn release_screen() {
    CONSOLE.lock().screen = None;
}

/// Draws another piece; returns whether there is more. A CPU that holds the console's lock draws too, so this one need
/// not wait for it.
pub fn draw_some() -> bool {
    BEHIND.load(Ordering::Relaxed) && {
        if let Some(mut console) = CONSOLE.try_lock() {
            console.draw();
        }
        BEHIND.load(Ordering::Relaxed)
    }
}

/// Makes the core keep the screen when domain 0 starts (`vga=keep`).
pub fn keep_screen() {
    KEEP_SCREEN.store(true, Ordering::Relaxed);
}

/// Hands the screen to domain 0. From now on, the core only uses it for a panic.
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

/// Ends the waiting for the serial port. Its interrupt and [`poll`] empty the queue from now on.
pub fn stop_waiting() {
    PATIENT.store(false, Ordering::Relaxed);
    CONSOLE.lock().pump();
}

/// Sends everything that is queued, and waits for the serial port from now on, because the machine is ending.
pub fn drain() {
    PATIENT.store(true, Ordering::Relaxed);
    let mut console = CONSOLE.lock();
    console.draw();
    let Some(serial) = console.serial else { return };
    while let Some(byte) = console.send.pop() {
        serial.drain(byte);
    }
}

/// The I/O ports of the serial port, which no domain may access.
pub fn serial_ports() -> Option<core::ops::Range<u16>> {
    CONSOLE.lock().serial.and_then(Serial::ports)
}

/// Prints what a guest wrote by `CONSOLEIO_write`: the text of the boot domain and domain 0 unchanged, that of another
/// domain with its number at the start of each line.
pub fn write_guest(domain: DomId, bytes: &[u8]) {
    CONSOLE.lock().write_of(domain, bytes);
}

/// Takes typed bytes; returns how many.
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

/// Sets the functions that are called for input. Called once, at boot.
pub fn set_hooks(hooks: Hooks) {
    HOOKS.call_once(|| hooks);
}

/// Takes the input of the serial port, and sends queued output. Called from the port's interrupt and periodically.
pub fn poll() {
    let mut console = CONSOLE.lock();
    let mut arrived = false;
    if let Some(serial) = console.serial {
        // A port that is broken or absent may always report data. What is left causes another interrupt.
        for byte in core::iter::from_fn(|| serial.receive()).take(MAX_RECEIVED) {
            arrived |= console.typed(byte);
        }
        // The interrupt is an edge. If a byte came in meanwhile, the line would stay up, and no edge would ever follow.
        // Disabling and enabling it again (in `pump`) makes an edge if there is a cause.
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
        // The console isn't locked during the call, because handling a key prints.
        let Some(key) = CONSOLE.lock().keys.pop() else {
            return;
        };
        (hooks.key)(key);
    }
}

/// Copies the log from position `from` on (XEN_SYSCTL_readconsole, `dmesg`). Returns the position of the first byte
/// copied, and the number of bytes.
pub fn ring_read(from: u64, out: &mut [u8]) -> (u64, usize) {
    CONSOLE.lock().log.read(from, out)
}

/// Prints a piece of the log again, without recording it again, as soon as everything before has been sent. Returns
/// whether it was printed.
pub fn show_again(bytes: &[u8]) -> bool {
    let mut console = CONSOLE.lock();
    console.pump();
    let is_free = console.send.is_empty();
    if is_free {
        console.show(bytes);
    }
    is_free
}

/// The position behind the newest byte of the log.
pub fn ring_end() -> u64 {
    CONSOLE.lock().log.end()
}

/// Prints in a panic: waits for the port, and does without the lock if its holder doesn't release it.
pub fn panic_print(args: fmt::Arguments<'_>) {
    static PATIENCE: AtomicU32 = AtomicU32::new(10_000_000);
    PATIENT.store(true, Ordering::Relaxed);
    for _ in 0..PATIENCE.load(Ordering::Relaxed) {
        if let Some(mut console) = CONSOLE.try_lock() {
            return console.print_last(args);
        }
        core::hint::spin_loop();
    }
    // If the holder hasn't released it by now, it won't for the next line either.
    PATIENCE.store(0, Ordering::Relaxed);
    #[expect(unsafe_code, reason = "the holder is stopped or is this very CPU")]
    // SAFETY: the machine is ending, and garbled output is better than none.
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
