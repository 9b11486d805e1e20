//! The memory plan: what is on the device when, worked out before anything is loaded.
//!
//! [`Footprint`] says how large the networks and their work are, [`Offload`] which networks leave the
//! device when they are not at work, [`Budget`] what there is. A [`MemoryPlan`] is the first choice that
//! fits, least slowing first; nothing fits: a refusal that shows the numbers. Of the transformer's blocks
//! no more stream than must: copies then hide behind the work of those that stay.
//!
//! A network that was sent away is read from its files again when it is needed: the page cache is the
//! host copy that others keep in memory of their own. Blocks that stream are the exception: they wait in
//! pinned memory, since every step reads them.

mod budget;
mod cgroup;
mod footprint;
mod host;
mod offload;
#[cfg(test)]
mod tests;

use std::fmt;

pub use self::budget::Budget;
pub use self::footprint::{Footprint, TextTokens, Workload};
pub use self::host::HostMemory;
pub use self::offload::{Offload, OffloadChoices, PerformanceMode};
use crate::error::{Error, Result};
use crate::human::size;
use crate::pipeline::Stage;

/// What a run will hold on its device.
#[derive(Debug, Clone, Copy)]
pub struct MemoryPlan {
    /// Who leaves when.
    pub offload: Offload,
    footprint: Footprint,
    budget: Budget,
}

impl MemoryPlan {
    /// Chooses what to offload.
    ///
    /// # Errors
    /// When no choice that `choices` allow fits into the budget, or one of them needs a GPU.
    pub fn new(footprint: Footprint, choices: OffloadChoices, budget: Budget) -> Result<Self> {
        if choices.dit_layerwise == Some(true) && !budget.on_gpu {
            return Err(Error::usage(
                "--dit-layerwise-offload: blocks stream to a GPU, and this run is on the CPU",
            ));
        }
        let of = |offload| Self {
            offload,
            footprint,
            budget,
        };
        let candidates = choices.candidates(budget.on_gpu, footprint.layers);
        let plans = || candidates.iter().copied().map(of);
        if let Some(plan) = plans().find(Self::fits) {
            return Ok(plan);
        }
        // The first that the device alone would do is what there is to tell, else the smallest.
        let smallest = of(candidates.last().copied().unwrap_or_default());
        Err(plans()
            .find(Self::fits_device)
            .unwrap_or(smallest)
            .refusal(choices.mode))
    }

    /// Whether a GPU, once all networks are on it, has room for `other` beside their weights.
    #[must_use]
    pub fn has_room_for(&self, other: &Footprint) -> bool {
        let weights: u64 = self.weights().iter().map(|(_, bytes)| bytes).sum();
        let needed = weights + self.footprint.passing + other.total();
        self.budget.on_gpu && self.offload == Offload::default() && needed <= self.budget.usable()
    }

    /// Bytes of weights each network keeps on the device while it is there.
    #[must_use]
    pub fn weights(&self) -> [(&'static str, u64); 3] {
        let Footprint {
            text_encoder, vae, ..
        } = self.footprint;
        [
            ("text_encoder", text_encoder),
            ("transformer", self.transformer()),
            ("vae", vae),
        ]
    }

    /// The most that is on the device at once in the stages that use it, in bytes.
    #[must_use]
    pub fn peaks(&self) -> [(Stage, u64); 3] {
        let Footprint {
            work,
            texts,
            text_passing,
            ..
        } = self.footprint;
        let [(_, text_encoder), (_, transformer), (_, vae)] = self.weights();
        let unless = |offloaded: bool, bytes: u64| if offloaded { 0 } else { bytes };
        let Offload { dit, .. } = self.offload;
        let resident_text = unless(self.offload.text_encoder, text_encoder);
        // The others are loaded with it, or when it has gone.
        let beside_text = if self.offload.text_encoder {
            0
        } else {
            unless(dit, transformer) + unless(self.offload.vae, vae)
        };
        let denoising = work.denoising.max(self.loading());
        let decoding = if self.offload.vae_tiling {
            work.decoding_in_bands
        } else {
            work.decoding
        };
        [
            (
                Stage::TextEncoding,
                // It is loaded before the others.
                text_encoder + text_passing.max(beside_text + work.text_encoding + texts),
            ),
            (
                Stage::Denoising,
                resident_text + unless(self.offload.vae, vae) + transformer + denoising + texts,
            ),
            (
                Stage::Decoding,
                resident_text + unless(dit, transformer) + vae + decoding + texts,
            ),
        ]
    }

    /// Host memory that streaming takes, in bytes.
    #[must_use]
    pub fn pinned(&self) -> u64 {
        match self.offload.dit_streamed_blocks {
            0 => 0,
            _ => self.footprint.blocks.saturating_sub(self.staying()),
        }
    }

    /// The error, with the plan in its hint where memory ran out in spite of it.
    #[must_use]
    pub fn explain(&self, error: Error) -> Error {
        match error {
            Error::OutOfMemory { message, hint } => Error::OutOfMemory {
                message,
                hint: format!("{hint}\n{self}"),
            },
            other => other,
        }
    }

    /// The plan as `--json` and `doctor` show it; sizes in bytes.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        let object = |pairs: Vec<(&str, u64)>| -> serde_json::Map<_, _> {
            (pairs.into_iter())
                .map(|(key, bytes)| (key.to_owned(), bytes.into()))
                .collect()
        };
        let peaks = self.peaks().map(|(stage, bytes)| (stage.name(), bytes));
        serde_json::json!({
            "usable": self.budget.usable(),
            "on_gpu": self.budget.on_gpu,
            "offload": self.offload,
            "weights": object(self.weights().to_vec()),
            "pinned": self.pinned(),
            "peaks": object(peaks.to_vec()),
        })
    }

    fn transformer(&self) -> u64 {
        let Footprint {
            blocks,
            block,
            rest,
            ..
        } = self.footprint;
        if self.offload.dit_streamed_blocks > 0 {
            // One at work, one on its way.
            self.staying() + 2 * block + rest
        } else {
            blocks + rest
        }
    }

    /// The blocks that stay where others stream, in bytes; the last one, which lacks the text's output,
    /// is not among them.
    fn staying(&self) -> u64 {
        let Footprint { layers, block, .. } = self.footprint;
        layers.saturating_sub(self.offload.dit_streamed_blocks) as u64 * block
    }

    /// What loading the transformer holds beyond what it keeps.
    fn loading(&self) -> u64 {
        let Footprint {
            block,
            blocks_in_flight,
            passing,
            ..
        } = self.footprint;
        if self.offload.dit_streamed_blocks > 0 {
            // Those on their way to the host; the two slots, which the transformer counts, are not
            // there yet.
            passing + blocks_in_flight.saturating_sub(2 * block)
        } else {
            passing
        }
    }

    /// The stage that needs most, and how much.
    fn worst(&self) -> (Stage, u64) {
        let [first, others @ ..] = self.peaks();
        let larger = |a: (Stage, u64), b: (Stage, u64)| if b.1 > a.1 { b } else { a };
        others.into_iter().fold(first, larger)
    }

    fn fits(&self) -> bool {
        self.fits_device() && self.pinned() <= self.budget.host_free
    }

    fn fits_device(&self) -> bool {
        self.worst().1 <= self.budget.usable()
    }

    fn refusal(&self, mode: PerformanceMode) -> Error {
        let (stage, peak) = self.worst();
        let message = if peak > self.budget.usable() {
            format!(
                "not enough memory: {} needs {}, {} has {} to use",
                stage.name(),
                size(peak),
                self.budget.place(),
                size(self.budget.usable()),
            )
        } else {
            format!(
                "not enough memory: --dit-layerwise-offload needs {} of pinned host memory, {} is available",
                size(self.pinned()),
                size(self.budget.host_free),
            )
        };
        let way_out = match mode {
            PerformanceMode::Speed => {
                "a smaller picture needs less, as does --performance-mode auto"
            }
            PerformanceMode::Auto | PerformanceMode::Memory => "a smaller picture needs less",
        };
        Error::Device {
            message,
            hint: Some(format!("{way_out}\n{self}")),
        }
    }
}

/// A table of a few lines.
impl fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Offload {
            text_encoder,
            dit,
            dit_streamed_blocks,
            vae,
            vae_tiling,
        } = self.offload;
        let stays = |offloaded| {
            let mode = if offloaded { "when needed" } else { "resident" };
            mode.to_owned()
        };
        let dit = if dit_streamed_blocks > 0 {
            let blocks = self.footprint.layers;
            format!("{dit_streamed_blocks} of {blocks} blocks streamed")
        } else {
            stays(dit)
        };
        let (usable, place) = (size(self.budget.usable()), self.budget.place());
        write!(f, "memory plan for {place}, {usable} to use")?;
        let modes = [stays(text_encoder), dit, stays(vae)];
        for ((name, bytes), mode) in self.weights().into_iter().zip(modes) {
            write!(f, "\n  {name:<18} {:>10}  {mode}", size(bytes))?;
        }
        if dit_streamed_blocks > 0 {
            write!(
                f,
                "\n  {:<18} {:>10}  on the host",
                "pinned blocks",
                size(self.pinned())
            )?;
        }
        for (stage, bytes) in self.peaks() {
            let bands = vae_tiling && stage == Stage::Decoding;
            let how = if bands {
                "at most, in bands"
            } else {
                "at most"
            };
            write!(f, "\n  {:<18} {:>10}  {how}", stage.name(), size(bytes))?;
        }
        Ok(())
    }
}
