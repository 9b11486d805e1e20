//! Every stage of the decoder against the reference implementation, each on what the stages before
//! it made: where a fault begins shows here.

use candle_core::{Result, Tensor};

use super::band::Band;
use super::{VaeDecoder, per_pixel};
use crate::model::testing::{RUNS, Run};
use crate::ops::{conv2d, rms_norm_silu};

const TOLERANCE: f32 = 5e-5;

/// The reference's `[c, 1, h, w]` is `[h, w, c]` here.
fn channels_first(x: &Tensor) -> Result<Tensor> {
    x.permute((2, 0, 1))?.unsqueeze(1)
}

#[test]
fn pictures_through_all_blocks() -> Result<()> {
    for (name, checkpoint) in RUNS {
        let run = Run::read(name, checkpoint)?;
        let vae = run.build("vae", |config, vb| VaeDecoder::new(&config.vae, vb))?;
        let check = |stage: &str, x: &Tensor| {
            run.check(&format!("vae.{stage}"), &channels_first(x)?, TOLERANCE)
        };

        let latents = run.tensor("vae_input")?.squeeze(1)?.permute((1, 2, 0))?;
        let x = per_pixel(&latents.contiguous()?, &vae.post_quant_conv)?;
        check("post_quant_conv", &x)?;
        let x = conv2d(&x, &vae.conv_in)?;
        check("conv_in", &x)?;
        let before = vae.mid_block.before.forward(&x)?;
        check("mid_attn", &vae.mid_block.attention.forward(&before)?)?;
        let mut x = vae.mid_block.forward(&x)?;
        check("mid_block", &x)?;
        for (i, block) in vae.up_blocks.iter().enumerate() {
            let band = block.forward(Band::cut(&x, &(0..x.dim(0)?), 0)?)?;
            x = band.rows(0..x.dim(0)? << u8::from(block.doubles()))?;
            check(&format!("up_block{i}"), &x)?;
        }
        let x = rms_norm_silu(&x, &vae.norm_out)?;
        check("conv_out", &conv2d(&x, &vae.conv_out)?)?;
    }
    Ok(())
}
