//! Prompts, as they were typed or from a file.

use std::path::Path;

use crate::error::{Error, Result};
use crate::files;
use crate::sampling::Sampling;

/// Largest prompt file.
const MAX_PROMPT_FILE_BYTES: u64 = 16 << 20;

/// One prompt for each line that is not blank.
///
/// # Errors
/// A usage error when the file's name does not end in `.txt`, it cannot be read, is not UTF-8 or
/// holds no prompt.
pub fn read_prompt_file(path: &Path) -> Result<Vec<String>> {
    if path.extension().is_none_or(|extension| extension != "txt") {
        return Err(Error::usage(format!(
            "--prompt-path {}: expected a .txt file",
            path.display()
        )));
    }
    let bytes = files::read_bounded(path, MAX_PROMPT_FILE_BYTES)
        .map_err(|error| Error::usage(format!("--prompt-path {error}")))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Error::usage(format!(
            "--prompt-path {}: byte {at} is not UTF-8",
            path.display()
        ))
    })?;
    let prompts: Vec<String> = text
        .trim_start_matches('\u{feff}')
        // Python ends lines at each of them, too; blank ones are none.
        .split(['\n', '\r'])
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    if prompts.is_empty() {
        return Err(Error::usage(format!(
            "--prompt-path {}: holds no prompt",
            path.display()
        )));
    }
    Ok(prompts)
}

/// One space by default, so that guidance has something to stay away from; other text is stripped.
pub(super) fn resolve_negative_prompt(given: Option<String>) -> String {
    match given {
        None => Sampling::default().negative_prompt,
        Some(text) if text.trim().is_empty() => text,
        Some(text) => text.trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_blank_negative_prompts_keep_their_blanks() {
        assert_eq!(resolve_negative_prompt(None), " ");
        assert_eq!(resolve_negative_prompt(Some(String::new())), "");
        assert_eq!(resolve_negative_prompt(Some(" a b ".to_owned())), "a b");
    }
}
