//! The noise levels of the loop.

use crate::error::Result;
use crate::model::transformer::Transformer;
use crate::scheduler::FlowMatchSchedule;

/// The schedule's sigmas, one more than steps.
///
/// The schedule itself depends on size and steps alone and was needed to load the transformer.
pub(super) fn check<'a>(
    schedule: &'a FlowMatchSchedule,
    transformer: &Transformer,
) -> Result<&'a [f32]> {
    if transformer.num_inference_steps() != schedule.num_steps() {
        let message = "the transformer was loaded for another schedule";
        return Err(candle_core::Error::Msg(message.to_owned()).into());
    }
    Ok(&schedule.sigmas)
}
