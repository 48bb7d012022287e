//! Claim: none; it measures. Each operation's cost in TSC ticks (executed instructions under QEMU's
//! `-icount shift=0`): the best of 5 loops of 1000, with the guest's own stub and handler in it.
//! The same binary runs as a domain of xenlike and of real Xen.

#![no_std]
#![no_main]
#![expect(
    unsafe_code,
    reason = "times single instructions and raw page-table updates"
)]

use core::arch::{asm, global_asm};
use core::sync::atomic::AtomicU8;

use xenlike_rt::abi::event_channel::EVTCHNOP_SEND;
use xenlike_rt::abi::event_channel::EvtchnSend;
use xenlike_rt::abi::version::XENVER_VERSION;
use xenlike_rt::abi::xen::{
    DOMID_SELF, MMUEXT_INVLPG_LOCAL, MMUEXT_TLB_FLUSH_LOCAL, MmuUpdate, MmuextOp, MulticallEntry,
    UVMF_INVLPG, UVMF_NONE,
};
use xenlike_rt::abi::{arch_x86, hypercall};
use xenlike_rt::paging::{RAM_FLAGS, READ_ONLY_FLAGS};
use xenlike_rt::traps::{self, TrapFrame};
use xenlike_rt::user::{AddressSpace, Use};
use xenlike_rt::{entry_tsc, events, hyper, memory, paging, println, user};

xenlike_rt::entry!(main);

const LOOPS: u64 = 1000;
const ROUNDS: u64 = 5;

/// A page whose mapping is changed.
#[repr(C, align(4096))]
struct Page([AtomicU8; 4096]);

static PAGE: Page = Page([const { AtomicU8::new(0) }; 4096]);

fn tsc() -> u64 {
    // SAFETY: reading the counter has no effect.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Prints the cost of one `action`.
fn measure(name: &str, mut action: impl FnMut()) {
    let mut best = u64::MAX;
    for _ in 0..ROUNDS {
        let start = tsc();
        for _ in 0..LOOPS {
            action();
        }
        best = best.min(tsc().wrapping_sub(start));
    }
    println!("bench {name} {}", best / LOOPS);
}

/// A hypercall whose arguments have no effect on memory that Rust knows of.
fn call(number: u64, arguments: [u64; 5]) {
    // SAFETY: the callers pass flags, selectors and addresses of entries that map `PAGE` alone.
    let answer = unsafe { hyper::raw(number, arguments) };
    assert!(answer >= 0, "hypercall {number}: {answer}");
}

fn main() {
    println!("bench entry_tsc {}", entry_tsc());
    calls();
    page_tables();
    exceptions();
    instructions();
    user_mode();
    println!("PASS bench");
}

fn calls() {
    let version = u64::from(XENVER_VERSION);
    measure("xen_version", || {
        call(hypercall::XEN_VERSION, [version, 0, 0, 0, 0]);
    });
    let entry = MulticallEntry {
        op: hypercall::XEN_VERSION,
        args: [version, 0, 0, 0, 0, 0],
        ..MulticallEntry::default()
    };
    let mut batch = [entry; 8];
    measure("multicall_8_xen_version", || {
        // SAFETY: xen_version without a buffer.
        let _ = unsafe { hyper::multicall(&mut batch) };
    });
    measure("sched_yield", hyper::yield_now);
    let unbound = events::alloc_unbound(DOMID_SELF).expect("a port");
    let port = events::bind_interdomain(DOMID_SELF, unbound).expect("its other end");
    events::mask_port(unbound);
    measure("event_send_masked", || {
        let _ = hyper::event_channel_op(EVTCHNOP_SEND, &mut EvtchnSend { port });
    });
    let stack = u64::from(arch_x86::FLAT_KERNEL_SS64);
    measure("stack_switch", || {
        call(hypercall::STACK_SWITCH, [stack, stack_top(), 0, 0, 0]);
    });
    let segment = u64::from(arch_x86::SEGBASE_FS);
    measure("set_segment_base", || {
        call(hypercall::SET_SEGMENT_BASE, [segment, 0, 0, 0, 0]);
    });
    measure("fpu_taskswitch", || {
        call(hypercall::FPU_TASKSWITCH, [0; 5]);
    });
    measure("set_timer_0", || {
        let _ = hyper::set_timer(0);
    });
}

/// The runtime's stack for entries from user mode: where this function runs will do.
fn stack_top() -> u64 {
    let stack_pointer: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, rsp", out(reg) stack_pointer, options(nomem, nostack)) };
    stack_pointer & !15
}

fn page_tables() {
    let address = core::ptr::from_ref(&PAGE).expose_provenance() as u64;
    let frame = memory::mfn_of(memory::pfn_of(address)).expect("the page's frame") << 12;
    let slot = paging::entry_machine_address(address).expect("the page's entry");
    let (writable, read_only) = (frame | RAM_FLAGS, frame | READ_ONLY_FLAGS);
    let update = |entry: u64, flags: u64| {
        call(hypercall::UPDATE_VA_MAPPING, [address, entry, flags, 0, 0]);
    };
    measure("update_va_mapping", || update(writable, UVMF_NONE));
    measure("update_va_mapping_invlpg", || update(writable, UVMF_INVLPG));
    let mut toggle = false;
    measure("update_va_mapping_toggle", || {
        toggle = !toggle;
        update(if toggle { read_only } else { writable }, UVMF_INVLPG);
    });
    update(writable, UVMF_INVLPG);
    let one = |entry| MmuUpdate {
        ptr: slot,
        val: entry,
    };
    measure("mmu_update_1", || {
        toggle = !toggle;
        // SAFETY: the entry maps `PAGE` to its own frame, whatever its flags; nobody writes to it.
        let _ = unsafe {
            hyper::mmu_update(
                &[one(if toggle { read_only } else { writable })],
                DOMID_SELF,
            )
        };
    });
    let batch: [MmuUpdate; 32] =
        core::array::from_fn(|n| one(if n % 2 == 0 { read_only } else { writable }));
    measure("mmu_update_32", || {
        // SAFETY: as above.
        let _ = unsafe { hyper::mmu_update(&batch, DOMID_SELF) };
    });
    for (name, cmd) in [
        ("invlpg_local", MMUEXT_INVLPG_LOCAL),
        ("tlb_flush_local", MMUEXT_TLB_FLUSH_LOCAL),
    ] {
        let request = MmuextOp {
            cmd,
            arg1: address,
            ..MmuextOp::default()
        };
        measure(name, || {
            // SAFETY: a flush.
            let _ = unsafe { hyper::mmuext_op(&[request]) };
        });
    }
    trapped_write(slot, writable, read_only);
}

/// Stores to the page's entry itself, which the hypervisor traps and carries out.
fn trapped_write(slot: u64, writable: u64, read_only: u64) {
    let table = memory::direct(memory::pfn_of_mfn(slot >> 12)) + (slot & 0xfff);
    let entry = core::ptr::with_exposed_provenance_mut::<u64>(table as usize);
    let mut toggle = false;
    measure("trapped_pte_write", || {
        toggle = !toggle;
        // SAFETY: the entry maps `PAGE` to its own frame, whatever its flags.
        unsafe { entry.write_volatile(if toggle { read_only } else { writable }) };
    });
}

/// Goes on behind the two-byte instruction that faulted.
fn skip_two(frame: &mut TrapFrame) {
    frame.rip = frame.rip.wrapping_add(2);
}

fn nothing(_: &mut TrapFrame) {}

fn exceptions() {
    traps::on(traps::INVALID_OPCODE, skip_two);
    traps::on(traps::PAGE_FAULT, skip_two);
    traps::on(traps::BREAKPOINT, nothing);
    // SAFETY: each of them faults, and the handler goes on behind it with all registers restored.
    measure("ud2_bounce", || unsafe { asm!("ud2") });
    // SAFETY: as above. `mov al, [rax]` has two bytes; al is given up.
    measure("page_fault_bounce", || unsafe {
        asm!("mov al, [rax]", inout("rax") 16_u64 => _);
    });
    // SAFETY: as above.
    measure("int3_bounce", || unsafe { asm!("int3") });
}

fn instructions() {
    measure("cpuid_forced", || {
        // SAFETY: the forced-emulation prefix (arch-x86/xen.h, XEN_CPUID) and cpuid, leaf 1.
        unsafe {
            asm!("push rbx", ".byte 0x0f, 0x0b, 0x78, 0x65, 0x6e", "cpuid", "pop rbx",
                inout("eax") 1 => _, inout("ecx") 0 => _, out("edx") _);
        }
    });
    measure("rdmsr_efer", || {
        // SAFETY: the hypervisor emulates the read.
        unsafe {
            asm!("rdmsr", in("ecx") 0xc000_0080_u32, out("eax") _, out("edx") _, options(nomem, nostack));
        }
    });
    measure("read_cr0", || {
        // SAFETY: the hypervisor emulates the read.
        unsafe { asm!("mov {}, cr0", out(reg) _, options(nomem, nostack)) };
    });
}

const CODE: u64 = 0x40_0000;
const STACK_TOP: u64 = 0x80_0000;

// Makes LOOPS system calls with rax = 1 and ends with rax = 2, rdi = the ticks they took.
global_asm!(
    r#"
    .pushsection .text.process, "ax", @progbits
    .balign 4096
    .global bench_process
    bench_process:
        rdtsc
        shl rdx, 32
        or rax, rdx
        mov r12, rax
        mov ebx, {loops}
    2:  mov eax, 1
        syscall
        dec ebx
        jnz 2b
        rdtsc
        shl rdx, 32
        or rax, rdx
        sub rax, r12
        mov rdi, rax
        mov eax, 2
        syscall
        ud2
    .balign 4096
    .popsection
    "#,
    loops = const LOOPS,
);

unsafe extern "C" {
    safe static bench_process: u8;
}

fn system_call(frame: &mut TrapFrame) {
    if frame.rax == 2 {
        user::leave(frame.rdi);
    }
}

fn user_mode() {
    traps::on_syscall(system_call);
    let space = AddressSpace::new().expect("an address space");
    let stack = memory::allocate_page().expect("a page");
    let code = &raw const bench_process;
    space.map(CODE, code, Use::Code).expect("code");
    let data = Use::Data(paging::Access::ReadWrite);
    space.map(STACK_TOP - 4096, stack, data).expect("a stack");
    let mut best = u64::MAX;
    for _ in 0..ROUNDS {
        best = best.min(space.run(CODE, STACK_TOP).expect("user mode"));
    }
    println!("bench user_syscall {}", best / LOOPS);
}
