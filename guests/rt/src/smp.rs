//! Starting further vCPUs.

#![expect(unsafe_code, reason = "starts code on a new stack")]

use alloc::boxed::Box;

use guest_pv_abi::arch_x86::VcpuGuestContext;
use guest_pv_abi::vcpu::{VCPUOP_DOWN, VCPUOP_INITIALISE, VCPUOP_IS_UP, VCPUOP_UP};
use guest_pv_abi::{Errno, errno};

use crate::arch::{from_long, smp as arch};
use crate::cpu::{self, CPU_BLOCK_BYTES, STACK_BYTES};
use crate::memory::{mfn_of, pfn_of};
use crate::{hyper, start_info, traps};

/// The function that a vCPU runs, with the vCPU's number. When it returns, the vCPU goes down.
pub type Main = fn(u32);

/// The first Rust function of a further vCPU.
pub(crate) extern "C" fn secondary(main: usize) -> ! {
    // SAFETY: `start` passes a `Main`.
    let main = unsafe { core::mem::transmute::<usize, Main>(main) };
    cpu::mask_events();
    let number = cpu::number();
    main(number);
    loop {
        let _ = hyper::vcpu_op(VCPUOP_DOWN, number, &mut 0u64);
    }
}

/// Number of vCPUs that the domain has, running or not; counts the first 32 at most.
#[must_use]
pub fn vcpus() -> u32 {
    let exists = |vcpu: &u32| hyper::vcpu_op(VCPUOP_IS_UP, *vcpu, &mut 0u64).is_ok();
    (0..32).take_while(exists).count() as u32
}

/// The initial context of a vCPU (1–31) that has not been started yet: it runs `main` on its own stack in the
/// first vCPU's address space, with upcalls masked. Each call allocates a stack, which is never freed.
#[must_use]
pub fn context(vcpu: u32, main: Main) -> Option<Box<VcpuGuestContext>> {
    if vcpu == 0 || vcpu >= 32 {
        return None;
    }
    let mut context = Box::new(VcpuGuestContext::default());
    let stack = Box::leak(cpu::new_stack()?);
    let stack = core::ptr::from_ref(stack).expose_provenance();
    cpu::init_block(stack, vcpu);
    let root = mfn_of(pfn_of(from_long(start_info().pt_base)))?;
    let top = (stack + STACK_BYTES - CPU_BLOCK_BYTES) as u64;

    arch::fill(&mut context, main as usize, top, root);
    for entry in traps::table().iter().take(traps::VECTORS + 1) {
        context.trap_ctxt[usize::from(entry.vector)] = *entry;
    }
    Some(context)
}

/// Starts a vCPU (1–31) with [`context`].
///
/// # Errors
/// The errno that the hypervisor returned: ENOENT for a vCPU that the domain doesn't have, EEXIST for one that
/// was started before. EINVAL for 0 and above 31; ENOMEM.
pub fn start(vcpu: u32, main: Main) -> Result<(), Errno> {
    if vcpu == 0 || vcpu >= 32 {
        return Err(errno::EINVAL);
    }
    let mut context = context(vcpu, main).ok_or(errno::ENOMEM)?;
    hyper::vcpu_op(VCPUOP_INITIALISE, vcpu, &mut *context)?;
    hyper::vcpu_op(VCPUOP_UP, vcpu, &mut 0u64)?;
    Ok(())
}
