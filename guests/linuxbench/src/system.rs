//! System calls that the standard library lacks, as safe functions. The program has one thread.

#![expect(unsafe_code, reason = "calls the C library")]

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// Size of a page in bytes.
pub const PAGE: usize = 4096;

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// A system call that does almost nothing.
pub fn parent() -> libc::c_long {
    // SAFETY: takes no arguments and always succeeds.
    unsafe { libc::syscall(libc::SYS_getppid) }
}

/// A child process, by its id.
pub struct Child(libc::pid_t);

/// Forks a process that calls `run` and ends.
pub fn child(run: impl FnOnce() -> io::Result<()>) -> io::Result<Child> {
    // SAFETY: there is one thread, so no other thread can hold a lock in the child.
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
    /// Waits for the child's end. Fails if the child failed.
    pub fn wait(self) -> io::Result<()> {
        let mut status = 0;
        // SAFETY: the status is a local variable.
        checked(unsafe { libc::waitpid(self.0, &raw mut status, 0) })?;
        if status != 0 {
            return Err(io::Error::other("a child failed"));
        }
        Ok(())
    }
}

/// Pages mapped for this process. Dropping it unmaps them.
pub struct Mapping {
    start: NonNull<u8>,
    pages: usize,
}

impl Mapping {
    /// Maps anonymous pages, which are allocated when touched.
    pub fn anonymous(pages: usize) -> io::Result<Self> {
        Self::new(pages, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1)
    }

    /// Maps pages of a file, shared with it.
    pub fn shared(pages: usize, file: BorrowedFd<'_>) -> io::Result<Self> {
        Self::new(pages, libc::MAP_SHARED, file.as_raw_fd())
    }

    fn new(pages: usize, flags: libc::c_int, file: libc::c_int) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: the kernel chooses an unused address.
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
        // SAFETY: the byte is within the mapping, and all accesses to it are atomic.
        let byte = unsafe { &*self.start.add(page * PAGE).as_ptr().cast::<AtomicU8>() };
        byte.store(1, Ordering::Relaxed);
    }

    /// Makes it writable or read-only.
    pub fn protect(&self, writable: Writable) -> io::Result<()> {
        let (start, length) = (self.start.as_ptr().cast(), self.pages * PAGE);
        // SAFETY: the mapping belongs to `self`; writing to it while it is read-only raises a signal.
        checked(unsafe { libc::mprotect(start, length, writable.bits()) }).map(drop)
    }

    /// Writes to the first page while it is read-only. The handler of [`on_fault`] makes it writable.
    pub fn write_into_handler(&self) {
        FAULTING.store(self.start.as_ptr() as usize, Ordering::Relaxed);
        self.write(0);
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: no reference into it remains. It can't fail, as the arguments are those of the mapping.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.pages * PAGE) };
    }
}

/// Whether a mapping is writable.
#[derive(Clone, Copy)]
pub enum Writable {
    /// The mapping can only be read.
    No,
    /// The mapping can be read and written.
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

/// Address of the page that is written on purpose.
static FAULTING: AtomicUsize = AtomicUsize::new(0);

extern "C" fn ignored(_: libc::c_int) {}

extern "C" fn make_writable(_: libc::c_int) {
    let page = FAULTING.swap(0, Ordering::Relaxed);
    let bits = Writable::Yes.bits();
    // SAFETY: a page of a mapping of this program; signal handlers may make this system call.
    let done = unsafe { libc::mprotect(page as *mut libc::c_void, PAGE, bits) };
    if page == 0 || done != 0 {
        // SAFETY: ends the process, since an unexpected fault would repeat without end.
        unsafe { libc::_exit(1) }
    }
}

fn handle(signal: libc::c_int, handler: extern "C" fn(libc::c_int)) -> io::Result<()> {
    // SAFETY: all zeros is a valid value.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as *const () as usize;
    // SAFETY: both handlers have the type with which they are called.
    checked(unsafe { libc::sigaction(signal, &raw const action, ptr::null_mut()) }).map(drop)
}

/// Installs the handler for the faults of [`Mapping::write_into_handler`].
pub fn on_fault() -> io::Result<()> {
    handle(libc::SIGSEGV, make_writable)
}

/// Installs an empty handler for the signals of [`signal`].
pub fn on_signal() -> io::Result<()> {
    handle(libc::SIGUSR1, ignored)
}

/// Sends a signal to this process.
pub fn signal() -> io::Result<()> {
    // SAFETY: the signal has a handler, or ends this process.
    checked(unsafe { libc::kill(libc::getpid(), libc::SIGUSR1) }).map(drop)
}

/// Mounts a file system that needs no device.
pub fn mount(kind: &CStr, place: &CStr) -> io::Result<()> {
    let kind = kind.as_ptr();
    // SAFETY: the strings are NUL-terminated, and there is no data.
    checked(unsafe { libc::mount(kind, place.as_ptr(), kind, 0, ptr::null()) }).map(drop)
}

/// Powers the machine off.
pub fn power_off() {
    // SAFETY: no memory is passed.
    unsafe { libc::reboot(libc::RB_POWER_OFF) };
}
