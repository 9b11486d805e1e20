//! The three networks: on the device when they are at work, and as long as the memory plan lets them stay.

use candle_core::{DType, Device};
use candle_nn::VarBuilder;

use super::{Checkpoint, Observer, Stage};
use crate::config::ModelConfig;
use crate::config::vae::VaeConfig;
use crate::error::Result;
use crate::memory::Offload;
use crate::model::text_encoder::TextEncoder;
use crate::model::transformer::Transformer;
use crate::model::vae::VaeDecoder;
use crate::sampling::Precisions;
use crate::weights::ComponentWeights;

/// A checkpoint's networks; what is not on the device is `None`.
#[derive(Debug)]
pub(super) struct Networks {
    checkpoint: Checkpoint,
    offload: Offload,
    precisions: Precisions,
    device: Device,
    timesteps_scaled: Vec<f32>,
    text_encoder: Option<TextEncoder>,
    transformer: Option<Transformer>,
    vae: Option<VaeDecoder>,
}

impl Networks {
    /// Loads the text encoder, and the others unless they have to wait until it has gone.
    ///
    /// One after the other: each has all threads and the whole bus. Side by side they take no less, and a text
    /// stage beside the transformer's loading twice its time (benches/README.md).
    pub(super) fn load(
        checkpoint: Checkpoint,
        offload: Offload,
        (precisions, device): (Precisions, &Device),
        timesteps_scaled: Vec<f32>,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let config = &checkpoint.config.text_encoder;
        let text_encoder = load(
            "text_encoder",
            &checkpoint.text_encoder,
            (precisions.text_encoder, device),
            observer,
            |vb| TextEncoder::new(config, vb),
        )?;
        let mut networks = Self {
            checkpoint,
            offload,
            precisions,
            device: device.clone(),
            timesteps_scaled,
            text_encoder: Some(text_encoder),
            transformer: None,
            vae: None,
        };
        if !offload.text_encoder {
            if !offload.dit {
                networks.transformer(observer)?;
            }
            if !offload.vae {
                networks.vae(observer)?;
            }
        }
        Ok(networks)
    }

    pub(super) fn config(&self) -> &ModelConfig {
        &self.checkpoint.config
    }

    /// None once it has gone: all texts are encoded then.
    pub(super) fn text_encoder(&self) -> Option<&TextEncoder> {
        self.text_encoder.as_ref()
    }

    /// The transformer, loaded if it is not there.
    pub(super) fn transformer(&mut self, observer: &mut dyn Observer) -> Result<&Transformer> {
        let config = &self.checkpoint.config.transformer;
        let streamed_blocks = self.offload.dit_streamed_blocks;
        let transformer = match self.transformer.take() {
            Some(transformer) => transformer,
            None => load(
                "transformer",
                &self.checkpoint.transformer,
                (self.precisions.dit, &self.device),
                observer,
                |vb| Transformer::new(config, vb, &self.timesteps_scaled, streamed_blocks),
            )?,
        };
        Ok(self.transformer.insert(transformer))
    }

    /// The VAE's decoder, loaded if it is not there, and its configuration.
    pub(super) fn vae(&mut self, observer: &mut dyn Observer) -> Result<(&VaeDecoder, &VaeConfig)> {
        let config = &self.checkpoint.config.vae;
        let vae = match self.vae.take() {
            Some(vae) => vae,
            None => load(
                "vae",
                &self.checkpoint.vae,
                (self.precisions.vae, &self.device),
                observer,
                |vb| VaeDecoder::new(config, vb),
            )?,
        };
        Ok((self.vae.insert(vae), config))
    }

    /// Sends away who has done its work in `stage` and may not stay.
    pub(super) fn leave_after(&mut self, stage: Stage) {
        let Offload {
            text_encoder,
            dit,
            vae,
            ..
        } = self.offload;
        match stage {
            Stage::TextEncoding if text_encoder => self.text_encoder = None,
            Stage::Denoising if dit => self.transformer = None,
            Stage::Decoding if vae => self.vae = None,
            _ => {}
        }
    }
}

/// Loads one network between the observer's two calls.
fn load<T>(
    component: &'static str,
    weights: &ComponentWeights,
    (dtype, device): (DType, &Device),
    observer: &mut dyn Observer,
    build: impl FnOnce(&VarBuilder<'_>) -> candle_core::Result<T>,
) -> Result<T> {
    observer.load_begin(component)?;
    let before = weights.bytes_read();
    let network = build(&weights.var_builder(dtype, device))?;
    device.synchronize()?;
    observer.load_end(component, weights.bytes_read() - before)?;
    Ok(network)
}
