//! System calls that the standard library doesn't have, behind safe functions. The program has one thread.

#![expect(unsafe_code, reason = "calls the C library")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// The size of a page.
pub const PAGE: usize = 4096;

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// A system call that does next to nothing.
pub fn parent() -> libc::c_long {
    // SAFETY: takes no arguments, always succeeds.
    unsafe { libc::syscall(libc::SYS_getppid) }
}

/// A child process.
pub struct Child(libc::pid_t);

/// Makes a process that runs this and ends.
pub fn child(run: impl FnOnce() -> io::Result<()>) -> io::Result<Child> {
    // SAFETY: there is one thread, so the child finds no lock held by another.
    match checked(unsafe { libc::fork() })? {
        0 => {
            let code = i32::from(run().is_err());
            // SAFETY: ends the process, with nothing left to do.
            unsafe { libc::_exit(code) }
        }
        id => Ok(Child(id)),
    }
}

impl Child {
    /// Waits for its end; an error when it failed.
    pub fn wait(self) -> io::Result<()> {
        let mut status = 0;
        // SAFETY: the status is this function's own.
        checked(unsafe { libc::waitpid(self.0, &raw mut status, 0) })?;
        if status != 0 {
            return Err(io::Error::other("a child failed"));
        }
        Ok(())
    }
}

/// Pages mapped for this process alone; gone when dropped.
pub struct Mapping {
    start: NonNull<u8>,
    pages: usize,
}

impl Mapping {
    /// Zeroes, not there before they are touched.
    pub fn anonymous(pages: usize) -> io::Result<Self> {
        Self::new(pages, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)
    }

    /// A file's pages, shared with it.
    pub fn shared(pages: usize, file: BorrowedFd<'_>) -> io::Result<Self> {
        Self::new(pages, libc::MAP_SHARED, file.as_raw_fd())
    }

    fn new(pages: usize, flags: libc::c_int, file: libc::c_int) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel chooses a place where nothing is.
        let start =
            unsafe { libc::mmap(ptr::null_mut(), pages * PAGE, protection, flags, file, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, pages })
    }

    /// Writes to each page.
    pub fn touch(&self) {
        for page in 0..self.pages {
            self.write(page);
        }
    }

    fn write(&self, page: usize) {
        assert!(page < self.pages, "beyond the mapping");
        // SAFETY: within the mapping, whose bytes are atomics to all.
        let byte = unsafe { &*self.start.add(page * PAGE).as_ptr().cast::<AtomicU8>() };
        byte.store(1, Ordering::Relaxed);
    }

    /// Lets it be written, or not.
    pub fn protect(&self, writable: Writable) -> io::Result<()> {
        let (start, length) = (self.start.as_ptr().cast(), self.pages * PAGE);
        // SAFETY: the mapping is this one's own; a write to it where it may not be written is a signal.
        checked(unsafe { libc::mprotect(start, length, writable.bits()) }).map(drop)
    }

    /// Writes to the first page, which may not be written: the handler of [`on_fault`] lets it.
    pub fn write_into_handler(&self) {
        FAULTING.store(self.start.as_ptr() as usize, Ordering::Relaxed);
        self.write(0);
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nothing refers to it any more. It can't fail: the arguments are those of the mapping.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.pages * PAGE) };
    }
}

/// Whether a mapping may be written.
#[derive(Clone, Copy)]
pub enum Writable {
    /// Read only.
    No,
    /// Read and write.
    Yes,
}

impl Writable {
    fn bits(self) -> libc::c_int {
        match self {
            Self::No => libc::PROT_READ,
            Self::Yes => libc::PROT_READ | libc::PROT_WRITE,
        }
    }
}

/// The page that is written to by purpose.
static FAULTING: AtomicUsize = AtomicUsize::new(0);

extern "C" fn ignored(_: libc::c_int) {}

extern "C" fn make_writable(_: libc::c_int) {
    let page = FAULTING.swap(0, Ordering::Relaxed);
    let bits = Writable::Yes.bits();
    // SAFETY: a page of a mapping of this program's; a system call that signal handlers may make.
    let done = unsafe { libc::mprotect(page as *mut libc::c_void, PAGE, bits) };
    if page == 0 || done != 0 {
        // SAFETY: ends the process. A fault that nobody expected would come again and again.
        unsafe { libc::_exit(1) }
    }
}

fn handle(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) -> io::Result<()> {
    // SAFETY: all zeroes is a valid value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    // SAFETY: both handlers are functions of the type that is called.
    checked(unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) }).map(drop)
}

/// Faults of [`Mapping::write_into_handler`] are handled.
pub fn on_fault() -> io::Result<()> {
    handle(libc::SIGSEGV, make_writable)
}

/// Signals of [`signal`] are handled, by nothing.
pub fn on_signal() -> io::Result<()> {
    handle(libc::SIGUSR1, ignored)
}

/// A signal to this process.
pub fn signal() -> io::Result<()> {
    // SAFETY: has a handler, or ends this process.
    checked(unsafe { libc::kill(libc::getpid(), libc::SIGUSR1) }).map(drop)
}

/// Mounts a file system that needs no device.
pub fn mount(kind: &CStr, place: &CStr) -> io::Result<()> {
    let kind = kind.as_ptr();
    // SAFETY: strings with their zeroes, and no data.
    checked(unsafe { libc::mount(kind, place.as_ptr(), kind, 0, ptr::null()) }).map(drop)
}

/// Turns the machine off.
pub fn power_off() {
    // SAFETY: no memory is passed.
    unsafe { libc::reboot(libc::RB_POWER_OFF) };
}
