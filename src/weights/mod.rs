//! A checkpoint's files and tensors, wherever they come from.
//!
//! [`ModelSource`] finds files; [`ComponentWeights`] holds one component's tensors (`transformer`)
//! and hands them to the model through candle's `VarBuilder`. The files are not trusted: whatever
//! is wrong with them is an [`Error`] that names the file, before memory is spent on it.

mod blob;
mod builtin;
mod dummy;
mod fault;
mod files;
mod header;
mod json;
mod lora;
mod shards;
mod source;
mod tensor_file;

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::var_builder::{SimpleBackend, VarBuilder};

pub(crate) use fault::{INCOMPLETE, fault, fault_with_hint};
pub(crate) use files::{listing, weight_files};
pub(crate) use json::Object;
pub use json::parse_json;
pub use lora::Lora;
pub(crate) use source::MODEL_INDEX;
pub use source::ModelSource;

use crate::error::{Error, Result};
use crate::ops::{cast, merge_low_rank};
use lora::Adapters;
use shards::Shards;
use tensor_file::arriving;

/// Where weights come from (`--load-format`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LoadFormat {
    /// The checkpoint's safetensors files.
    #[default]
    Safetensors,
    /// Seeded random values; no weight files needed.
    Dummy,
}

/// How much a component's files hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
pub struct StoredSize {
    /// Numbers in its tensors.
    pub parameters: u64,
    /// Bytes of its tensors.
    pub bytes: u64,
}

/// Tensors by name, each with its shape.
pub(crate) type TensorShapes = BTreeMap<String, Vec<usize>>;

/// The tensors of one component.
#[derive(Debug)]
pub struct ComponentWeights {
    component: &'static str,
    tensors: Tensors,
    adapters: Adapters,
    bytes_read: AtomicU64,
}

#[derive(Debug)]
enum Tensors {
    Stored(Shards),
    Dummy,
}

impl ComponentWeights {
    /// Opens the weight files in `component`'s folder and checks their headers; reads no tensor.
    ///
    /// # Errors
    /// Files that are missing, ambiguous, incomplete or malformed.
    pub fn open(source: &ModelSource, component: &'static str, format: LoadFormat) -> Result<Self> {
        match format {
            LoadFormat::Safetensors => {
                let shards = Shards::open(source, component)?;
                Ok(Self::of(component, Tensors::Stored(shards)))
            }
            LoadFormat::Dummy => Ok(Self::dummy(component)),
        }
    }

    /// Random weights, whatever is asked for.
    #[must_use]
    pub fn dummy(component: &'static str) -> Self {
        Self::of(component, Tensors::Dummy)
    }

    fn of(component: &'static str, tensors: Tensors) -> Self {
        Self {
            component,
            tensors,
            adapters: Adapters::default(),
            bytes_read: AtomicU64::new(0),
        }
    }

    /// Checks by the headers that the files hold all `tensors` that a network reads, and no other that
    /// `belongs` to it: with fewer layers than the files have it would run, and draw something else.
    /// Random weights are whatever is asked for.
    ///
    /// # Errors
    /// A tensor that is missing, misshapen, of a dtype that is not read, or left over.
    pub(crate) fn check(
        &self,
        tensors: &TensorShapes,
        belongs: impl Fn(&str) -> bool,
    ) -> Result<()> {
        match &self.tensors {
            Tensors::Stored(shards) => shards.check(tensors, belongs),
            Tensors::Dummy => Ok(()),
        }
    }

    /// Whether there is a tensor of this name.
    pub(crate) fn contains(&self, name: &str) -> bool {
        match &self.tensors {
            Tensors::Stored(shards) => shards.contains(name),
            Tensors::Dummy => true,
        }
    }

    /// The same with LoRA adapters merged into its linear layers, which are given by name with
    /// their weight's `[out, in]`.
    ///
    /// # Errors
    /// A file that cannot be read, or holds anything that is not for one of the layers.
    pub fn with_loras(
        self,
        loras: &[Lora],
        linears: &BTreeMap<String, [usize; 2]>,
    ) -> Result<Self> {
        let adapters = Adapters::open(loras, linears)?;
        Ok(Self { adapters, ..self })
    }

    /// A builder whose tensors arrive in `dtype` on `device`.
    #[must_use]
    pub fn var_builder(&self, dtype: DType, device: &Device) -> VarBuilder<'_> {
        VarBuilder::from_backend(Box::new(self), dtype, device.clone())
    }

    /// How much the files hold, by their headers; nothing without files.
    #[must_use]
    pub fn stored_size(&self) -> StoredSize {
        match &self.tensors {
            Tensors::Stored(shards) => shards.size(),
            Tensors::Dummy => StoredSize::default(),
        }
    }

    /// What tensors of `bytes` bytes in `dtype` take as they arrive on `device`, while they are converted, or
    /// adapters merged into them; nothing where they arrive as they are used. What is not there yet is taken for bf16.
    pub(crate) fn arrived_beside(
        &self,
        bytes: u64,
        (dtype, device): (DType, &Device),
        has_adapters: bool,
    ) -> u64 {
        let stored = match &self.tensors {
            Tensors::Stored(shards) => shards.dtypes(),
            Tensors::Dummy => HashSet::from([DType::BF16]),
        };
        let arriving = (stored.into_iter()).map(|stored| arriving(stored, dtype, device));
        let twice = arriving.filter(|arriving| *arriving != dtype || has_adapters);
        let size = twice.map(|dtype| dtype.size_in_bytes()).max().unwrap_or(0);
        bytes / dtype.size_in_bytes() as u64 * size as u64
    }

    /// Bytes of its own tensors read from files so far.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.load(Ordering::Relaxed)
    }

    /// A tensor in `dtype` with what adapters add to it, rounded once, after the sum.
    fn merged(&self, name: &str, dtype: DType, tensor: &Tensor) -> candle_core::Result<Tensor> {
        let factors = self.adapters.factors(name, tensor.device());
        match factors.map_err(message)? {
            None => cast(tensor, dtype),
            Some((up, down)) => merge_low_rank(tensor, &up, &down, dtype),
        }
    }

    fn read(
        &self,
        shards: &Shards,
        name: &str,
        expected: &[usize],
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let read = shards.read(name, expected, dtype, device);
        let (tensor, bytes) = read.map_err(message)?;
        self.bytes_read.fetch_add(bytes, Ordering::Relaxed);
        Ok(tensor)
    }
}

impl SimpleBackend for &ComponentWeights {
    fn get(
        &self,
        shape: Shape,
        name: &str,
        _: candle_nn::Init,
        dtype: DType,
        device: &Device,
    ) -> candle_core::Result<Tensor> {
        let tensor = match &self.tensors {
            Tensors::Stored(shards) => self.read(shards, name, shape.dims(), dtype, device),
            Tensors::Dummy => dummy::tensor(self.component, name, &shape, dtype, device),
        };
        self.merged(name, dtype, &tensor?)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        candle_core::bail!("`{name}` is asked for without its shape")
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.contains(name)
    }
}

/// candle's error keeps a message only; without `.bt()`, which would append a backtrace.
fn message(error: Error) -> candle_core::Error {
    match error {
        Error::Tensor(error) => error,
        other => candle_core::Error::Msg(other.to_string()),
    }
}
