//! Names of the pictures of a run. Pure: no file is looked at.

use std::path::{Path, PathBuf};

use jiff::civil::DateTime;
use ring::digest::{SHA256, digest};
use unicode_normalization::UnicodeNormalization;

use crate::error::{Error, Result};
use crate::files::MAX_NAME_BYTES;

/// Longest name made from a prompt, without index and extension.
const MAX_STEM_CHARS: usize = 150;

/// Characters of the prompt that go into a name.
const PROMPT_CHARS: usize = 100;

/// Characters of the request id that go into a name.
const ID_CHARS: usize = 8;

/// Endings that upstream writes or keeps as given, and qwen-gen cannot write.
const OTHER_FORMATS: [&str; 7] = ["jpg", "jpeg", "webp", "mp4", "obj", "glb", "json"];

/// Where the names of a run come from.
#[derive(Debug, Clone, Copy)]
pub enum Naming<'a> {
    /// From the user, by `flag` (`--output-file-name`).
    Given {
        /// A plain file name, with or without `.png`.
        name: &'a str,
        /// For messages.
        flag: &'a str,
    },
    /// From the prompt, the local time and the request id.
    Automatic {
        /// Local time of the run.
        time: DateTime,
        /// The run's request id.
        request_id: &'a str,
    },
}

/// The file names of a run in the order of its requests: prompt by prompt, output by output.
///
/// With more than one request each name carries the request's index, so no two are equal.
///
/// # Errors
/// [`Error::Usage`] when a given name is no plain file name, names a format other than PNG, or
/// has to serve several prompts.
pub fn output_names(
    naming: Naming<'_>,
    prompts: &[String],
    outputs_per_prompt: usize,
) -> Result<Vec<String>> {
    let count = prompts.len() * outputs_per_prompt;
    let name = |index: usize, stem: &str, extension: &str| {
        if count == 1 {
            format!("{stem}.{extension}")
        } else {
            format!("{stem}_{index}.{extension}")
        }
    };
    match naming {
        Naming::Given { name: given, flag } => {
            let (stem, extension) = check_given(given, flag)?;
            if prompts.len() > 1 {
                return Err(Error::Usage {
                    message: format!(
                        "{flag} gives one name, but there are {} prompts",
                        prompts.len()
                    ),
                    hint: Some("leave it out and each picture is named after its prompt".into()),
                });
            }
            let names: Vec<_> = (0..count).map(|i| name(i, stem, extension)).collect();
            match names.iter().find(|name| name.len() > MAX_NAME_BYTES) {
                Some(long) => Err(Error::usage(format!(
                    "{flag}: the file name has {} bytes, at most {MAX_NAME_BYTES} are possible",
                    long.len()
                ))),
                None => Ok(names),
            }
        }
        Naming::Automatic { time, request_id } => Ok((0..count)
            .map(|i| {
                let stem = automatic_stem(&prompts[i / outputs_per_prompt], time, request_id);
                name(i, &stem, "png")
            })
            .collect()),
    }
}

/// Splits the value of `--output-file-path` into folder and file name.
#[must_use]
pub fn split_file_path(path: &Path) -> (PathBuf, String) {
    let text = path.to_string_lossy();
    let (folder, name) = match text.rsplit_once('/') {
        None => ("", &*text),
        Some(("", name)) => ("/", name),
        Some(split) => split,
    };
    (folder.into(), name.into())
}

/// Stem and extension of a name given by the user.
fn check_given<'a>(name: &'a str, flag: &str) -> Result<(&'a str, &'a str)> {
    if matches!(name, "" | "." | "..") || name.contains(['/', '\0']) {
        return Err(Error::usage(format!(
            "{flag}: {name:?} is not a plain file name"
        )));
    }
    match name.rsplit_once('.') {
        Some((stem, extension)) if extension.eq_ignore_ascii_case("png") => Ok((stem, extension)),
        Some((_, extension)) if OTHER_FORMATS.contains(&&*extension.to_ascii_lowercase()) => {
            Err(Error::usage(format!(
                "{flag}: {name:?} asks for .{extension}, only PNG is written"
            )))
        }
        _ => Ok((name, "png")),
    }
}

/// What tells the id from others: of a UUID its beginning, of longer ids, which are often numbered at their
/// ends, the beginning of a hash.
fn short_id(id: &str) -> String {
    if id.len() <= ID_CHARS || uuid::Uuid::parse_str(id).is_ok() {
        return id.chars().take(ID_CHARS).collect();
    }
    let hash = digest(&SHA256, id.as_bytes());
    let start = hash.as_ref().first_chunk().expect("a SHA-256 has 32 bytes");
    format!("{:0ID_CHARS$x}", u32::from_be_bytes(*start))
}

fn automatic_stem(prompt: &str, time: DateTime, request_id: &str) -> String {
    let id = short_id(request_id);
    let suffix = format!("_{}_{id}", time.strftime("%Y%m%d-%H%M%S"));
    let prompt = if prompt.is_empty() { "output" } else { prompt };
    // Decomposition can lengthen the text: cut here, so that the suffix is never cut off.
    let head: String = ascii(prompt.chars().take(PROMPT_CHARS))
        .take(MAX_STEM_CHARS - suffix.len())
        .collect();
    sanitise(&(head + &suffix))
}

/// What is left of a text in a file name: `[A-Za-z0-9._-]`, no runs of `_`, and neither `_` nor
/// `.` at the ends.
fn sanitise(text: &str) -> String {
    let mut name = String::with_capacity(text.len());
    for c in ascii(text.chars()) {
        let kept = c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        if kept {
            name.push(c);
        } else if !name.ends_with('_') {
            name.push('_');
        }
    }
    name.trim_matches(['.', '_']).to_owned()
}

/// The ASCII characters of the compatibility decomposition: `é` gives `e`, `画` nothing.
fn ascii(chars: impl Iterator<Item = char>) -> impl Iterator<Item = char> {
    chars.nfkd().filter(char::is_ascii)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const ID: &str = "5f0c2a1e-7c1b-4c69-9d0e-0d9a5c3a4b11";

    fn automatic(prompts: &[&str], outputs: usize) -> Vec<String> {
        let naming = Naming::Automatic {
            time: jiff::civil::datetime(2026, 1, 2, 3, 4, 5, 0),
            request_id: ID,
        };
        let prompts: Vec<_> = prompts.iter().map(ToString::to_string).collect();
        output_names(naming, &prompts, outputs).unwrap()
    }

    fn given(name: &str, prompts: usize, outputs: usize) -> Result<Vec<String>> {
        let naming = Naming::Given {
            name,
            flag: "--output-file-name",
        };
        output_names(naming, &vec![String::new(); prompts], outputs)
    }

    #[test]
    fn names_from_prompts_are_sanitised() {
        let suffix = "20260102-030405_5f0c2a1e.png";
        for (prompt, expected) in [
            ("A Logo", "A_Logo_"),
            ("a/b\\c: \"d\"", "a_b_c_d_"),
            ("  .hidden_", "hidden_"),
            ("../../etc/passwd", "etc_passwd_"),
            ("v1.5 x-ray", "v1.5_x-ray_"),
            ("café ﬁne №5", "cafe_fine_No5_"),
            ("一只猫", ""),
            ("🐈", ""),
            ("two\nlines\0", "two_lines_"),
            ("", "output_"),
        ] {
            assert_eq!(automatic(&[prompt], 1), [format!("{expected}{suffix}")]);
        }
    }

    #[test]
    fn a_long_prompt_is_cut_and_keeps_its_suffix() {
        let names = automatic(&[&"x".repeat(300)], 1);
        assert_eq!(
            names,
            [format!("{}_20260102-030405_5f0c2a1e.png", "x".repeat(100))]
        );
        // Each decomposes into `(10)`.
        let names = automatic(&[&"⑽".repeat(100)], 1);
        assert!(
            names[0].ends_with("_20260102-030405_5f0c2a1e.png"),
            "{names:?}"
        );
        assert!(names[0].len() <= MAX_STEM_CHARS + ".png".len(), "{names:?}");
    }

    #[test]
    fn names_of_a_run_are_distinct_and_carry_the_request_index() {
        let names = automatic(&["猫", "猫", "a", "a_1"], 3);
        assert_eq!(names.iter().collect::<HashSet<_>>().len(), 12);
        assert_eq!(names[0], "20260102-030405_5f0c2a1e_0.png");
        assert_eq!(names[7], "a_20260102-030405_5f0c2a1e_7.png");
    }

    #[test]
    fn ids_that_begin_alike_are_told_apart() {
        assert_eq!(short_id(ID), "5f0c2a1e");
        assert_eq!(short_id("run-7"), "run-7");
        let (first, second) = (short_id("nightly-1"), short_id("nightly-2"));
        assert_ne!(first, second);
        assert_eq!([first.len(), second.len()], [ID_CHARS; 2]);
    }

    #[test]
    fn given_names_are_used_as_they_are() {
        for (name, expected) in [
            ("cat.png", "cat.png"),
            ("Cat.PNG", "Cat.PNG"),
            ("cat", "cat.png"),
            ("cat.v2", "cat.v2.png"),
            ("my cat (1)", "my cat (1).png"),
            ("猫.png", "猫.png"),
            ("-cat", "-cat.png"),
        ] {
            assert_eq!(given(name, 1, 1).unwrap(), [expected]);
        }
        assert_eq!(given("cat.png", 1, 2).unwrap(), ["cat_0.png", "cat_1.png"]);
    }

    #[test]
    fn unusable_names_are_usage_errors_that_name_the_flag() {
        for name in [
            "", ".", "..", "a/b", "/a.png", "a\0b", "a.jpg", "a.JPEG", "a.webp", "a.json",
        ] {
            let error = given(name, 1, 1).unwrap_err();
            assert!(matches!(error, Error::Usage { .. }), "{name:?}");
            assert!(
                error.to_string().starts_with("--output-file-name"),
                "{error}"
            );
        }
        assert!(given("cat.png", 2, 1).is_err());
    }

    #[test]
    fn the_length_limit_counts_the_bytes_of_the_final_name() {
        assert!(given(&"x".repeat(251), 1, 1).is_ok());
        assert!(given(&"x".repeat(252), 1, 1).is_err());
        assert!(given(&format!("{}.png", "x".repeat(251)), 1, 1).is_ok());
        assert!(given(&"x".repeat(250), 1, 10).is_err());
        assert!(given(&"猫".repeat(84), 1, 1).is_err());
    }

    #[test]
    fn a_file_path_splits_at_its_last_separator() {
        for (path, folder, name) in [
            ("cat.png", "", "cat.png"),
            ("a/b/cat.png", "a/b", "cat.png"),
            ("/cat.png", "/", "cat.png"),
            ("a/", "a", ""),
            ("a/..", "a", ".."),
        ] {
            let split = split_file_path(Path::new(path));
            assert_eq!(split, (folder.into(), name.into()));
        }
    }
}
