//! One decoder layer: causal grouped-query attention, then a gated MLP.

use std::ops::Range;

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use crate::config::text_encoder::TextEncoderConfig;
use crate::ops::{
    AttentionShape, Linear, add, attention, linear, residual_rms_norm, rms_norm, rope_half,
    silu_gate,
};

#[derive(Debug)]
pub(super) struct Layer {
    input_layernorm: Tensor,
    qkv_proj: Linear,
    o_proj: Linear,
    post_attention_layernorm: Tensor,
    gate_up_proj: Linear,
    down_proj: Linear,
    eps: f32,
}

impl Layer {
    #[expect(clippy::cast_possible_truncation, reason = "computed in f32")]
    pub(super) fn new(config: &TextEncoderConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let (hidden, mlp) = (config.hidden_size, config.intermediate_size);
        let q_width = config.num_attention_heads * config.head_dim();
        let kv_width = config.num_key_value_heads * config.head_dim();
        let attn = vb.pp("self_attn");
        let projections = [
            ("q_proj", q_width),
            ("k_proj", kv_width),
            ("v_proj", kv_width),
        ]
        .map(|(name, width)| Linear::new(hidden, width, &attn.pp(name)));
        // Joined before others are read, so that their parts have gone.
        let qkv_proj = Linear::stack(&projections.into_iter().collect::<Result<Vec<_>>>()?)?;
        let gate_up = ["gate_proj", "up_proj"]
            .map(|name| Linear::no_bias(hidden, mlp, &vb.pp("mlp").pp(name)));
        let gate_up_proj = Linear::stack(&gate_up.into_iter().collect::<Result<Vec<_>>>()?)?;
        Ok(Self {
            input_layernorm: vb.get(hidden, "input_layernorm.weight")?,
            qkv_proj,
            o_proj: Linear::no_bias(q_width, hidden, &attn.pp("o_proj"))?,
            post_attention_layernorm: vb.get(hidden, "post_attention_layernorm.weight")?,
            gate_up_proj,
            down_proj: Linear::no_bias(mlp, hidden, &vb.pp("mlp.down_proj"))?,
            eps: config.rms_norm_eps as f32,
        })
    }

    /// `[rows, hidden]` to the same.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        shape: &AttentionShape,
        rope: (&Tensor, &Tensor),
        segments: &[Range<usize>],
    ) -> Result<Tensor> {
        let normed = rms_norm(x, &self.input_layernorm, self.eps)?;
        let qkv = rope_half(&linear(&normed, &self.qkv_proj)?, shape, rope)?;
        let attended = attention(&qkv, shape, segments)?;
        let update = linear(&attended, &self.o_proj)?;
        let norm = &self.post_attention_layernorm;
        let (x, normed) = residual_rms_norm(x, &update, norm, self.eps)?;

        let gated = silu_gate(&linear(&normed, &self.gate_up_proj)?)?;
        add(&x, &linear(&gated, &self.down_proj)?)
    }
}
