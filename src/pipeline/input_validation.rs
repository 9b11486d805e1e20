//! Checks of a request against the loaded model.

use super::Sampling;
use crate::error::{Error, Result};

/// Rows of the reference's rotary tables; beyond them positions do not exist.
const MAX_POSITION: usize = 4096;

/// Refuses what the model cannot do at this size.
pub(super) fn check(sampling: &Sampling) -> Result<()> {
    let (rows, columns) = sampling.grid();
    let last_text = rows.max(columns) / 2 + sampling.max_sequence_length;
    if last_text > MAX_POSITION {
        return Err(Error::usage(format!(
            "--width {} --height {} leave no room for {} prompt tokens within {MAX_POSITION} positions",
            sampling.width, sampling.height, sampling.max_sequence_length
        )));
    }
    Ok(())
}
