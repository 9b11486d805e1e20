//! The text encoder: the language part of Qwen2.5-VL, up to the normed last hidden state.
//!
//! For text alone the three position axes of its multimodal rotary embedding are equal, so it is a
//! plain Qwen2 decoder. All prompts go through in one pass; rows of one attend to themselves alone.
//!
//! Source: transformers `modeling_qwen2_5_vl.py` 5.23.0.

mod layer;
mod tensors;

use std::ops::Range;

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use tracing::trace_span;

use self::layer::Layer;
pub(crate) use self::tensors::{belongs, prefix, tensors};
use super::load_layers;
use crate::config::text_encoder::TextEncoderConfig;
use crate::ops::{AttentionShape, cat, consecutive, rms_norm};

/// Encodes token ids to hidden states.
#[derive(Debug)]
pub struct TextEncoder {
    embed_tokens: Tensor,
    layers: Vec<Layer>,
    norm: Tensor,
    config: TextEncoderConfig,
}

impl TextEncoder {
    /// Reads the language model under either of the prefixes checkpoints use.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn new(config: &TextEncoderConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let vb = vb.pp(prefix(|name| vb.contains_tensor(name)));
        let hidden = config.hidden_size;
        Ok(Self {
            embed_tokens: vb.get((config.vocab_size, hidden), "embed_tokens.weight")?,
            layers: load_layers(config.num_hidden_layers, |i| {
                Layer::new(config, &vb.pp("layers").pp(i))
            })?,
            norm: vb.get(hidden, "norm.weight")?,
            config: config.clone(),
        })
    }

    /// The hidden states of each prompt after the final norm.
    ///
    /// # Shapes
    /// Results: `[tokens, hidden_size]`, one for each of `prompts`.
    ///
    /// # Errors
    /// When an id is outside the vocabulary.
    #[expect(clippy::cast_possible_truncation, reason = "computed in f32")]
    pub fn forward(&self, prompts: &[&[u32]]) -> Result<Vec<Tensor>> {
        let segments = consecutive(prompts.iter().map(|prompt| prompt.len()));
        let shape = AttentionShape {
            heads: self.config.num_attention_heads,
            kv_heads: self.config.num_key_value_heads,
            head_dim: self.config.head_dim(),
            causal: true,
        };
        let (cos, sin) = self.rope(&segments)?;

        let ids = prompts.iter().copied().flatten();
        let rows = ids.map(|id| self.embed_tokens.narrow(0, *id as usize, 1));
        let rows: Vec<Tensor> = rows.collect::<Result<_>>()?;
        let mut x = cat(&rows.iter().collect::<Vec<_>>())?;
        for (index, layer) in (0u64..).zip(&self.layers) {
            let _span = trace_span!("layer", index).entered();
            x = layer.forward(&x, &shape, (&cos, &sin), &segments)?;
        }
        let eps = self.config.rms_norm_eps as f32;
        let x = rms_norm(&x, &self.norm, eps)?;
        segments
            .iter()
            .map(|rows| x.narrow(0, rows.start, rows.len()))
            .collect()
    }

    /// Cosine and sine of `position · theta^(-2i/dh)` for every row, `[rows, dh/2]` f32.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "positions are small, theta is computed with in f32"
    )]
    fn rope(&self, segments: &[Range<usize>]) -> Result<(Tensor, Tensor)> {
        let dh = self.config.head_dim();
        let frequencies: Vec<f32> = (0..dh / 2)
            .map(|i| 1.0 / (self.config.rope_theta as f32).powf((2 * i) as f32 / dh as f32))
            .collect();
        let angles: Vec<f32> = segments
            .iter()
            .flat_map(|rows| 0..rows.len())
            .flat_map(|position| frequencies.iter().map(move |f| position as f32 * f))
            .collect();
        let table = |f: fn(f32) -> f32| {
            let values: Vec<f32> = angles.iter().map(|&a| f(a)).collect();
            Tensor::from_vec(values, ((), dh / 2), self.norm.device())
        };
        Ok((table(f32::cos)?, table(f32::sin)?))
    }
}
