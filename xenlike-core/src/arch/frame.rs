//! The trap frame: a guest's registers, or the core's own, as the entry stubs save them.

use core::fmt;

/// The general registers and the exception frame of the machine, lowest address first.
///
/// It is pushed from the top: the CPU writes `ss` to `rip` and, for some vectors, the error code (APM vol. 2 §8.9.3),
/// the stub the rest. `vector` is [`TrapFrame::SYSCALL`] for as long as SYSRET can restore the frame.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct TrapFrame {
    /// R15 as the interrupted code had it.
    pub r15: u64,
    /// R14 as the interrupted code had it.
    pub r14: u64,
    /// R13 as the interrupted code had it.
    pub r13: u64,
    /// R12 as the interrupted code had it.
    pub r12: u64,
    /// RBP as the interrupted code had it.
    pub rbp: u64,
    /// RBX as the interrupted code had it.
    pub rbx: u64,
    /// R11; SYSCALL stores RFLAGS there.
    pub r11: u64,
    /// R10; the fourth hypercall argument.
    pub r10: u64,
    /// R9, which no hypercall uses.
    pub r9: u64,
    /// R8; the ABI's fifth hypercall argument, which no call uses.
    pub r8: u64,
    /// RAX; the hypercall number, and then its result.
    pub rax: u64,
    /// RCX; SYSCALL stores the return address there.
    pub rcx: u64,
    /// RDX; the third hypercall argument.
    pub rdx: u64,
    /// RSI; the second hypercall argument.
    pub rsi: u64,
    /// RDI; the first hypercall argument.
    pub rdi: u64,
    /// The error code of the exception, or 0 if its vector has none.
    pub error: u32,
    /// The vector number, or [`TrapFrame::SYSCALL`].
    pub vector: u32,
    /// The address at which the interrupted code continues.
    pub rip: u64,
    /// CS, in the low 16 bits.
    pub cs: u64,
    /// RFLAGS as the interrupted code had it.
    pub rflags: u64,
    /// RSP as the interrupted code had it.
    pub rsp: u64,
    /// SS, in the low 16 bits.
    pub ss: u64,
}

/// The two parts of a guest. Of a 64-bit PV guest both run in ring 3, so the frame alone doesn't tell which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The guest's user code.
    User,
    /// Its kernel.
    Kernel,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::User => "user",
        })
    }
}

impl TrapFrame {
    /// A frame with all registers zero.
    pub const ZERO: Self = Self {
        r15: 0,
        r14: 0,
        r13: 0,
        r12: 0,
        rbp: 0,
        rbx: 0,
        r11: 0,
        r10: 0,
        r9: 0,
        r8: 0,
        rax: 0,
        rcx: 0,
        rdx: 0,
        rsi: 0,
        rdi: 0,
        error: 0,
        vector: 0,
        rip: 0,
        cs: 0,
        rflags: 0,
        rsp: 0,
        ss: 0,
    };

    /// The value of `vector` in the frame of 64-bit code with the flat selectors that entered by SYSCALL, as long as
    /// nothing in it has changed that SYSRET can't restore.
    pub const SYSCALL: u32 = 0x100;

    /// Whether the frame is a guest's. PV guests run in ring 3, or ring 1 with 32 bits; the core runs in ring 0.
    pub const fn from_guest(&self) -> bool {
        self.cs & 3 != 0
    }
}

const _: () = assert!(size_of::<TrapFrame>() == 21 * 8);

/// Formats the registers as a table.
impl core::fmt::Display for TrapFrame {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let r = self;
        writeln!(
            f,
            "rip {:04x}:{:016x} rflags {:016x} vector {:#x} error {:#x}",
            r.cs, r.rip, r.rflags, r.vector, r.error
        )?;
        writeln!(f, "rsp {:04x}:{:016x} rbp {:016x}", r.ss, r.rsp, r.rbp)?;
        writeln!(
            f,
            "rax {:016x} rbx {:016x} rcx {:016x} rdx {:016x}",
            r.rax, r.rbx, r.rcx, r.rdx
        )?;
        writeln!(
            f,
            "rsi {:016x} rdi {:016x} r8  {:016x} r9  {:016x}",
            r.rsi, r.rdi, r.r8, r.r9
        )?;
        writeln!(
            f,
            "r10 {:016x} r11 {:016x} r12 {:016x} r13 {:016x}",
            r.r10, r.r11, r.r12, r.r13
        )?;
        write!(f, "r14 {:016x} r15 {:016x}", r.r14, r.r15)
    }
}

/// Assembly that completes a [`TrapFrame`] whose upper part, from `rip` and the error code on, is on the stack.
#[cfg(target_os = "none")]
macro_rules! save_registers {
    () => {
        r#"
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
"#
    };
}

/// Assembly that loads the registers that SYSRET leaves alone, all but rcx and r11, from a [`TrapFrame`] one word above
/// rsp.
#[cfg(target_os = "none")]
macro_rules! load_registers {
    () => {
        r#"
    mov r15, [rsp + 8]
    mov r14, [rsp + 16]
    mov r13, [rsp + 24]
    mov r12, [rsp + 32]
    mov rbp, [rsp + 40]
    mov rbx, [rsp + 48]
    mov r10, [rsp + 64]
    mov r9, [rsp + 72]
    mov r8, [rsp + 80]
    mov rax, [rsp + 88]
    mov rdx, [rsp + 104]
    mov rsi, [rsp + 112]
    mov rdi, [rsp + 120]
"#
    };
}

#[cfg(target_os = "none")]
pub(crate) use {load_registers, save_registers};
