//! Interrupts from one CPU to another, and the vectors the core keeps for itself.

use super::lapic;
use crate::kit::CpuId;

/// The core's own interrupt vectors: the highest priority class. Guests' devices get lower ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Vector {
    /// Do the flushes asked for (`tlb::answer`).
    TlbFlush = 0xfc,
    /// Nothing but the way through the exit path, where `CpuInfo::work` is looked at.
    Kick = 0xfd,
    /// The APIC timer.
    Timer = 0xfe,
    /// Spurious: needs no EOI.
    Spurious = 0xff,
    /// The serial port's interrupt.
    Serial = 0xf0,
    /// APIC error.
    Error = 0xf1,
}

/// Sends `vector` to `cpu`.
#[inline]
pub fn send(cpu: CpuId, vector: Vector) {
    lapic::send_fixed(cpu, vector as u8);
}

/// Makes `cpu` come through the exit path soon; for this CPU there is nothing to do: it is on it.
#[inline]
pub fn kick(cpu: CpuId) {
    if cpu != super::percpu::this_cpu() {
        send(cpu, Vector::Kick);
    }
}
