//! Shared code of the hostile guests: reports of attempts, and the verdict.

#![no_std]

use core::fmt;

use xenlike_rt::abi::Errno;
use xenlike_rt::hyper::{self, Audit};
use xenlike_rt::println;

/// A guest that attempts what must fail, and reports the result of each attempt.
#[derive(Debug)]
pub struct Attack {
    name: &'static str,
    let_through: u32,
}

impl Attack {
    /// Starts: prints the guest's name and its aim.
    #[must_use]
    pub fn new(name: &'static str, aim: &str) -> Self {
        println!("{name}: tries to {aim}");
        Self {
            name,
            let_through: 0,
        }
    }

    /// Reports an attempt that must be refused.
    pub fn refused<T: fmt::Debug, E: fmt::Display>(&mut self, what: &str, outcome: Result<T, E>) {
        match outcome {
            Err(error) => println!("  {what}: {error}"),
            Ok(value) => self.fault(what, format_args!("went through: {value:?}")),
        }
    }

    /// Reports an attempt that must be refused with one of these errors.
    pub fn refused_with<T: fmt::Debug>(
        &mut self,
        what: &str,
        outcome: Result<T, Errno>,
        allowed: &[Errno],
    ) {
        match outcome {
            Err(error) if allowed.contains(&error) => println!("  {what}: {error}"),
            other => self.fault(what, format_args!("answered {other:?}")),
        }
    }

    /// Reports a condition that must hold.
    pub fn holds(&mut self, what: &str, so: bool) {
        if so {
            println!("  {what}: yes");
        } else {
            self.fault(what, format_args!("no"));
        }
    }

    /// Reports an attempt with any result: it only must not crash anything.
    pub fn any<T: fmt::Debug, E: fmt::Debug>(&mut self, what: &str, outcome: Result<T, E>) {
        println!("  {what}: {outcome:?}");
    }

    fn fault(&mut self, what: &str, how: fmt::Arguments<'_>) {
        self.let_through += 1;
        println!("FAIL {}: {what}: {how}", self.name);
    }

    /// Announces that the next step must end the domain. If it doesn't, the guest calls [`Attack::survived`].
    pub fn expects_death(&mut self, of: &str) {
        if self.let_through == 0 {
            println!("PASS {} so far", self.name);
        }
        println!("{}: expects to be killed: {of}", self.name);
    }

    /// Reports that the step which should have ended the domain didn't.
    pub fn survived(&mut self, what: &str) {
        self.fault(what, format_args!("survived"));
    }

    /// Prints the verdict. In a test build of the hypervisor this includes an audit, while everything that the guest
    /// has set up still exists.
    pub fn finish(mut self) {
        if hyper::audit() == Audit::Differs {
            self.fault(
                "an audit of the hypervisor",
                format_args!("finds something"),
            );
        }
        if self.let_through == 0 {
            println!("PASS {}", self.name);
        } else {
            println!(
                "FAIL {}: {} things went through",
                self.name, self.let_through
            );
        }
    }
}

/// A small pseudo-random generator (xorshift64*), repeatable by its seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts from a seed; 0 counts as 1.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(if seed == 0 { 1 } else { seed })
    }

    /// The next 64 random bits.
    pub const fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A random number below `bound`, which must not be 0.
    pub const fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Whether this is a 32-bit guest.
pub const NARROW: bool = cfg!(target_pointer_width = "32");

/// Number of levels of the page tables.
pub const LEVELS: usize = if NARROW { 3 } else { 4 };

/// An address in the hypervisor's range, which the guest can't read.
pub const HYPERVISOR: u64 = if NARROW {
    0xffff_e000
} else {
    0xffff_8300_0000_0000
};

/// Addresses that no guest may pass: the hypervisor's range behind the machine-to-physical table, which the guest may
/// read, the edges, the end of the address space.
#[cfg(target_pointer_width = "32")]
pub const BAD_ADDRESSES: [u64; 10] = [
    0xf57f_f000,
    0xf57f_fffc - 0x1000,
    0xfc00_0000,
    0xfc00_1000,
    0xffff_e000,
    0xffff_fff8,
    0xffff_fffc,
    0xffff_ffff,
    0xbfff_fffc,
    0x0000_1000,
];

/// Addresses that no guest may pass: the hypervisor's range, the canonical hole, its edges, the end.
#[cfg(target_pointer_width = "64")]
pub const BAD_ADDRESSES: [u64; 10] = [
    0xffff_8000_0000_0000,
    0xffff_8000_0000_1000,
    0xffff_8300_0000_0000,
    0xffff_87ff_ffff_fff8,
    0x0000_8000_0000_0000,
    0x0000_7fff_ffff_fffc,
    0xffff_7fff_ffff_fffc,
    0x8000_0000_0000_0000,
    0xffff_ffff_ffff_fffc,
    0x0000_0000_0000_1000,
];
