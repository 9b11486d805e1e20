//! Latents in their two arrangements: packed tokens for the transformer, pixels for the VAE.

use candle_core::{Result, Tensor};

/// Packs noise in memory order `[c, h8, w8]` to tokens of 2x2 patches.
///
/// # Shapes
/// Result: `[(h8/2) · (w8/2), 4c]`, token `(i, j)` row-major, channel `4c + 2 di + dj`.
///
/// Source: diffusers `pipeline_qwenimage.py`, `_pack_latents`.
pub(super) fn pack_latents(latents: &Tensor) -> Result<Tensor> {
    let (c, h8, w8) = latents.dims3()?;
    latents
        .reshape((c, h8 / 2, 2, w8 / 2, 2))? // [c, i, di, j, dj]
        .permute((1, 3, 0, 2, 4))? // [i, j, c, di, dj]
        .reshape((h8 / 2 * (w8 / 2), 4 * c))
}

/// Unpacks tokens to pixels, channels last.
///
/// # Shapes
/// `packed`: `[rows · columns, 4c]`; result: `[2 · rows, 2 · columns, c]`.
pub(super) fn unpack_latents(packed: &Tensor, (rows, columns): (usize, usize)) -> Result<Tensor> {
    let c = packed.dim(1)? / 4;
    packed
        .reshape((rows, columns, c, 2, 2))? // [i, j, c, di, dj]
        .permute((0, 3, 1, 4, 2))? // [i, di, j, dj, c]
        .reshape((2 * rows, 2 * columns, c))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    #[test]
    fn a_token_holds_a_patch_channel_by_channel() -> Result<()> {
        // Element (c, y, x) is 100 c + 10 y + x.
        let values: Vec<f32> = (0..2u16 * 4 * 6)
            .map(|i| f32::from(100 * (i / 24) + 10 * (i % 24 / 6) + i % 6))
            .collect();
        let latents = Tensor::from_vec(values, (2, 4, 6), &Device::Cpu)?;
        let packed = pack_latents(&latents)?;
        assert_eq!(packed.dims(), [6, 8]);
        let token: Vec<f32> = packed.get(4)?.to_vec1()?;
        assert_eq!(token, [22., 23., 32., 33., 122., 123., 132., 133.]);
        let unpacked = unpack_latents(&packed, (2, 3))?;
        let channels_first: Vec<f32> = unpacked.permute((2, 0, 1))?.flatten_all()?.to_vec1()?;
        assert_eq!(channels_first, latents.flatten_all()?.to_vec1::<f32>()?);
        Ok(())
    }
}
