//! The running vCPU: its number, its shared state, its stack.
//!
//! Each vCPU runs on one stack of [`STACK_BYTES`], aligned to its size, whose last bytes hold the
//! vCPU's own block. Rounding the stack pointer finds it, so nothing needs a segment base.

#![expect(
    unsafe_code,
    reason = "the per-vCPU block is found through the stack pointer"
)]

use alloc::boxed::Box;
use core::alloc::Layout;
use core::arch::asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering};

use guest_pv_abi::xen::VcpuInfo;

use crate::memory;

/// Bytes of a vCPU's stack, and its alignment.
pub const STACK_BYTES: usize = 64 * 1024;

/// Bytes kept at the stack's end for the vCPU's block.
pub const CPU_BLOCK_BYTES: usize = 64;

/// A stack.
#[repr(C, align(65536))]
pub struct Stack(UnsafeCell<[u8; STACK_BYTES]>);

// SAFETY: only the vCPU that runs on it uses it.
unsafe impl Sync for Stack {}

/// Where the first vCPU runs.
pub(crate) static BOOT_STACK: Stack = Stack(UnsafeCell::new([0; STACK_BYTES]));

/// What a vCPU knows of itself.
#[repr(C, align(64))]
pub(crate) struct CpuBlock {
    number: AtomicU64,
    /// Address of its `VcpuInfo`.
    vcpu_info: AtomicU64,
    /// Stack to go back to when the code that `traps::attempt` runs faults; 0: none.
    recovery: AtomicU64,
    /// Error code of that fault.
    last_error: AtomicU64,
    /// Stack to go back to when user mode ends; 0: none runs.
    user: AtomicU64,
}

const _: () = assert!(size_of::<CpuBlock>() == CPU_BLOCK_BYTES);

/// The block at the end of the stack that holds `address`.
fn block_at(address: usize) -> &'static CpuBlock {
    let base = address & !(STACK_BYTES - 1);
    let block = base + STACK_BYTES - CPU_BLOCK_BYTES;
    // SAFETY: guests run on runtime stacks only; each ends in a block, zeroed or initialised, that
    // has only atomics and lives as long as the guest.
    unsafe { &*core::ptr::with_exposed_provenance(block) }
}

fn block() -> &'static CpuBlock {
    let stack_pointer: usize;
    // SAFETY: reads a register.
    unsafe {
        asm!("mov {}, rsp", out(reg) stack_pointer, options(nomem, nostack, preserves_flags));
    }
    block_at(stack_pointer)
}

/// Fills the first vCPU's block.
pub(crate) fn init_boot() {
    init_block(core::ptr::from_ref(&BOOT_STACK).expose_provenance(), 0);
}

/// Fills the block of the vCPU that owns the stack at `stack`.
pub(crate) fn init_block(stack: usize, number: u32) {
    let block = block_at(stack);
    let info = &memory::shared_info().vcpu_info[number as usize];
    block.number.store(u64::from(number), Ordering::Relaxed);
    let address = core::ptr::from_ref(info).expose_provenance();
    block.vcpu_info.store(address as u64, Ordering::Relaxed);
}

/// The running vCPU's number.
#[must_use]
pub fn number() -> u32 {
    block().number.load(Ordering::Relaxed) as u32
}

/// The running vCPU's part of the shared info page. The hypervisor writes it at any time: read it with
/// volatile or atomic accesses.
pub(crate) fn vcpu_info() -> *mut VcpuInfo {
    let address = block().vcpu_info.load(Ordering::Relaxed);
    core::ptr::with_exposed_provenance_mut(address as usize)
}

/// Masks event upcalls on this vCPU; says whether they were open.
pub(crate) fn mask_events() -> bool {
    let info = vcpu_info();
    if info.is_null() {
        return false;
    }
    // SAFETY: the vCPU's own shared byte, written with a volatile access.
    unsafe {
        let mask = &raw mut (*info).evtchn_upcall_mask;
        let was_open = mask.read_volatile() == 0;
        mask.write_volatile(1);
        was_open
    }
}

/// Opens event upcalls on this vCPU and takes what came meanwhile.
pub(crate) fn unmask_events() {
    let info = vcpu_info();
    if info.is_null() {
        return;
    }
    // SAFETY: as in `mask_events`.
    let pending = unsafe {
        (&raw mut (*info).evtchn_upcall_mask).write_volatile(0);
        core::sync::atomic::compiler_fence(Ordering::SeqCst);
        (&raw const (*info).evtchn_upcall_pending).read_volatile()
    };
    if pending != 0 {
        crate::hyper::force_upcall();
    }
}

/// The running vCPU's recovery word, for `traps`.
pub(crate) fn recovery_slot() -> *mut u64 {
    block().recovery.as_ptr()
}

/// The running vCPU's way out of user mode, for `user`.
pub(crate) fn user_slot() -> *mut u64 {
    block().user.as_ptr()
}

pub(crate) fn set_last_error(error: u64) {
    block().last_error.store(error, Ordering::Relaxed);
}

pub(crate) fn last_error() -> u64 {
    block().last_error.load(Ordering::Relaxed)
}

/// A zeroed stack for another vCPU.
pub(crate) fn new_stack() -> Option<Box<Stack>> {
    let layout = Layout::new::<Stack>();
    // SAFETY: the layout has a size; zeroes are a valid stack; the box owns it with that layout.
    unsafe {
        let pointer = alloc::alloc::alloc_zeroed(layout).cast::<Stack>();
        (!pointer.is_null()).then(|| Box::from_raw(pointer))
    }
}
