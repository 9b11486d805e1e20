//! The stages from a prompt to a picture.
//!
//! A [`Pipeline`] is loaded once for one [`Sampling`] (size, steps, guidance) and then makes any
//! number of pictures of it. Latents stay in f32 between steps in every precision.

mod decoding;
mod denoising;
mod latent_preparation;
mod latents;
mod load;
mod networks;
pub mod observer;
mod rehearsal;
mod text_encoding;

pub use self::decoding::Picture;
pub use self::load::Checkpoint;
pub use self::observer::{Observer, Stage};
pub use self::rehearsal::Rehearsal;
pub use self::text_encoding::TextEncodings;

use candle_core::Device;

use self::networks::Networks;
use crate::error::Result;
use crate::memory::Offload;
use crate::sampling::{ImageRequest, Sampling};
use crate::scheduler::FlowMatchSchedule;

/// A loaded checkpoint, ready to make pictures of one [`Sampling`].
#[derive(Debug)]
pub struct Pipeline {
    sampling: Sampling,
    schedule: FlowMatchSchedule,
    networks: Networks,
    offload: Offload,
    device: Device,
}

impl Pipeline {
    /// Makes one picture. `texts` are those of the run, which the first request encodes.
    ///
    /// # Errors
    /// When the request does not fit the model, a result is not finite, the device fails or an
    /// observer asks to stop.
    pub fn generate(
        &mut self,
        request: &ImageRequest,
        texts: &mut TextEncodings,
        observer: &mut dyn Observer,
    ) -> Result<Picture> {
        self.run_steps(request, texts, self.schedule.num_steps(), observer)
    }

    /// Makes a picture in the first `steps` steps only and throws it away: what a first request
    /// pays once, paid before anyone looks at the clock. The request after it encodes its texts again,
    /// where the text encoder stays.
    ///
    /// # Errors
    /// As [`Pipeline::generate`].
    pub fn warm_up(
        &mut self,
        request: &ImageRequest,
        texts: &mut TextEncodings,
        steps: usize,
        observer: &mut dyn Observer,
    ) -> Result<()> {
        let steps = steps.min(self.schedule.num_steps());
        let mut own_texts = texts.clone();
        let texts = if self.offload.text_encoder {
            texts
        } else {
            &mut own_texts
        };
        self.run_steps(request, texts, steps, observer).map(drop)
    }

    fn run_steps(
        &mut self,
        request: &ImageRequest,
        texts: &mut TextEncodings,
        steps: usize,
        observer: &mut dyn Observer,
    ) -> Result<Picture> {
        let Self {
            sampling,
            schedule,
            networks,
            offload,
            device,
        } = self;
        // The request is checked before anything is loaded; reports have a line for the stage.
        run_stage(Stage::InputValidation, device, observer, |_| Ok(()))?;
        let prompt_embeds = run_stage(Stage::TextEncoding, device, observer, |_| {
            texts.encode(networks.text_encoder())?;
            texts.of_branches(request, sampling)
        })?;
        networks.leave_after(Stage::TextEncoding);
        let noise = run_stage(Stage::LatentPreparation, device, observer, |_| {
            latent_preparation::noise(request.seed, sampling, networks.config(), device)
        })?;
        let transformer = networks.transformer(observer)?;
        let sigmas = run_stage(Stage::TimestepPreparation, device, observer, |_| {
            Ok(&schedule.sigmas[..=steps])
        })?;
        let latents = run_stage(Stage::Denoising, device, observer, |observer| {
            let denoiser = denoising::Denoiser {
                transformer,
                sigmas,
                true_cfg_scale: sampling.true_cfg_scale,
                grid: sampling.grid(),
            };
            denoiser.run(noise, &prompt_embeds, observer)
        })?;
        networks.leave_after(Stage::Denoising);
        let (vae, config) = networks.vae(observer)?;
        let picture = run_stage(Stage::Decoding, device, observer, |_| {
            decoding::decode(&latents, sampling, config, vae, offload.vae_tiling)
        })?;
        networks.leave_after(Stage::Decoding);
        Ok(picture)
    }
}

/// Runs one stage between its two calls of the observer. It ends when its device work has, so
/// that every clock that is read at its end tells the same.
fn run_stage<T>(
    stage: Stage,
    device: &Device,
    observer: &mut dyn Observer,
    run: impl FnOnce(&mut dyn Observer) -> Result<T>,
) -> Result<T> {
    observer.stage_begin(stage)?;
    let result = run(observer)?;
    device.synchronize()?;
    observer.stage_end(stage)?;
    Ok(result)
}
