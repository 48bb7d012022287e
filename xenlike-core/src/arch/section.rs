//! Sections of the image that hold entries of one kind, gathered by the linker.
#![cfg_attr(
    target_os = "none",
    expect(unsafe_code, reason = "reads sections of the image")
)]

/// The entries of a section, of which the linker script names begin and end.
///
/// # Safety
/// Entries of type `T` without gaps, and nothing else, fill the space between the two, and stay as they are.
#[cfg(target_os = "none")]
pub unsafe fn entries<T>(start: *const T, end: *const T) -> &'static [T] {
    let count = (end as usize - start as usize) / size_of::<T>();
    // SAFETY: by the caller.
    unsafe { core::slice::from_raw_parts(start, count) }
}
