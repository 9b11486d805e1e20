//! Text for people.

/// Longest text of somebody else that is repeated, in characters.
const MAX_CHARS: usize = 300;

/// Escapes control characters and cuts long text in its middle, so that the place at the end of
/// a parser's message survives.
pub(crate) fn printable(text: &str) -> String {
    const HALF: usize = MAX_CHARS / 2;
    let mut chars = text.char_indices().map(|(at, _)| at);
    match (chars.nth(HALF), chars.nth_back(HALF - 1)) {
        (Some(head), Some(tail)) => escaped(&text[..head]) + "…" + &escaped(&text[tail..]),
        _ => escaped(text),
    }
}

/// Escapes what a terminal would obey: control characters, ends of lines, marks that turn the order of
/// text.
pub(crate) fn escaped(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    for c in text.chars() {
        let turns = matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || turns {
            result.extend(c.escape_default());
        } else {
            result.push(c);
        }
    }
    result
}

/// Bytes for people.
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..0x4000_0000 => format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20)),
        _ => format!("{:.2} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

/// Bytes as MiB with two decimals.
#[expect(clippy::cast_precision_loss, reason = "exact below 8 PiB")]
pub(crate) fn mib(bytes: u64) -> f64 {
    (bytes as f64 / 1_048_576.0 * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_what_a_terminal_would_obey() {
        let (text, safe) = (
            "a\u{1b}[31m\nb\u{202e}c — ü",
            "a\\u{1b}[31m\\nb\\u{202e}c — ü",
        );
        assert_eq!(printable(text), safe);
        assert_eq!(escaped(text), safe);
    }

    #[test]
    fn keeps_both_ends_of_a_long_text() {
        let text = format!("start{} at line 3", "x".repeat(1_000_000));
        let short = printable(&text);
        assert_eq!(short.chars().count(), MAX_CHARS + 1);
        assert!(short.starts_with("start") && short.ends_with("at line 3"));
    }

    #[test]
    fn sizes_are_in_the_unit_that_suits_them() {
        assert_eq!(size(3 << 19), "2 MiB");
        assert_eq!(size((1 << 30) - 1), "1024 MiB");
        assert_eq!(size(3 << 29), "1.50 GiB");
    }

    #[test]
    fn mib_has_two_decimals() {
        assert_eq!(Some(mib(1_048_576 * 3 / 2)), Some(1.5));
        assert_eq!(Some(mib(1_048_576 / 3)), Some(0.33));
    }
}
