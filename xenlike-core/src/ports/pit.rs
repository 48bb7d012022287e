//! Channel 2 of the 8254 interval timer and port 0x61 (Intel 8254 data sheet; IBM AT technical reference), as far as a
//! kernel needs them to measure its TSC.

/// The frequency of the counter's clock in Hz.
const HZ: u128 = 1_193_182;
/// Port 0x61: enables the counting of channel 2.
const GATE: u8 = 1 << 0;
/// Port 0x61: the bits that software may set.
const SETTABLE: u8 = 0x0f;
/// Port 0x61: toggles with each memory refresh, every 15 µs.
const REFRESH: u8 = 1 << 4;
/// Port 0x61: the output of channel 2.
const OUT: u8 = 1 << 5;
const REFRESH_NS: u64 = 15_085;

/// Which bytes of the counter an access to its port refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Low,
    High,
    LowThenHigh,
}

/// The state of the channel.
#[derive(Debug, Clone)]
pub struct Pit {
    access: Access,
    mode: u8,
    /// The length of a period in counts, 1 to 65536.
    period: u32,
    started_ns: u64,
    gate_bits: u8,
    latched: Option<u16>,
    status: Option<u8>,
    /// The low byte, if only that has been written so far.
    half_written: Option<u8>,
    /// Whether the next read returns the high byte.
    half_read: bool,
}

impl Default for Pit {
    fn default() -> Self {
        Self {
            access: Access::LowThenHigh,
            mode: 3,
            period: 0x10000,
            started_ns: 0,
            gate_bits: 0,
            latched: None,
            status: None,
            half_written: None,
            half_read: false,
        }
    }
}

impl Pit {
    /// Reads port 0x42, 0x43 or 0x61 at system time `now_ns`.
    pub fn read(&mut self, port: u16, now_ns: u64) -> u8 {
        match port {
            0x42 => self.read_counter(now_ns),
            0x61 => {
                let refresh = if (now_ns / REFRESH_NS) & 1 != 0 {
                    REFRESH
                } else {
                    0
                };
                let out = if self.output(now_ns) { OUT } else { 0 };
                self.gate_bits | refresh | out
            }
            _ => 0xff,
        }
    }

    /// Writes port 0x42, 0x43 or 0x61 at system time `now_ns`.
    pub fn write(&mut self, port: u16, value: u8, now_ns: u64) {
        match port {
            0x42 => self.write_counter(value, now_ns),
            0x43 => self.control(value, now_ns),
            0x61 => {
                let rises = self.gate_bits & GATE == 0 && value & GATE != 0;
                self.gate_bits = value & SETTABLE;
                if rises {
                    self.started_ns = now_ns;
                }
            }
            _ => {}
        }
    }

    fn control(&mut self, value: u8, now_ns: u64) {
        match value >> 6 {
            // Read-back command: bit 3 selects channel 2; bits 5 and 4, if clear, latch the count and the status.
            3 if value & 0x08 != 0 => {
                if value & 0x20 == 0 {
                    self.latch(now_ns);
                }
                if value & 0x10 == 0 {
                    let out = if self.output(now_ns) { 0x80 } else { 0 };
                    self.status = Some(out | self.access_bits() << 4 | self.mode << 1);
                }
            }
            2 => match value >> 4 & 3 {
                0 => self.latch(now_ns),
                access => {
                    self.access = match access {
                        1 => Access::Low,
                        2 => Access::High,
                        _ => Access::LowThenHigh,
                    };
                    self.mode = value >> 1 & 7;
                    (self.latched, self.status, self.half_written) = (None, None, None);
                    self.half_read = false;
                    self.started_ns = now_ns;
                }
            },
            _ => {}
        }
    }

    fn access_bits(&self) -> u8 {
        match self.access {
            Access::Low => 1,
            Access::High => 2,
            Access::LowThenHigh => 3,
        }
    }

    fn latch(&mut self, now_ns: u64) {
        if self.latched.is_none() {
            self.latched = Some(self.count(now_ns));
        }
    }

    fn write_counter(&mut self, value: u8, now_ns: u64) {
        let count = match (self.access, self.half_written.take()) {
            (Access::Low, _) => u16::from(value),
            (Access::High, _) => u16::from(value) << 8,
            (Access::LowThenHigh, None) => {
                self.half_written = Some(value);
                return;
            }
            (Access::LowThenHigh, Some(low)) => u16::from_le_bytes([low, value]),
        };
        self.period = if count == 0 {
            0x10000
        } else {
            u32::from(count)
        };
        self.started_ns = now_ns;
    }

    fn read_counter(&mut self, now_ns: u64) -> u8 {
        if let Some(status) = self.status.take() {
            return status;
        }
        let [low, high] = self
            .latched
            .unwrap_or_else(|| self.count(now_ns))
            .to_le_bytes();
        match (self.access, self.half_read) {
            (Access::Low, _) => {
                self.latched = None;
                low
            }
            (Access::High, _) => {
                self.latched = None;
                high
            }
            (Access::LowThenHigh, false) => {
                self.half_read = true;
                low
            }
            (Access::LowThenHigh, true) => {
                self.half_read = false;
                self.latched = None;
                high
            }
        }
    }

    /// The clock ticks since the count was loaded or the gate was opened.
    fn ticks(&self, now_ns: u64) -> u64 {
        if self.gate_bits & GATE == 0 {
            return 0;
        }
        (u128::from(now_ns.saturating_sub(self.started_ns)) * HZ / 1_000_000_000) as u64
    }

    fn count(&self, now_ns: u64) -> u16 {
        let (ticks, period) = (self.ticks(now_ns), u64::from(self.period));
        let left = match self.mode {
            // Rate generator and square wave reload the count; a square wave counts by twos.
            2 | 6 => period.wrapping_sub(into(ticks, period)),
            3 | 7 => period.wrapping_sub(into(ticks.wrapping_mul(2), period)),
            // The other modes count on through zero.
            _ => period.wrapping_sub(ticks),
        };
        left as u16
    }

    fn output(&self, now_ns: u64) -> bool {
        let (ticks, period) = (self.ticks(now_ns), u64::from(self.period));
        match self.mode {
            0 | 1 => ticks >= period,
            2 | 6 => into(ticks, period) != period.wrapping_sub(1),
            3 | 7 => into(ticks, period) < period.div_ceil(2),
            _ => ticks != period,
        }
    }
}

/// The position within the period.
fn into(ticks: u64, period: u64) -> u64 {
    ticks.checked_rem(period).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn counts_down_in_real_time() {
        let mut pit = Pit::default();
        pit.write(0x61, 1, 0);
        pit.write(0x43, 0xb0, 0);
        pit.write(0x42, 0xff, 0);
        pit.write(0x42, 0xff, 0);
        let after_1_ms = 0xffff - 1193;
        let low = pit.read(0x42, 1_000_000);
        let high = pit.read(0x42, 1_000_000);
        assert_eq!(u16::from_le_bytes([low, high]), after_1_ms);
        assert_eq!(pit.read(0x61, 1_000_000) & OUT, 0);
        assert_eq!(pit.read(0x61, 60_000_000) & OUT, OUT);
    }

    #[test]
    fn a_latched_count_stands_still() {
        let mut pit = Pit::default();
        pit.write(0x61, 1, 0);
        pit.write(0x43, 0xb4, 0);
        pit.write(0x42, 0, 0);
        pit.write(0x42, 0x10, 0);
        pit.write(0x43, 0x80, 1000);
        let (low, high) = (pit.read(0x42, 500_000), pit.read(0x42, 900_000));
        assert_eq!(u16::from_le_bytes([low, high]), 0x1000 - 1);
    }

    proptest! {
        #[test]
        fn never_stumbles(steps in proptest::collection::vec((0u16..3, any::<u8>(), any::<bool>(), any::<u64>()), 0..50)) {
            let mut pit = Pit::default();
            for (port, value, write, now_ns) in steps {
                let port = [0x42, 0x43, 0x61][usize::from(port)];
                if write {
                    pit.write(port, value, now_ns);
                } else {
                    pit.read(port, now_ns);
                }
            }
        }
    }
}
