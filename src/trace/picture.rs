//! The picture that a trace is of, for its page.

use std::io::Cursor;
use std::path::Path;

use crate::error::{Error, Result};
use crate::files::read_bounded;
use crate::output::Recipe;

const MAX_BYTES: u64 = 128 << 20;
/// Of a text that is compressed in the file.
const MAX_RECIPE_BYTES: usize = 1 << 20;

/// A PNG and what its recipe says.
#[derive(Debug)]
pub(super) struct Picture {
    png: Vec<u8>,
    /// Absent when it was made by another program, or with `--no-metadata`.
    pub(super) recipe: Option<Recipe>,
}

impl Picture {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let png = read_bounded(path, MAX_BYTES)?;
        let reader = png::Decoder::new(Cursor::new(&png)).read_info();
        let reader = reader.map_err(|error| Error::Input {
            path: path.to_owned(),
            message: format!("not a PNG: {error}"),
        })?;
        let mut chunks = reader.info().utf8_text.clone();
        let mut own = chunks
            .iter_mut()
            .filter(|chunk| chunk.keyword == "qwen-gen");
        let recipe = own.find_map(|chunk| {
            chunk.decompress_text_with_limit(MAX_RECIPE_BYTES).ok()?;
            serde_json::from_str(&chunk.get_text().ok()?).ok()
        });
        Ok(Self { png, recipe })
    }

    /// The file inside a page.
    pub(super) fn data_url(&self) -> String {
        format!("data:image/png;base64,{}", base64(&self.png))
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |i: usize| u32::from(group.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            text.push(if digit <= group.len() {
                char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize])
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn base64_is_the_standard_one() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foobar", "Zm9vYmFy"),
            ("\u{0}\u{7f}", "AH8="),
        ] {
            assert_eq!(super::base64(bytes.as_bytes()), text);
        }
        assert_eq!(super::base64(&[0xfb, 0xff, 0xfe]), "+//+");
    }
}
