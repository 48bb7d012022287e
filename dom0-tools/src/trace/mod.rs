//! Traces: what the hypervisor recorded on each CPU (`trace.h`), turned into what people look at.
//!
//! [`records`] reads them from the form in which Debian's `xentrace` writes files, [`chrome`] writes the JSON that
//! Perfetto and Chrome open. Records are the hypervisor's words, but they come through memory or a file that others
//! may have written: nothing in them is believed.

pub mod chrome;
pub mod records;
#[cfg(test)]
mod tests;

pub use records::{Parsed, Record, Vcpu, parse};
