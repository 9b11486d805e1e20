//! The picture that a trace is of, for its page.

use std::io::Cursor;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine as _};

use crate::error::{Error, Result};
use crate::files::read_bounded;
use crate::output::Recipe;

const MAX_BYTES: u64 = 128 << 20;
/// Four times the largest picture that is made.
const MAX_PIXELS: u64 = 1 << 26;
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
        let unusable = |error: png::DecodingError| Error::Input {
            path: path.to_owned(),
            message: match error {
                png::DecodingError::LimitsExceeded => "too large a PNG".to_owned(),
                other => format!("not a PNG that can be shown: {other}"),
            },
        };
        let mut reader = (png::Decoder::new(Cursor::new(&png)).read_info()).map_err(unusable)?;
        let (width, height) = reader.info().size();
        if u64::from(width) * u64::from(height) > MAX_PIXELS {
            return Err(unusable(png::DecodingError::LimitsExceeded));
        }
        while reader.next_row().map_err(unusable)?.is_some() {}
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
        let png = BASE64_STANDARD.encode(&self.png);
        format!("data:image/png;base64,{png}")
    }
}
