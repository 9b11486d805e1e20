//! Errors about files that somebody else wrote: their text is made fit for a terminal first.

use std::fmt::{Display, Write as _};

use crate::error::Error;

/// Longest text from a file that an error repeats, in characters.
const MAX_CHARS: usize = 300;

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

/// Escapes control characters and cuts long text in its middle, so that the place at the end of
/// a parser's message survives.
pub(crate) fn printable(text: &str) -> String {
    let chars = text.chars().count();
    let mut result = String::with_capacity(text.len().min(4 * MAX_CHARS));
    for (i, c) in text.chars().enumerate() {
        if chars > MAX_CHARS && i == MAX_CHARS / 2 {
            result.push('…');
        }
        if chars <= MAX_CHARS || i < MAX_CHARS / 2 || i >= chars - MAX_CHARS / 2 {
            if c.is_control() {
                // Writing to a string cannot fail.
                let _ = write!(result, "{}", c.escape_default());
            } else {
                result.push(c);
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_a_terminal_would_obey() {
        assert_eq!(printable("a\u{1b}[31m\nb — ü"), "a\\u{1b}[31m\\nb — ü");
    }

    #[test]
    fn keeps_both_ends_of_a_long_text() {
        let text = format!("start{} at line 3", "x".repeat(1_000_000));
        let short = printable(&text);
        assert_eq!(short.chars().count(), MAX_CHARS + 1);
        assert!(short.starts_with("start") && short.ends_with("at line 3"));
    }
}
