//! Sizes of the networks and of their work, from their configurations.
//!
//! Weights are exact: they follow from the shapes. Work is what one stage holds at its worst moment,
//! as multiples of its largest tensor that were measured (benches/README.md), rounded up.

use candle_core::DType;

use crate::config::ModelConfig;
use crate::config::text_encoder::TextEncoderConfig;
use crate::config::transformer::TransformerConfig;
use crate::config::vae::VaeConfig;
use crate::model::LOADED_AT_ONCE;
use crate::model::vae::BAND_ROWS;
use crate::pipeline::{Precisions, Sampling};

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
        precisions: Precisions,
        tokens: TextTokens,
    ) -> Self {
        let bytes = |count: usize, dtype: DType| (count * dtype.size_in_bytes()) as u64;
        let transformer = TransformerParameters::of(&config.transformer);
        let table = transformer.table_row * sampling.num_inference_steps;
        let (layers, text) = (config.transformer.num_layers, &config.text_encoder);
        let in_flight = layers.min(LOADED_AT_ONCE);
        Self {
            text_encoder: bytes(text_encoder(&config.text_encoder), precisions.text_encoder),
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
            vae: bytes(vae_decoder(&config.vae), precisions.vae),
            work: Workload::new(config, sampling, precisions, tokens),
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
        precisions: Precisions,
        tokens: TextTokens,
    ) -> Self {
        let branches = if sampling.uses_guidance() { 2 } else { 1 };
        let bytes = |values: usize, dtype: DType| (values * dtype.size_in_bytes()) as u64;
        let rows = branches * (sampling.image_seq_len() + tokens.longest);
        // Stream, normed rows, the MLP's 4 d and one more; the rotary tables are small.
        let denoising = rows * 8 * config.transformer.inner_dim();
        let text = &config.text_encoder;
        // Stream, normed rows, attended rows and their sums, q with k and v; gate with up, two more.
        let kv = text.num_key_value_heads * text.head_dim();
        let encoding =
            tokens.at_once * (6 * text.hidden_size + 2 * kv + 4 * text.intermediate_size);
        // The last level: a residual block's input, its norm, two results, and cuDNN's scratch.
        let pixels = |rows: usize| rows * sampling.width * (6 * config.vae.base_dim + 6);
        // Of the picture's rows; half as many again bound what the convolutions reach beside them.
        let band = 8 * 3 * BAND_ROWS / 2;
        Self {
            text_encoding: bytes(encoding, precisions.text_encoder),
            denoising: bytes(denoising, precisions.dit),
            decoding: bytes(pixels(sampling.height), precisions.vae),
            decoding_in_bands: bytes(pixels(sampling.height.min(band)), precisions.vae),
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
        let d = config.inner_dim();
        let layers = config.num_layers;
        // q, k, v, out, and 4 d up and down, in two streams; the text's out and MLP are 9 d².
        let (block, text_output) = (24 * d * d, 9 * d * d);
        let biases = layers * 2 * 9 * d - 6 * d;
        let norms = layers * 4 * config.attention_head_dim + config.joint_attention_dim;
        let ends = d * (config.in_channels + config.joint_attention_dim + config.patch_channels());
        Self {
            block,
            blocks: layers * block - text_output,
            rest: biases + norms + ends + 2 * d + config.patch_channels(),
            table_row: layers * 12 * d + 2 * d,
            modulation: 6 * d * d + 6 * d,
        }
    }
}

fn text_encoder(config: &TextEncoderConfig) -> usize {
    let h = config.hidden_size;
    let kv = config.num_key_value_heads * config.head_dim();
    let attention = 2 * h * h + h + 2 * (kv * h + kv);
    let layer = attention + 3 * h * config.intermediate_size + 2 * h;
    config.vocab_size * h + config.num_hidden_layers * layer + h
}

fn vae_decoder(config: &VaeConfig) -> usize {
    let pointwise = |from: usize, to: usize| from * to + to;
    let conv = |from: usize, to: usize| 9 * from * to + to;
    let resnet = |from: usize, to: usize| {
        let shortcut = if from == to { 0 } else { pointwise(from, to) };
        from + conv(from, to) + to + conv(to, to) + shortcut
    };
    let dims = config.dim_mult.map(|mult| mult * config.base_dim);
    let (first, deepest) = (dims[0], dims[dims.len() - 1]);
    let z = config.z_dim;

    let attention = deepest + pointwise(deepest, 3 * deepest) + pointwise(deepest, deepest);
    let mut total = pointwise(z, z)
        + conv(z, deepest)
        + 2 * resnet(deepest, deepest)
        + attention
        + first
        + conv(first, 3);
    let mut channels = deepest;
    for (level, &out) in dims.iter().enumerate().rev() {
        total += resnet(channels, out) + config.num_res_blocks * resnet(out, out);
        if level > 0 {
            channels = out / 2;
            total += conv(out, channels);
        }
    }
    total
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::sync::Mutex;

    use candle_core::{Device, Result, Shape, Tensor};
    use candle_nn::VarBuilder;
    use candle_nn::var_builder::SimpleBackend;

    use super::*;
    use crate::model::text_encoder::TextEncoder;
    use crate::model::transformer::{Placement, Transformer};
    use crate::model::vae::VaeDecoder;
    use crate::weights::{ComponentWeights, LoadFormat, ModelSource};

    /// Hands tensors out and notes their names and shapes.
    struct Noting<'a> {
        tensors: VarBuilder<'a>,
        asked: &'a Mutex<Vec<(String, Vec<usize>)>>,
    }

    impl SimpleBackend for Noting<'_> {
        fn get(
            &self,
            shape: Shape,
            name: &str,
            _: candle_nn::Init,
            _: DType,
            _: &Device,
        ) -> Result<Tensor> {
            let mut asked = self.asked.lock().unwrap();
            asked.push((name.to_owned(), shape.dims().to_vec()));
            self.tensors.get(shape, name)
        }

        fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
            candle_core::bail!("{name} is asked for without a shape")
        }

        fn contains_tensor(&self, name: &str) -> bool {
            self.tensors.contains_tensor(name)
        }
    }

    /// Parameters that the built-in model's network keeps of those that `is_kept` names.
    fn kept(
        component: &'static str,
        build: impl FnOnce(&VarBuilder<'_>),
        is_kept: impl Fn(&str) -> bool,
    ) -> usize {
        let format = LoadFormat::Auto;
        let weights = ComponentWeights::open(&ModelSource::BuiltinTiny, component, format).unwrap();
        let asked = Mutex::default();
        let noting = Noting {
            tensors: weights.var_builder(DType::F32, &Device::Cpu),
            asked: &asked,
        };
        build(&VarBuilder::from_backend(
            Box::new(noting),
            DType::F32,
            Device::Cpu,
        ));
        let asked = asked.into_inner().unwrap();
        let kept = asked.iter().filter(|(name, _)| is_kept(name));
        // Of a causal convolution one temporal slice stays.
        let slice = |dims: &[usize]| if dims.len() == 5 { dims[2] } else { 1 };
        kept.map(|(_, dims)| dims.iter().product::<usize>() / slice(dims))
            .sum()
    }

    fn builtin() -> ModelConfig {
        ModelConfig::read(&ModelSource::BuiltinTiny).unwrap()
    }

    #[test]
    fn the_text_encoder_is_what_its_network_asks_for() {
        let config = builtin().text_encoder;
        let build = |vb: &VarBuilder<'_>| drop(TextEncoder::new(&config, vb).unwrap());
        assert_eq!(kept("text_encoder", build, |_| true), text_encoder(&config));
    }

    #[test]
    fn the_vae_is_what_its_decoder_asks_for() {
        let config = builtin().vae;
        let build = |vb: &VarBuilder<'_>| drop(VaeDecoder::new(&config, vb).unwrap());
        assert_eq!(kept("vae", build, |_| true), vae_decoder(&config));
    }

    #[test]
    fn the_transformer_is_what_it_asks_for_without_modulation() {
        let config = builtin().transformer;
        let build = |vb: &VarBuilder<'_>| {
            drop(Transformer::new(&config, vb, &[0.5], Placement::Resident).unwrap());
        };
        let passes = |name: &str| {
            name.contains("_mod.") || name.contains("time_text") || name.contains("norm_out")
        };
        let expected = TransformerParameters::of(&config);
        let kept = kept("transformer", build, |name| !passes(name));
        assert_eq!(kept, expected.blocks + expected.rest);
    }

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
        let footprint = Footprint::new(&config, &sampling, precisions, tokens);
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
