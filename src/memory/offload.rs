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
    /// So many of the transformer's blocks stream through the device, one ahead of use.
    pub dit_streamed_blocks: usize,
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
    /// What the mode would do with a transformer of `blocks`, the fastest first, with the user's own
    /// choices in place.
    pub(super) fn candidates(self, on_gpu: bool, blocks: usize) -> Vec<Offload> {
        let resident = Offload::default();
        let without_text = Offload {
            text_encoder: true,
            ..resident
        };
        let in_bands = Offload {
            vae_tiling: true,
            ..without_text
        };
        // On the CPU blocks are where they would wait.
        let can_stream = on_gpu && self.dit != Some(true);
        let most = if can_stream { blocks } else { 0 };
        let streamed = |offload, dit_streamed_blocks| Offload {
            dit_streamed_blocks,
            ..offload
        };
        let least = |offload| Offload {
            dit: !on_gpu || self.dit_layerwise == Some(false),
            vae: true,
            ..streamed(offload, most)
        };
        let memory = [least(without_text), least(in_bands)];
        let modes = match self.mode {
            PerformanceMode::Speed => vec![resident],
            PerformanceMode::Auto => {
                let mut modes = vec![resident, without_text, in_bands];
                for offload in [without_text, in_bands] {
                    modes.extend((1..=most).map(|blocks| streamed(offload, blocks)));
                }
                modes.extend(memory);
                modes
            }
            PerformanceMode::Memory => memory.to_vec(),
        };
        let apply = |mode| self.apply(mode, blocks);
        modes.into_iter().map(apply).collect()
    }

    fn apply(self, mode: Offload, blocks: usize) -> Offload {
        Offload {
            text_encoder: self.text_encoder.unwrap_or(mode.text_encoder),
            dit: self.dit.unwrap_or(mode.dit),
            dit_streamed_blocks: match self.dit_layerwise {
                Some(true) => blocks,
                Some(false) => 0,
                None => mode.dit_streamed_blocks,
            },
            vae: self.vae.unwrap_or(mode.vae),
            vae_tiling: self.vae_tiling.unwrap_or(mode.vae_tiling),
        }
    }
}
