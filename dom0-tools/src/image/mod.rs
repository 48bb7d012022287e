//! Kernel images: turns the bytes of a file into what the domain builder needs.
//!
//! [`Image::open`] unpacks a gzip file or a bzImage and reads the ELF file and its Xen notes; [`Image::pv`] checks
//! that it is a kernel for a PV domain, 64-bit or 32-bit with PAE. The bytes are untrusted; every fault is reported in one sentence.

mod bytes;
mod bzimage;
mod class;
mod elf;
mod features;
mod notes;
pub(crate) mod symbols;
mod unpack;

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use elf::Segment;
pub use features::Features;
use guest_pv_abi::Width;
use guest_pv_abi::arch_x86::narrow::COMPAT_VIRT_START;
use guest_pv_abi::arch_x86::{HYPERVISOR_VIRT_END, HYPERVISOR_VIRT_START};
pub use notes::Claims;
use symbols::Symbols;

/// The role of the domain for which a kernel is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The control domain, domain 0.
    Dom0,
    /// Any domain but domain 0.
    Guest,
}

/// Why a file can't be used. Prints as one sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageError {
    /// Name of the file.
    pub file: String,
    /// A message about the fault.
    pub cause: String,
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "kernel {}: {}", self.file, self.cause)
    }
}

impl core::error::Error for ImageError {}

/// A kernel file, unpacked and parsed.
#[derive(Debug)]
pub struct Image<'a> {
    file: String,
    bytes: Cow<'a, [u8]>,
    width: Width,
    elf_entry: u64,
    segments: Vec<Segment>,
    claims: Option<Claims>,
    symbols: Option<Symbols>,
}

/// A part of a kernel to be loaded.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// Its physical address, as given in the file.
    pub paddr: u64,
    /// Size in memory, in bytes. Bytes beyond `bytes` are zero.
    pub memory_bytes: u64,
    /// The contents of the part.
    pub bytes: &'a [u8],
}

/// What a PV kernel asks for, checked for consistency. Its addresses are virtual.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PvKernel {
    /// Width of the kernel.
    pub width: Width,
    /// Whether its root page table must lie below 4 GiB, as the CR3 of a narrow kernel holds an address and not the
    /// encoded frame number.
    pub low_root: bool,
    /// Address of the first byte of the domain's memory.
    pub virt_base: u64,
    /// Address of the first instruction.
    pub entry: u64,
    /// Start of the kernel's bytes.
    pub start: u64,
    /// End of the kernel's bytes.
    pub end: u64,
    /// Added to a segment's physical address, this gives its virtual address (modulo 2^64).
    pub virt_offset: u64,
    /// Page that the hypervisor fills with hypercall stubs.
    pub hypercall_page: Option<u64>,
    /// Where the P2M list is mapped, if not in the initial mapping.
    pub init_p2m: Option<u64>,
    /// Whether the initrd may stay unmapped and be named by its frame number.
    pub unmapped_initrd: bool,
}

/// The hypervisor's part of a kernel's address space.
fn hypervisor(width: Width) -> Range<u64> {
    match width {
        Width::Wide => HYPERVISOR_VIRT_START..HYPERVISOR_VIRT_END,
        Width::Narrow => COMPAT_VIRT_START..1 << 32,
    }
}

impl<'a> Image<'a> {
    /// Reads the file called `file`.
    ///
    /// # Errors
    /// If it isn't an ELF kernel in one of the supported formats.
    pub fn open(file: &str, bytes: &'a [u8]) -> Result<Image<'a>, ImageError> {
        let fault = |cause| ImageError {
            file: file.to_string(),
            cause,
        };
        Image::read(bytes).map_err(fault).map(|image| Image {
            file: file.to_string(),
            ..image
        })
    }

    fn read(bytes: &'a [u8]) -> Result<Image<'a>, String> {
        if bytes.is_empty() {
            return Err("the file is empty".to_string());
        }
        let mut bytes = Cow::Borrowed(bytes);
        if bytes.starts_with(&[0x1f, 0x8b]) {
            bytes = Cow::Owned(unpack::unpack(&bytes)?);
        }
        if !elf::is(&bytes) && bzimage::is(&bytes) {
            let payload = bzimage::payload(&bytes)?;
            if !elf::is(payload) {
                bytes = Cow::Owned(
                    unpack::unpack(payload)
                        .map_err(|cause| format!("the kernel inside is {cause}"))?,
                );
            } else {
                bytes = Cow::Owned(payload.to_vec());
            }
        }
        if !elf::is(&bytes) {
            return Err(unpack::packed_as_a_whole(&bytes)
                .unwrap_or_else(|| "neither a Linux bzImage nor an ELF file".to_string()));
        }
        let elf = elf::parse(&bytes)?;
        let claims = notes::claims(&elf)?;
        let wanted = claims.as_ref().is_some_and(|claims| claims.bsd_symtab);
        let symbols = wanted.then(|| symbols::behind(&elf)).flatten();
        let (width, elf_entry, segments) = (elf.class.width, elf.entry, elf.segments);
        Ok(Image {
            file: String::new(),
            bytes,
            width,
            elf_entry,
            segments,
            claims,
            symbols,
        })
    }

    /// The kernel's claims about itself, if it makes any.
    #[must_use]
    pub fn claims(&self) -> Option<&Claims> {
        self.claims.as_ref()
    }

    /// Width of the kernel, from the class of its file.
    #[must_use]
    pub fn width(&self) -> Width {
        self.width
    }

    /// An error about this file.
    #[must_use]
    pub fn error(&self, cause: String) -> ImageError {
        ImageError {
            file: self.file.clone(),
            cause,
        }
    }

    /// The parts to load: the file's segments in order, then the symbols if a BSD kernel asks for them.
    pub fn parts(&self) -> impl Iterator<Item = Part<'_>> {
        let segments = self.segments.iter().map(|segment| Part {
            paddr: segment.paddr,
            memory_bytes: segment.memory_bytes,
            bytes: self.bytes.get(segment.file.clone()).unwrap_or_default(),
        });
        let symbols = self.symbols.iter().map(|symbols| Part {
            paddr: symbols.paddr,
            memory_bytes: symbols.bytes.len() as u64,
            bytes: &symbols.bytes,
        });
        segments.chain(symbols)
    }

    /// Checks that this is a kernel for a PV domain in that role.
    ///
    /// # Errors
    /// A message that names the file and the reason.
    pub fn pv(&self, role: Role) -> Result<PvKernel, ImageError> {
        self.check_pv(role).map_err(|cause| self.error(cause))
    }

    fn check_pv(&self, role: Role) -> Result<PvKernel, String> {
        let no_note = "not a Xen PV kernel: no XEN_ELFNOTE_ENTRY note";
        let claims = self.claims.as_ref().ok_or(no_note)?;
        // A kernel that is linked at 0 and starts at its ELF entry needs no addresses: it only has to say which Xen
        // it is for.
        let addresses = claims.entry.is_some() || claims.virt_base.is_some() || claims.legacy;
        if !addresses && claims.xen_version.is_none() {
            return Err(match claims.phys32_entry {
                Some(_) => format!("{no_note} (it can only be a PVH guest)"),
                None => no_note.to_string(),
            });
        }
        // Like Xen, compares only the beginnings.
        if let Some(version) = claims
            .xen_version
            .as_ref()
            .filter(|version| !version.starts_with("xen-3.0"))
        {
            return Err(format!(
                "made for {version:?}, not for the \"xen-3.0\" interface"
            ));
        }
        if let Some(loader) = claims.loader.as_ref().filter(|loader| {
            !loader.starts_with("generic") && !claims.guest_os.starts_with("linux")
        }) {
            return Err(format!(
                "it asks for the loader {loader:?}; only \"generic\" is known"
            ));
        }
        claims.features.check(role)?;
        if self.width == Width::Narrow {
            check_narrow(claims)?;
        }
        self.addresses(claims)
    }

    /// Computes the addresses and checks that they are consistent.
    fn addresses(&self, claims: &Claims) -> Result<PvKernel, String> {
        let virt_base = claims.virt_base.unwrap_or(0);
        let paddr_offset = match claims.paddr_offset {
            Some(offset) => offset,
            None if claims.legacy => virt_base,
            None => 0,
        };
        let virt_offset = virt_base.wrapping_sub(paddr_offset);
        let (mut start, mut end) = (u64::MAX, 0);
        for part in self.parts() {
            let from = part.paddr.wrapping_add(virt_offset);
            let to = from
                .checked_add(part.memory_bytes)
                .ok_or("a segment wraps around the address space")?;
            (start, end) = (start.min(from), end.max(to));
        }
        if start < virt_base {
            return Err(format!(
                "its first byte is at {start:#x}, below its virtual base {virt_base:#x}"
            ));
        }
        if !virt_base.is_multiple_of(4096) {
            return Err(format!(
                "its virtual base {virt_base:#x} is not at a page boundary"
            ));
        }
        check_range(self.width, virt_base, end)?;
        let entry = claims.entry.unwrap_or(self.elf_entry);
        let inside =
            |address: u64, bytes: u64| address >= start && address < end && end - address >= bytes;
        if !inside(entry, 1) {
            return Err(format!(
                "its entry {entry:#x} is outside the kernel ({start:#x} to {end:#x})"
            ));
        }
        if let Some(page) = claims.hypercall_page
            && (page % 4096 != 0 || !inside(page, 1))
        {
            return Err(format!(
                "its hypercall page {page:#x} is not a page of the kernel"
            ));
        }
        // As in Xen, 32-bit kernels can't place their frame list.
        let init_p2m = claims.init_p2m.filter(|_| self.width == Width::Wide);
        if let Some(p2m) = init_p2m
            && (p2m % 4096 != 0
                || !canonical(p2m)
                || hypervisor(self.width).contains(&p2m)
                || inside(p2m, 1))
        {
            return Err(format!("its frame list can't be at {p2m:#x} (INIT_P2M)"));
        }
        Ok(PvKernel {
            width: self.width,
            low_root: self.width == Width::Narrow && !claims.extended_cr3(),
            virt_base,
            entry,
            start,
            end,
            virt_offset,
            hypercall_page: claims.hypercall_page,
            init_p2m,
            unmapped_initrd: claims.mod_start_pfn,
        })
    }
}

fn canonical(address: u64) -> bool {
    (address as i64) << 16 >> 16 == address as i64
}

/// Checks that the addresses from `virt_base` to `end` can be a kernel's of that width.
fn check_range(width: Width, virt_base: u64, end: u64) -> Result<(), String> {
    let reachable = match width {
        Width::Wide => canonical(virt_base) && canonical(end) && virt_base >> 63 == end >> 63,
        Width::Narrow => end <= 1 << 32,
    };
    if !reachable {
        return Err(match width {
            Width::Wide => format!("its addresses {virt_base:#x} to {end:#x} are not canonical"),
            Width::Narrow => format!("its addresses {virt_base:#x} to {end:#x} exceed 32 bits"),
        });
    }
    let hypervisor = hypervisor(width);
    if virt_base < hypervisor.end && end > hypervisor.start {
        return Err(format!(
            "its addresses {virt_base:#x} to {end:#x} reach into the hypervisor's range"
        ));
    }
    Ok(())
}

/// Checks the claims that only matter for 32-bit kernels.
fn check_narrow(claims: &Claims) -> Result<(), String> {
    if !claims.has_pae() {
        return Err(match &claims.pae_mode {
            Some(mode) => format!(
                "a 32-bit kernel with the PAE mode {mode:?}; only 32-bit kernels with PAE can run"
            ),
            None => "a 32-bit kernel that doesn't claim PAE (no XEN_ELFNOTE_PAE_MODE note); only 32-bit kernels with \
                     PAE can run"
                .to_string(),
        });
    }
    match claims.hv_start_low {
        Some(low) if low > COMPAT_VIRT_START => Err(format!(
            "it leaves the hypervisor only the addresses from {low:#x} (HV_START_LOW), which needs them from \
             {COMPAT_VIRT_START:#x}"
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod narrow_tests;
#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod zstd_tests;
