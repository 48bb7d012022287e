//! Operations that need other domains. Only the 64-bit guest creates them: the toolstack's code is 64-bit.

mod children;
mod life;
mod pair;
mod scaling;

use xenlike_rt::{args, modules};

use children::Nursery;

/// Pages of a child's memory: 4 MiB, or 2 MiB where there are many children.
const PAGES: u64 = 1024;
const MANY_PAGES: u64 = 512;

/// Measures what the command line asks for: with other domains if there is an initrd to build them from, or alone.
pub fn measure() {
    match (args::value("scaling"), modules::initrd()) {
        (Some("domains"), Some(image)) => scaling::domains(&mut Nursery::new(image, MANY_PAGES)),
        (Some("vcpus"), None) => scaling::vcpus(),
        (_, Some(image)) => with_children(image),
        (_, None) => crate::alone(),
    }
}

/// Measures what needs a second domain, which is made from `image`.
fn with_children(image: &[u8]) {
    let mut nursery = Nursery::new(image, PAGES);
    pair::measure(&mut nursery);
    life::measure(&mut nursery);
}
