//! Traces: converts what the hypervisor recorded on each CPU (`trace.h`) to a readable form.
//!
//! [`records`] parses the format of the files of Debian's `xentrace`; [`chrome`] writes the JSON that Perfetto and
//! Chrome open. The hypervisor writes the records, but they pass through memory or a file that others may have
//! changed, so they are treated as untrusted.

pub mod chrome;
pub mod records;
#[cfg(test)]
mod tests;

pub use records::{Parsed, Record, Vcpu, parse};
