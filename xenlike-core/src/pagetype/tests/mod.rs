//! Tests of the rules on a simulated memory.

mod chains;
mod cpu;
mod crowded;
mod fake;
mod l1tf;
mod narrow;
mod ownership;
mod random;
mod rules;
mod threads;
mod tree;
