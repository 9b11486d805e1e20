//! Loading: from a checkpoint's files to a pipeline ready for one sampling.

use candle_core::Device;

use super::networks::Networks;
use super::rehearsal::{self, Rehearsal};
use super::{Observer, Pipeline, TextEncodings};
use crate::config::{self, ModelConfig};
use crate::error::Result;
use crate::memory::{Footprint, Offload};
use crate::model::{text_encoder, transformer, vae};
use crate::sampling::{ImageRequest, Precisions, Sampling};
use crate::scheduler::FlowMatchSchedule;
use crate::text::tokenizer::Tokenizer;
use crate::weights::{ComponentWeights, LoadFormat, Lora, ModelSource, StoredSize, fault};

/// A checkpoint whose JSON files and shard headers are read and found sound; no weight is.
#[derive(Debug)]
pub struct Checkpoint {
    pub(super) config: ModelConfig,
    tokenizer: Tokenizer,
    pub(super) text_encoder: ComponentWeights,
    pub(super) transformer: ComponentWeights,
    pub(super) vae: ComponentWeights,
}

impl Checkpoint {
    /// Reads and checks everything but the weights, of which it sees what the headers tell.
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
            return Err(fault(config::text_encoder::FILE, message));
        }
        checkpoint.check_tensors()?;
        Ok(checkpoint)
    }

    /// Checks that the files hold what the networks will read.
    fn check_tensors(&self) -> Result<()> {
        let config = &self.config.text_encoder;
        let prefix = text_encoder::prefix(|name| self.text_encoder.contains(name));
        let tensors = text_encoder::tensors(config, prefix);
        let belongs = |name: &str| text_encoder::belongs(prefix, name);
        self.text_encoder.check(&tensors, belongs)?;

        let config = &self.config.transformer;
        let belongs = |name: &str| transformer::belongs(config, name);
        (self.transformer).check(&transformer::tensors(config), belongs)?;

        self.vae
            .check(&vae::tensors(&self.config.vae), vae::belongs)
    }

    /// The same with LoRA adapters for the transformer, of which only the headers are read now.
    ///
    /// # Errors
    /// A file that cannot be read, or holds anything that is not for the transformer.
    pub fn with_loras(self, loras: &[Lora]) -> Result<Self> {
        let linears = transformer::linears(&self.config.transformer);
        let transformer = self.transformer.with_loras(loras, &linears)?;
        Ok(Self {
            transformer,
            ..self
        })
    }

    /// What a run holds on its device, by what holds it; with LoRAs, whether or not they are there yet.
    #[must_use]
    pub fn footprint(
        &self,
        sampling: &Sampling,
        (precisions, device): (Precisions, &Device),
        texts: &TextEncodings,
        has_loras: bool,
    ) -> Footprint {
        let at = (precisions, !device.is_cpu());
        let mut footprint = Footprint::new(&self.config, sampling, at, texts.tokens());
        // Of two parts that are joined, one is converted at a time.
        let part = footprint.text_passing / 2;
        footprint.text_passing +=
            (self.text_encoder).arrived_beside(part, (precisions.text_encoder, device), false);
        footprint.passing += (self.transformer).arrived_beside(
            footprint.passing,
            (precisions.dit, device),
            has_loras,
        );
        footprint
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

    /// The noise levels of a run.
    ///
    /// # Errors
    /// When the checkpoint's settings give none that decrease.
    pub fn schedule(&self, sampling: &Sampling) -> Result<FlowMatchSchedule> {
        let config = self.config.scheduler.clone();
        let config = match sampling.flow_shift {
            Some(shift) => config.with_flow_shift(shift),
            None => config,
        };
        let steps = sampling.num_inference_steps;
        FlowMatchSchedule::new(&config, sampling.image_seq_len(), steps)
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
    /// Loads the weights of the networks that `offload` lets stay, and of the text encoder, while
    /// the first picture is rehearsed.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape, or the sampling's schedule does not exist.
    pub fn load(
        checkpoint: Checkpoint,
        sampling: Sampling,
        offload: Offload,
        (precisions, device): (Precisions, &Device),
        rehearsal: Option<Rehearsal>,
        observer: &mut dyn Observer,
    ) -> Result<Self> {
        let schedule = checkpoint.schedule(&sampling)?;
        let timesteps_scaled = schedule.timesteps_scaled();
        let at = (precisions, device);
        let networks = rehearsal::beside(rehearsal, || {
            Networks::load(checkpoint, offload, at, timesteps_scaled, observer)
        })?;
        Ok(Self {
            networks,
            sampling,
            schedule,
            offload,
            device: device.clone(),
        })
    }
}
