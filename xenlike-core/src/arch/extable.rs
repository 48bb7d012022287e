//! The exception table: instructions of the core that may fault, and where execution continues if they do.
//!
//! An entry is a pair of 32-bit distances in section `.extable`, each relative to its own field: to the instruction
//! that may fault, and to the landing. `extable!` writes one beside the instruction.
#![cfg_attr(
    target_os = "none",
    expect(unsafe_code, reason = "reads a section of the image")
)]

/// The assembly of one entry: a fault at `$fault` continues at `$landing` (labels of the same `asm!`).
#[cfg(target_os = "none")]
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
#[cfg(target_os = "none")]
pub(crate) use extable;

/// One entry: the instruction and the landing, each relative to the field that holds it.
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
    // SAFETY: the linker script defines both symbols around the entries, which are constant.
    unsafe { super::section::entries(&raw const __extable_start, &raw const __extable_end) }
}

#[cfg(not(target_os = "none"))]
fn entries() -> &'static [Entry] {
    &[]
}

/// The address at which to continue after a fault at `rip`, if the table has an entry for that instruction.
pub fn lookup(rip: u64) -> Option<u64> {
    let at = |field: &i32| (&raw const *field as u64).wrapping_add_signed(i64::from(*field));
    let entry = entries().iter().find(|e| at(&e.fault) == rip)?;
    Some(at(&entry.landing))
}
