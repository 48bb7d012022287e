//! The flat image of the boot domain: a header, followed by its bytes from the first address on (docs/adr/0003).

use guest_pv_abi::xenlike::{BOOT_IMAGE_MAGIC, BootImage};
use zerocopy::FromBytes;

use crate::kit::PAGE_SIZE;

/// The fields of the image, checked for consistency.
#[derive(Debug)]
pub struct Image<'a> {
    bytes: &'a [u8],
    /// The virtual address of its first byte.
    pub virt_base: u64,
    /// The virtual address of its first instruction.
    pub entry: u64,
    /// The number of its pages, including those that are initially zero.
    pub pages: u64,
    /// The virtual address of its hypercall page; 0 for none.
    pub hypercall_page_va: u64,
}

impl<'a> Image<'a> {
    /// Parses the header, and checks it.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(file: &'a [u8]) -> Result<Self, &'static str> {
        if file.is_empty() {
            return Err("this hypervisor was built without its boot domain (use scripts/build)");
        }
        let broken = "the boot domain's image in this hypervisor is broken";
        let (header, bytes) = BootImage::read_from_prefix(file).map_err(|_| broken)?;
        let large = (PAGE_SIZE * 512) as u64;
        let room = header
            .image_pages
            .checked_mul(PAGE_SIZE as u64)
            .ok_or(broken)?;
        let inside = |va: u64| va.checked_sub(header.virt_base).is_some_and(|at| at < room);
        let hypercall_page_ok = header.hypercall_page_va == 0
            || inside(header.hypercall_page_va) && header.hypercall_page_va % PAGE_SIZE as u64 == 0;
        let ok = header.magic == BOOT_IMAGE_MAGIC
            && header.virt_base % large == 0
            && bytes.len() as u64 <= room
            && inside(header.entry)
            && hypercall_page_ok;
        if !ok {
            return Err(broken);
        }
        Ok(Self {
            bytes,
            virt_base: header.virt_base,
            entry: header.entry,
            pages: header.image_pages,
            hypercall_page_va: header.hypercall_page_va,
        })
    }

    /// The bytes of the image, without the part that is initially zero.
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}
