//! Attack: return to frames that no return may load: bad selectors, addresses that aren't the guest's, the hypervisor's
//! own segments and code. Each ends in an exception; the last one, a frame that can't be read, ends the domain. What can
//! be tried depends on the width.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "loads bad registers")]

#[cfg(target_pointer_width = "32")]
mod narrow;
#[cfg(target_pointer_width = "32")]
use narrow::attack;
#[cfg(target_pointer_width = "64")]
mod wide;
#[cfg(target_pointer_width = "64")]
use wide::attack;

xenlike_rt::entry!(main);

fn main() {
    attack();
}
