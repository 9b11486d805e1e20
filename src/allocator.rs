//! Keeps freed memory for the next operation.
//!
//! glibc returns blocks above 128 kB to the system when they are freed, so a loop that allocates
//! its activations anew pays for fresh pages in every step: 9 ms of the built-in model's 31.

/// Raises the thresholds above anything a step allocates. Does nothing on other C libraries.
#[cfg_attr(
    all(target_os = "linux", target_env = "gnu"),
    expect(unsafe_code, reason = "mallopt is a C function")
)]
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: called with parameters that glibc documents, before other threads exist.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}
