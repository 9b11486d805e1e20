//! LoRA adapters: low-rank updates that are merged into a component's weights as they are read.
//!
//! A file is opened and checked whole before any weight is read; its matrices are read when the
//! weight that they change is asked for, so that nothing of them stays in memory. The model knows
//! nothing of it.

mod file;
mod keys;
mod peft;

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use self::file::LoraFile;
use crate::error::Result;

/// An adapter to merge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Lora {
    /// Path of its safetensors file.
    pub file: String,
    /// Strength: 1 as it was trained, 0 as if it were not there.
    pub scale: f64,
}

/// The open files of all adapters of a component.
#[derive(Debug, Default)]
pub(super) struct Adapters(Vec<LoraFile>);

impl Adapters {
    /// Opens the files and checks that every tensor belongs to one of the component's linear
    /// layers, given by name with their weight's `[out, in]`.
    pub(super) fn open(loras: &[Lora], linears: &BTreeMap<String, [usize; 2]>) -> Result<Self> {
        let open = |lora| LoraFile::open(lora, linears);
        loras.iter().map(open).collect::<Result<_>>().map(Self)
    }

    /// The factors `[out, rank]` and `[rank, in]` of what the adapters together add to a tensor of
    /// the component, in f32; none when they leave it alone.
    pub(super) fn factors(
        &self,
        tensor: &str,
        device: &Device,
    ) -> Result<Option<(Tensor, Tensor)>> {
        let Some(linear) = tensor.strip_suffix(".weight") else {
            return Ok(None);
        };
        let (mut ups, mut downs) = (Vec::new(), Vec::new());
        for file in &self.0 {
            if let Some((up, down)) = file.factors(linear, device)? {
                ups.push(up);
                downs.push(down);
            }
        }
        if ups.is_empty() {
            return Ok(None);
        }
        // Products add up where ranks lie side by side.
        Ok(Some((Tensor::cat(&ups, 1)?, Tensor::cat(&downs, 0)?)))
    }
}
