//! A guest in a small memory, with a machine that records what reaches it; and the decoder against
//! another one.

mod decoder;
mod fake;
mod page_tables;
mod ports;
mod privileged;
