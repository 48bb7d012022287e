//! Hypercalls through Linux's `/dev/xen/privcmd`, with arguments in memory from `/dev/xen/hypercall` (Linux
//! include/uapi/xen/privcmd.h).

#![expect(unsafe_code, reason = "ioctl and mmap")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::ptr;
use std::sync::atomic::{AtomicU8, AtomicU32};

use anyhow::{Context, Result};
use dom0_tools::hyper::memory::MAX_BATCH;
use dom0_tools::hyper::{Arena, DomId, Hypercalls, Mfn, PAGE};
use guest_pv_abi::{Errno, errno};

const ARENA_BYTES: usize = 64 << 10;

/// `struct privcmd_hypercall`.
#[repr(C)]
struct HypercallRequest {
    op: u64,
    arg: [u64; 5],
}

/// `struct privcmd_mmapbatch_v2`.
#[repr(C)]
struct MapRequest {
    num: u32,
    dom: u16,
    addr: u64,
    frames: *const u64,
    errors: *mut i32,
}

/// `_IOC(_IOC_NONE, 'P', number, size)`.
const fn ioctl_number(number: u64, size: usize) -> u64 {
    (size as u64) << 16 | (b'P' as u64) << 8 | number
}

const HYPERCALL: u64 = ioctl_number(0, size_of::<HypercallRequest>());
const MMAPBATCH_V2: u64 = ioctl_number(4, size_of::<MapRequest>());

/// The rights of a mapping.
#[derive(Clone, Copy)]
enum Access {
    ReadOnly,
    ReadWrite,
}

/// Memory that was mapped from a device.
struct Mapping {
    start: *mut u8,
    bytes: usize,
}

impl Mapping {
    fn new(file: &File, bytes: usize, access: Access) -> io::Result<Mapping> {
        let protection = match access {
            Access::ReadOnly => libc::PROT_READ,
            Access::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
        };
        // SAFETY: the kernel chooses the address, and this value owns the mapping until it is dropped.
        let start = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                protection,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapping {
            start: start.cast(),
            bytes,
        })
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: the mapping has this many bytes, `self` is borrowed mutably, and callers use it for writable
        // mappings alone.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.bytes) }
    }

    fn as_bytes(&self) -> &[u8] {
        // SAFETY: the mapping has this many bytes, and `self` is borrowed.
        unsafe { std::slice::from_raw_parts(self.start, self.bytes) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `new` mapped the range, and no borrow of it remains.
        unsafe { libc::munmap(self.start.cast(), self.bytes) };
    }
}

/// The connection to the hypervisor.
pub struct Privcmd {
    device: File,
    arena: Mapping,
}

impl Privcmd {
    /// Opens the kernel's devices.
    ///
    /// # Errors
    /// If this isn't a Dom0, or the user isn't root.
    pub fn open() -> Result<Privcmd> {
        let open = |path: &str| {
            let file = OpenOptions::new().read(true).write(true).open(path);
            file.with_context(|| format!("{path}: is this a Dom0, are you root?"))
        };
        let device = open("/dev/xen/privcmd")?;
        let arena = Mapping::new(&open("/dev/xen/hypercall")?, ARENA_BYTES, Access::ReadWrite)
            .context("/dev/xen/hypercall")?;
        Ok(Privcmd { device, arena })
    }

    fn ioctl<T>(&self, number: u64, request: &mut T) -> Result<u64, Errno> {
        // SAFETY: each request number is used with its own structure, whose pointers are valid for the kernel's
        // writes.
        let result = unsafe {
            libc::ioctl(
                self.device.as_raw_fd(),
                number as libc::Ioctl,
                ptr::from_mut(request),
            )
        };
        if result >= 0 {
            return Ok(result as u64);
        }
        // Xen's error numbers are the same as Linux's.
        let error = io::Error::last_os_error().raw_os_error();
        Err(error.map_or(errno::EIO, Errno))
    }
}

/// A page of another domain, shared with it.
pub struct SharedPage(Mapping);

impl SharedPage {
    /// The byte at `offset`, which must be below [`PAGE`].
    pub fn byte(&self, offset: usize) -> &AtomicU8 {
        assert!(offset < PAGE, "outside of the page");
        // SAFETY: the byte is inside the mapping, which lives as long as `self`; as an atomic, it may change at any
        // time.
        unsafe { AtomicU8::from_ptr(self.0.start.add(offset)) }
    }

    /// The word at `offset`, which must be aligned and below [`PAGE`].
    pub fn word(&self, offset: usize) -> &AtomicU32 {
        assert!(
            offset < PAGE && offset.is_multiple_of(4),
            "no word of the page"
        );
        // SAFETY: as in `byte`, and the word is aligned.
        unsafe { AtomicU32::from_ptr(self.0.start.add(offset).cast()) }
    }
}

impl Privcmd {
    /// Maps a frame of a domain for sharing data with it.
    ///
    /// # Errors
    /// If the hypervisor refuses the mapping.
    pub fn map_shared(&self, dom: DomId, frame: Mfn) -> Result<SharedPage> {
        let page = self.map_frames(dom, &[frame], Access::ReadWrite);
        Ok(SharedPage(page.context("mapping a page of the domain")?))
    }

    /// Maps frames of a domain at consecutive addresses.
    fn map_frames(&self, dom: DomId, frames: &[Mfn], access: Access) -> Result<Mapping, Errno> {
        let window =
            Mapping::new(&self.device, frames.len() * PAGE, access).map_err(|_| errno::ENOMEM)?;
        let numbers: Vec<u64> = frames.iter().map(|frame| frame.0).collect();
        let mut errors = vec![0; frames.len()];
        let mut request = MapRequest {
            num: frames.len() as u32,
            dom: dom.0,
            addr: window.start as u64,
            frames: numbers.as_ptr(),
            errors: errors.as_mut_ptr(),
        };
        self.ioctl(MMAPBATCH_V2, &mut request)?;
        match errors.iter().find(|error| **error != 0) {
            Some(error) => Err(Errno(error.abs())),
            None => Ok(window),
        }
    }
}

impl Hypercalls for Privcmd {
    fn arena(&mut self) -> Arena<'_> {
        Arena {
            address: self.arena.start as u64,
            bytes: self.arena.bytes(),
        }
    }

    fn call(&mut self, number: u64, arg: [u64; 5]) -> Result<u64, Errno> {
        self.ioctl(HYPERCALL, &mut HypercallRequest { op: number, arg })
    }

    fn with_frames(
        &mut self,
        dom: DomId,
        frames: &[Mfn],
        access: &mut dyn FnMut(&mut [u8]),
    ) -> Result<(), Errno> {
        for frames in frames.chunks(MAX_BATCH) {
            let mut window = self.map_frames(dom, frames, Access::ReadWrite)?;
            access(window.bytes());
        }
        Ok(())
    }

    fn read_frames(
        &mut self,
        dom: DomId,
        frames: &[Mfn],
        look: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Errno> {
        for frames in frames.chunks(MAX_BATCH) {
            look(self.map_frames(dom, frames, Access::ReadOnly)?.as_bytes());
        }
        Ok(())
    }
}
