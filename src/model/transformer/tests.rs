//! Every stage of a first prediction against the reference implementation, each on what the stages
//! before it made: where a fault begins shows here.

use candle_core::{Result, Tensor};

use super::modulation::{Shifted, Stream, Vectors};
use super::timestep::TimestepEmbedder;
use super::{Transformer, rope};
use crate::model::testing::{RUNS, Run};
use crate::ops::testing::assert_close;
use crate::ops::{JointLayout, linear};

const TOLERANCE: f32 = 1e-5;

fn timesteps(run: &Run) -> Result<Vec<f32>> {
    // [steps, batch]
    run.table("model_timesteps")
        .narrow(1, 0, 1)?
        .flatten_all()?
        .to_vec1()
}

/// Rows and columns of image tokens.
fn grid(run: &Run) -> Result<(usize, usize)> {
    let (_, _, rows, columns) = run.tensor("noise")?.dims4()?;
    Ok((rows / 2, columns / 2))
}

#[test]
fn time_embedding() -> Result<()> {
    for (name, checkpoint) in RUNS {
        let run = Run::read(name, checkpoint)?;
        let embedder = run.build("transformer", |config, vb| {
            let d = config.transformer.inner_dim();
            TimestepEmbedder::new(d, &vb.pp("time_text_embed.timestep_embedder"))
        })?;
        let temb = embedder.forward(&timesteps(&run)?)?;
        run.check("transformer.temb", &temb.get(0)?, TOLERANCE)?;
    }
    Ok(())
}

#[test]
fn rotary_tables() -> Result<()> {
    for (name, checkpoint) in RUNS {
        let run = Run::read(name, checkpoint)?;
        let (txt, img) = (
            run.table("transformer.rope_txt"),
            run.table("transformer.rope_img"),
        );
        let layout = JointLayout::new(vec![txt.dim(0)?], img.dim(0)?);
        let axes = &run.config.transformer.axes_dims_rope;
        let (cos, sin) = rope::joint_rope(axes, grid(&run)?, &layout, txt.device())?;
        // One branch: text, then image. [rows, dh/2, 2]
        let expected = Tensor::cat(&[txt, img], 0)?;
        assert_close(&Tensor::stack(&[cos, sin], 2)?, &expected, TOLERANCE)?;
    }
    Ok(())
}

#[test]
fn streams_through_all_blocks() -> Result<()> {
    for streamed_blocks in [0, 1, 2, usize::MAX] {
        through_all_blocks(streamed_blocks)?;
    }
    Ok(())
}

fn through_all_blocks(streamed_blocks: usize) -> Result<()> {
    for (name, checkpoint) in RUNS {
        let run = Run::read(name, checkpoint)?;
        let timesteps = timesteps(&run)?;
        let transformer = run.build("transformer", |config, vb| {
            Transformer::new(&config.transformer, vb, &timesteps, streamed_blocks)
        })?;
        let prompt_embeds = run.tensor("prompt_embeds")?;
        let conditioning = transformer.condition(&[&prompt_embeds], grid(&run)?)?;
        run.check("transformer.txt_in", &conditioning.txt, TOLERANCE)?;
        let img = linear(&run.tensor("latents_init")?, &transformer.img_in)?;
        run.check("transformer.img_in", &img, TOLERANCE)?;

        let (mut txt, mut img) = (Stream::new(conditioning.txt), Stream::new(img));
        let rope = (&conditioning.rope.0, &conditioning.rope.1);
        let modulation = transformer.modulation(0)?;
        let mut vectors = Vectors::new(&modulation, run.config.transformer.inner_dim());
        let last = transformer.config.num_layers - 1;
        let mut i = 0;
        transformer.blocks.try_for_each(|block| {
            block.forward(&mut txt, &mut img, &mut vectors, rope, &conditioning.layout)?;
            let name = |stream| format!("transformer.block{i}.{stream}");
            run.check(&name("img"), &img.value()?, TOLERANCE)?;
            // Nothing reads the last block's text, so it is not computed.
            if i < last {
                run.check(&name("txt"), &txt.value()?, TOLERANCE)?;
            }
            i += 1;
            Ok(())
        })?;
        assert_eq!(i, last + 1);
        let [scale, shift] = vectors.next()?;
        let normed = img.modulated(&Shifted { shift, scale })?;
        run.check("transformer.norm_out", &normed, TOLERANCE)?;
    }
    Ok(())
}
