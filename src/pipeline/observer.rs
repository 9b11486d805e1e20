//! What the pipeline tells those who watch it: the only file both sides know.
//!
//! The pipeline calls an [`Observer`] and does not know whether anyone records, draws a bar,
//! synchronises the device or writes a file.

use candle_core::Tensor;

use crate::error::Result;

/// A stage of one request, in the order they run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Checks of the request, which is done before anything is loaded; reports have a line for it.
    InputValidation,
    /// Prompt to embeddings.
    TextEncoding,
    /// Initial noise, packed.
    LatentPreparation,
    /// Sigmas and timesteps.
    TimestepPreparation,
    /// The denoising loop.
    Denoising,
    /// VAE decode to pixels.
    Decoding,
}

impl Stage {
    /// All stages, in order.
    pub const ALL: [Self; 6] = [
        Self::InputValidation,
        Self::TextEncoding,
        Self::LatentPreparation,
        Self::TimestepPreparation,
        Self::Denoising,
        Self::Decoding,
    ];

    /// The name upstream's logs and reports use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InputValidation => "InputValidationStage",
            Self::TextEncoding => "TextEncodingStage",
            Self::LatentPreparation => "LatentPreparationStage",
            Self::TimestepPreparation => "TimestepPreparationStage",
            Self::Denoising => "DenoisingStage",
            Self::Decoding => "DecodingStage",
        }
    }
}

/// Watches a run. Every method has a default that does nothing; an error stops the run.
#[expect(clippy::missing_errors_doc, reason = "said above, for all")]
pub trait Observer {
    /// Whether each operator is to be seen where it is issued: steps of a small picture are otherwise issued
    /// as a whole on a GPU.
    fn wants_operators(&self) -> bool {
        false
    }

    /// A component's weights are about to be loaded (`transformer`).
    fn load_begin(&mut self, _component: &'static str) -> Result<()> {
        Ok(())
    }

    /// A component is ready; `bytes` were read for it.
    fn load_end(&mut self, _component: &'static str, _bytes: u64) -> Result<()> {
        Ok(())
    }

    /// A request starts: one picture of one prompt.
    fn request_begin(&mut self) -> Result<()> {
        Ok(())
    }

    /// A request's picture is decoded.
    fn request_end(&mut self) -> Result<()> {
        Ok(())
    }

    /// A stage starts.
    fn stage_begin(&mut self, _stage: Stage) -> Result<()> {
        Ok(())
    }

    /// A stage is over, on the device too.
    fn stage_end(&mut self, _stage: Stage) -> Result<()> {
        Ok(())
    }

    /// Denoising step `step` (from 0) starts at noise level `sigma`.
    fn step_begin(&mut self, _step: usize, _sigma: f32) -> Result<()> {
        Ok(())
    }

    /// A denoising step has issued all its work; `latents` is its result, packed `[s_img, 4 z]`.
    fn step_end(&mut self, _step: usize, _latents: &Tensor) -> Result<()> {
        Ok(())
    }
}

/// Nobody watches.
impl Observer for () {}

/// Several observers: the first is told first that something begins, and last that it has ended.
impl Observer for Vec<&mut dyn Observer> {
    fn wants_operators(&self) -> bool {
        self.iter().any(|o| o.wants_operators())
    }

    fn load_begin(&mut self, component: &'static str) -> Result<()> {
        self.iter_mut().try_for_each(|o| o.load_begin(component))
    }

    fn load_end(&mut self, component: &'static str, bytes: u64) -> Result<()> {
        self.iter_mut()
            .rev()
            .try_for_each(|o| o.load_end(component, bytes))
    }

    fn request_begin(&mut self) -> Result<()> {
        self.iter_mut().try_for_each(|o| o.request_begin())
    }

    fn request_end(&mut self) -> Result<()> {
        self.iter_mut().rev().try_for_each(|o| o.request_end())
    }

    fn stage_begin(&mut self, stage: Stage) -> Result<()> {
        self.iter_mut().try_for_each(|o| o.stage_begin(stage))
    }

    fn stage_end(&mut self, stage: Stage) -> Result<()> {
        self.iter_mut().rev().try_for_each(|o| o.stage_end(stage))
    }

    fn step_begin(&mut self, step: usize, sigma: f32) -> Result<()> {
        self.iter_mut().try_for_each(|o| o.step_begin(step, sigma))
    }

    fn step_end(&mut self, step: usize, latents: &Tensor) -> Result<()> {
        self.iter_mut()
            .rev()
            .try_for_each(|o| o.step_end(step, latents))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct OfOperators;

    impl Observer for OfOperators {
        fn wants_operators(&self) -> bool {
            true
        }
    }

    #[test]
    fn operators_are_wanted_when_one_observer_wants_them() {
        let (mut nobody, mut one) = ((), OfOperators);
        assert!(!vec![&mut nobody as &mut dyn Observer].wants_operators());
        assert!(vec![&mut nobody as &mut dyn Observer, &mut one].wants_operators());
    }
}
