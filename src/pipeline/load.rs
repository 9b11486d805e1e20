//! Loading: from a checkpoint's files to a pipeline ready for one sampling.

use candle_core::{DType, Device};
use candle_nn::VarBuilder;

use super::{ImageRequest, Observer, Pipeline, Sampling, TextEncodings};
use crate::config::{ModelConfig, text_encoder};
use crate::error::{Error, Result};
use crate::model::text_encoder::TextEncoder;
use crate::model::transformer::Transformer;
use crate::model::vae::VaeDecoder;
use crate::scheduler::FlowMatchSchedule;
use crate::text::tokenizer::Tokenizer;
use crate::weights::{ComponentWeights, LoadFormat, ModelSource, StoredSize};

/// The dtype each network computes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Precisions {
    /// The text encoder's.
    pub text_encoder: DType,
    /// The transformer's.
    pub dit: DType,
    /// The VAE's.
    pub vae: DType,
}

/// A checkpoint whose JSON files and shard headers are read and found sound; no weight is.
#[derive(Debug)]
pub struct Checkpoint {
    config: ModelConfig,
    tokenizer: Tokenizer,
    text_encoder: ComponentWeights,
    transformer: ComponentWeights,
    vae: ComponentWeights,
}

impl Checkpoint {
    /// Reads and checks everything but the weights.
    ///
    /// # Errors
    /// When a file is missing or not what it must be.
    pub fn open(source: &ModelSource, load_format: LoadFormat) -> Result<Self> {
        let open = |component| ComponentWeights::open(source, component, load_format);
        let checkpoint = Self {
            config: ModelConfig::read(source)?,
            tokenizer: Tokenizer::read(source)?,
            text_encoder: open("text_encoder")?,
            transformer: open("transformer")?,
            vae: open("vae")?,
        };
        let rows = checkpoint.config.text_encoder.vocab_size;
        let max_id = checkpoint.tokenizer.max_id();
        if max_id as usize >= rows {
            let message = format!("`vocab_size` is {rows}, but the tokenizer has the id {max_id}");
            return Err(Error::checkpoint(text_encoder::FILE, message));
        }
        Ok(checkpoint)
    }

    /// The components with how much their files hold.
    #[must_use]
    pub fn stored_sizes(&self) -> [(&'static str, StoredSize); 3] {
        [
            ("text_encoder", self.text_encoder.stored_size()),
            ("transformer", self.transformer.stored_size()),
            ("vae", self.vae.stored_size()),
        ]
    }

    /// Tokenises what `requests` need.
    ///
    /// # Errors
    /// A usage error when a prompt cannot be tokenised.
    pub fn tokenise(
        &self,
        requests: &[ImageRequest],
        sampling: &Sampling,
    ) -> Result<TextEncodings> {
        TextEncodings::new(&self.tokenizer, requests, sampling)
    }
}

impl Pipeline {
    /// Loads the weights.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape, or the sampling's schedule does not exist.
    pub fn load(
        checkpoint: Checkpoint,
        sampling: Sampling,
        device: &Device,
        precisions: Precisions,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let Checkpoint { config, .. } = checkpoint;
        let schedule = FlowMatchSchedule::new(
            &config.scheduler,
            sampling.image_seq_len(),
            sampling.num_inference_steps,
        )?;
        let text_encoder = load(
            "text_encoder",
            &checkpoint.text_encoder,
            (precisions.text_encoder, device),
            observer,
            |vb| TextEncoder::new(&config.text_encoder, vb),
        )?;
        let transformer = load(
            "transformer",
            &checkpoint.transformer,
            (precisions.dit, device),
            observer,
            |vb| Transformer::new(&config.transformer, vb, &schedule.timesteps_scaled()),
        )?;
        let vae = load(
            "vae",
            &checkpoint.vae,
            (precisions.vae, device),
            observer,
            |vb| VaeDecoder::new(&config.vae, vb),
        )?;
        Ok(Self {
            sampling,
            config,
            schedule,
            text_encoder,
            transformer,
            vae,
            precisions,
            device: device.clone(),
        })
    }
}

/// Loads one component between the observer's two calls.
fn load<T>(
    component: &'static str,
    weights: &ComponentWeights,
    (dtype, device): (DType, &Device),
    observer: &mut dyn Observer,
    build: impl FnOnce(&VarBuilder<'_>) -> candle_core::Result<T>,
) -> Result<T> {
    observer.load_begin(component)?;
    let network = build(&weights.var_builder(dtype, device))?;
    observer.load_end(component, weights.bytes_read())?;
    Ok(network)
}
