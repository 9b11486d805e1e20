//! One safetensors file: its checked header, and its tensors read one by one.

use std::io;

use candle_core::{Device, Tensor};
use half::vec::HalfBitsVecExt;
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;

use super::blob::Blob;
use super::fault::{fault, fault_with_hint};
use super::header::Header;
use crate::error::{Error, Result};

/// Values that one thread reads at a time: 1 to 4 MiB, so that its buffer stays in the cache.
const CHUNK: usize = 1 << 19;

/// An open file whose header was found sound.
#[derive(Debug)]
pub(super) struct TensorFile {
    /// What errors call it.
    pub(super) name: String,
    blob: Blob,
    header: Header,
}

impl TensorFile {
    /// Reads and checks the header of `blob`.
    pub(super) fn new(name: String, blob: Blob) -> Result<Self> {
        let header = Header::read(&name, &blob)?;
        Ok(Self { name, blob, header })
    }

    /// Names of the tensors, in the order they are stored.
    pub(super) fn tensors(&self) -> Vec<String> {
        self.header.metadata.offset_keys()
    }

    /// What the header says of a tensor.
    pub(super) fn info(&self, tensor: &str) -> Option<&TensorInfo> {
        self.header.metadata.info(tensor)
    }

    /// Reads a tensor of the file in its stored dtype onto `device`.
    ///
    /// # Errors
    /// A dtype that is not a plain float; a read that fails.
    pub(super) fn read(&self, tensor: &str, info: &TensorInfo, device: &Device) -> Result<Tensor> {
        let unreadable = |error: io::Error| self.unreadable(tensor, &error);
        let shape = info.shape.as_slice();
        let values = match info.dtype {
            Dtype::F32 => {
                let values = self.values(info, f32::from_le_bytes).map_err(unreadable)?;
                Tensor::from_vec(values, shape, device)
            }
            Dtype::F64 => {
                let values = self.values(info, f64::from_le_bytes).map_err(unreadable)?;
                Tensor::from_vec(values, shape, device)
            }
            Dtype::F16 => {
                let bits = self.values(info, u16::from_le_bytes).map_err(unreadable)?;
                Tensor::from_vec(bits.reinterpret_into::<f16>(), shape, device)
            }
            Dtype::BF16 => {
                let bits = self.values(info, u16::from_le_bytes).map_err(unreadable)?;
                Tensor::from_vec(bits.reinterpret_into::<bf16>(), shape, device)
            }
            other => return Err(self.unsupported(tensor, other)),
        };
        Ok(values?)
    }

    fn unreadable(&self, tensor: &str, error: &io::Error) -> Error {
        fault(
            &self.name,
            format!("cannot read tensor `{tensor}`: {error}"),
        )
    }

    fn unsupported(&self, tensor: &str, dtype: Dtype) -> Error {
        fault_with_hint(
            &self.name,
            format!("tensor `{tensor}` is stored as {dtype}, expected F32, F16, BF16 or F64"),
            "quantised checkpoints are not supported",
        )
    }

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
