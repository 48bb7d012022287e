//! Tests of the rules, over a fake memory.

mod chains;
mod crowded;
mod fake;
mod l1tf;
mod ownership;
mod random;
mod rules;
mod threads;
mod tree;
