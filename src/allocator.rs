//! The process's memory: what is freed is kept for the next operation, and an allocation that fails
//! is an error like any other.

#![expect(unsafe_code, reason = "an allocator is unsafe by nature")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Cursor, Write};

/// Keeps freed memory for the next operation. Does nothing on other C libraries than glibc.
///
/// glibc returns blocks above 128 kB to the system when they are freed, so a loop that allocates
/// its activations anew pays for fresh pages in every step: 9 ms of the built-in model's 31. The
/// thresholds are raised above anything a step allocates.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: called with parameters that glibc documents, before other threads exist.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}

/// Gives back to the system what is free. Over thousands of pictures the holes between what stays add up to many times
/// what is in use: 2000 of 16x16 took 230 to 535 MB, and take 67 to 128.
pub fn release_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The system's allocator, except that the process ends with an error and exit code 1 where memory
/// runs out, while Rust's own end is SIGABRT.
#[derive(Debug)]
pub struct Allocator;

// SAFETY: every call is the system's, with the caller's guarantees.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        check(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        check(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: as above.
        check(unsafe { System.realloc(memory, layout, bytes) }, bytes)
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

fn check(memory: *mut u8, bytes: usize) -> *mut u8 {
    if memory.is_null() {
        out_of_memory(bytes);
    }
    memory
}

#[cold]
fn out_of_memory(bytes: usize) -> ! {
    // Nothing here may allocate, or wait for a lock.
    let mut message = Cursor::new([0; 128]);
    let _ = writeln!(
        message,
        "error: out of memory: {bytes} more bytes were needed"
    );
    let length = usize::try_from(message.position()).unwrap_or_default();
    // SAFETY: the bytes are initialised; both calls may be made at any time.
    unsafe {
        libc::write(
            libc::STDERR_FILENO,
            message.get_ref().as_ptr().cast(),
            length,
        );
        libc::_exit(1)
    }
}
