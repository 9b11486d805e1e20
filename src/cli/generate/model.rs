//! Which checkpoint.

use clap::{Args, ValueEnum};

use crate::cli::parse::model;
use crate::weights::LoadFormat;

#[derive(Debug, Args)]
#[group(skip)]
#[command(next_help_heading = "Model")]
pub(super) struct ModelArgs {
    /// Folder of a Qwen-Image checkpoint, a repository of the Hugging Face Hub (`Qwen/Qwen-Image`, fetched
    /// into its cache), or `builtin:tiny`, the model inside this program
    #[arg(long, visible_alias = "model", value_name = "MODEL", value_parser = model())]
    pub(super) model_path: Option<String>,

    /// Branch, tag or commit of the repository [default: main]
    #[arg(long, value_name = "REVISION")]
    pub(super) revision: Option<String>,

    /// Where weights come from; `dummy` needs the JSON files only and fills in random numbers
    #[arg(long, value_name = "FORMAT", default_value = "auto")]
    pub(super) load_format: LoadFormatArg,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum LoadFormatArg {
    Auto,
    Safetensors,
    Dummy,
}

impl From<LoadFormatArg> for LoadFormat {
    fn from(format: LoadFormatArg) -> Self {
        match format {
            LoadFormatArg::Auto | LoadFormatArg::Safetensors => Self::Safetensors,
            LoadFormatArg::Dummy => Self::Dummy,
        }
    }
}
