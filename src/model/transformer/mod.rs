//! The MMDiT: text and image tokens in two streams, joined in every attention.
//!
//! One pass serves both guidance branches: the image rows of both lie in one matrix, the text rows
//! of both in another, and only attention keeps the branches apart ([`JointLayout`]). Everything
//! that depends on the timestep alone is computed when the model is loaded, for all steps of its
//! schedule; the weights behind it are not kept.
//!
//! Source: diffusers `transformer_qwenimage.py` at 58eb52c.

mod block;
mod blocks;
mod modulation;
mod rope;
mod tensors;
#[cfg(test)]
mod tests;
mod timestep;

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::VarBuilder;

use self::block::Block;
use self::blocks::Blocks;
use self::modulation::{ModulationTable, Shifted, Stream, Vectors};
pub use self::tensors::linears;
pub(crate) use self::tensors::{belongs, tensors};
use self::timestep::TimestepEmbedder;
use crate::config::transformer::TransformerConfig;
use crate::ops::{JointLayout, Linear, cast, cat, linear, rms_norm, silu};

/// The transformer, for the timesteps it was loaded with.
#[derive(Debug)]
pub struct Transformer {
    config: TransformerConfig,
    img_in: Linear,
    txt_norm: Tensor,
    txt_in: Linear,
    blocks: Blocks,
    norm_out: ModulationTable,
    proj_out: Linear,
}

/// What stays the same over all steps of one picture.
#[derive(Debug)]
pub struct Conditioning {
    /// Text tokens of all branches, `[Σ txt, d]`.
    txt: Tensor,
    /// Cosine and sine of the rotary angles in joint order, `[rows, dh/2]`.
    rope: (Tensor, Tensor),
    layout: JointLayout,
}

impl Transformer {
    /// Reads the weights and computes the modulation of every step.
    ///
    /// `timesteps_scaled` are the schedule's timesteps divided by 1000, one for each step. So many
    /// `streamed_blocks` are in host memory while they are not at work.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn new(
        config: &TransformerConfig,
        vb: &VarBuilder<'_>,
        timesteps_scaled: &[f32],
        streamed_blocks: usize,
    ) -> Result<Self> {
        let d = config.inner_dim();
        let embedder = TimestepEmbedder::new(d, &vb.pp("time_text_embed.timestep_embedder"))?;
        let silu_temb = silu(&embedder.forward(timesteps_scaled)?)?;
        let blocks = Blocks::load(config.num_layers, streamed_blocks, vb.device(), |i| {
            let is_last = i + 1 == config.num_layers;
            Block::new(
                config,
                &vb.pp("transformer_blocks").pp(i),
                &silu_temb,
                is_last,
            )
        })?;
        Ok(Self {
            img_in: Linear::new(config.in_channels, d, &vb.pp("img_in"))?,
            txt_norm: vb.get(config.joint_attention_dim, "txt_norm.weight")?,
            txt_in: Linear::new(config.joint_attention_dim, d, &vb.pp("txt_in"))?,
            blocks,
            norm_out: ModulationTable::new(&silu_temb, 2, d, &vb.pp("norm_out.linear"))?,
            proj_out: Linear::new(d, config.patch_channels(), &vb.pp("proj_out"))?,
            config: config.clone(),
        })
    }

    /// Prepares the text of each branch, conditional first, for a picture of `grid` (rows, columns)
    /// image tokens.
    ///
    /// # Shapes
    /// `prompt_embeds`: one or two of `[s_txt, joint_attention_dim]`.
    ///
    /// # Errors
    /// When an operation fails.
    pub fn condition(
        &self,
        prompt_embeds: &[&Tensor],
        grid: (usize, usize),
    ) -> Result<Conditioning> {
        let lengths = prompt_embeds
            .iter()
            .map(|t| t.dim(0))
            .collect::<Result<_>>()?;
        let layout = JointLayout::new(lengths, grid.0 * grid.1);
        let text = cast(&cat(prompt_embeds)?, self.dtype())?;
        let text = rms_norm(&text, &self.txt_norm, 1e-6)?;
        Ok(Conditioning {
            txt: linear(&text, &self.txt_in)?,
            rope: rope::joint_rope(&self.config.axes_dims_rope, grid, &layout, self.device())?,
            layout,
        })
    }

    /// The modulation vectors of step `step` of the schedule, one after the other: what a prediction
    /// depends on besides its latents.
    ///
    /// # Errors
    /// When there is no such step.
    pub fn modulation(&self, step: usize) -> Result<Tensor> {
        let blocks = self.blocks.iter().flat_map(Block::modulation);
        let vectors = blocks.chain([&self.norm_out]).map(|table| table.at(step));
        let vectors = vectors.collect::<Result<Vec<_>>>()?;
        cat(&vectors.iter().collect::<Vec<_>>())
    }

    /// Predicts the velocity of every branch at the step that `modulation` is of.
    ///
    /// # Shapes
    /// `latents`: packed `[s_img, in_channels]`; result: `[branches · s_img, patch_channels]`.
    ///
    /// # Errors
    /// When an operation fails.
    pub fn forward(
        &self,
        latents: &Tensor,
        modulation: &Tensor,
        conditioning: &Conditioning,
    ) -> Result<Tensor> {
        let Conditioning { txt, rope, layout } = conditioning;
        let mut vectors = Vectors::new(modulation, self.config.inner_dim());
        let img = linear(&cast(latents, self.dtype())?, &self.img_in)?;
        let mut img = Stream::new(cat(&vec![&img; layout.branches()])?);
        let mut txt = Stream::new(txt.clone());
        self.blocks.try_for_each(|block| {
            block.forward(&mut txt, &mut img, &mut vectors, (&rope.0, &rope.1), layout)
        })?;
        // Scale first here: the reverse of the blocks.
        let [scale, shift] = vectors.next()?;
        linear(&img.modulated(&Shifted { shift, scale })?, &self.proj_out)
    }

    /// Whether some blocks come from host memory in every step.
    #[must_use]
    pub fn streams(&self) -> bool {
        self.blocks.streams()
    }

    /// Numbers in the image rows of a block.
    #[must_use]
    pub fn image_elements(&self, conditioning: &Conditioning) -> usize {
        let layout = &conditioning.layout;
        layout.branches() * layout.s_img * self.config.inner_dim()
    }

    fn dtype(&self) -> DType {
        self.txt_norm.dtype()
    }

    fn device(&self) -> &Device {
        self.txt_norm.device()
    }
}
