//! One resolution of the decoder: residual blocks, then twice the size at half the channels.

use candle_core::Result;
use candle_nn::VarBuilder;

use super::band::{Band, CONV_REACH};
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
    pub(super) fn forward(&self, band: Band) -> Result<Band> {
        let band = band.apply(self.reach(), |mut x| {
            for resnet in &self.resnets {
                x = resnet.forward(&x)?;
            }
            Ok(x)
        })?;
        match &self.upsampler {
            Some(conv) => band.double(|x| upsample_conv2d(x, conv)),
            None => Ok(band),
        }
    }

    /// Rows of the input on either side of a band that `rows` more of the output depend on.
    pub(super) fn halo(&self, rows: usize) -> usize {
        let rows = if self.doubles() {
            (rows + CONV_REACH).div_ceil(2)
        } else {
            rows
        };
        rows + self.reach()
    }

    /// Whether the output has twice the rows.
    pub(super) fn doubles(&self) -> bool {
        self.upsampler.is_some()
    }

    fn reach(&self) -> usize {
        self.resnets.len() * ResnetBlock::REACH
    }
}
