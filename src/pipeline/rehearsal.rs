//! A rehearsal of a run's first picture, on a GPU, while the weights are on their way to it.
//!
//! A GPU's libraries fetch kernels, and cuDNN makes plans, when they first see a shape: 0.7 s of a run
//! at 1024x1024 (benches/README.md). The rehearsal takes a request's sizes through networks of a few
//! layers with random weights, so that the first picture finds everything ready. It changes no
//! result, and what fails in it fails again, and is told, in the run.

use std::thread;

use candle_core::{DType, Device, Tensor};

use super::decoding::decode;
use super::denoising::Denoiser;
use super::{Checkpoint, TextEncodings};
use crate::config::ModelConfig;
use crate::error::Result;
use crate::memory::Footprint;
use crate::model::text_encoder::TextEncoder;
use crate::model::transformer::Transformer;
use crate::model::vae::VaeDecoder;
use crate::sampling::{ImageRequest, Precisions, Sampling};
use crate::weights::ComponentWeights;

/// Layers of each stack: the last transformer block has other operations than those before it.
const LAYERS: usize = 2;

/// What is rehearsed.
#[derive(Debug)]
pub struct Rehearsal {
    config: ModelConfig,
    sampling: Sampling,
    precisions: Precisions,
    request: ImageRequest,
    texts: TextEncodings,
    device: Device,
}

impl Checkpoint {
    /// A rehearsal of `request`, the first of those that `texts` are of.
    #[must_use]
    pub fn rehearsal(
        &self,
        request: &ImageRequest,
        sampling: &Sampling,
        texts: &TextEncodings,
        (precisions, device): (Precisions, &Device),
    ) -> Rehearsal {
        let mut config = self.config.clone();
        for layers in [
            &mut config.text_encoder.num_hidden_layers,
            &mut config.transformer.num_layers,
        ] {
            *layers = LAYERS.min(*layers);
        }
        Rehearsal {
            config,
            sampling: Sampling {
                num_inference_steps: 1,
                ..sampling.clone()
            },
            precisions,
            request: request.clone(),
            texts: texts.first_pass(),
            device: device.clone(),
        }
    }
}

impl Rehearsal {
    /// What it holds on the device.
    #[must_use]
    pub fn footprint(&self) -> Footprint {
        let tokens = self.texts.tokens();
        let at = (self.precisions, !self.device.is_cpu());
        Footprint::new(&self.config, &self.sampling, at, tokens)
    }

    /// Encodes the texts of the first pass, takes one step, decodes.
    ///
    /// # Errors
    /// As [`Pipeline::generate`](super::Pipeline::generate).
    pub(super) fn run(mut self) -> Result<()> {
        let prompt_embeds = self.encode()?;
        let latents = self.denoise(&prompt_embeds)?;
        self.decode(&latents)
    }

    fn encode(&mut self) -> Result<Vec<Tensor>> {
        let weights = ComponentWeights::dummy("text_encoder");
        let vb = weights.var_builder(self.precisions.text_encoder, &self.device);
        let encoder = TextEncoder::new(&self.config.text_encoder, &vb)?;
        self.texts.encode(Some(&encoder))?;
        self.texts.of_branches(&self.request, &self.sampling)
    }

    fn denoise(&self, prompt_embeds: &[Tensor]) -> Result<Tensor> {
        let weights = ComponentWeights::dummy("transformer");
        let vb = weights.var_builder(self.precisions.dit, &self.device);
        let config = &self.config.transformer;
        let transformer = Transformer::new(config, &vb, &[1.0], 0)?;
        let shape = (self.sampling.image_seq_len(), config.in_channels);
        let noise = Tensor::zeros(shape, DType::F32, &self.device)?;
        let denoiser = Denoiser {
            transformer: &transformer,
            sigmas: &[1.0, 0.0],
            true_cfg_scale: self.sampling.true_cfg_scale,
            grid: self.sampling.grid(),
        };
        denoiser.run(noise, prompt_embeds, &mut ())
    }

    fn decode(&self, latents: &Tensor) -> Result<()> {
        let weights = ComponentWeights::dummy("vae");
        let vb = weights.var_builder(self.precisions.vae, &self.device);
        let config = &self.config.vae;
        let vae = VaeDecoder::new(config, &vb)?;
        decode(latents, &self.sampling, config, &vae, false).map(drop)
    }
}

/// Does `work` while the rehearsal runs on a thread of its own; returns when both have ended.
///
/// A process of one thread rehearses nothing: the operations would wait for that thread, which waits
/// for the rehearsal's end.
pub(super) fn beside<T>(rehearsal: Option<Rehearsal>, work: impl FnOnce() -> T) -> T {
    let has_workers = rayon::current_num_threads() > 1;
    thread::scope(|scope| {
        if let Some(rehearsal) = rehearsal.filter(|_| has_workers) {
            let rehearse = || {
                if let Err(error) = rehearsal.run() {
                    tracing::debug!("the rehearsal failed: {error}");
                }
            };
            // A system that refuses the thread has no rehearsal.
            let _ = thread::Builder::new().spawn_scoped(scope, rehearse);
        }
        work()
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::weights::{LoadFormat, ModelSource};

    #[test]
    fn every_stage_is_rehearsed_in_less_memory() {
        let checkpoint =
            Checkpoint::open(&ModelSource::BuiltinTiny, LoadFormat::Safetensors).unwrap();
        let request = ImageRequest {
            prompt: "a blue ring".to_owned(),
            seed: 0,
        };
        let sampling = Sampling {
            width: 64,
            height: 48,
            ..Sampling::default()
        };
        let precisions = Precisions {
            text_encoder: DType::F32,
            dit: DType::F32,
            vae: DType::F32,
        };
        let texts = (checkpoint.tokenise(std::slice::from_ref(&request), &sampling)).unwrap();
        let at = (precisions, &Device::Cpu);
        let rehearsal = checkpoint.rehearsal(&request, &sampling, &texts, at);
        let whole = checkpoint.footprint(&sampling, at, &texts, false);
        assert!(rehearsal.footprint().blocks < whole.blocks);
        rehearsal.run().unwrap();
    }
}
