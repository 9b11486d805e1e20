//! What a picture is made with.

use candle_core::DType;

use crate::noise::GeneratorDevice;

/// What all pictures of a run share.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Pixels, a multiple of 16.
    pub width: usize,
    /// Pixels, a multiple of 16.
    pub height: usize,
    /// Denoising steps.
    pub num_inference_steps: usize,
    /// Shift of the noise schedule in place of the checkpoint's.
    pub flow_shift: Option<f64>,
    /// Classic guidance; at 1 and below only the conditional branch runs.
    pub true_cfg_scale: f32,
    /// What the unconditional branch reads.
    pub negative_prompt: String,
    /// Whose noise a seed stands for.
    pub generator_device: GeneratorDevice,
    /// Prompt tokens kept after the template's prefix.
    pub max_sequence_length: usize,
}

/// Upstream's defaults.
impl Default for Sampling {
    fn default() -> Self {
        Self {
            width: 1280,
            height: 720,
            num_inference_steps: 50,
            flow_shift: None,
            true_cfg_scale: 4.0,
            negative_prompt: " ".to_owned(),
            generator_device: GeneratorDevice::Cuda,
            max_sequence_length: 1024,
        }
    }
}

impl Sampling {
    /// Whether the unconditional branch runs.
    #[must_use]
    pub fn uses_guidance(&self) -> bool {
        self.true_cfg_scale > 1.0
    }

    /// Rows and columns of image tokens: one for each 16x16 pixels.
    #[must_use]
    pub fn grid(&self) -> (usize, usize) {
        (self.height / 16, self.width / 16)
    }

    /// Image tokens.
    #[must_use]
    pub fn image_seq_len(&self) -> usize {
        let (rows, columns) = self.grid();
        rows * columns
    }
}

/// One picture to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageRequest {
    /// What to draw.
    pub prompt: String,
    /// Seed of its noise.
    pub seed: u64,
}

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
