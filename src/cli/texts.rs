//! Prompts that begin with a hyphen, as Python's parser takes them.

use std::ffi::{OsStr, OsString};

/// The flags whose values are for people: their shortest spelling, the whole one, and how many values they
/// take. What is short for `--prompt` is so for `--prompt-path`, too.
const TEXT_FLAGS: [(&str, &str, usize); 2] = [
    ("--prompt", "--prompt", usize::MAX),
    ("--ne", "--negative-prompt", 1),
];

/// Ties the values of text flags to them (`--prompt=VALUE`) where one begins with a hyphen and is no flag: it
/// holds a space, or is a number.
#[must_use]
pub fn tie_texts(args: Vec<OsString>) -> Vec<OsString> {
    let mut tied = Vec::with_capacity(args.len());
    let mut args = args.into_iter().peekable();
    while let Some(arg) = args.next() {
        let mut values = Vec::new();
        while values.len() < values_of(&arg)
            && let Some(value) = args.next_if(|value| is_value(value))
        {
            values.push(value);
        }
        if values.iter().any(|value| begins_with_hyphen(value)) {
            tied.extend(values.into_iter().map(|value| {
                let mut both = arg.clone();
                both.push("=");
                both.push(value);
                both
            }));
        } else {
            tied.push(arg);
            tied.append(&mut values);
        }
    }
    tied
}

/// How many values the argument takes, if it is one of the flags.
fn values_of(arg: &OsStr) -> usize {
    let arg = arg.to_str().unwrap_or_default();
    let found = (TEXT_FLAGS.iter())
        .find(|(shortest, whole, _)| arg.starts_with(shortest) && whole.starts_with(arg));
    found.map_or(0, |(.., values)| *values)
}

fn begins_with_hyphen(arg: &OsStr) -> bool {
    arg.as_encoded_bytes().starts_with(b"-")
}

fn is_value(arg: &OsStr) -> bool {
    let text = arg.to_string_lossy();
    // A flag's own value may hold spaces: `--output-path=my pictures`.
    let name = match text.strip_prefix("--") {
        Some(name) => name.split('=').next().unwrap_or_default(),
        None => &text,
    };
    !begins_with_hyphen(arg) || name.contains(char::is_whitespace) || text.parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_tied_to_their_flag_where_they_must() {
        for (args, expected) in [
            (
                &["--prompt", "- a list", "b", "--seed", "1"][..],
                &["--prompt=- a list", "--prompt=b", "--seed", "1"][..],
            ),
            (
                &["--negative-prompt", "-5", "--seed"],
                &["--negative-prompt=-5", "--seed"],
            ),
            (&["--prompt", "a", "b", "-q"], &["--prompt", "a", "b", "-q"]),
            (&["--prompt", "--seed", "1"], &["--prompt", "--seed", "1"]),
            (&["--output-path", "- a"], &["--output-path", "- a"]),
            (
                &["--prompt", "a", "--output-path=my pictures"],
                &["--prompt", "a", "--output-path=my pictures"],
            ),
            (
                &["--negative-prompt", "b", "--prompt=a c"],
                &["--negative-prompt", "b", "--prompt=a c"],
            ),
            (&["--prompt", "- a = b"], &["--prompt=- a = b"]),
            (&["--neg", "- a"], &["--neg=- a"]),
            // The parser refuses the second.
            (
                &["--negative-prompt", "- a", "b"],
                &["--negative-prompt=- a", "b"],
            ),
            (&["--prompt", "-- a = b"], &["--prompt=-- a = b"]),
        ] {
            let args = args.iter().map(Into::into).collect();
            assert_eq!(tie_texts(args), expected);
        }
    }
}
