//! A checkpoint's components, as the headers of their files describe them.

use serde::Serialize;

use crate::error::Result;
use crate::pipeline::Checkpoint;
use crate::weights::{LoadFormat, ModelSource, StoredSize};

/// One component of a checkpoint.
#[derive(Debug, Serialize)]
pub struct Component {
    /// Its folder.
    pub name: &'static str,
    /// Numbers in its tensors.
    pub parameters: u64,
    /// Bytes of its tensors, as they are stored.
    pub bytes: u64,
}

/// Opens the checkpoint as `generate` does.
pub(super) fn components(source: &ModelSource) -> Result<Vec<Component>> {
    let checkpoint = Checkpoint::open(source, LoadFormat::Auto)?;
    let component = |(name, size): (_, StoredSize)| Component {
        name,
        parameters: size.parameters,
        bytes: size.bytes,
    };
    Ok(checkpoint
        .stored_sizes()
        .into_iter()
        .map(component)
        .collect())
}
