//! Claim: a Rust program starts as a PV guest, has its command line, memory and console, and ends.

#![no_std]
#![no_main]

extern crate alloc;

use alloc::vec::Vec;
use xenlike_rt::{args, println, start_info};

xenlike_rt::entry!(main);

fn main() {
    let info = start_info();
    println!("hello from a PV guest of {} pages", info.nr_pages);
    println!("command line: {}", args::command_line());

    let numbers: Vec<u64> = (0..100_000).collect();
    let sum: u64 = numbers.iter().sum();
    if sum == 4_999_950_000 {
        println!("PASS hello");
    } else {
        println!("FAIL hello: the heap lost numbers, sum {sum}");
    }
}
