//! Interrupts from one CPU to another, and the vectors that the core keeps for itself.

use super::lapic;
use crate::kit::CpuId;

/// The core's own interrupt vectors, of the highest priority class. Guests' devices get lower ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Vector {
    /// Requests the flushes that other CPUs asked for (`tlb::answer`).
    TlbFlush = 0xfc,
    /// Makes the CPU pass through the exit path, where it looks at `CpuInfo::work`.
    Kick = 0xfd,
    /// The deadline of the APIC timer has come.
    Timer = 0xfe,
    /// A spurious interrupt of the APIC, which takes no EOI.
    Spurious = 0xff,
    /// The serial port needs attention.
    Serial = 0xf0,
    /// The APIC detected an error.
    Error = 0xf1,
}

/// Sends the interrupt `vector` to `cpu`.
#[inline]
pub fn send(cpu: CpuId, vector: Vector) {
    lapic::send_fixed(cpu, vector as u8);
}

/// Makes `cpu` pass through the exit path soon. This CPU needs no interrupt for that: it is in ring
/// 0 and will leave it.
#[inline]
pub fn kick(cpu: CpuId) {
    if cpu != super::percpu::this_cpu() {
        send(cpu, Vector::Kick);
    }
}
