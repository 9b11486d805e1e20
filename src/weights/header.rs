//! The header of a safetensors file: what the file holds, checked against the file before anything
//! believes it.

use std::io;

use safetensors::SafeTensorError;
use safetensors::tensor::{Metadata, TensorInfo};
use serde::Deserialize;

use super::blob::Blob;
use super::fault::{INCOMPLETE, fault, fault_with_hint};
use super::json::{Object, TensorMap, parse_json};
use crate::error::{Error, Result};

/// Bytes of the length that comes first.
const LENGTH_BYTES: u64 = 8;

/// The longest header the format allows; here, of all files of a component.
pub(super) const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Most dimensions of a tensor; a video's convolution has 5.
const MAX_RANK: usize = 8;

/// What a safetensors file holds, and where.
#[derive(Debug)]
pub(super) struct Header {
    /// Tensors by name; their offsets count from `data_start`.
    pub(super) metadata: Metadata,
    /// Offset of the first tensor in the file.
    pub(super) data_start: u64,
}

impl Header {
    /// Reads the header of `file` and checks it.
    ///
    /// # Errors
    /// Anything but a header whose tensors fill the rest of the file without hole or overlap.
    pub(super) fn read(file: &str, blob: &Blob) -> Result<Self> {
        let file_bytes = blob.bytes();
        let cut_short = |message: String| fault_with_hint(file, message, INCOMPLETE);
        if file_bytes < LENGTH_BYTES {
            return Err(cut_short(format!(
                "{file_bytes} bytes, too short for a safetensors file"
            )));
        }
        let unreadable = |error| fault(file, format!("cannot be read: {error}"));
        let mut length = [0; 8];
        blob.read_exact_at(&mut length, 0).map_err(unreadable)?;
        let header_bytes = u64::from_le_bytes(length);
        if header_bytes > MAX_HEADER_BYTES {
            return Err(cut_short(format!(
                "header of {header_bytes} bytes, expected at most {MAX_HEADER_BYTES}"
            )));
        }
        if header_bytes == 0 {
            return Err(cut_short("header of 0 bytes".to_owned()));
        }
        let Some(data_bytes) = (file_bytes - LENGTH_BYTES).checked_sub(header_bytes) else {
            return Err(cut_short(format!(
                "cut short: header of {header_bytes} bytes in a file of {file_bytes}"
            )));
        };

        let metadata = parse(file, &text(blob, header_bytes).map_err(unreadable)?)?;

        let described = metadata.data_len() as u64;
        if described != data_bytes {
            let message =
                format!("{data_bytes} bytes of tensors, the header describes {described}");
            return Err(cut_short(message));
        }
        Ok(Self {
            metadata,
            data_start: LENGTH_BYTES + header_bytes,
        })
    }

    /// What diffusers notes of an adapter in the free text of the same file's header.
    ///
    /// # Errors
    /// Anything but text.
    pub(super) fn adapter_config(&self, file: &str, blob: &Blob) -> Result<Option<String>> {
        #[derive(Deserialize)]
        struct Json {
            #[serde(rename = "__metadata__")]
            notes: Option<Object<Notes>>,
        }
        #[derive(Deserialize)]
        struct Notes {
            lora_adapter_metadata: Option<String>,
        }
        let text = text(blob, self.data_start - LENGTH_BYTES)
            .map_err(|error| fault(file, format!("cannot be read: {error}")))?;
        // All else in the header was found sound.
        let Json { notes } = parse_json(&format!("{file}: __metadata__"), &text)?;
        Ok(notes.and_then(|Object(notes)| notes.lora_adapter_metadata))
    }
}

/// The header itself, of a length within the limit.
fn text(blob: &Blob, header_bytes: u64) -> io::Result<Vec<u8>> {
    let length = usize::try_from(header_bytes).expect("the limit fits in memory");
    let mut text = vec![0; length];
    blob.read_exact_at(&mut text, LENGTH_BYTES)?;
    Ok(text)
}

fn parse(file: &str, text: &[u8]) -> Result<Metadata> {
    let TensorMap(tensors) = parse_json::<TensorMap<TensorInfo>>(file, text)?;
    for (name, info) in &tensors {
        check_size(name, info).map_err(|message| fault(file, message))?;
    }
    let mut tensors: Vec<_> = tensors.into_iter().collect();
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    Metadata::new(None, tensors).map_err(|error| bad_layout(file, &error))
}

/// Checks an entry by itself. The crate checks the size too, but its error does not name the tensor.
fn check_size(name: &str, info: &TensorInfo) -> Result<(), String> {
    let TensorInfo {
        dtype,
        shape,
        data_offsets: (start, end),
    } = info;
    if shape.len() > MAX_RANK {
        return Err(format!(
            "tensor `{name}` has {} dimensions, expected at most {MAX_RANK}",
            shape.len()
        ));
    }
    if shape.contains(&0) {
        return Err(format!("tensor `{name}` is empty: shape {shape:?}"));
    }
    let bits = shape
        .iter()
        .try_fold(dtype.bitsize(), |bits, dim| bits.checked_mul(*dim))
        .ok_or_else(|| format!("tensor `{name}`: shape {shape:?} overflows"))?;
    let stored = end.checked_sub(*start);
    if !bits.is_multiple_of(8) || stored != Some(bits / 8) {
        return Err(format!(
            "tensor `{name}`: data_offsets [{start}, {end}], expected {} bytes for {dtype} {shape:?}",
            bits.div_ceil(8)
        ));
    }
    Ok(())
}

fn bad_layout(file: &str, error: &SafeTensorError) -> Error {
    match error {
        SafeTensorError::InvalidOffset(name) => fault(
            file,
            format!("tensor `{name}` does not start where the one before it ends"),
        ),
        other => fault(file, other),
    }
}
