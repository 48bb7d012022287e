//! Attack: multicalls within multicalls, over each other's entries, and over pages that they unmap themselves.

#![no_std]
#![no_main]
#![expect(unsafe_code, reason = "changes mappings under a call's feet")]

use samples::{Attack, NARROW};
use xenlike_rt::abi::version::XENVER_VERSION;
use xenlike_rt::abi::xen::{MulticallEntry, UVMF_INVLPG};
use xenlike_rt::abi::{GuestHandle, Long, errno, hypercall};
use xenlike_rt::memory::{allocate_page, mfn_of, pfn_of};
use xenlike_rt::paging::RAM_FLAGS;
use xenlike_rt::{from_long, hyper, println};

xenlike_rt::entry!(main);

/// Size of an entry in bytes.
const ENTRY: u64 = size_of::<MulticallEntry>() as u64;

fn entry(op: u64, args: &[u64]) -> MulticallEntry {
    let mut entry = MulticallEntry {
        op: op as Long,
        ..MulticallEntry::default()
    };
    for (slot, value) in entry.args.iter_mut().zip(args) {
        *slot = *value as Long;
    }
    entry
}

/// The arguments of update_va_mapping, whose entry takes two of them in a 32-bit guest.
fn va_mapping<'a>(wide: &'a [u64], narrow: &'a [u64]) -> &'a [u64] {
    if NARROW { narrow } else { wide }
}

fn version() -> MulticallEntry {
    entry(hypercall::XEN_VERSION, &[u64::from(XENVER_VERSION), 0])
}

fn results(calls: &[MulticallEntry]) -> (Long, Long) {
    let last = calls.len() - 1;
    (calls[0].result, calls[last].result)
}

fn main() {
    let mut attack = Attack::new("hostile-multicall", "confuse multicalls");

    // A multicall of itself must not recurse for ever.
    let mut calls = [MulticallEntry::default(); 2];
    let pointer = from_long(GuestHandle::of_mut(&mut calls).0);
    calls = [entry(hypercall::MULTICALL, &[pointer, 2]), version()];
    // SAFETY: the entries are harmless.
    let outcome = unsafe { hyper::multicall(&mut calls) };
    println!(
        "  a multicall of itself: {outcome:?}, results {:x?}",
        results(&calls)
    );
    attack.holds("the inner one is refused", (calls[0].result as isize) < 0);

    // A chain of 64 multicalls, each calling the next.
    let mut chain = [MulticallEntry::default(); 64];
    let start = from_long(GuestHandle::of_mut(&mut chain).0);
    for (n, link) in (1u64..).zip(chain.iter_mut()) {
        *link = entry(hypercall::MULTICALL, &[start + n * ENTRY, 1]);
    }
    chain[63] = version();
    // SAFETY: as above.
    let outcome = unsafe { hyper::multicall(&mut chain[..1]) };
    attack.any("a chain of multicalls", outcome);

    // Calls that aren't allowed in a list, or that write to it.
    let mut calls = [MulticallEntry::default(); 5];
    let pointer = from_long(GuestHandle::of_mut(&mut calls).0);
    calls[0] = entry(u64::MAX, &[1, 2, 3]);
    calls[1] = entry(1000, &[]);
    // The version's text overwrites the next entry's number and arguments.
    calls[2] = entry(hypercall::XEN_VERSION, &[1, pointer + 3 * ENTRY]);
    calls[3] = version();
    calls[4] = version();
    // SAFETY: as above; the list is only used here.
    let outcome = unsafe { hyper::multicall(&mut calls) };
    println!(
        "  a list that overwrites itself: {outcome:?}, results {:x?}",
        results(&calls)
    );
    let unknown = errno::ENOSYS.to_ret() as Long;
    attack.holds(
        "unknown numbers are ENOSYS",
        calls[0].result == unknown && calls[1].result == unknown,
    );

    // The page of the list becomes read-only, then is unmapped, in the middle of the list.
    let page = allocate_page().expect("a page");
    let address = page.expose_provenance() as u64;
    let mfn = mfn_of(pfn_of(address)).expect("the domain's");
    for (what, pte) in [("read-only", (mfn << 12) | (RAM_FLAGS & !2)), ("gone", 0)] {
        let list = page.cast::<MulticallEntry>();
        // SAFETY: the page belongs to this guest, holds 64 entries, and is mapped again below.
        let outcome = unsafe {
            list.write(version());
            let flags = UVMF_INVLPG;
            list.add(1).write(entry(
                hypercall::UPDATE_VA_MAPPING,
                va_mapping(&[address, pte, flags], &[address, pte, pte >> 32, flags]),
            ));
            list.add(2).write(version());
            let outcome = hyper::raw(hypercall::MULTICALL, [address, 3, 0, 0, 0]);
            hyper::update_va_mapping(address, (mfn << 12) | RAM_FLAGS, flags).expect("mapped");
            outcome
        };
        println!("  a list whose page is {what} half-way: {outcome}");
        attack.holds("that is an error", outcome < 0);
    }

    // Half of the list is beyond the end of memory.
    let outcome =
        // SAFETY: only the entries before the end of memory are read.
        unsafe { hyper::raw(hypercall::MULTICALL, [0xffff_ffff_ffff_ffc0, 64, 0, 0, 0]) };
    attack.holds("a list over the end of memory is an error", outcome < 0);
    attack.finish();
}
