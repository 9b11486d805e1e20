//! The denoising loop.

use candle_core::Tensor;
use tracing::trace_span;

use super::observer::Observer;
use crate::error::Result;
use crate::model::transformer::{Conditioning, Transformer};
use crate::ops::guided_euler_step;
use crate::ops::replay::Replay;

/// Most numbers in the image rows of steps that are replayed: 288x288 with guidance at full size. Their kernels
/// are so short that the GPU waits when they are launched one by one; larger steps gain nothing
/// (benches/README.md).
const MAX_REPLAYED: usize = 1 << 21;
/// Capturing a step takes as long as replays of so many save at full size and 256x256.
const MIN_REPLAYED_STEPS: usize = 40;

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
        let conditioning = &self.transformer.condition(&branches, self.grid)?;
        let mut predict = Replay::new(
            |inputs: &[&Tensor]| (self.transformer).forward(inputs[0], inputs[1], conditioning),
            self.replays(conditioning, observer),
        );
        for (step, sigma) in self.sigmas.windows(2).enumerate() {
            observer.step_begin(step, sigma[0])?;
            let noise_pred = trace_span!("predict_noise").in_scope(|| {
                let modulation = self.transformer.modulation(step)?;
                predict.call(&[&latents, &modulation])
            })?;
            let dt = sigma[1] - sigma[0];
            latents = trace_span!("scheduler_step")
                .in_scope(|| guided_euler_step(&latents, &noise_pred, self.true_cfg_scale, dt))?;
            observer.step_end(step, &latents)?;
        }
        Ok(latents)
    }

    /// Whether steps are small and many enough to be replayed.
    fn replays(&self, conditioning: &Conditioning, observer: &dyn Observer) -> bool {
        let is_small = self.transformer.image_elements(conditioning) <= MAX_REPLAYED;
        let are_many = self.sigmas.len() > MIN_REPLAYED_STEPS;
        is_small && are_many && !self.transformer.streams() && !observer.wants_operators()
    }
}
