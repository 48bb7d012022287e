//! A 32-bit guest's bad frames, segments and descriptors, from ring 1. `last=callback` ends the domain by an event
//! callback into nowhere instead, `last=stack` by a kernel stack that isn't mapped, `last=ring0` and `last=vm86` by a
//! return to where no guest may be, `last=odd stack=N` by an exception on an odd stack, `last=handler cs=N` by handlers
//! whose segment can't be loaded.

use core::arch::asm;

use samples::{Attack, HYPERVISOR};
use xenlike_rt::abi::arch_x86::{
    Callback, FLAT_KERNEL_CS, FLAT_KERNEL_SS, FLAT_USER_CS, FLAT_USER_SS, TrapInfo, VIRT_START,
};
use xenlike_rt::abi::callback::{
    CALLBACKOP_REGISTER, CALLBACKTYPE_EVENT, CALLBACKTYPE_FAILSAFE, CallbackRegister,
};
use xenlike_rt::abi::hypercall::{IRET, SET_GDT, SET_SEGMENT_BASE, SET_TRAP_TABLE, STACK_SWITCH};
use xenlike_rt::abi::xen::{MMUEXT_SET_LDT, MmuextOp};
use xenlike_rt::abi::{Errno, GuestHandle};
use xenlike_rt::memory::{allocate_page, mfn_of, pfn_of};
use xenlike_rt::{args, events, hyper, paging, time, traps};

const KERNEL_CS: u32 = FLAT_KERNEL_CS as u32;
const KERNEL_SS: u32 = FLAT_KERNEL_SS as u32;
const USER_CS: u32 = FLAT_USER_CS as u32;
const USER_SS: u32 = FLAT_USER_SS as u32;
/// EFLAGS bits: IOPL 3, NT, VM.
const IOPL: u32 = 3 << 12;
const NESTED: u32 = 1 << 14;
const VM86: u32 = 1 << 17;

/// The iret hypercall with a frame: eax, eip, cs, eflags, esp, ss.
fn by_hypercall(frame: [u32; 6]) {
    // SAFETY: leads to an exception, or to `landing`, which traps too; both return through `attempt`.
    unsafe {
        asm!("mov esp, {frame}", "int 0x82", "ud2", frame = in(reg) frame.as_ptr(), in("eax") IRET as u32,
            options(noreturn));
    }
}

/// The iret instruction with the same frame.
fn by_instruction(frame: [u32; 6]) {
    // SAFETY: as in `by_hypercall`.
    unsafe {
        asm!("lea esp, [{frame} + 4]", "iretd", frame = in(reg) frame.as_ptr(), options(noreturn));
    }
}

/// A far return with the frame's selector.
fn by_far_return(frame: [u32; 6]) {
    // SAFETY: as in `by_hypercall`.
    unsafe {
        asm!("lea esp, [{frame} + 4]", "retf", frame = in(reg) frame.as_ptr(), options(noreturn));
    }
}

/// Makes frames of outer rings that fault be pushed to the part of this stack that is this many bytes below the one in
/// use. Returns the hypercall's answer.
fn switch_stack_below(bytes: u64) -> i64 {
    let here = 0u64;
    let stack = (core::ptr::from_ref(&here).addr() as u64 & !63) - bytes;
    // SAFETY: only such frames are pushed there.
    unsafe { hyper::raw(STACK_SWITCH, [KERNEL_SS.into(), stack, 0, 0, 0]) }
}

/// Reads an MSR.
///
/// # Safety
/// Reading it must have no effect.
unsafe fn read_msr(number: u32) {
    // SAFETY: the caller's promise.
    unsafe { asm!("rdmsr", in("ecx") number, out("eax") _, out("edx") _) };
}

/// The target of a return that was allowed.
extern "C" fn landing() {
    // SAFETY: traps, and `attempt` catches it.
    unsafe { asm!("ud2") };
}

fn frames() -> [(&'static str, [u32; 6]); 17] {
    let eip = landing as *const () as usize as u32;
    // On the runtime's own stack, well below the part in use.
    let here = 0u64;
    let stack = (core::ptr::from_ref(&here).addr() as u32 & !63) - 8192;
    let good = [0, eip, KERNEL_CS, 0x2, stack, KERNEL_SS];
    let with = |index: usize, value| {
        let mut frame = good;
        frame[index] = value;
        frame
    };
    [
        ("a good frame", good),
        ("eip in the M2P", with(1, 0xf580_0000)),
        ("eip in the hypervisor", with(1, HYPERVISOR as u32)),
        ("eip at the end", with(1, 0xffff_ffff)),
        ("cs 0", with(2, 0)),
        ("cs of ring 0", with(2, KERNEL_CS & !3)),
        ("cs of ring 2", with(2, KERNEL_CS & !3 | 2)),
        ("cs of the hypervisor", with(2, 0xe008)),
        ("cs of the hypervisor, ring 1", with(2, 0xe009)),
        ("cs a data segment", with(2, KERNEL_SS)),
        ("cs behind the GDT", with(2, 0xfff9)),
        ("cs in the LDT", with(2, 0x15)),
        ("flags with IOPL 3 and NT", with(3, 0x2 | IOPL | NESTED)),
        ("virtual 8086 mode", with(3, 0x2 | VM86)),
        ("user mode on a kernel stack", with(2, USER_CS)),
        ("user mode on no stack", [0, eip, USER_CS, 0x202, stack, 0]),
        (
            "user mode on the hypervisor's stack",
            [0, eip, USER_CS, 0x202, stack, 0xe010],
        ),
    ]
}

fn segment_loads(attack: &mut Attack) {
    for selector in [
        0xe008u32, 0xe009, 0xe010, 0xe011, 0xe013, 0xe020, 0xe022, 0xe040, 0xfff9, 0x15, 0xffff,
    ] {
        // SAFETY: nothing uses gs, and ds is put back; a fault ends the attempt, which puts it back too.
        let loaded = traps::attempt(|| unsafe {
            asm!("mov gs, {0:e}", "push ds", "mov ds, {0:e}", "pop ds", in(reg) selector);
        });
        attack.any("a data segment loaded", loaded);
        // SAFETY: as above, for the stack segment; the stack pointer stays.
        let loaded = traps::attempt(|| unsafe {
            asm!("mov {1:e}, ss", "mov ss, {0:e}", "mov ss, {1:e}", in(reg) selector, out(reg) _);
        });
        attack.any("a stack segment loaded", loaded);
    }
    let forbidden: [(&str, fn()); 13] = [
        // SAFETY: all of these must fault, or do what an unprivileged program may do.
        ("lgdt", || unsafe { asm!("lgdt [{}]", in(reg) &[0u64; 2]) }),
        // SAFETY: as above.
        ("lidt", || unsafe { asm!("lidt [{}]", in(reg) &[0u64; 2]) }),
        // SAFETY: as above.
        ("ltr", || unsafe { asm!("ltr {0:x}", in(reg) 0xe040) }),
        // SAFETY: as above.
        ("lldt", || unsafe { asm!("lldt {0:x}", in(reg) 0xe050) }),
        // SAFETY: as above.
        ("wrmsr of SYSENTER_EIP", || unsafe {
            asm!("wrmsr", in("ecx") 0x176, in("eax") 0, in("edx") 0);
        }),
        // SAFETY: as above.
        ("a load of CR3", || unsafe {
            asm!("mov cr3, {}", in(reg) 0)
        }),
        // SAFETY: as above.
        ("paging off", || unsafe {
            asm!("mov cr0, {}", in(reg) 0x8001_003b_u32 & !(1 << 31))
        }),
        // SAFETY: as above.
        ("invlpg", || unsafe {
            asm!("invlpg [{}]", in(reg) 0xf580_0000_u32)
        }),
        // SAFETY: as above.
        ("sysexit", || unsafe {
            asm!("sysexit", in("ecx") 0, in("edx") 0)
        }),
        // SAFETY: as above.
        ("into", || unsafe {
            asm!("mov al, 127", "add al, 1", ".byte 0xce", out("al") _)
        }),
        // SAFETY: as above.
        ("bound", || unsafe {
            asm!("bound {}, [{}]", in(reg) 5, in(reg) &[0u32, 1])
        }),
        // SAFETY: as above.
        ("a far call to the hypervisor", || unsafe {
            asm!(".byte 0x9a", ".long 0", ".short 0xe008", options(noreturn));
        }),
        // SAFETY: as above.
        ("an interrupt gate of the hypervisor", || unsafe {
            asm!("int 0x81")
        }),
    ];
    for (name, action) in forbidden {
        attack.any(name, traps::attempt(action));
    }
    let msrs: [(&str, fn()); 4] = [
        // SAFETY: all of these must fault: the CPU's registers are those of another guest.
        ("a read of the base of FS", || unsafe {
            read_msr(0xc000_0100)
        }),
        // SAFETY: as above.
        ("a read of the base of GS", || unsafe {
            read_msr(0xc000_0101)
        }),
        // SAFETY: as above.
        ("a read of the other base of GS", || unsafe {
            read_msr(0xc000_0102)
        }),
        // SAFETY: as above.
        ("a write of the base of GS", || unsafe {
            asm!("wrmsr", in("ecx") 0xc000_0101_u32, in("eax") 0, in("edx") 0);
        }),
    ];
    for (name, action) in msrs {
        attack.holds(name, traps::attempt(action).is_err());
    }
    for which in 0..4 {
        // SAFETY: must be refused; a 32-bit guest uses descriptors.
        let outcome = unsafe { hyper::raw(SET_SEGMENT_BASE, [which, HYPERVISOR, 0, 0, 0]) };
        attack.refused("a segment base", Errno::check(outcome));
    }
}

/// Whether ring 0 could not be reached by a descriptor, or 64-bit code run: a code or data segment of ring 1 to 3
/// without the long bit.
const fn is_harmless(descriptor: u64) -> bool {
    descriptor >> 44 & 1 == 1 && descriptor >> 45 & 3 != 0 && descriptor >> 53 & 1 == 0
}

/// Descriptors that would reach ring 0 or 64-bit mode, in a page that is not used afterwards.
fn descriptors(attack: &mut Attack) {
    let page = allocate_page().expect("a page").expose_provenance() as u64;
    let machine = mfn_of(pfn_of(page)).expect("the domain's") << 12;
    for (name, descriptor) in [
        ("a ring-0 code segment", 0x00cf_9b00_0000_ffffu64),
        ("a ring-0 conforming code segment", 0x00cf_9f00_0000_ffff),
        ("a ring-1 conforming code segment", 0x00cf_bf00_0000_ffff),
        ("a ring-1 64-bit code segment", 0x00af_bb00_0000_ffff),
        ("a ring-3 64-bit code segment", 0x00af_fb00_0000_ffff),
        ("a ring-0 data segment", 0x00cf_9300_0000_ffff),
        ("a ring-0 stack that expands down", 0x00cf_9700_0000_0000),
        ("a call gate into the hypervisor", 0x0000_ec00_e008_0000),
        ("a 16-bit call gate", 0x0000_e400_e008_0000),
        ("an interrupt gate", 0x0000_ee00_e008_0000),
        ("a task gate", 0x0000_e500_e040_0000),
        ("a task state segment", 0x0000_8900_0000_0067),
        ("a local descriptor table", 0x0000_8200_0000_ffff),
    ] {
        // SAFETY: the page belongs to this guest and isn't a descriptor table.
        let (outcome, stored) = unsafe {
            let outcome = hyper::update_descriptor(machine, descriptor);
            let slot = core::ptr::with_exposed_provenance::<u64>(page as usize);
            (outcome, slot.read_volatile())
        };
        match outcome {
            Ok(_) if is_harmless(stored) => attack.any(name, outcome),
            outcome => attack.refused(name, outcome),
        }
    }
}

/// An exception on a stack of the guest's own table, which is short, expands down or has a base that makes addresses wrap
/// into the hypervisor's range. It may end the domain, since the handler runs on that stack, too.
fn odd_stack(attack: &mut Attack, which: u32) -> ! {
    let page = allocate_page().expect("a page");
    let address = page.expose_provenance() as u64;
    let mfn = mfn_of(pfn_of(address)).expect("the domain's");
    let entries = [
        0,
        // One page, from 0 on.
        0x0040_b300_0000_0fff_u64,
        // Base 0x80000000: an offset of the kernel's wraps to its user half.
        0x80cf_b300_0000_ffff,
        // Base 0xf0000000, byte limit 0xfffff: offsets reach into the hypervisor.
        0xf04f_b300_0000_ffff,
        // Expands down to 0: all offsets are beyond the limit.
        0x00cf_b700_0000_ffff,
        // 16-bit stack.
        0x008f_b300_0000_ffff,
    ];
    // SAFETY: the page belongs to this function, and is not written afterwards.
    unsafe {
        for (n, entry) in entries.iter().enumerate() {
            page.cast::<u64>().add(n).write(*entry);
        }
        paging::make_read_only(address).expect("read-only");
    }
    let frames = [mfn as u32];
    // SAFETY: the runtime uses only the hypervisor's flat selectors.
    let set = unsafe { hyper::raw(SET_GDT, [GuestHandle::of(&frames).0.into(), 512, 0, 0, 0]) };
    attack.holds("a table of odd segments", set == 0);
    let selector = which << 3 | 1;
    attack.expects_death("an exception on an odd stack");
    // SAFETY: the exception ends the attempt, or the domain.
    let outcome = traps::attempt(|| unsafe {
        asm!("mov ss, {0:e}", "ud2", in(reg) selector, options(noreturn));
    });
    attack.any("which it survived", outcome);
    xenlike_rt::poweroff();
}

/// An exception whose handler is in a segment that can't be loaded. The exception which that raises has such a handler,
/// too, and so on: a hypervisor that enters one after the other never runs the guest, nor anything else on this CPU.
fn bad_handlers(attack: &mut Attack, cs: u16) {
    let handler = |vector| TrapInfo {
        vector,
        cs,
        address: 0x1000,
        ..TrapInfo::default()
    };
    let table = [6, 8, 10, 11, 12, 13, 14].map(handler);
    let mut ended = [TrapInfo::default(); 8];
    ended[..7].copy_from_slice(&table);
    let pointer = GuestHandle::of(&ended).0.into();
    let set = switch_stack_below(16384);
    attack.holds("a kernel stack", set == 0);
    attack.expects_death("handlers in a segment that can't be loaded");
    // SAFETY: the exception that follows ends the domain.
    let set = unsafe { hyper::raw(SET_TRAP_TABLE, [pointer, 0, 0, 0, 0]) };
    attack.holds("the handlers", set == 0);
    // SAFETY: never returns.
    unsafe { asm!("ud2", options(noreturn)) };
}

/// Local descriptor tables in the machine-to-physical table, whose words a guest chooses, and behind it: nothing can be
/// loaded from them.
fn foreign_tables(attack: &mut Attack) {
    for address in [
        VIRT_START as u32,
        VIRT_START as u32 + 0x1000,
        HYPERVISOR as u32,
    ] {
        let op = MmuextOp {
            cmd: MMUEXT_SET_LDT,
            arg1: address,
            arg2: 8192,
            ..MmuextOp::default()
        };
        // SAFETY: the runtime uses no selector of an LDT.
        attack.any("a table that isn't ours", unsafe {
            hyper::mmuext_op(&[op])
        });
        for selector in (5u32..0x2000).step_by(0x88) {
            let mut found = 0u8;
            // SAFETY: loads nothing with the descriptor; a fault ends the attempt.
            let looked = traps::attempt(|| unsafe {
                asm!("lsl {0:e}, {1:e}", "setz {2}", out(reg) _, in(reg) selector, out(reg_byte) found);
            });
            if looked.is_ok() && found != 0 {
                attack.holds("no descriptor is found in it", false);
            }
        }
        // SAFETY: nothing uses gs.
        let loaded = traps::attempt(|| unsafe { asm!("mov gs, {0:e}", in(reg) 0xd) });
        attack.holds("no segment is loaded from it", loaded.is_err());
    }
}

fn register(kind: u32, cs: u32, eip: u32) -> Result<u64, Errno> {
    let mut callback = CallbackRegister {
        type_: kind as u16,
        address: Callback { cs, eip },
        ..CallbackRegister::default()
    };
    hyper::callback_op(CALLBACKOP_REGISTER, &mut callback)
}

fn last(attack: &mut Attack) {
    match args::value("last").unwrap_or("iret") {
        "callback" => {
            attack.expects_death("an event callback into nowhere");
            let outcome = register(CALLBACKTYPE_EVENT, KERNEL_CS, 0x1000);
            attack.any("the callback", outcome);
            events::open();
            time::sleep(100_000_000);
            // SAFETY: no entry of the trap table is valid any more.
            unsafe { asm!("int3") };
        }
        "handler" => bad_handlers(attack, args::number("cs", 0) as u16),
        "odd" => odd_stack(attack, args::number("stack", 1) as u32),
        "ring0" => {
            attack.expects_death("a return to ring 0");
            by_hypercall([0, 0x1000, KERNEL_CS & !3, 0x2, 0, 0]);
        }
        "vm86" => {
            attack.expects_death("a return to virtual 8086 mode");
            by_hypercall([0, 0x1000, KERNEL_CS, 0x2 | VM86, 0, 0]);
        }
        "stack" => {
            attack.expects_death("an exception on a stack that is not there");
            // SAFETY: never returns.
            unsafe { asm!("mov esp, {0}", "ud2", in(reg) 0x1000, options(noreturn)) };
        }
        _ => {
            attack.expects_death("an iret frame in the hypervisor's range");
            // SAFETY: never returns.
            unsafe {
                asm!("mov esp, {0}", "int 0x82", "ud2", in(reg) HYPERVISOR as u32,
                    in("eax") IRET as u32, options(noreturn));
            }
        }
    }
}

/// All attempts of a 32-bit guest.
pub fn attack() {
    let mut attack = Attack::new("hostile-iret", "load what no return may load");
    let set = switch_stack_below(16384);
    attack.holds("a kernel stack", set == 0);
    for (name, frame) in frames() {
        // By hypercall, ring 0 and virtual 8086 mode end the domain.
        if frame[2] & 3 != 0 && frame[3] & VM86 == 0 {
            attack.any(name, traps::attempt(|| by_hypercall(frame)));
        }
        attack.any(name, traps::attempt(|| by_instruction(frame)));
        attack.any(name, traps::attempt(|| by_far_return(frame)));
    }
    segment_loads(&mut attack);
    descriptors(&mut attack);
    for (cs, eip) in [(0, 0x1000), (0xe008, 0x1000), (0xe009, 0), (0x10_e019, 0)] {
        attack.any("a callback", register(CALLBACKTYPE_FAILSAFE, cs, eip));
    }
    for kind in [6, 8, 100, 0xffff] {
        attack.refused("a callback of no kind", register(kind, KERNEL_CS, 0x1000));
    }
    // A ring-0 selector in the trap table must be refused, or changed to ring 1.
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
    let pointer = GuestHandle::of(&table).0.into();
    // SAFETY: changes only the handler of #DB, which is never raised.
    let outcome = unsafe { hyper::raw(SET_TRAP_TABLE, [pointer, 0, 0, 0, 0]) };
    attack.any(
        "a handler in the hypervisor's segment",
        Errno::check(outcome),
    );
    for (ss, esp) in [
        (KERNEL_SS, HYPERVISOR),
        (0, 0),
        (0xe010, 0x1000),
        (USER_SS, 0),
    ] {
        // SAFETY: the kernel stack is only used by entries from user mode, which doesn't run here.
        let outcome = unsafe { hyper::raw(STACK_SWITCH, [ss.into(), esp, 0, 0, 0]) };
        attack.any("a bad kernel stack", Errno::check(outcome));
    }
    foreign_tables(&mut attack);
    last(&mut attack);
    attack.survived("the last step");
}
