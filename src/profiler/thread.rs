//! The calling thread as the system knows it.

use std::fs;

/// The system's number of the calling thread.
pub(super) fn current() -> u32 {
    rustix::thread::gettid()
        .as_raw_nonzero()
        .get()
        .cast_unsigned()
}

/// The name of a thread of this process.
pub(super) fn name(thread: u32) -> String {
    let name = fs::read_to_string(format!("/proc/self/task/{thread}/comm"));
    name.map_or_else(
        |_| env!("CARGO_PKG_NAME").to_owned(),
        |name| name.trim_end().to_owned(),
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_thread_has_its_own_number_and_name() -> std::io::Result<()> {
        let thread = std::thread::Builder::new().name("somebody".into());
        let (number, name) = thread
            .spawn(|| (super::current(), super::name(super::current())))?
            .join()
            .expect("no panic");
        assert_ne!(number, super::current());
        assert_eq!(name, "somebody");
        Ok(())
    }
}
