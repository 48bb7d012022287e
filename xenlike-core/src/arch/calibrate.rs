//! Platform clocks of known rate (HPET, ACPI PM timer, PIT), by which the rate of the TSC is measured.

use super::mmio::Window;
use super::port::{inb, inl, outb};
use super::{cpu, time};

/// The rate of the ACPI PM timer (ACPI 6.5 §4.8.2.1), in Hz.
const PM_TIMER_HZ: u64 = 3_579_545;
/// The rate of the PIT, in Hz.
const PIT_HZ: u64 = 1_193_182;
/// HPET registers, by offset (HPET specification 1.0a §2.3).
const HPET_CONFIGURATION: usize = 0x10;
const HPET_COUNTER: usize = 0xf0;
/// How many pairs of readings are tried; the one taken in the shortest time counts.
const TRIES: u32 = 8;

/// A clock of known rate.
#[derive(Clone, Copy, Debug)]
pub enum Reference {
    /// The HPET: the window of its registers, and the period of its counter in fs.
    Hpet(Window, u32),
    /// The ACPI PM timer: its port.
    PmTimer(u16),
    /// Channel 2 of the PIT, whose gate software controls.
    Pit,
}

impl Reference {
    /// The clock's name for log messages.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hpet(..) => "HPET",
            Self::PmTimer(_) => "ACPI PM timer",
            Self::Pit => "PIT",
        }
    }
    pub(super) fn hz(&self) -> u64 {
        match self {
            Self::Hpet(_, period_fs) => 1_000_000_000_000_000 / u64::from((*period_fs).max(1)),
            Self::PmTimer(_) => PM_TIMER_HZ,
            Self::Pit => PIT_HZ,
        }
    }
    /// How long to measure, in ms; a coarser clock needs longer.
    fn measure_ms(&self) -> u64 {
        match self {
            Self::Hpet(..) => 4,
            Self::PmTimer(_) => 15,
            Self::Pit => 30,
        }
    }
    fn start(&self) {
        match self {
            Self::Hpet(window, _) => {
                window.write32(HPET_CONFIGURATION, window.read32(HPET_CONFIGURATION) | 1);
            }
            Self::PmTimer(_) => {}
            Self::Pit => {
                // Gate on, speaker off; channel 2 counts down once from 65536 (mode 0, both bytes).
                outb(0x61, inb(0x61) & !2 | 1);
                outb(0x43, 0xb0);
                outb(0x42, 0);
                outb(0x42, 0);
            }
        }
    }
    fn read(&self) -> u32 {
        match self {
            Self::Hpet(window, _) => window.read32(HPET_COUNTER),
            Self::PmTimer(port) => inl(*port) & 0xff_ffff,
            Self::Pit => {
                outb(0x43, 0x80);
                let low = u32::from(inb(0x42));
                0x1_0000 - (u32::from(inb(0x42)) << 8 | low)
            }
        }
    }
    /// The highest count before the counter wraps, which is also the mask of its bits.
    pub(super) fn mask(&self) -> u32 {
        match self {
            Self::Hpet(..) => u32::MAX,
            Self::PmTimer(_) => 0xff_ffff,
            Self::Pit => 0xffff,
        }
    }
    /// Whether it can be the source of system time: it wraps no more often than every 4 s, and it moves.
    pub fn can_run(&self) -> bool {
        const MIN_S: u64 = 4;
        const LOOKS: u32 = 100_000;
        if u64::from(self.mask()) / self.hz() < MIN_S {
            return false;
        }
        self.start();
        let first = self.read();
        (0..LOOKS).any(|_| self.read() != first)
    }
    /// The ticks from `start` to `end`, across at most one wrap of the counter.
    fn between(&self, start: u32, end: u32) -> u64 {
        u64::from(end.wrapping_sub(start) & self.mask())
    }
    /// Reads the clock and the TSC at the same moment, as closely as can be had.
    pub(super) fn pair(&self) -> (u32, u64) {
        let once = || {
            let before = time::tsc();
            let clock = self.read();
            let after = time::tsc();
            (
                after.wrapping_sub(before),
                clock,
                before.wrapping_add(after.wrapping_sub(before) / 2),
            )
        };
        let best = (0..TRIES).map(|_| once()).min_by_key(|(width, ..)| *width);
        best.map_or((0, 0), |(_, clock, tsc)| (clock, tsc))
    }
    /// Measures the TSC's rate in Hz; `None` if the clock doesn't move.
    pub fn tsc_hz(&self) -> Option<u64> {
        const PATIENCE: u32 = 100_000_000;
        self.start();
        let wanted = self.hz() * self.measure_ms() / 1000;
        // The first readings are slow, as they fill the caches.
        self.pair();
        let (clock, tsc) = self.pair();
        let mut looks = 0;
        while self.between(clock, self.read()) < wanted {
            looks += 1;
            if looks == PATIENCE || (looks == 100_000 && self.between(clock, self.read()) == 0) {
                return None;
            }
        }
        let (end_clock, end_tsc) = self.pair();
        let ticks = u128::from(end_tsc.wrapping_sub(tsc));
        let elapsed = u128::from(self.between(clock, end_clock)).max(1);
        Some((ticks * u128::from(self.hz()) / elapsed) as u64)
    }
}

/// The TSC's rate in Hz as CPUID leaf 0x15 states it (SDM vol. 2, CPUID); `None` if it doesn't.
pub fn tsc_hz_by_cpuid() -> Option<u64> {
    if cpu::features().max_leaf < 0x15 {
        return None;
    }
    let [denominator, numerator, crystal_hz, _] = cpu::cpuid(0x15, 0);
    let product = u64::from(crystal_hz) * u64::from(numerator);
    product
        .checked_div(u64::from(denominator))
        .filter(|hz| *hz > 0)
}
