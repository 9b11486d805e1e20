//! What `--model-path` and `--revision` name.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::hub::{Repository, RepositoryId, Revision};
use crate::sampling::Sampling;
use crate::weights::ModelSource;

/// A checkpoint by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelName {
    /// Files on this machine.
    Source(ModelSource),
    /// A repository of the Hugging Face Hub; its files are yet to be found.
    Repository(Repository),
}

impl ModelName {
    /// Tells a repository from what is on this machine, which wins.
    ///
    /// # Errors
    /// A usage error when it is neither, or the revision makes no sense.
    pub(crate) fn resolve(model_path: &str, revision: Option<&str>) -> Result<Self> {
        // A folder that cannot be looked at is an error, and no repository.
        let is_here = Path::new(model_path).try_exists().unwrap_or(true);
        let id = RepositoryId::parse(model_path).filter(|_| !is_here);
        let Some(id) = id else {
            let source = ModelSource::resolve(model_path)?;
            return match revision {
                None => Ok(Self::Source(source)),
                Some(text) => Err(Error::Usage {
                    message: format!(
                        "--revision `{text}`: --model-path `{model_path}` is no repository of the Hugging Face Hub"
                    ),
                    hint: Some(
                        "leave --revision out, or name a repository: Qwen/Qwen-Image".into(),
                    ),
                }),
            };
        };
        let revision = match revision {
            None => Revision::default(),
            Some(text) => Revision::parse(text).ok_or_else(|| {
                let message = format!("--revision `{text}`: expected a branch, a tag or a commit");
                Error::usage(message)
            })?,
        };
        Ok(Self::Repository(Repository { id, revision }))
    }

    /// The files that are known to be the model's.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        match self {
            Self::Source(source) => source.files(),
            Self::Repository(_) => Vec::new(),
        }
    }

    /// Width and height of a picture when none are given.
    pub(crate) fn default_size(&self) -> (usize, usize) {
        match self {
            Self::Source(ModelSource::BuiltinTiny) => (256, 256),
            Self::Source(ModelSource::Folder(_)) | Self::Repository(_) => {
                let Sampling { width, height, .. } = Sampling::default();
                (width, height)
            }
        }
    }
}
