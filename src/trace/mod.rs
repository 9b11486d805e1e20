//! Reads traces and tells what they say: where the time went, by stage, step, operator and kernel,
//! when the device was busy, and what the host did when it was not.
//!
//! It knows the file format only, not this program's profiler, and reads PyTorch's traces as well.

mod analysis;
mod bounded;
mod compare;
mod device;
mod event;
mod gaps;
mod host;
mod names;
mod numbers;
mod page;
mod picture;
mod read;
mod recorded;
pub mod report;
mod rows;
mod svg;
mod table;
#[cfg(test)]
mod tests;
mod text;

use std::path::Path;

pub use self::compare::{Comparison, SideBySide};
pub use self::report::Report;
pub use self::text::Text;

use self::analysis::Analysis;
use self::page::Page;
use self::picture::Picture;
use self::recorded::Recorded;
use crate::error::Result;

impl Report {
    /// Reads the trace at `path` and reports on it.
    ///
    /// # Errors
    /// [`crate::Error::Input`] when it cannot be read or is no trace.
    pub fn read(path: &Path) -> Result<Self> {
        let recorded = Recorded::read(path)?;
        Ok(Analysis::new(&recorded).report(path.display().to_string()))
    }
}

/// Reads the trace at `path` and makes a page of it, with the picture at `picture`.
///
/// # Errors
/// [`crate::Error::Input`] when a file cannot be read or is not what it should be.
pub fn page(path: &Path, picture: Option<&Path>) -> Result<String> {
    let picture = picture.map(Picture::read).transpose()?;
    let recorded = Recorded::read(path)?;
    let analysis = Analysis::new(&recorded);
    let page = Page {
        report: &analysis.report(path.display().to_string()),
        analysis: &analysis,
        picture: picture.as_ref(),
    };
    Ok(page.to_string())
}
