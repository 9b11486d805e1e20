//! Reference runs with the result of every module, for the tests of the networks.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;

use crate::config::ModelConfig;
use crate::ops::testing::assert_close;
use crate::weights::{ComponentWeights, LoadFormat, ModelSource};

/// The runs that were dumped module by module, and their checkpoints.
pub(super) const RUNS: [(&str, &str); 2] =
    [("a_ascii_seed0", "tiny-a"), ("b_oddsize_seed42", "tiny-b")];

/// A run of the reference implementation: the conditional branch of its first step.
pub(super) struct Run {
    pub(super) config: ModelConfig,
    source: ModelSource,
    tensors: HashMap<String, Tensor>,
}

impl Run {
    pub(super) fn read(name: &str, checkpoint: &str) -> Result<Self> {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        let source = ModelSource::Folder(fixtures.join("checkpoints").join(checkpoint));
        let folder = fixtures.join("cases").join(name);
        let read = |file: &str| candle_core::safetensors::load(folder.join(file), &Device::Cpu);
        let mut tensors = read("tensors.safetensors")?;
        tensors.extend(read("debug.safetensors")?);
        Ok(Self {
            config: ModelConfig::read(&source).expect("a sound checkpoint"),
            source,
            tensors,
        })
    }

    /// Builds a network from the checkpoint's weights, in f32.
    pub(super) fn build<T>(
        &self,
        component: &'static str,
        build: impl FnOnce(&ModelConfig, &VarBuilder<'_>) -> Result<T>,
    ) -> Result<T> {
        let weights = ComponentWeights::open(&self.source, component, LoadFormat::Auto);
        let weights = weights.expect("a sound checkpoint");
        build(&self.config, &weights.var_builder(DType::F32, &Device::Cpu))
    }

    /// The tensor of this name, without its batch axis.
    pub(super) fn tensor(&self, name: &str) -> Result<Tensor> {
        self.tensors[name].get(0)
    }

    /// The table of this name, which has no batch axis.
    pub(super) fn table(&self, name: &str) -> &Tensor {
        &self.tensors[name]
    }

    /// Compares with the tensor of this name.
    pub(super) fn check(&self, name: &str, actual: &Tensor, tolerance: f32) -> Result<()> {
        println!("{name}");
        assert_close(actual, &self.tensor(name)?, tolerance)
    }
}
