//! xenlike's own additions: the boot domain's image, its start and its private hypercall.
//!
//! None of this is Xen's ABI; guests never see it. The hypercall has the number `__HYPERVISOR_arch_0`
//! and answers `ENOSYS` to every domain but the boot domain; in test builds each may ask for an audit.

use crate::layout::layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Number of the private hypercall: rdi = operation, rsi = its argument.
pub const XENLIKE_OP: u64 = crate::hypercall::ARCH_0;

/// The caller becomes domain 0, control and hardware domain. Once, and only before it has an event
/// channel or a grant. No argument.
pub const XENLIKE_BECOME_DOM0: u32 = 0;

/// Creates domain 0 as control and hardware domain. Once. Argument: a `domctl::CreateDomain`.
pub const XENLIKE_CREATE_DOM0: u32 = 1;

/// Recounts every reference of the machine while all CPUs stand still. In test builds alone, and there
/// from any domain. The second argument is zero; `EIO` if this audit or an earlier one found something.
pub const XENLIKE_AUDIT: u32 = 2;

/// The boot domain's id: usable ids end below it, reserved ids begin above it; no other domain can
/// name it.
pub const DOMID_BOOT: u16 = 0x7fe0;

/// `BootImage::magic`: "XLBOOTDM" in memory order.
pub const BOOT_IMAGE_MAGIC: u64 = u64::from_le_bytes(*b"XLBOOTDM");

/// Header of the boot domain's flat image, as the build links it into the hypervisor; the bytes from
/// `virt_base` on follow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BootImage {
    /// `BOOT_IMAGE_MAGIC`.
    pub magic: u64,
    /// Virtual address of frame 0.
    pub virt_base: u64,
    /// Virtual address of the first instruction.
    pub entry: u64,
    /// Pages of the image with its zero-initialised part.
    pub image_pages: u64,
    /// Virtual address of the hypercall page; 0: none wanted.
    pub hypercall_page_va: u64,
    /// Zero.
    pub reserved: [u64; 3],
}

layout! { BootImage = "", 64; magic 0, virt_base 8, entry 16, image_pages 24, hypercall_page_va 32, reserved 40 }

/// One boot module. `StartInfo::mod_start` is the virtual address of an array of these and
/// `StartInfo::mod_len` that array's bytes (with `SIF_MULTIBOOT_MOD`, boot domain only).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BootModule {
    /// Virtual address, page aligned.
    pub start_va: u64,
    /// Bytes.
    pub bytes: u64,
    /// Virtual address of its command line, NUL-terminated.
    pub cmdline_va: u64,
    /// Bytes of the command line without the NUL.
    pub cmdline_bytes: u64,
}

layout! { BootModule = "", 32; start_va 0, bytes 8, cmdline_va 16, cmdline_bytes 24 }
