//! A 64-bit guest's bad frames. `last=callback` ends the domain by an event callback in the canonical hole instead,
//! `last=user` by user mode without a page table, `last=stack` by a kernel stack that isn't mapped.

use core::arch::asm;

use samples::Attack;
use xenlike_rt::abi::arch_x86::{
    FLAT_KERNEL_CS64, FLAT_KERNEL_SS64, FLAT_USER_CS64, FLAT_USER_SS64, SEGBASE_FS,
    SEGBASE_GS_KERNEL, SEGBASE_GS_USER, SEGBASE_GS_USER_SEL, TrapInfo,
};
use xenlike_rt::abi::callback::{
    CALLBACKOP_REGISTER, CALLBACKTYPE_EVENT, CALLBACKTYPE_FAILSAFE, CALLBACKTYPE_SYSCALL,
    CallbackRegister,
};
use xenlike_rt::abi::hypercall::{IRET, SET_SEGMENT_BASE, SET_TRAP_TABLE, STACK_SWITCH};
use xenlike_rt::abi::{Errno, GuestHandle};
use xenlike_rt::memory::{allocate_page, mfn_of, pfn_of};
use xenlike_rt::{args, events, hyper, time, traps};

const HOLE: u64 = 0x0000_8000_0000_0000;
const HYPERVISOR: u64 = 0xffff_8300_0000_0000;
const KERNEL_CS: u64 = FLAT_KERNEL_CS64 as u64;
const KERNEL_SS: u64 = FLAT_KERNEL_SS64 as u64;

/// The iret hypercall with a frame: rax, r11, rcx, flags, rip, cs, rflags, rsp, ss.
fn iret(frame: [u64; 9]) {
    // SAFETY: leads to an exception, or to `landing`, which traps too; both return through `attempt`.
    unsafe {
        asm!("mov rsp, {frame}", "syscall", "ud2", frame = in(reg) frame.as_ptr(), in("rax") IRET,
            options(noreturn));
    }
}

/// The target of a return that the hypervisor allowed.
extern "C" fn landing() {
    // SAFETY: traps, and `attempt` catches it.
    unsafe { asm!("ud2") };
}

fn frames() -> [(&'static str, [u64; 9]); 11] {
    let rip = landing as *const () as u64;
    // On the runtime's own stack, well below the part in use.
    let here = 0u64;
    let stack = (core::ptr::from_ref(&here).addr() as u64 & !63) - 8192;
    let good = [0, 0, 0, 0, rip, KERNEL_CS & !3, 0x2, stack, KERNEL_SS];
    let with = |index: usize, value| {
        let mut frame = good;
        frame[index] = value;
        frame
    };
    [
        ("rip in the hole", with(4, HOLE)),
        ("rip in the hypervisor", with(4, HYPERVISOR)),
        ("rip at the end of the lower half", with(4, HOLE - 1)),
        ("cs 0", with(5, 0)),
        ("cs of the hypervisor", with(5, 0xe008)),
        ("cs a data segment", with(5, KERNEL_SS & !3)),
        ("cs behind the GDT", with(5, 0xfff8)),
        ("cs in the LDT", with(5, 0x14)),
        ("ss of the hypervisor", with(8, 0xe010)),
        ("ss a code segment", with(8, KERNEL_CS)),
        ("flags with IOPL 3, NT, RF, VM, AC", with(6, 0x7_7002)),
    ]
}

fn segment_loads(attack: &mut Attack) {
    for selector in [0xe008u64, 0xe010, 0xe013, 0xfff8, 0xe040, 0x14, 0xffff] {
        let loaded = traps::attempt(|| {
            // SAFETY: 64-bit code doesn't use ds.
            unsafe { asm!("mov ds, {0:e}", in(reg) selector) };
        });
        attack.any("ds loaded", loaded);
        // SAFETY: segment registers other than fs and gs have no effect here, and gs is not used.
        let outcome = unsafe {
            let which = u64::from(SEGBASE_GS_USER_SEL);
            hyper::raw(SET_SEGMENT_BASE, [which, selector, 0, 0, 0])
        };
        attack.any("the user's gs", Errno::check(outcome));
    }
    for which in [SEGBASE_FS, SEGBASE_GS_KERNEL, SEGBASE_GS_USER] {
        for base in [HOLE, HOLE - 1, HYPERVISOR, u64::MAX] {
            // SAFETY: neither base is used here.
            let outcome =
                unsafe { hyper::raw(SET_SEGMENT_BASE, [u64::from(which), base, 0, 0, 0]) };
            let outcome = Errno::check(outcome);
            if base == HOLE {
                attack.refused("a segment base in the hole", outcome);
            } else {
                attack.any("a segment base at an edge", outcome);
            }
        }
    }
    let forbidden: [(&str, fn()); 6] = [
        // SAFETY: all of these must fault.
        ("lgdt", || unsafe { asm!("lgdt [{}]", in(reg) &[0u64; 2]) }),
        // SAFETY: as above.
        ("lidt", || unsafe { asm!("lidt [{}]", in(reg) &[0u64; 2]) }),
        // SAFETY: as above.
        ("ltr", || unsafe { asm!("ltr {0:x}", in(reg) 0xe040) }),
        // SAFETY: as above.
        ("lldt", || unsafe { asm!("lldt {0:x}", in(reg) 0xe050) }),
        // SAFETY: as above.
        ("wrmsr of LSTAR", || unsafe {
            asm!("wrmsr", in("ecx") 0xc000_0082u32, in("eax") 0, in("edx") 0);
        }),
        // SAFETY: as above.
        ("int 0x82", || unsafe { asm!("int 0x82") }),
    ];
    for (name, action) in forbidden {
        attack.any(name, traps::attempt(action));
    }
}

/// Descriptors that would reach ring 0, in a page that is not used afterwards.
fn descriptors(attack: &mut Attack) {
    let page = allocate_page().expect("a page").expose_provenance() as u64;
    let machine = mfn_of(pfn_of(page)).expect("the domain's") << 12;
    for (name, descriptor) in [
        ("a ring-0 code segment", 0x00af_9b00_0000_ffffu64),
        ("a ring-1 data segment", 0x00cf_b300_0000_ffff),
        ("a call gate", 0x0000_ec00_e008_0000),
        ("an interrupt gate", 0x0000_ee00_e008_0000),
        ("a task state segment", 0x0000_8900_0000_0067),
        ("a local descriptor table", 0x0000_8200_0000_ffff),
    ] {
        // SAFETY: the page belongs to this guest and isn't a descriptor table.
        let (outcome, stored) = unsafe {
            let outcome = hyper::update_descriptor(machine, descriptor);
            let slot = core::ptr::with_exposed_provenance::<u64>(page as usize);
            (outcome, slot.read_volatile())
        };
        // A code or data segment that was changed to privilege 3 is as good as a refusal.
        let harmless = stored >> 44 & 1 == 1 && stored >> 45 & 3 == 3;
        match outcome {
            Ok(_) if harmless => attack.any(name, outcome),
            outcome => attack.refused(name, outcome),
        }
    }
}

fn register(kind: u32, address: u64) -> Result<u64, Errno> {
    let mut callback = CallbackRegister {
        type_: kind as u16,
        address,
        ..CallbackRegister::default()
    };
    hyper::callback_op(CALLBACKOP_REGISTER, &mut callback)
}

fn last(attack: &mut Attack) {
    let last = args::value("last").unwrap_or("iret");
    match last {
        "callback" => {
            attack.expects_death("an event callback into nowhere");
            let outcome = register(CALLBACKTYPE_EVENT, 0x1000);
            attack.any("the callback", outcome);
            events::open();
            time::sleep(100_000_000);
            // SAFETY: no entry of the trap table is valid any more.
            unsafe { asm!("int3") };
        }
        "user" => {
            attack.expects_death("user mode without a page table");
            let (cs, ss) = (u64::from(FLAT_USER_CS64), u64::from(FLAT_USER_SS64));
            iret([0, 0, 0, 0, 0x1000, cs, 0x202, 0x2000, ss]);
        }
        "stack" => {
            attack.expects_death("an exception on a stack that is not there");
            // SAFETY: never returns.
            unsafe { asm!("mov rsp, {0}", "ud2", in(reg) 0x1000u64, options(noreturn)) };
        }
        _ => {
            attack.expects_death("an iret frame in the hypervisor's range");
            // SAFETY: never returns.
            unsafe {
                asm!("mov rsp, {0}", "syscall", "ud2", in(reg) HYPERVISOR, in("rax") IRET,
                    options(noreturn));
            }
        }
    }
}

pub fn attack() {
    let mut attack = Attack::new("hostile-iret", "load what no return may load");
    for (name, frame) in frames() {
        let outcome = traps::attempt(|| iret(frame));
        attack.any(name, outcome);
    }
    segment_loads(&mut attack);
    descriptors(&mut attack);
    for kind in [
        CALLBACKTYPE_EVENT,
        CALLBACKTYPE_FAILSAFE,
        CALLBACKTYPE_SYSCALL,
    ] {
        attack.refused("a callback in the hole", register(kind, HOLE));
    }
    for kind in [6, 8, 100, 0xffff] {
        attack.refused("a callback of no kind", register(kind, 0x1000));
    }
    // A ring-0 selector in the trap table must be refused, or changed to ring 3.
    let table = [
        TrapInfo {
            vector: 1,
            flags: 0,
            cs: 0xe008,
            address: 0x1000,
            ..TrapInfo::default()
        },
        TrapInfo::default(),
    ];
    // SAFETY: changes only the handler of #DB, which is never raised.
    let outcome = unsafe { hyper::raw(SET_TRAP_TABLE, [GuestHandle::of(&table).0, 0, 0, 0, 0]) };
    attack.any(
        "a handler in the hypervisor's segment",
        Errno::check(outcome),
    );
    for stack in [HOLE, HYPERVISOR] {
        // SAFETY: kernel_sp is only used by entries from user mode, which doesn't run here.
        let outcome = unsafe { hyper::raw(STACK_SWITCH, [KERNEL_SS, stack, 0, 0, 0]) };
        attack.any("a kernel stack out of bounds", Errno::check(outcome));
    }
    last(&mut attack);
    attack.survived("the last step");
}
