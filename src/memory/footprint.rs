//! Sizes of the networks and of their work, from their configurations.
//!
//! Weights are exact: they follow from the shapes that the networks declare. Work is what one stage
//! holds at its worst moment, as multiples of its largest tensor that were measured
//! (benches/README.md), rounded up.

use candle_core::DType;

use crate::config::ModelConfig;
use crate::config::transformer::TransformerConfig;
use crate::model::vae::BAND_ROWS;
use crate::model::{LOADED_AT_ONCE, text_encoder, transformer, vae};
use crate::ops::attention_scratch;
use crate::sampling::{Precisions, Sampling};
use crate::weights::TensorShapes;

/// Bytes by what holds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// The text encoder's weights.
    pub text_encoder: u64,
    /// What it holds besides while it is loaded: parts of matrices that are then joined.
    pub text_passing: u64,
    /// Embeddings of all texts, which stay.
    pub texts: u64,
    /// The transformer's blocks.
    pub layers: usize,
    /// Matrices of all the transformer's blocks: what can stream.
    pub blocks: u64,
    /// Those of one block.
    pub block: u64,
    /// What else the transformer keeps, the modulation tables among it.
    pub rest: u64,
    /// Those of the blocks that are loaded at the same time.
    pub blocks_in_flight: u64,
    /// Modulation weights that pass through meanwhile.
    pub passing: u64,
    /// The VAE decoder's weights.
    pub vae: u64,
    /// What the stages hold besides.
    pub work: Workload,
}

/// How long the texts of a run are, in tokens, the template's among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextTokens {
    /// The longest text.
    pub longest: usize,
    /// What one pass of the encoder holds at most.
    pub at_once: usize,
    /// All texts.
    pub total: usize,
}

/// Bytes that stages hold besides weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "stages")]
pub struct Workload {
    pub text_encoding: u64,
    pub denoising: u64,
    pub decoding: u64,
    pub decoding_in_bands: u64,
}

impl Footprint {
    /// Of a run with texts of so many tokens.
    #[must_use]
    pub fn new(
        config: &ModelConfig,
        sampling: &Sampling,
        (precisions, on_gpu): (Precisions, bool),
        tokens: TextTokens,
    ) -> Self {
        let bytes = |count: usize, dtype: DType| (count * dtype.size_in_bytes()) as u64;
        let transformer = TransformerParameters::of(&config.transformer);
        let table = transformer.table_row * sampling.num_inference_steps;
        let (layers, text) = (config.transformer.num_layers, &config.text_encoder);
        let in_flight = layers.min(LOADED_AT_ONCE);
        Self {
            text_encoder: bytes(
                parameters(&text_encoder::tensors(text, "model"), |_, _| true),
                precisions.text_encoder,
            ),
            text_passing: bytes(
                LOADED_AT_ONCE.min(text.num_hidden_layers)
                    * 2
                    * text.hidden_size
                    * text.intermediate_size,
                precisions.text_encoder,
            ),
            texts: bytes(tokens.total * text.hidden_size, precisions.text_encoder),
            layers,
            blocks: bytes(transformer.blocks, precisions.dit),
            block: bytes(transformer.block, precisions.dit),
            rest: bytes(transformer.rest + table, precisions.dit),
            blocks_in_flight: bytes(transformer.block * in_flight, precisions.dit),
            passing: bytes(transformer.modulation * in_flight, precisions.dit),
            vae: bytes(
                parameters(&vae::tensors(&config.vae), |_, _| true),
                precisions.vae,
            ),
            work: Workload::new(config, sampling, (precisions, on_gpu), tokens),
        }
    }
}

impl Footprint {
    /// More than it is at any moment: all networks, and the work of all stages.
    pub(super) fn total(&self) -> u64 {
        let Workload {
            text_encoding,
            denoising,
            decoding,
            ..
        } = self.work;
        let weights = self.text_encoder + self.blocks + self.rest + self.passing + self.vae;
        weights + self.text_passing + self.texts + text_encoding + denoising + decoding
    }
}

impl Workload {
    fn new(
        config: &ModelConfig,
        sampling: &Sampling,
        (precisions, on_gpu): (Precisions, bool),
        tokens: TextTokens,
    ) -> Self {
        let branches = if sampling.uses_guidance() { 2 } else { 1 };
        // Values at once, and those of the largest matrix.
        let bytes = |values: usize, matrix: usize, dtype: DType| {
            let bytes = match dtype {
                // The CPU computes in f32, from a matrix in f32; half of the values have copies in both.
                DType::BF16 | DType::F16 if !on_gpu => 5 * values + 4 * matrix,
                _ => values * dtype.size_in_bytes(),
            };
            bytes as u64
        };
        let tokens_at_once = sampling.image_seq_len() + tokens.longest;
        let rows = branches * tokens_at_once;
        // Stream, normed rows, the MLP's 4 d and one more; the rotary tables are small.
        let d = config.transformer.inner_dim();
        let mut denoising = bytes(rows * 8 * d, 4 * d * d, precisions.dit);
        if on_gpu && precisions.dit != DType::BF16 {
            let heads = config.transformer.num_attention_heads;
            let in_attention = bytes(rows * 6 * d, 0, precisions.dit);
            denoising = denoising
                .max(in_attention + attention_scratch(heads, tokens_at_once, precisions.dit));
        }
        let text = &config.text_encoder;
        // Stream, normed rows, attended rows and their sums, q with k and v; gate with up, two more.
        let kv = text.num_key_value_heads * text.head_dim();
        let encoding =
            tokens.at_once * (6 * text.hidden_size + 2 * kv + 4 * text.intermediate_size);
        let gate_and_up = 2 * text.hidden_size * text.intermediate_size;
        let [(deepest, _), .., (c_in, c_out)] = config.vae.decoder_levels();
        // The mid block, always of the whole picture: its input, the attention's norm, q, k, v, result.
        let latent_pixels = 4 * sampling.image_seq_len();
        let mut mid_block = bytes(latent_pixels * 6 * deepest, 0, precisions.vae);
        if on_gpu && precisions.vae != DType::BF16 {
            mid_block += attention_scratch(1, latent_pixels, precisions.vae);
        }
        // The last level: a residual block's input, its norm, two results, and cuDNN's scratch.
        let decoding = |rows: usize| {
            let values = rows * sampling.width * (6 * c_in.max(c_out) + 6);
            bytes(values, 0, precisions.vae).max(mid_block)
        };
        // Of the picture's rows; half as many again bound what the convolutions reach beside them.
        let band = 8 * 3 * BAND_ROWS / 2;
        Self {
            text_encoding: bytes(encoding, gate_and_up, precisions.text_encoder),
            denoising,
            decoding: decoding(sampling.height),
            decoding_in_bands: decoding(sampling.height.min(band)),
        }
    }
}

/// Numbers of parameters.
struct TransformerParameters {
    /// Matrices of one block.
    block: usize,
    /// Those of all blocks; nothing reads the last one's text.
    blocks: usize,
    /// Everything else that stays.
    rest: usize,
    /// Modulation vectors of one step.
    table_row: usize,
    /// One stream's modulation weights in one block.
    modulation: usize,
}

impl TransformerParameters {
    fn of(config: &TransformerConfig) -> Self {
        let tensors = transformer::tensors(config);
        // Tabled when the transformer is loaded, and not kept.
        let is_modulation = |name: &str| name.contains("_mod.") || name.starts_with("norm_out.");
        let passes = |name: &str| is_modulation(name) || name.starts_with("time_text_embed.");
        let is_matrix = |name: &str, dims: &[usize]| {
            name.starts_with("transformer_blocks.") && dims.len() == 2 && !passes(name)
        };
        Self {
            block: parameters(&tensors, |name, dims| {
                name.starts_with("transformer_blocks.0.") && is_matrix(name, dims)
            }),
            blocks: parameters(&tensors, is_matrix),
            rest: parameters(&tensors, |name, dims| {
                !passes(name) && !is_matrix(name, dims)
            }),
            // As wide as the biases.
            table_row: parameters(&tensors, |name, dims| {
                is_modulation(name) && dims.len() == 1
            }),
            modulation: parameters(&tensors, |name, _| {
                name.starts_with("transformer_blocks.0.img_mod.")
            }),
        }
    }
}

/// Parameters of the tensors that `counts` picks; of a convolution over frames one slice is kept.
fn parameters(tensors: &TensorShapes, counts: impl Fn(&str, &[usize]) -> bool) -> usize {
    let counted = tensors.iter().filter(|(name, dims)| counts(name, dims));
    counted
        .map(|(_, dims)| {
            let frames = if dims.len() == 5 { dims[2] } else { 1 };
            dims.iter().product::<usize>() / frames
        })
        .sum()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::weights::ModelSource;

    /// An H100 held 39,485 MiB of tensors between loading and the first stage.
    #[test]
    fn qwen_image_takes_what_was_measured() {
        let folder = std::path::PathBuf::from("benches/full-size");
        let config = ModelConfig::read(&ModelSource::Folder(folder)).unwrap();
        let sampling = Sampling {
            width: 1024,
            height: 1024,
            ..Sampling::default()
        };
        let precisions = Precisions {
            text_encoder: DType::BF16,
            dit: DType::BF16,
            vae: DType::BF16,
        };
        let tokens = TextTokens {
            longest: 51,
            at_once: 57,
            total: 57,
        };
        let footprint = Footprint::new(&config, &sampling, (precisions, true), tokens);
        let Footprint {
            text_encoder,
            blocks,
            rest,
            vae,
            work,
            ..
        } = footprint;
        let mib = |bytes: u64| bytes >> 20;
        let weights = mib(text_encoder + blocks + rest + vae);
        assert!((39_400..=39_600).contains(&weights), "{weights} MiB");
        // Measured: 367 and 976 MiB more.
        let (denoising, decoding) = (mib(work.denoising), mib(work.decoding));
        assert!((367..500).contains(&denoising), "{denoising} MiB");
        assert!((976..1300).contains(&decoding), "{decoding} MiB");
    }
}
