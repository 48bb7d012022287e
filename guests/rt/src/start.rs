//! The ELF notes, and the way from the first Rust function to `main`. The entry point is in `arch`.

#![expect(
    unsafe_code,
    reason = "defines a section, and calls the guest's main function"
)]

use core::arch::global_asm;

use guest_pv_abi::elfnote;

use crate::{console, cpu, info, memory, traps};

// A directive for an address, which has the width of the kernel.
#[cfg(target_pointer_width = "32")]
macro_rules! address {
    ($value:literal) => {
        concat!(".long ", $value)
    };
}
#[cfg(target_pointer_width = "64")]
macro_rules! address {
    ($value:literal) => {
        concat!(".quad ", $value)
    };
}

// The notes by which a builder recognises a PV kernel (public header elfnote.h): owner "Xen", aligned to 4 bytes.
global_asm!(
    r#"
    .macro xen_note type, value:vararg
        .balign 4
        .long 4
        .long 5f - 4f
        .long \type
        .asciz "Xen"
    4:  \value
    5:  .balign 4
    .endm

    .pushsection .note.Xen, "a", @note
    xen_note {guest_os}, .asciz "xenlike-rt"
    xen_note {guest_version}, .asciz "1"
    xen_note {xen_version}, .asciz "xen-3.0"
    xen_note {loader}, .asciz "generic"
    xen_note {features}, .asciz "!writable_page_tables|pae_pgdir_above_4gb"
    xen_note {pae_mode}, .asciz "yes"
    "#,
    concat!("xen_note {virt_base}, ", address!("VIRT_BASE")),
    concat!("xen_note {paddr_offset}, ", address!("0")),
    concat!("xen_note {entry}, ", address!("_start")),
    ".popsection",
    guest_os = const elfnote::XEN_ELFNOTE_GUEST_OS,
    guest_version = const elfnote::XEN_ELFNOTE_GUEST_VERSION,
    xen_version = const elfnote::XEN_ELFNOTE_XEN_VERSION,
    loader = const elfnote::XEN_ELFNOTE_LOADER,
    virt_base = const elfnote::XEN_ELFNOTE_VIRT_BASE,
    paddr_offset = const elfnote::XEN_ELFNOTE_PADDR_OFFSET,
    entry = const elfnote::XEN_ELFNOTE_ENTRY,
    features = const elfnote::XEN_ELFNOTE_FEATURES,
    pae_mode = const elfnote::XEN_ELFNOTE_PAE_MODE,
);

unsafe extern "Rust" {
    fn xenlike_rt_main();
}

/// The first Rust function. Its arguments are the start info page, the builder's stack pointer and the TSC.
pub(crate) extern "C" fn start(start_info: usize, builder_stack: usize, tsc: u64) -> ! {
    info::init(start_info as u64, tsc);
    memory::init(builder_stack as u64);
    cpu::init_boot();
    console::init();
    traps::init();
    // SAFETY: `entry!` defines it with this signature.
    unsafe { xenlike_rt_main() };
    crate::poweroff()
}
