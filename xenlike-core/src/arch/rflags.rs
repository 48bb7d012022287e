//! Bits of RFLAGS (APM vol. 2 §3.1.6).

/// Carry flag.
pub const CF: u64 = 1 << 0;
/// The reserved bit that is always 1.
pub const ALWAYS_ON: u64 = 1 << 1;
/// Parity flag.
pub const PF: u64 = 1 << 2;
/// Auxiliary carry flag.
pub const AF: u64 = 1 << 4;
/// Zero flag.
pub const ZF: u64 = 1 << 6;
/// Sign flag.
pub const SF: u64 = 1 << 7;
/// Trap flag: #DB after each instruction.
pub const TF: u64 = 1 << 8;
/// Interrupt flag: maskable interrupts are enabled.
pub const IF: u64 = 1 << 9;
/// Direction flag: string instructions count down.
pub const DF: u64 = 1 << 10;
/// Overflow flag.
pub const OF: u64 = 1 << 11;
/// I/O privilege level; a mask of both bits.
pub const IOPL: u64 = 3 << 12;
/// Nested task flag, which makes IRET fault in long mode.
pub const NT: u64 = 1 << 14;
/// Resume flag: suppresses instruction breakpoints once.
pub const RF: u64 = 1 << 16;
/// Virtual-8086 mode, which long mode doesn't have.
pub const VM: u64 = 1 << 17;
/// Alignment check in ring 3; in ring 0 with SMAP, permission to access user pages.
pub const AC: u64 = 1 << 18;

/// The flags that a PV guest may load: CF PF AF ZF SF TF DF OF NT RF AC ID. IF stays set, IOPL is 0, and VM is clear.
pub const GUEST_SETTABLE: u64 = CF | PF | AF | ZF | SF | TF | DF | OF | NT | RF | AC | 1 << 21;
/// The flags that SYSCALL clears (the value of SFMASK).
pub const SYSCALL_CLEARS: u64 = TF | IF | DF | IOPL | NT | RF | AC;
