//! The running vCPU: its number, its part of the shared info page, its stack.
//!
//! Each vCPU runs on one stack of [`STACK_BYTES`], aligned to its size, whose last bytes hold a block of
//! the vCPU's own data. Rounding the stack pointer finds this block, so no segment base is needed.

#![expect(
    unsafe_code,
    reason = "the per-vCPU block is found through the stack pointer"
)]

use alloc::boxed::Box;
use core::alloc::Layout;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering};

use guest_pv_abi::xen::VcpuInfo;

use crate::{arch, info};

/// Size of a vCPU's stack in bytes, which is also its alignment.
pub const STACK_BYTES: usize = 64 * 1024;

/// Bytes reserved at the end of the stack for the vCPU's block.
pub const CPU_BLOCK_BYTES: usize = 64;

/// A vCPU's stack, with the vCPU's block at its end.
#[repr(C, align(65536))]
pub struct Stack(UnsafeCell<[u8; STACK_BYTES]>);

// SAFETY: only the vCPU that runs on a stack accesses it.
unsafe impl Sync for Stack {}

/// The stack of the first vCPU.
pub(crate) static BOOT_STACK: Stack = Stack(UnsafeCell::new([0; STACK_BYTES]));

/// Per-vCPU data of the runtime.
#[repr(C, align(64))]
pub(crate) struct CpuBlock {
    number: AtomicU64,
    /// Address of the vCPU's `VcpuInfo`.
    vcpu_info: AtomicU64,
    /// Stack pointer to resume from when code under `traps::attempt` faults; 0 outside of it.
    recovery: AtomicU64,
    /// Error code of the last fault under `traps::attempt`.
    last_error: AtomicU64,
    /// Stack pointer to resume from when user mode ends; 0 if no user code runs.
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
    block_at(arch::stack_pointer())
}

/// Fills the first vCPU's block.
pub(crate) fn init_boot() {
    init_block(core::ptr::from_ref(&BOOT_STACK).expose_provenance(), 0);
}

/// Fills the block of the vCPU that owns the stack at `stack`.
pub(crate) fn init_block(stack: usize, number: u32) {
    let block = block_at(stack);
    let info = &info::shared_info().vcpu_info[number as usize];
    block.number.store(u64::from(number), Ordering::Relaxed);
    let address = core::ptr::from_ref(info).expose_provenance();
    block.vcpu_info.store(address as u64, Ordering::Relaxed);
}

/// The number of the running vCPU.
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

/// Masks event upcalls on this vCPU; returns whether they were unmasked.
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

/// Unmasks event upcalls on this vCPU and delivers those that arrived while they were masked.
pub(crate) fn unmask_events() {
    let info = vcpu_info();
    if info.is_null() {
        return;
    }
    // The hypervisor makes no upcall for an event that arrived while upcalls were masked until this vCPU
    // enters it again. So the pending flag is read after the mask is cleared, and the compiler must keep
    // that order.
    //
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

/// The running vCPU's recovery word, used by `traps`.
pub(crate) fn recovery_slot() -> *mut u64 {
    block().recovery.as_ptr()
}

/// The running vCPU's saved stack pointer for leaving user mode, used by `user`.
pub(crate) fn user_slot() -> *mut u64 {
    block().user.as_ptr()
}

pub(crate) fn set_last_error(error: u64) {
    block().last_error.store(error, Ordering::Relaxed);
}

pub(crate) fn last_error() -> u64 {
    block().last_error.load(Ordering::Relaxed)
}

/// Allocates a zeroed stack for another vCPU.
pub(crate) fn new_stack() -> Option<Box<Stack>> {
    let layout = Layout::new::<Stack>();
    // SAFETY: the layout has a size; zeroes are a valid stack; the box owns it with that layout.
    unsafe {
        let pointer = alloc::alloc::alloc_zeroed(layout).cast::<Stack>();
        (!pointer.is_null()).then(|| Box::from_raw(pointer))
    }
}
