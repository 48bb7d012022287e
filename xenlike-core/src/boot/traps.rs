//! The IDT of the first moments. An exception that the exception table expects continues at its landing; any other is a
//! panic with the registers. `entry` replaces this IDT.
#![expect(unsafe_code, reason = "trap stubs")]

use core::arch::global_asm;
use core::mem::offset_of;

use crate::arch::desc::{self, Gate, Idt};
use crate::arch::frame::{TrapFrame, load_registers, save_registers};
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
"#,
    save_registers!(),
    r#"
    cld
    mov rdi, rsp
    sub rsp, 8
    call {handle}
"#,
    load_registers!(),
    r#"
    mov r11, [rsp + 8 + {r11}]
    mov rcx, [rsp + 8 + {rcx}]
    add rsp, 8 + {rip}
    iretq
"#,
    vectors = const VECTORS,
    handle = sym handle,
    r11 = const offset_of!(TrapFrame, r11),
    rcx = const offset_of!(TrapFrame, rcx),
    rip = const offset_of!(TrapFrame, rip),
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
