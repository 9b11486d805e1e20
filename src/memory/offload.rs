//! Who leaves the device when, and who decides that.

use serde::Serialize;

/// Which networks leave the device while they are not at work (upstream's flags).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch")]
pub struct Offload {
    /// The text encoder goes once all texts are encoded, before the others come.
    pub text_encoder: bool,
    /// The transformer comes for the denoising of each picture and goes before it is decoded.
    pub dit: bool,
    /// The transformer's blocks stream through the device, one ahead of use.
    pub dit_layerwise: bool,
    /// The VAE comes to decode.
    pub vae: bool,
    /// The VAE decodes in bands of rows.
    pub vae_tiling: bool,
}

/// What the user said about each of [`Offload`]'s switches; the rest is the plan's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the flags of the same names")]
pub struct OffloadChoices {
    pub mode: PerformanceMode,
    pub text_encoder: Option<bool>,
    pub dit: Option<bool>,
    pub dit_layerwise: Option<bool>,
    pub vae: Option<bool>,
    pub vae_tiling: Option<bool>,
}

/// `--performance-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PerformanceMode {
    /// The fastest that fits.
    #[default]
    Auto,
    /// Everything stays.
    Speed,
    /// No network stays longer than it is at work.
    Memory,
}

impl OffloadChoices {
    /// What the mode would do, the fastest and then others, with the user's own choices in place.
    pub(super) fn candidates(self, on_gpu: bool) -> (Offload, Vec<Offload>) {
        let resident = Offload::default();
        let without_text = Offload {
            text_encoder: true,
            ..resident
        };
        let in_bands = Offload {
            vae_tiling: true,
            ..without_text
        };
        let streamed = |offload| Offload {
            // On the CPU blocks are where they would wait.
            dit_layerwise: on_gpu && self.dit != Some(true),
            ..offload
        };
        let (fastest, slower) = match self.mode {
            PerformanceMode::Speed => (resident, vec![]),
            PerformanceMode::Auto => {
                let slower = [
                    without_text,
                    in_bands,
                    streamed(without_text),
                    streamed(in_bands),
                ];
                (resident, slower.to_vec())
            }
            PerformanceMode::Memory => {
                let least = |offload| Offload {
                    vae: true,
                    ..streamed(offload)
                };
                (least(without_text), vec![least(in_bands)])
            }
        };
        let slower = slower.into_iter().map(|offload| self.apply(offload));
        (self.apply(fastest), slower.collect())
    }

    fn apply(self, mode: Offload) -> Offload {
        Offload {
            text_encoder: self.text_encoder.unwrap_or(mode.text_encoder),
            dit: self.dit.unwrap_or(mode.dit),
            dit_layerwise: self.dit_layerwise.unwrap_or(mode.dit_layerwise),
            vae: self.vae.unwrap_or(mode.vae),
            vae_tiling: self.vae_tiling.unwrap_or(mode.vae_tiling),
        }
    }
}
