//! Tests with a guest in a small memory, on a machine that records what reaches it, and a comparison of the
//! decoder with another one.

mod decoder;
mod fake;
mod page_tables;
mod ports;
mod privileged;
