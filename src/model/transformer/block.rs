//! One MMDiT block: joint attention over text and image, then an MLP in each stream.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::modulation::{ModulationTable, Shifted, Stream};
use crate::config::transformer::TransformerConfig;
use crate::ops::{
    AttentionShape, JointLayout, JointQkv, Linear, attention, joint_qkv, linear, linear_gelu,
};

#[derive(Debug, Clone)]
pub(super) struct Block {
    attention: JointAttention,
    txt_mod: ModulationTable,
    img_mod: ModulationTable,
    /// None in the last block: nothing reads the text stream after it.
    txt_out: Option<TextOutput>,
    img_mlp: Mlp,
}

/// What only a text stream that is read again needs.
#[derive(Debug, Clone)]
struct TextOutput {
    to_add_out: Linear,
    mlp: Mlp,
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
            txt_out: (!is_last).then(|| TextOutput::new(d, vb)).transpose()?,
            img_mlp: Mlp::new(d, &vb.pp("img_mlp"))?,
        })
    }

    pub(super) fn forward(
        &self,
        txt: &mut Stream,
        img: &mut Stream,
        step: usize,
        rope: (&Tensor, &Tensor),
        layout: &JointLayout,
    ) -> Result<()> {
        let (txt_attn, txt_mlp) = sublayers(self.txt_mod.at(step)?);
        let (img_attn, img_mlp) = sublayers(self.img_mod.at(step)?);

        let (txt_attended, img_out) = self.attention.forward(
            &txt.modulated(&txt_attn.norm)?,
            &img.modulated(&img_attn.norm)?,
            rope,
            layout,
        )?;
        img.add(img_out, img_attn.gate);
        let img_out = self.img_mlp.forward(&img.modulated(&img_mlp.norm)?)?;
        img.add(img_out, img_mlp.gate);

        if let Some(output) = &self.txt_out {
            txt.add(linear(&txt_attended, &output.to_add_out)?, txt_attn.gate);
            let txt_out = output.mlp.forward(&txt.modulated(&txt_mlp.norm)?)?;
            txt.add(txt_out, txt_mlp.gate);
        }
        Ok(())
    }
}

/// What streaming moves: nearly all of a block's weights.
impl Block {
    /// The matrices, those of the text's output last.
    pub(super) fn matrices_mut(&mut self) -> Vec<&mut Tensor> {
        let qkv = &mut self.attention.qkv;
        let mut layers = vec![
            &mut qkv.img_qkv,
            &mut qkv.txt_qkv,
            &mut self.attention.to_out,
            &mut self.img_mlp.up,
            &mut self.img_mlp.down,
        ];
        if let Some(TextOutput { to_add_out, mlp }) = &mut self.txt_out {
            layers.extend([to_add_out, &mut mlp.up, &mut mlp.down]);
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

impl TextOutput {
    fn new(d: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            to_add_out: Linear::new(d, d, &vb.pp("attn.to_add_out"))?,
            mlp: Mlp::new(d, &vb.pp("txt_mlp"))?,
        })
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
    to_out: Linear,
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
            to_out: Linear::new(d, d, &vb.pp("to_out.0"))?,
            shape: AttentionShape {
                heads: config.num_attention_heads,
                kv_heads: config.num_attention_heads,
                head_dim: dh,
                causal: false,
            },
        })
    }

    /// Attended text rows, before their output projection, and projected image rows.
    fn forward(
        &self,
        txt: &Tensor,
        img: &Tensor,
        rope: (&Tensor, &Tensor),
        layout: &JointLayout,
    ) -> Result<(Tensor, Tensor)> {
        let qkv = joint_qkv(txt, img, &self.qkv, rope, layout)?;
        let attended = attention(&qkv, &self.shape, &layout.segments())?;
        let (txt, img) = layout.split(&attended)?;
        Ok((txt, linear(&img, &self.to_out)?))
    }
}

#[derive(Debug, Clone)]
struct Mlp {
    up: Linear,
    down: Linear,
}

impl Mlp {
    fn new(d: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self {
            up: Linear::new(d, 4 * d, &vb.pp("net.0.proj"))?,
            down: Linear::new(4 * d, d, &vb.pp("net.2"))?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        linear(&linear_gelu(x, &self.up)?, &self.down)
    }
}
