//! A component's safetensors files: checking them together, reading tensors.
//!
//! Every header is read and checked before the first tensor is. Tensors are read one by one with
//! positioned reads, so that no second copy of a component is ever in memory: to a GPU they go
//! through small pinned buffers.

use std::collections::HashMap;

use candle_core::{Device, Tensor};

use super::StoredSize;
use super::fault::fault;
use super::files::{Index, WeightFiles};
use super::source::ModelSource;
use super::tensor_file::TensorFile;
use crate::error::{Error, Result};

/// The open files of one component.
#[derive(Debug)]
pub(super) struct Shards {
    component: &'static str,
    files: Vec<TensorFile>,
    /// Tensor name to position in `files`.
    routing: HashMap<String, usize>,
}

impl Shards {
    /// Opens the component's files and checks their headers.
    pub(super) fn open(source: &ModelSource, component: &'static str) -> Result<Self> {
        let WeightFiles { names, index } = WeightFiles::find(source, component)?;
        let mut files: Vec<TensorFile> = Vec::with_capacity(names.len());
        let mut routing: HashMap<_, usize> = HashMap::new();
        for name in names {
            let file = format!("{component}/{name}");
            let blob = source.open(&file)?;
            let file = TensorFile::new(file, blob)?;
            for tensor in file.tensors() {
                if let Some(other) = routing.get(&tensor) {
                    let other = &files[*other].name;
                    let message = format!("tensor `{tensor}` is in {other} too");
                    return Err(fault(&file.name, message));
                }
                routing.insert(tensor, files.len());
            }
            files.push(file);
        }
        let shards = Self {
            component,
            files,
            routing,
        };
        if let Some(index) = index {
            shards.check_against(&index)?;
        }
        Ok(shards)
    }

    fn check_against(&self, index: &Index) -> Result<()> {
        for (tensor, name) in &index.weight_map {
            let file = format!("{}/{name}", self.component);
            let found = self.routing.get(tensor);
            if found.is_none_or(|shard| self.files[*shard].name != file) {
                return Err(fault(
                    &index.file,
                    format!("weight_map places tensor `{tensor}` in {file}, which lacks it"),
                ));
            }
        }
        Ok(())
    }

    /// What the headers describe.
    pub(super) fn size(&self) -> StoredSize {
        let mut size = StoredSize::default();
        for file in &self.files {
            for info in file.tensors().iter().filter_map(|tensor| file.info(tensor)) {
                size.bytes += (info.data_offsets.1 - info.data_offsets.0) as u64;
                size.parameters += info.shape.iter().product::<usize>() as u64;
            }
        }
        size
    }

    /// Whether a shard holds the tensor.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.routing.contains_key(name)
    }

    /// Reads a tensor in its stored dtype onto `device`.
    ///
    /// # Errors
    /// No such tensor; another shape than `expected`; a dtype that is not a plain float; a read that
    /// fails.
    pub(super) fn read(
        &self,
        name: &str,
        expected: Option<&[usize]>,
        device: &Device,
    ) -> Result<Tensor> {
        let missing = || Error::MissingTensor {
            component: self.component.to_owned(),
            name: name.to_owned(),
        };
        let shard = &self.files[*self.routing.get(name).ok_or_else(missing)?];
        let info = shard.info(name).ok_or_else(missing)?;
        let shape = info.shape.as_slice();
        if let Some(expected) = expected.filter(|expected| *expected != shape) {
            return Err(fault(
                &shard.name,
                format!(
                    "tensor `{name}` has shape {shape:?}, expected {expected:?} (from {}/config.json)",
                    self.component
                ),
            ));
        }
        shard.read(name, info, device)
    }
}
