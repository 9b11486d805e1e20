//! One safetensors file: its checked header, and its tensors read one by one.

use std::io;

use candle_core::{DType, Device, Tensor};
use half::vec::HalfBitsVecExt;
use half::{bf16, f16};
use rayon::prelude::*;
use safetensors::Dtype;
use safetensors::tensor::TensorInfo;

use super::blob::Blob;
use super::fault::{fault, fault_with_hint};
use super::header::Header;
use crate::error::{Error, Result};
#[cfg(feature = "cuda")]
use crate::ops::cuda;

/// Values that one thread reads at a time: 1 to 4 MiB, so that its buffer stays in the cache.
const CHUNK: usize = 1 << 19;

/// The dtype in which a tensor arrives on `device` that is `stored` in one and asked for in another.
///
/// The same, but that 16 bits become f32 on their way to the CPU: no value changes, and to widen them there
/// would be a second pass through fresh memory.
pub(super) fn arriving(stored: DType, asked: DType, device: &Device) -> DType {
    let is_widened = device.is_cpu() && stored.size_in_bytes() == 2 && asked == DType::F32;
    if is_widened { asked } else { stored }
}

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

    /// How long the header is.
    pub(super) fn header_bytes(&self) -> u64 {
        self.header.data_start
    }

    /// What the header says of a tensor.
    pub(super) fn info(&self, tensor: &str) -> Option<&TensorInfo> {
        self.header.metadata.info(tensor)
    }

    /// Reads a tensor of the file onto `device`, where it [arrives](arriving) in `dtype` or as it is stored.
    ///
    /// # Errors
    /// A dtype that is not a plain float; a read that fails.
    pub(super) fn read(
        &self,
        tensor: &str,
        info: &TensorInfo,
        dtype: DType,
        device: &Device,
    ) -> Result<Tensor> {
        let stored = self.dtype(tensor, info)?;
        let unreadable = |error: io::Error| self.unreadable(tensor, &error);
        match device {
            #[cfg(feature = "cuda")]
            Device::Cuda(_) => {
                let values = cuda::empty(info.shape.as_slice(), stored, device)?;
                let bytes = info.data_offsets.1 - info.data_offsets.0;
                let read = |buffer: &mut [u8], offset| self.read_at(info, buffer, offset);
                let uploads = &cuda::context(device)?.uploads;
                uploads.fill(&values, bytes, read)?.map_err(unreadable)?;
                Ok(values)
            }
            _ => {
                let arriving = arriving(stored, dtype, device);
                let values = self.to_host(info, stored, arriving).map_err(unreadable)?;
                Ok(values.to_device(device)?)
            }
        }
    }

    /// Reads a tensor with one value.
    ///
    /// # Errors
    /// Several values, or one that is not finite; those of [`read`](Self::read).
    pub(super) fn scalar(&self, tensor: &str, info: &TensorInfo) -> Result<f64> {
        if info.shape.iter().any(|dim| *dim != 1) {
            let message = format!(
                "tensor `{tensor}` has shape {:?}, expected one value",
                info.shape
            );
            return Err(fault(&self.name, message));
        }
        let value = match info.dtype {
            Dtype::I32 | Dtype::I64 => self.integer(tensor, info)?,
            _ => {
                let value = self.read(tensor, info, DType::F64, &Device::Cpu)?;
                let value = value.to_dtype(DType::F64)?.flatten_all()?.get(0)?;
                value.to_scalar()?
            }
        };
        if value.is_finite() {
            Ok(value)
        } else {
            Err(fault(&self.name, format!("tensor `{tensor}` is {value}")))
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a scale, not a count")]
    fn integer(&self, tensor: &str, info: &TensorInfo) -> Result<f64> {
        let mut bytes = [0; 8];
        let size = info.dtype.bitsize() / 8;
        let read = self.read_at(info, &mut bytes[..size], 0);
        read.map_err(|error| self.unreadable(tensor, &error))?;
        // The sign is at the top of what was read.
        let unused = 64 - 8 * u32::try_from(size).unwrap_or(8);
        Ok(((i64::from_le_bytes(bytes) << unused) >> unused) as f64)
    }

    /// The dtype of a tensor; one that is not a plain float is refused.
    pub(super) fn dtype(&self, tensor: &str, info: &TensorInfo) -> Result<DType> {
        match info.dtype {
            Dtype::F32 => Ok(DType::F32),
            Dtype::F64 => Ok(DType::F64),
            Dtype::F16 => Ok(DType::F16),
            Dtype::BF16 => Ok(DType::BF16),
            other => Err(self.unsupported(tensor, other)),
        }
    }

    /// The adapter's configuration, where the header has one.
    pub(super) fn adapter_config(&self) -> Result<Option<String>> {
        self.header.adapter_config(&self.name, &self.blob)
    }

    /// Fills `buffer` from byte `offset` of the tensor's data on.
    fn read_at(&self, info: &TensorInfo, buffer: &mut [u8], offset: usize) -> io::Result<()> {
        let start = info.data_offsets.0 + offset;
        self.blob
            .read_exact_at(buffer, self.header.data_start + start as u64)
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

    fn to_host(&self, info: &TensorInfo, stored: DType, arriving: DType) -> io::Result<Tensor> {
        let (shape, cpu) = (info.shape.as_slice(), &Device::Cpu);
        let tensor = match (stored, arriving) {
            (DType::F64, _) => Tensor::from_vec(self.values(info, f64::from_le_bytes)?, shape, cpu),
            (DType::F32, _) => Tensor::from_vec(self.values(info, f32::from_le_bytes)?, shape, cpu),
            (DType::F16, DType::F32) => {
                let values = self.values(info, |bytes| f16::from_le_bytes(bytes).to_f32())?;
                Tensor::from_vec(values, shape, cpu)
            }
            (_, DType::F32) => {
                let values = self.values(info, |bytes| bf16::from_le_bytes(bytes).to_f32())?;
                Tensor::from_vec(values, shape, cpu)
            }
            (DType::F16, _) => {
                let bits = self.values(info, u16::from_le_bytes)?;
                Tensor::from_vec(bits.reinterpret_into::<f16>(), shape, cpu)
            }
            _ => {
                let bits = self.values(info, u16::from_le_bytes)?;
                Tensor::from_vec(bits.reinterpret_into::<bf16>(), shape, cpu)
            }
        };
        tensor.map_err(io::Error::other)
    }

    /// Reads and decodes a tensor's values, in parallel; `N` is the size of one in the file.
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
                self.read_at(info, buffer, i * CHUNK * N)?;
                for (value, bytes) in chunk.iter_mut().zip(buffer.as_chunks().0) {
                    *value = from_le_bytes(*bytes);
                }
                Ok::<_, io::Error>(())
            },
        )?;
        Ok(values)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::DType::{BF16, F16, F32, F64};

    use super::*;

    #[test]
    fn sixteen_bits_arrive_on_the_cpu_as_the_f32_that_is_asked_for() {
        let table = [
            (BF16, F32, F32),
            (F16, F32, F32),
            (BF16, BF16, BF16),
            (F16, F64, F16),
            (F32, BF16, F32),
            (F64, F32, F64),
        ];
        for (stored, asked, arrives) in table {
            let found = arriving(stored, asked, &Device::Cpu);
            assert_eq!(found, arrives, "{stored:?} for {asked:?}");
        }
    }
}
