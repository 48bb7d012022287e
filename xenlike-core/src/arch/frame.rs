//! The trap frame: a guest's (or the core's own) registers as the entry stubs save them.

/// General registers and the machine's own exception frame, lowest address first.
///
/// The stubs push from the top: the CPU writes `ss` to `rip` (APM vol. 2 §8.9.3), the stub the
/// rest. `vector` keeps [`TrapFrame::SYSCALL`] while the frame may be left by SYSRET.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct TrapFrame {
    /// r15
    pub r15: u64,
    /// r14
    pub r14: u64,
    /// r13
    pub r13: u64,
    /// r12
    pub r12: u64,
    /// rbp
    pub rbp: u64,
    /// rbx
    pub rbx: u64,
    /// r11
    pub r11: u64,
    /// r10
    pub r10: u64,
    /// r9
    pub r9: u64,
    /// r8
    pub r8: u64,
    /// rax
    pub rax: u64,
    /// rcx
    pub rcx: u64,
    /// rdx
    pub rdx: u64,
    /// rsi
    pub rsi: u64,
    /// rdi
    pub rdi: u64,
    /// The exception's error code, or 0.
    pub error: u32,
    /// The vector, or [`TrapFrame::SYSCALL`].
    pub vector: u32,
    /// rip
    pub rip: u64,
    /// cs, in its low 16 bits
    pub cs: u64,
    /// rflags
    pub rflags: u64,
    /// rsp
    pub rsp: u64,
    /// ss, in its low 16 bits
    pub ss: u64,
}

impl TrapFrame {
    /// All registers zero.
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

    /// In `vector`: the frame is of 64-bit code at the flat selectors, entered by SYSCALL and not
    /// changed since in a way that SYSRET can't restore.
    pub const SYSCALL: u32 = 0x100;

    /// Whether the frame is a guest's: PV guests run in ring 3 (or 1), the core in ring 0.
    pub const fn from_guest(&self) -> bool {
        self.cs & 3 != 0
    }
}

const _: () = assert!(size_of::<TrapFrame>() == 21 * 8);

/// The registers as a table.
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
