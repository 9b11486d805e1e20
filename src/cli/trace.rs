//! What can be typed after `trace`.

use std::path::PathBuf;

use clap::Args;

use super::parse::file_path;

/// Tell what a trace says: time by stage, step, operator and kernel, GPU busy and idle
///
/// Reads traces of --profile and of PyTorch's profiler, zipped or not. With two traces, both side
/// by side and how the second differs.
#[derive(Debug, Clone, Args)]
pub struct TraceArgs {
    /// The trace
    pub file: PathBuf,

    /// A trace to compare with FILE
    #[arg(value_name = "FILE2")]
    pub other: Option<PathBuf>,

    /// Print one JSON object
    #[arg(long)]
    pub json: bool,

    /// Rows of the tables of operators, kernels and copies; 0 shows all
    #[arg(long, value_name = "ROWS", default_value_t = 20, allow_negative_numbers = true, conflicts_with_all = ["json", "html"])]
    pub top: usize,

    /// Write a page with charts instead, to be opened in a browser
    #[arg(long, value_name = "PAGE", value_parser = file_path(), conflicts_with_all = ["json", "other"])]
    pub html: Option<PathBuf>,

    /// The picture that was made, to be shown on the page with its recipe
    #[arg(long, value_name = "PNG", value_parser = file_path(), requires = "html")]
    pub picture: Option<PathBuf>,
}
