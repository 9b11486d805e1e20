//! The three networks of Qwen-Image, written once for every device on the operations of [`crate::ops`].

#[cfg(test)]
mod testing;
pub mod text_encoder;
pub mod transformer;
pub mod vae;

use candle_core::Result;
use rayon::prelude::*;

/// Layers that are loaded at the same time: while one is assembled the others read. Each holds
/// weights that it will not keep, so they are few.
pub(crate) const LOADED_AT_ONCE: usize = 4;

/// Loads the layers of a network.
///
/// # Errors
/// Those of `load`.
fn load_layers<T: Send>(
    count: usize,
    load: impl Fn(usize) -> Result<T> + Send + Sync,
) -> Result<Vec<T>> {
    (0..count)
        .into_par_iter()
        .with_min_len(count.div_ceil(LOADED_AT_ONCE))
        .map(load)
        .collect()
}
