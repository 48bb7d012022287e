//! xenlike's own additions: the boot domain's image, its start, and the private hypercall.
//!
//! None of this is part of Xen's ABI, and guests never see it. The hypercall has the number of
//! `__HYPERVISOR_arch_0`, which is mca to every domain but the boot domain; in test builds any domain may also request
//! an audit by it.

use crate::layout::layout;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Number of the private hypercall. rdi is the operation, rsi its argument.
pub const XENLIKE_OP: u64 = crate::hypercall::ARCH_0;

/// Makes the caller domain 0, as control and hardware domain. Works once, and only before the caller has an event
/// channel or a grant. Takes no argument.
pub const XENLIKE_BECOME_DOM0: u32 = 0;

/// Creates domain 0 as control and hardware domain. Works once. The argument is a `domctl::CreateDomain`.
pub const XENLIKE_CREATE_DOM0: u32 = 1;

/// Recounts every reference of the machine while all CPUs stand still. Exists in test builds alone, for every domain.
/// The second argument is zero. Returns `EIO` if this audit or an earlier one found a disagreement.
pub const XENLIKE_AUDIT: u32 = 2;

/// Id of the boot domain. Usable ids are below it, reserved ids above it, and no other domain can name it.
pub const DOMID_BOOT: u16 = 0x7fe0;

/// `BootImage::magic`: "XLBOOTDM" in memory order.
pub const BOOT_IMAGE_MAGIC: u64 = u64::from_le_bytes(*b"XLBOOTDM");

/// Header of the boot domain's flat image, as the build links it into the hypervisor. The bytes from `virt_base`
/// on follow the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BootImage {
    /// Must be `BOOT_IMAGE_MAGIC`.
    pub magic: u64,
    /// Virtual address of frame 0.
    pub virt_base: u64,
    /// Virtual address of the first instruction.
    pub entry: u64,
    /// Number of pages of the image, including its zero-initialised part.
    pub image_pages: u64,
    /// Virtual address of the hypercall page; 0: none.
    pub hypercall_page_va: u64,
    /// Reserved, must be zero.
    pub reserved: [u64; 3],
}

layout! { BootImage = "", 64; magic 0, virt_base 8, entry 16, image_pages 24, hypercall_page_va 32, reserved 40 }

/// One boot module. `StartInfo::mod_start` is the virtual address of an array of these, and `StartInfo::mod_len` the
/// size of that array in bytes (with `SIF_MULTIBOOT_MOD`, boot domain only).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct BootModule {
    /// Virtual address of the module, page-aligned.
    pub start_va: u64,
    /// Size of the module in bytes.
    pub bytes: u64,
    /// Virtual address of the module's command line, NUL-terminated.
    pub cmdline_va: u64,
    /// Length of the command line in bytes, without the NUL.
    pub cmdline_bytes: u64,
}

layout! { BootModule = "", 32; start_va 0, bytes 8, cmdline_va 16, cmdline_bytes 24 }
