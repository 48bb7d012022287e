//! The toolstack: from a configuration file and a kernel image to a running domain.
//!
//! One library serves the boot domain, its embedded shell and the `xenlike` CLI of a Linux Dom0.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod boot;
pub mod build;
pub mod config;
pub mod hyper;
pub mod image;
pub mod manifest;
pub mod ops;
pub mod shell;
pub mod store;
pub mod trace;
pub mod verbs;
