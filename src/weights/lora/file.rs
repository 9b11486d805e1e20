//! One LoRA file: which layers it changes, checked against the component; the factors of each change.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::TensorInfo;

use super::Lora;
use super::keys::{Names, Part};
use super::peft::PeftConfig;
use crate::error::{Error, Result};
use crate::ops::cast;
use crate::weights::blob::Blob;
use crate::weights::fault::{fault, fault_with_hint};
use crate::weights::files::listing;
use crate::weights::tensor_file::TensorFile;

const WHAT_IS_READ: &str = "only LoRAs of Qwen-Image's transformer are supported, \
     with keys like `transformer_blocks.0.attn.to_q.lora_down.weight`";

/// An open file.
#[derive(Debug)]
pub(super) struct LoraFile {
    file: TensorFile,
    /// By name of the layer.
    pairs: BTreeMap<String, Pair>,
}

/// The two matrices of a layer.
#[derive(Debug)]
struct Pair {
    /// Key of the matrix `[rank, in]`.
    down: String,
    /// Key of the matrix `[out, rank]`.
    up: String,
    /// What their product is multiplied by: the strength, and alpha over the rank.
    factor: f64,
}

impl LoraFile {
    /// Opens the file and checks that all its tensors make pairs for layers of `linears`.
    pub(super) fn open(lora: &Lora, linears: &BTreeMap<String, [usize; 2]>) -> Result<Self> {
        let blob = Blob::open(Path::new(&lora.file))
            .map_err(|error| fault(&lora.file, format!("cannot be opened: {error}")))?;
        let file = TensorFile::new(lora.file.clone(), blob)?;
        let peft = match file.adapter_config()? {
            Some(json) => PeftConfig::parse(&lora.file, &json)?,
            None => PeftConfig::default(),
        };
        let mut pairs = BTreeMap::new();
        for (layer, parts) in parts_of_layers(&file, linears)? {
            let scaling = |rank| peft.scaling(layer, rank);
            let mut pair = pair(&file, &parts, linears[layer], scaling)?;
            pair.factor *= lora.scale;
            pairs.insert(layer.to_owned(), pair);
        }
        Ok(Self { file, pairs })
    }

    /// The factors of what the file adds to the weight of a layer, in f32: `up`, `[out, rank]`, and
    /// `factor · down`, `[rank, in]`.
    pub(super) fn factors(&self, layer: &str, device: &Device) -> Result<Option<(Tensor, Tensor)>> {
        let Some(Pair { down, up, factor }) = self.pairs.get(layer) else {
            return Ok(None);
        };
        let read = |key: &str| -> Result<Tensor> {
            let info = info(&self.file, key);
            let matrix = self.file.read(key, info, DType::F32, device)?;
            Ok(cast(&matrix, DType::F32)?)
        };
        Ok(Some((read(up)?, (read(down)? * *factor)?)))
    }
}

/// Keys of the file by layer and part.
fn parts_of_layers<'a>(
    file: &TensorFile,
    linears: &'a BTreeMap<String, [usize; 2]>,
) -> Result<BTreeMap<&'a str, BTreeMap<Part, String>>> {
    let names = Names::new(linears.keys());
    let mut layers: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
    let mut unknown = Vec::new();
    let keys = file.tensors();
    let count = keys.len();
    for key in keys {
        let Some((layer, part)) = names.parse(&key) else {
            unknown.push(key);
            continue;
        };
        if let Some(other) = layers.entry(layer).or_default().insert(part, key.clone()) {
            let message = format!("tensors `{other}` and `{key}` are the same matrix");
            return Err(fault(&file.name, message));
        }
    }
    if unknown.is_empty() && !layers.is_empty() {
        return Ok(layers);
    }
    let message = if count == 0 {
        "holds no tensor".to_owned()
    } else {
        let listing = listing(&unknown);
        format!(
            "{} of {count} tensors are unknown: {listing}",
            unknown.len()
        )
    };
    Err(fault_with_hint(&file.name, message, WHAT_IS_READ))
}

/// The two matrices of a layer whose weight is `[out, in]`; `scaling` is that of peft's files.
fn pair(
    file: &TensorFile,
    parts: &BTreeMap<Part, String>,
    [out, input]: [usize; 2],
    scaling: impl Fn(f64) -> f64,
) -> Result<Pair> {
    let matrices = [Part::Down, Part::Up, Part::A, Part::B].map(|part| parts.get(&part));
    let (down, up, is_peft) = match matrices {
        [Some(down), Some(up), None, None] => (down, up, false),
        [None, None, Some(a), Some(b)] => (a, b, true),
        _ => {
            let listing = listing(&parts.values().collect::<Vec<_>>());
            let message = format!("expected two matrices of a layer, found {listing}");
            return Err(fault(&file.name, message));
        }
    };
    let rank = match dims(file, down)? {
        [rank, columns] if *columns == input => *rank,
        shape => return Err(misfit(file, down, shape, &format!("[rank, {input}]"))),
    };
    match dims(file, up)? {
        [rows, columns] if [*rows, *columns] == [out, rank] => {}
        shape => return Err(misfit(file, up, shape, &format!("[{out}, {rank}]"))),
    }
    #[expect(clippy::cast_precision_loss, reason = "ranks are small")]
    let rank = rank as f64;
    let factor = match parts.get(&Part::Alpha) {
        // diffusers drops a tensor with the alpha of peft's matrices.
        _ if is_peft => scaling(rank),
        Some(alpha) => file.scalar(alpha, info(file, alpha))? / rank,
        None => 1.0,
    };
    Ok(Pair {
        down: down.clone(),
        up: up.clone(),
        factor,
    })
}

/// The shape of a matrix that can be read.
fn dims<'a>(file: &'a TensorFile, key: &str) -> Result<&'a [usize]> {
    let info = info(file, key);
    file.dtype(key, info)?;
    Ok(&info.shape)
}

fn info<'a>(file: &'a TensorFile, key: &str) -> &'a TensorInfo {
    file.info(key).expect("the keys are the file's own")
}

fn misfit(file: &TensorFile, key: &str, shape: &[usize], expected: &str) -> Error {
    let message = format!("tensor `{key}` has shape {shape:?}, expected {expected}");
    fault_with_hint(&file.name, message, WHAT_IS_READ)
}
