//! The IDT of the first moments. An exception that the exception table expects continues at its landing; any other is a
//! panic with the registers. `entry` replaces this IDT.
#![expect(unsafe_code, reason = "trap stubs")]

use core::arch::global_asm;

use crate::arch::desc::{self, Gate, Idt};
use crate::arch::frame::TrapFrame;
use crate::arch::percpu::Ist;
use crate::arch::{cr, extable, stop};
use crate::console::later;
use crate::kit::Once;

const VECTORS: usize = 32;
const STUB_BYTES: u64 = 16;
const DOUBLE_FAULT: u64 = 8;
const NMI: u32 = 2;

unsafe extern "C" {
    static boot_trap_stubs: u8;
}

global_asm!(
    r#"
.section .text.boot_traps, "ax"
.balign 16
boot_trap_stubs:
.set v, 0
.rept {vectors}
    .balign 16
    .if (v != 8) && (v != 10) && (v != 11) && (v != 12) && (v != 13) && (v != 14) && (v != 17) && (v != 21) && (v != 29) && (v != 30)
    push 0
    .endif
    mov dword ptr [rsp + 4], v
    jmp boot_trap
    .set v, v + 1
.endr
boot_trap:
    push rdi
    push rsi
    push rdx
    push rcx
    push rax
    push r8
    push r9
    push r10
    push r11
    push rbx
    push rbp
    push r12
    push r13
    push r14
    push r15
    cld
    mov rdi, rsp
    sub rsp, 8
    call {handle}
    add rsp, 8
    pop r15
    pop r14
    pop r13
    pop r12
    pop rbp
    pop rbx
    pop r11
    pop r10
    pop r9
    pop r8
    pop rax
    pop rcx
    pop rdx
    pop rsi
    pop rdi
    add rsp, 8
    iretq
"#,
    vectors = const VECTORS,
    handle = sym handle,
);

static IDT: Once<Idt> = Once::new();

/// Loads the IDT of the first moments on this CPU. The core's segments and TSS are loaded already.
#[inline(never)] // keeps its frame, which holds a table, off the caller
pub fn load() {
    let idt = IDT.call_once(table);
    // SAFETY: the gates lead to the stubs above.
    unsafe { desc::load_idt(idt) };
}

fn table() -> Idt {
    let stubs = &raw const boot_trap_stubs as u64;
    let mut gates = [Gate::default(); 256];
    for (gate, n) in gates.iter_mut().zip(0..VECTORS as u64) {
        // A double fault may mean that the stack is exhausted.
        let ist = if n == DOUBLE_FAULT {
            Ist::DoubleFault as u8
        } else {
            0
        };
        *gate = Gate::interrupt(stubs + n * STUB_BYTES, ist, 0);
    }
    Idt(gates)
}

extern "sysv64" fn handle(frame: &mut TrapFrame) {
    if frame.vector == NMI {
        stop::stop_if_told();
        return later::unknown_nmi();
    }
    match extable::lookup(frame.rip) {
        Some(landing) => frame.rip = landing,
        None => crate::boot::panic::trapped(frame, cr::cr2()),
    }
}
