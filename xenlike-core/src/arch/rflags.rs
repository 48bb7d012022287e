//! Bits of RFLAGS (APM vol. 2 §3.1.6).

/// Always 1.
pub const ALWAYS_ON: u64 = 1 << 1;
/// Trap flag.
pub const TF: u64 = 1 << 8;
/// Interrupt flag.
pub const IF: u64 = 1 << 9;
/// Direction flag.
pub const DF: u64 = 1 << 10;
/// I/O privilege level, both bits.
pub const IOPL: u64 = 3 << 12;
/// Nested task.
pub const NT: u64 = 1 << 14;
/// Resume flag.
pub const RF: u64 = 1 << 16;
/// Virtual-8086 mode.
pub const VM: u64 = 1 << 17;
/// Alignment check.
pub const AC: u64 = 1 << 18;

/// What a PV guest may load itself: CF PF AF ZF SF TF DF OF NT RF AC ID. IF stays on, IOPL 0, VM off.
pub const GUEST_SETTABLE: u64 = 0b1000_1101_0101 | TF | DF | NT | RF | AC | 1 << 21;
/// What SYSCALL clears (SFMASK): TF, IF, DF, IOPL, NT, RF, AC.
pub const SYSCALL_CLEARS: u64 = TF | IF | DF | IOPL | NT | RF | AC;
