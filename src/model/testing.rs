//! For the tests of the networks: reference runs with the result of every module, and what a network
//! asks of its weights.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use candle_core::{DType, Device, Result, Shape, Tensor};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Init, VarBuilder};

use crate::config::ModelConfig;
use crate::ops::testing::assert_close;
use crate::weights::{ComponentWeights, LoadFormat, ModelSource, TensorShapes};

/// The runs that were dumped module by module, and their checkpoints.
pub(super) const RUNS: [(&str, &str); 2] =
    [("a_ascii_seed0", "tiny-a"), ("b_oddsize_seed42", "tiny-b")];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn random_checkpoint(name: &str) -> ModelSource {
    ModelSource::Folder(fixtures().join("checkpoints").join(name))
}

/// The built-in model and the random checkpoints.
pub(super) fn sources() -> [ModelSource; 3] {
    let [a, b] = RUNS.map(|(_, checkpoint)| random_checkpoint(checkpoint));
    [ModelSource::BuiltinTiny, a, b]
}

/// Numbers in the tensors.
pub(super) fn parameters(tensors: &TensorShapes) -> usize {
    tensors
        .values()
        .map(|shape| shape.iter().product::<usize>())
        .sum()
}

/// A model's configuration, and what the network that is built of it asks of its component's weights.
pub(super) fn asked_for<T>(
    source: &ModelSource,
    component: &'static str,
    build: impl FnOnce(&ModelConfig, &VarBuilder<'_>) -> Result<T>,
) -> Result<(ModelConfig, TensorShapes)> {
    let config = ModelConfig::read(source).expect("a sound checkpoint");
    let weights = ComponentWeights::open(source, component, LoadFormat::Safetensors);
    let weights = weights.expect("a sound checkpoint");
    let asked = Mutex::default();
    let noting = Noting {
        tensors: weights.var_builder(DType::F32, &Device::Cpu),
        asked: &asked,
    };
    let vb = VarBuilder::from_backend(Box::new(noting), DType::F32, Device::Cpu);
    build(&config, &vb)?;
    drop(vb);
    Ok((config, asked.into_inner().expect("no test panics here")))
}

/// Hands tensors out and notes their names and shapes.
struct Noting<'a> {
    tensors: VarBuilder<'a>,
    asked: &'a Mutex<TensorShapes>,
}

impl SimpleBackend for Noting<'_> {
    fn get(&self, shape: Shape, name: &str, _: Init, _: DType, _: &Device) -> Result<Tensor> {
        let entry = (name.to_owned(), shape.dims().to_vec());
        self.asked
            .lock()
            .expect("no test panics here")
            .extend([entry]);
        self.tensors.get(shape, name)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        candle_core::bail!("{name} is asked for without a shape")
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.tensors.contains_tensor(name)
    }
}

/// A run of the reference implementation: the conditional branch of its first step.
pub(super) struct Run {
    pub(super) config: ModelConfig,
    source: ModelSource,
    tensors: HashMap<String, Tensor>,
}

impl Run {
    pub(super) fn read(name: &str, checkpoint: &str) -> Result<Self> {
        let source = random_checkpoint(checkpoint);
        let folder = fixtures().join("cases").join(name);
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
        let weights = ComponentWeights::open(&self.source, component, LoadFormat::Safetensors);
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
