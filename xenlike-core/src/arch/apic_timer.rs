//! placeholder until arch lands
pub fn set_deadline_ns(_: Option<u64>) {}
