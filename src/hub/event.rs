//! What happens while files are fetched.

/// Something to tell the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Files are about to be downloaded.
    Planned {
        /// How many.
        files: usize,
        /// What is still to come of them.
        bytes: u64,
    },
    /// Bytes of the plan that are there now; negative where some were thrown away.
    Received(i64),
    /// Another process downloads this file; it is waited for.
    Waiting {
        /// The file in the repository.
        file: String,
    },
    /// A request failed and is repeated.
    Retried {
        /// What went wrong.
        reason: String,
    },
    /// The hub could not be asked, so files of the cache are used.
    CacheUsed {
        /// What went wrong.
        reason: String,
    },
}
