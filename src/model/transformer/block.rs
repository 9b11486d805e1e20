//! One MMDiT block: joint attention over text and image, then an MLP in each stream.

use std::iter;

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::modulation::{ModulationTable, Shifted, Stream, Vectors};
use crate::config::transformer::TransformerConfig;
use crate::ops::{
    AttentionShape, JointLayout, JointQkv, Linear, attention, beside, joint_qkv, linear,
    linear_gelu,
};

#[derive(Debug, Clone)]
pub(super) struct Block {
    attention: JointAttention,
    txt_mod: ModulationTable,
    img_mod: ModulationTable,
    /// None in the last block: nothing reads the text stream after it.
    txt_out: Option<Output>,
    img_out: Output,
}

/// What a stream's rows go through after the attention.
#[derive(Debug, Clone)]
struct Output {
    to_out: Linear,
    up: Linear,
    down: Linear,
}

impl Block {
    pub(super) fn new(
        config: &TransformerConfig,
        vb: &VarBuilder<'_>,
        silu_temb: &Tensor,
        is_last: bool,
    ) -> Result<Self> {
        let d = config.inner_dim();
        Ok(Self {
            attention: JointAttention::new(config, &vb.pp("attn"))?,
            txt_mod: ModulationTable::new(silu_temb, 6, d, &vb.pp("txt_mod.1"))?,
            img_mod: ModulationTable::new(silu_temb, 6, d, &vb.pp("img_mod.1"))?,
            txt_out: (!is_last)
                .then(|| Output::new(d, &vb.pp("attn.to_add_out"), &vb.pp("txt_mlp")))
                .transpose()?,
            img_out: Output::new(d, &vb.pp("attn.to_out.0"), &vb.pp("img_mlp"))?,
        })
    }

    /// The tables of what [`forward`](Self::forward) takes from its vectors.
    pub(super) fn modulation(&self) -> [&ModulationTable; 2] {
        [&self.txt_mod, &self.img_mod]
    }

    pub(super) fn forward(
        &self,
        txt: &mut Stream,
        img: &mut Stream,
        vectors: &mut Vectors<'_>,
        rope: (&Tensor, &Tensor),
        layout: &JointLayout,
    ) -> Result<()> {
        let (txt_attn, txt_mlp) = sublayers(vectors.next()?);
        let (img_attn, img_mlp) = sublayers(vectors.next()?);

        let (txt_attended, img_attended) = self.attention.forward(
            &txt.modulated(&txt_attn.norm)?,
            &img.modulated(&img_attn.norm)?,
            rope,
            layout,
        )?;
        let img_out = || (self.img_out).forward(img, &img_attended, img_attn.gate, img_mlp);
        let Some(output) = &self.txt_out else {
            return img_out();
        };
        let txt_out = || output.forward(txt, &txt_attended, txt_attn.gate, txt_mlp);
        beside(txt_attended.device(), txt_out, img_out)?;
        Ok(())
    }
}

/// What streaming moves: nearly all of a block's weights.
impl Block {
    /// The matrices, those of the text's output last.
    pub(super) fn matrices_mut(&mut self) -> Vec<&mut Tensor> {
        let qkv = &mut self.attention.qkv;
        let mut layers = vec![&mut qkv.img_qkv, &mut qkv.txt_qkv];
        for Output { to_out, up, down } in iter::once(&mut self.img_out).chain(&mut self.txt_out) {
            layers.extend([to_out, up, down]);
        }
        layers.into_iter().map(|layer| &mut layer.weight).collect()
    }

    /// The block with these matrices, in the same order.
    pub(super) fn with_matrices(&self, matrices: &[Tensor]) -> Self {
        let mut block = self.clone();
        for (own, matrix) in block.matrices_mut().into_iter().zip(matrices) {
            *own = matrix.clone();
        }
        block
    }
}

impl Output {
    fn new(d: usize, to_out: &VarBuilder<'_>, mlp: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            to_out: Linear::new(d, d, to_out)?,
            up: Linear::new(d, 4 * d, &mlp.pp("net.0.proj"))?,
            down: Linear::new(4 * d, d, &mlp.pp("net.2"))?,
        })
    }

    /// Adds the attention's projection and the MLP to the stream.
    fn forward(
        &self,
        stream: &mut Stream,
        attended: &Tensor,
        gate: Tensor,
        mlp: Sublayer,
    ) -> Result<()> {
        stream.add(linear(attended, &self.to_out)?, gate);
        let hidden = linear_gelu(&stream.modulated(&mlp.norm)?, &self.up)?;
        stream.add(linear(&hidden, &self.down)?, mlp.gate);
        Ok(())
    }
}

/// The vectors of one sublayer: its norm's, and the gate of its output.
struct Sublayer {
    norm: Shifted,
    gate: Tensor,
}

/// The attention's and the MLP's vectors, in the checkpoint's order.
fn sublayers(vectors: [Tensor; 6]) -> (Sublayer, Sublayer) {
    let [shift1, scale1, gate1, shift2, scale2, gate2] = vectors;
    let sublayer = |shift, scale, gate| Sublayer {
        norm: Shifted { shift, scale },
        gate,
    };
    (
        sublayer(shift1, scale1, gate1),
        sublayer(shift2, scale2, gate2),
    )
}

/// One attention over the text and image tokens of each branch.
#[derive(Debug, Clone)]
struct JointAttention {
    qkv: JointQkv,
    shape: AttentionShape,
}

impl JointAttention {
    fn new(config: &TransformerConfig, vb: &VarBuilder<'_>) -> Result<Self> {
        let (d, dh) = (config.inner_dim(), config.attention_head_dim);
        let stack = |names: [&str; 3]| {
            let layers = names.map(|name| Linear::new(d, d, &vb.pp(name)));
            Linear::stack(&layers.into_iter().collect::<Result<Vec<_>>>()?)
        };
        let norm = |name: &str| vb.get(dh, &format!("{name}.weight"));
        Ok(Self {
            qkv: JointQkv {
                txt_qkv: stack(["add_q_proj", "add_k_proj", "add_v_proj"])?,
                img_qkv: stack(["to_q", "to_k", "to_v"])?,
                norm_q: norm("norm_q")?,
                norm_k: norm("norm_k")?,
                norm_added_q: norm("norm_added_q")?,
                norm_added_k: norm("norm_added_k")?,
            },
            shape: AttentionShape {
                heads: config.num_attention_heads,
                kv_heads: config.num_attention_heads,
                head_dim: dh,
                causal: false,
            },
        })
    }

    /// Attended text and image rows.
    fn forward(
        &self,
        txt: &Tensor,
        img: &Tensor,
        rope: (&Tensor, &Tensor),
        layout: &JointLayout,
    ) -> Result<(Tensor, Tensor)> {
        let qkv = joint_qkv(txt, img, &self.qkv, rope, layout)?;
        let attended = attention(&qkv, &self.shape, &layout.segments())?;
        layout.split(&attended)
    }
}
