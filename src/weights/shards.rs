//! A component's safetensors files: checking them together, reading tensors.
//!
//! Every header is read and checked before the first tensor is. Tensors are read one by one with
//! positioned reads, so that no second copy of a component is ever in memory: to a GPU they go
//! through small pinned buffers.

use std::collections::HashMap;
use std::io;

use candle_core::{DType, Device, Tensor};
use half::vec::HalfBitsVecExt;
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;

use super::blob::Blob;
use super::fault::{fault, fault_with_hint};
use super::files::{Index, WeightFiles};
use super::header::Header;
use super::source::ModelSource;
#[cfg(feature = "cuda")]
use super::upload::Uploads;
use crate::error::{Error, Result};
#[cfg(feature = "cuda")]
use crate::ops::cuda;

/// Values that one thread reads at a time: 1 to 4 MiB, so that its buffer stays in the cache.
const CHUNK: usize = 1 << 19;

/// The open files of one component.
#[derive(Debug)]
pub(super) struct Shards {
    component: &'static str,
    files: Vec<Shard>,
    /// Tensor name to position in `files`.
    routing: HashMap<String, usize>,
    #[cfg(feature = "cuda")]
    uploads: Uploads,
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
            #[cfg(feature = "cuda")]
            uploads: Uploads::default(),
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
        let dtype = match info.dtype {
            Dtype::F32 => DType::F32,
            Dtype::F64 => DType::F64,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            other => {
                return Err(fault_with_hint(
                    &shard.file,
                    format!("tensor `{name}` is stored as {other}, expected F32, F16, BF16 or F64"),
                    "quantised checkpoints are not supported",
                ));
            }
        };
        match device {
            #[cfg(feature = "cuda")]
            Device::Cuda(_) => {
                let tensor = cuda::empty(shape, dtype, device)?;
                let bytes = info.data_offsets.1 - info.data_offsets.0;
                let read = |buffer: &mut [u8], offset| shard.read(info, buffer, offset);
                self.uploads
                    .fill(&tensor, bytes, read)?
                    .map_err(unreadable)?;
                Ok(tensor)
            }
            _ => Ok(shard
                .tensor(info, dtype)
                .map_err(unreadable)?
                .to_device(device)?),
        }
    }
}

impl Shard {
    /// Fills `buffer` from byte `offset` of the tensor's data on.
    fn read(&self, info: &TensorInfo, buffer: &mut [u8], offset: usize) -> io::Result<()> {
        let start = info.data_offsets.0 + offset;
        self.blob
            .read_exact_at(buffer, self.header.data_start + start as u64)
    }

    /// Reads a tensor into the CPU's memory.
    fn tensor(&self, info: &TensorInfo, dtype: DType) -> io::Result<Tensor> {
        let shape = info.shape.as_slice();
        let tensor = match dtype {
            DType::F32 => {
                Tensor::from_vec(self.values(info, f32::from_le_bytes)?, shape, &Device::Cpu)
            }
            DType::F64 => {
                Tensor::from_vec(self.values(info, f64::from_le_bytes)?, shape, &Device::Cpu)
            }
            DType::F16 => {
                let bits = self.values(info, u16::from_le_bytes)?;
                Tensor::from_vec(bits.reinterpret_into::<f16>(), shape, &Device::Cpu)
            }
            _ => {
                let bits = self.values(info, u16::from_le_bytes)?;
                Tensor::from_vec(bits.reinterpret_into::<bf16>(), shape, &Device::Cpu)
            }
        };
        tensor.map_err(io::Error::other)
    }

    /// Reads and decodes a tensor's values, in parallel; `N` is the size of one.
    fn values<T: Copy + Default + Send, const N: usize>(
        &self,
        info: &TensorInfo,
        from_le_bytes: impl Fn([u8; N]) -> T + Sync,
    ) -> io::Result<Vec<T>> {
        let (start, end) = info.data_offsets;
        let mut values = vec![T::default(); (end - start) / N];
        values.par_chunks_mut(CHUNK).enumerate().try_for_each_init(
            Vec::new,
            |buffer, (i, chunk)| {
                buffer.resize(chunk.len() * N, 0);
                self.read(info, buffer, i * CHUNK * N)?;
                for (value, bytes) in chunk.iter_mut().zip(buffer.as_chunks().0) {
                    *value = from_le_bytes(*bytes);
                }
                Ok::<_, io::Error>(())
            },
        )?;
        Ok(values)
    }
}
