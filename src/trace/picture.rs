//! The picture that a trace is of, for its page.

use std::io::Cursor;
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine as _};

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
        let png = BASE64_STANDARD.encode(&self.png);
        format!("data:image/png;base64,{png}")
    }
}
