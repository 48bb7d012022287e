//! The exception table: instructions of the core that may fault, and where to go on if they do.
//!
//! Each is a pair of 32-bit distances in section `.extable`, written by [`extable!`](crate::extable)
//! beside the instruction: from the entry's own words to the fault and to the landing.
#![cfg_attr(
    target_os = "none",
    expect(unsafe_code, reason = "reads a section of the image")
)]

/// The assembly of one entry: a fault at `$fault` goes on at `$landing` (labels of the same `asm!`).
#[macro_export]
macro_rules! extable {
    ($fault:literal, $landing:literal) => {
        concat!(
            ".pushsection .extable, \"a\"\n.balign 4\n.long ",
            $fault,
            " - .\n.long ",
            $landing,
            " - .\n.popsection"
        )
    };
}

/// One entry: fault and landing, each relative to the field that holds it.
#[repr(C)]
struct Entry {
    fault: i32,
    landing: i32,
}

#[cfg(target_os = "none")]
fn entries() -> &'static [Entry] {
    unsafe extern "C" {
        static __extable_start: Entry;
        static __extable_end: Entry;
    }
    // SAFETY: the linker script puts both symbols around the entries, which are constant.
    unsafe { super::section::entries(&raw const __extable_start, &raw const __extable_end) }
}

#[cfg(not(target_os = "none"))]
fn entries() -> &'static [Entry] {
    &[]
}

/// Where to go on after a fault at `rip`, if that instruction was expected to.
pub fn lookup(rip: u64) -> Option<u64> {
    let at = |field: &i32| (&raw const *field as u64).wrapping_add_signed(i64::from(*field));
    let entry = entries().iter().find(|e| at(&e.fault) == rip)?;
    Some(at(&entry.landing))
}
