//! The library's error type: variants are what a caller can act on.

use std::path::PathBuf;

/// Result with the library's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can stop a run.
///
/// Messages are lower case, without a final period, and name the flag, file or tensor.
/// A way out, where there is one, is in [`Error::hint`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A flag or its value is wrong; found before any work.
    #[error("{message}")]
    Usage {
        /// What is wrong, naming the flag.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },

    /// A file of the checkpoint is missing, unreadable or not what it must be.
    #[error("{file}: {message}")]
    Checkpoint {
        /// The file, relative to the checkpoint (`transformer/config.json`).
        file: String,
        /// What is wrong with it; expected and found values both appear.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },

    /// A tensor that the model needs is in no shard.
    #[error("{component} has no tensor `{name}`")]
    MissingTensor {
        /// Folder of the component.
        component: String,
        /// Name in the checkpoint.
        name: String,
    },

    /// The Hugging Face Hub or the cache of its files did not give what was asked for.
    #[error("{what}: {message}")]
    Hub {
        /// The repository, and the file where it is one.
        what: String,
        /// What happened, with the status where there was an answer.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },

    /// An output cannot be written.
    #[error("cannot write {}: {message}", path.display())]
    Output {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        message: String,
    },

    /// An input file named on the command line cannot be used.
    #[error("{}: {message}", path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// Why.
        message: String,
    },

    /// A result holds NaN or infinity.
    #[error("NaN or infinity in {what}")]
    NonFinite {
        /// The result (`the denoised latents`).
        what: String,
    },

    /// The device asked for does not exist or cannot do this.
    #[error("{message}")]
    Device {
        /// What was asked, and what was found.
        message: String,
        /// What to do about it.
        hint: Option<String>,
    },

    /// The device's memory is used up.
    #[error("{message}")]
    OutOfMemory {
        /// What is free.
        message: String,
        /// What to do about it.
        hint: String,
    },

    /// SIGINT, SIGTERM or SIGHUP arrived.
    #[error("{}", match *signal { libc::SIGTERM => "terminated", libc::SIGHUP => "hung up", _ => "interrupted" })]
    Interrupted {
        /// Signal number.
        signal: i32,
    },

    /// A tensor operation failed.
    #[error("{}", message_of(.0))]
    Tensor(candle_core::Error),
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        crate::device::out_of_memory(&error).unwrap_or(Self::Tensor(error))
    }
}

/// What a tensor error says, without the backtrace it may carry.
#[must_use]
pub fn message_of(error: &candle_core::Error) -> String {
    match error {
        candle_core::Error::WithBacktrace { inner, .. } => message_of(inner),
        other => other.to_string(),
    }
}

impl Error {
    /// A way out, for the `hint:` line.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Usage { hint, .. }
            | Self::Checkpoint { hint, .. }
            | Self::Hub { hint, .. }
            | Self::Device { hint, .. } => hint.as_deref(),
            Self::OutOfMemory { hint, .. } => Some(hint),
            Self::MissingTensor { .. } => {
                Some("incomplete download? or the config.json of another model?")
            }
            _ => None,
        }
    }

    /// Standard output takes no more.
    pub fn stdout(why: impl std::fmt::Display) -> Self {
        Self::Output {
            path: "standard output".into(),
            message: why.to_string(),
        }
    }

    /// A usage error without a hint.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage {
            message: message.into(),
            hint: None,
        }
    }
}
