//! One resolution of the decoder: residual blocks, then twice the size at half the channels.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use super::resnet::ResnetBlock;
use crate::ops::{Conv2d, upsample_conv2d};

#[derive(Debug)]
pub(super) struct UpBlock {
    resnets: Vec<ResnetBlock>,
    upsampler: Option<Conv2d>,
}

impl UpBlock {
    pub(super) fn new(
        (c_in, c_out): (usize, usize),
        num_resnets: usize,
        has_upsampler: bool,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let resnets = (0..num_resnets)
            .map(|j| {
                let c_in = if j == 0 { c_in } else { c_out };
                ResnetBlock::new(c_in, c_out, &vb.pp("resnets").pp(j))
            })
            .collect::<Result<_>>()?;
        let upsampler = has_upsampler
            .then(|| {
                let vb = vb.pp("upsamplers.0.resample.1");
                let kernel = vb.get((c_out / 2, c_out, 3, 3), "weight")?;
                Conv2d::from_tensors(&kernel, vb.get(c_out / 2, "bias")?)
            })
            .transpose()?;
        Ok(Self { resnets, upsampler })
    }

    /// `[h, w, in]` to `[2h, 2w, out/2]`, or `[h, w, out]` without upsampler.
    pub(super) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let mut x = x.clone();
        for resnet in &self.resnets {
            x = resnet.forward(&x)?;
        }
        match &self.upsampler {
            Some(conv) => upsample_conv2d(&x, conv),
            None => Ok(x),
        }
    }
}
