//! Models of the frame word, the flush clock and the entries of tables, which explore the interleavings of a
//! few CPUs. `scripts/test models` runs them. Each says what it explores.

mod entries;
mod machine;
mod partial;
mod writable;
