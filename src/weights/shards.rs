//! A component's safetensors files: checking them together, reading tensors.
//!
//! Every header is read and checked before the first tensor is. Tensors are read one by one with
//! positioned reads, so that no second copy of a component is ever in memory.

use std::collections::HashMap;
use std::io;

use candle_core::{Device, Tensor};
use half::vec::HalfBitsVecExt;
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;

use super::StoredSize;
use super::blob::Blob;
use super::fault::{fault, fault_with_hint};
use super::files::{Index, WeightFiles};
use super::header::Header;
use super::source::ModelSource;
use crate::error::{Error, Result};

/// Values that one thread reads at a time: 1 to 4 MiB, so that its buffer stays in the cache.
const CHUNK: usize = 1 << 19;

/// The open files of one component.
#[derive(Debug)]
pub(super) struct Shards {
    component: &'static str,
    files: Vec<Shard>,
    /// Tensor name to position in `files`.
    routing: HashMap<String, usize>,
}

#[derive(Debug)]
struct Shard {
    file: String,
    blob: Blob,
    header: Header,
}

impl Shards {
    /// Opens the component's files and checks their headers.
    pub(super) fn open(source: &ModelSource, component: &'static str) -> Result<Self> {
        let WeightFiles { names, index } = WeightFiles::find(source, component)?;
        let mut files: Vec<Shard> = Vec::with_capacity(names.len());
        let mut routing = HashMap::new();
        for name in names {
            let file = format!("{component}/{name}");
            let blob = source.open(&file)?;
            let header = Header::read(&file, &blob)?;
            for tensor in header.metadata.offset_keys() {
                if let Some(other) = routing.get(&tensor) {
                    let other: &Shard = &files[*other];
                    let message = format!("tensor `{tensor}` is in {} too", other.file);
                    return Err(fault(&file, message));
                }
                routing.insert(tensor, files.len());
            }
            files.push(Shard { file, blob, header });
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
            if found.is_none_or(|shard| self.files[*shard].file != file) {
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
        for Shard { header, .. } in &self.files {
            size.bytes += header.metadata.data_len() as u64;
            for tensor in header.metadata.tensors().values() {
                size.parameters += tensor.shape.iter().product::<usize>() as u64;
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
        let info = shard.header.metadata.info(name).ok_or_else(missing)?;
        let shape = info.shape.as_slice();
        if let Some(expected) = expected.filter(|expected| *expected != shape) {
            return Err(fault(
                &shard.file,
                format!(
                    "tensor `{name}` has shape {shape:?}, expected {expected:?} (from {}/config.json)",
                    self.component
                ),
            ));
        }
        let unreadable =
            |error: io::Error| fault(&shard.file, format!("cannot read tensor `{name}`: {error}"));
        let tensor = match info.dtype {
            Dtype::F32 => {
                let values = shard.values(info, f32::from_le_bytes).map_err(unreadable)?;
                Tensor::from_vec(values, shape, device)
            }
            Dtype::F64 => {
                let values = shard.values(info, f64::from_le_bytes).map_err(unreadable)?;
                Tensor::from_vec(values, shape, device)
            }
            Dtype::F16 => {
                let bits = shard.values(info, u16::from_le_bytes).map_err(unreadable)?;
                Tensor::from_vec(bits.reinterpret_into::<f16>(), shape, device)
            }
            Dtype::BF16 => {
                let bits = shard.values(info, u16::from_le_bytes).map_err(unreadable)?;
                Tensor::from_vec(bits.reinterpret_into::<bf16>(), shape, device)
            }
            other => {
                return Err(fault_with_hint(
                    &shard.file,
                    format!("tensor `{name}` is stored as {other}, expected F32, F16, BF16 or F64"),
                    "quantised checkpoints are not supported",
                ));
            }
        };
        Ok(tensor?)
    }
}

impl Shard {
    /// Reads and decodes a tensor's values, in parallel; `N` is the size of one.
    fn values<T: Copy + Default + Send, const N: usize>(
        &self,
        info: &TensorInfo,
        from_le_bytes: impl Fn([u8; N]) -> T + Sync,
    ) -> io::Result<Vec<T>> {
        let (start, end) = info.data_offsets;
        let data_start = self.header.data_start + start as u64;
        let mut values = vec![T::default(); (end - start) / N];
        values.par_chunks_mut(CHUNK).enumerate().try_for_each_init(
            Vec::new,
            |buffer, (i, chunk)| {
                buffer.resize(chunk.len() * N, 0);
                self.blob
                    .read_exact_at(buffer, data_start + (i * CHUNK * N) as u64)?;
                for (value, bytes) in chunk.iter_mut().zip(buffer.as_chunks().0) {
                    *value = from_le_bytes(*bytes);
                }
                Ok::<_, io::Error>(())
            },
        )?;
        Ok(values)
    }
}
