//! Tests of the rules, over a fake memory.
