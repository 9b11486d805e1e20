//! Errors about files that somebody else wrote: their text is made fit for a terminal first.

use std::fmt::Display;

use crate::error::Error;
use crate::human::printable;

/// The way out of most faults: files are far more often incomplete than hostile.
pub(crate) const INCOMPLETE: &str = "incomplete download? fetch it again";

/// A fault in `file` of the checkpoint.
pub(crate) fn fault(file: &str, message: impl Display) -> Error {
    Error::Checkpoint {
        file: printable(file),
        message: printable(&message.to_string()),
        hint: None,
    }
}

/// A fault in `file` of the checkpoint, with a way out.
pub(crate) fn fault_with_hint(file: &str, message: impl Display, hint: impl Into<String>) -> Error {
    Error::Checkpoint {
        file: printable(file),
        message: printable(&message.to_string()),
        hint: Some(hint.into()),
    }
}
