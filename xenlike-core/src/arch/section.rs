//! Sections of the image that the linker gathers from entries of one kind.
#![cfg_attr(
    target_os = "none",
    expect(unsafe_code, reason = "reads sections of the image")
)]

/// The entries of a section whose start and end the linker script names.
///
/// # Safety
/// Entries of type `T`, and nothing else, fill the space between the two without gaps, and never change.
#[cfg(target_os = "none")]
pub unsafe fn entries<T>(start: *const T, end: *const T) -> &'static [T] {
    let count = (end as usize - start as usize) / size_of::<T>();
    // SAFETY: by the caller's promise.
    unsafe { core::slice::from_raw_parts(start, count) }
}
