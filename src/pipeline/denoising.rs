//! The denoising loop.

use candle_core::Tensor;
use tracing::trace_span;

use super::observer::Observer;
use crate::error::Result;
use crate::model::transformer::Transformer;
use crate::ops::guided_euler_step;

/// Takes noise to latents along `sigmas`.
pub(super) struct Denoiser<'a> {
    pub(super) transformer: &'a Transformer,
    /// Noise levels, one more than steps.
    pub(super) sigmas: &'a [f32],
    pub(super) true_cfg_scale: f32,
    /// Rows and columns of image tokens.
    pub(super) grid: (usize, usize),
}

impl Denoiser<'_> {
    /// # Shapes
    /// `latents`, result: packed `[s_img, 4 z]` f32; `prompt_embeds`: `[s_txt, hidden]` of each branch.
    pub(super) fn run(
        &self,
        mut latents: Tensor,
        prompt_embeds: &[Tensor],
        observer: &mut dyn Observer,
    ) -> Result<Tensor> {
        let branches: Vec<&Tensor> = prompt_embeds.iter().collect();
        let conditioning = self.transformer.condition(&branches, self.grid)?;
        for (step, sigma) in self.sigmas.windows(2).enumerate() {
            observer.step_begin(step, sigma[0])?;
            let noise_pred = trace_span!("predict_noise")
                .in_scope(|| self.transformer.forward(&latents, &conditioning, step))?;
            let dt = sigma[1] - sigma[0];
            latents = trace_span!("scheduler_step")
                .in_scope(|| guided_euler_step(&latents, &noise_pred, self.true_cfg_scale, dt))?;
            observer.step_end(step, &latents)?;
        }
        Ok(latents)
    }
}
