//! Tests of the rules, over a fake memory.

mod fake;
mod random;
mod rules;
mod threads;
