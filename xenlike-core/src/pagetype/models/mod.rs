//! The frame word, the flush clock and the entries of tables in every interleaving of a few CPUs.
//! `scripts/test models` runs these; each says what it explores and how far.

mod entries;
mod machine;
mod partial;
mod writable;
