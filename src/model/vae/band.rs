//! A run of rows of a picture, decoded without the rest of it.
//!
//! A convolution takes what is outside its input for zeros. That is right at the picture's own edges
//! and wrong where a band was cut out of it, one row further in with every convolution. A band
//! therefore begins with more rows than it is for, keeps count of those that have gone wrong, and
//! gives them up at every change of resolution.

use std::ops::Range;

use candle_core::{Result, Tensor, bail};

/// Rows on either side of a pixel that a 3x3 convolution reads.
pub(super) const CONV_REACH: usize = 1;

/// Rows of a picture at one of the decoder's resolutions.
#[derive(Debug)]
pub(super) struct Band {
    /// `[rows, w, c]`.
    x: Tensor,
    /// Where they begin in the picture.
    first: usize,
    /// Rows of the picture.
    height: usize,
    /// Rows at each cut edge that are wrong.
    spoilt: usize,
}

impl Band {
    /// Cuts `rows` of `picture` out, and `halo` more on either side where the picture has them.
    pub(super) fn cut(picture: &Tensor, rows: &Range<usize>, halo: usize) -> Result<Self> {
        let height = picture.dim(0)?;
        let first = rows.start.saturating_sub(halo);
        let end = (rows.end + halo).min(height);
        Ok(Self {
            x: picture.narrow(0, first, end - first)?,
            first,
            height,
            spoilt: 0,
        })
    }

    /// Applies layers that read `reach` rows on either side of a pixel.
    pub(super) fn apply(
        self,
        reach: usize,
        layers: impl FnOnce(Tensor) -> Result<Tensor>,
    ) -> Result<Self> {
        Ok(Self {
            x: layers(self.x)?,
            spoilt: self.spoilt + reach,
            ..self
        })
    }

    /// Applies a convolution of the picture with each pixel repeated 2x2.
    pub(super) fn double(self, layer: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Self> {
        let right = self.right_rows()?;
        Ok(Self {
            x: layer(&self.rows(right.clone())?)?,
            first: 2 * right.start,
            height: 2 * self.height,
            spoilt: CONV_REACH,
        })
    }

    /// Rows `rows` of the picture.
    pub(super) fn rows(&self, rows: Range<usize>) -> Result<Tensor> {
        let right = self.right_rows()?;
        if rows.start < right.start || rows.end > right.end {
            bail!("rows {rows:?} of a band that is right in {right:?} only")
        }
        self.x.narrow(0, rows.start - self.first, rows.len())
    }

    /// The rows that are as in the whole picture.
    fn right_rows(&self) -> Result<Range<usize>> {
        let mut right = self.first..self.first + self.x.dim(0)?;
        if right.start > 0 {
            right.start += self.spoilt;
        }
        if right.end < self.height {
            right.end = right.end.saturating_sub(self.spoilt);
        }
        Ok(right)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::model::testing::{RUNS, Run};
    use crate::model::vae::VaeDecoder;
    use crate::ops::testing::random;

    /// The decoders of both random checkpoints, of three and of two residual blocks a level.
    fn decoders() -> Result<[VaeDecoder; 2]> {
        let [a, b] = RUNS.map(|(name, checkpoint)| {
            Run::read(name, checkpoint)?.build("vae", |config, vb| VaeDecoder::new(&config.vae, vb))
        });
        Ok([a?, b?])
    }

    fn values(x: &Tensor) -> Result<Vec<f32>> {
        x.flatten_all()?.to_vec1()
    }

    /// Walked back by hand: convolutions of the picture's rows, then, level by level, half of the
    /// rows and one more, and the level's convolutions.
    #[test]
    fn the_halo_is_what_the_convolutions_reach() -> Result<()> {
        let [three, two] = decoders()?;
        assert_eq!(three.halo(), 13); // 1 + 6 = 7, 4 + 6 = 10, 6 + 6 = 12, 7 + 6
        assert_eq!(two.halo(), 9); // 1 + 4 = 5, 3 + 4 = 7, 4 + 4 = 8, 5 + 4
        Ok(())
    }

    #[test]
    fn a_row_matters_as_far_as_the_halo_reaches_and_no_farther() -> Result<()> {
        let [_, vae] = decoders()?;
        let (halo, row) = (vae.halo(), 12);
        let channels = vae.conv_in.bias.dim(0)?;
        let x = random((row + 1, 3, channels), 1)?;
        let lowest_rows = |x: &Tensor| {
            let picture = vae.decode_rows(x, 0..row + 1)?;
            values(&picture.narrow(0, 8 * row, 8)?)
        };
        let with_nines_in = |row: usize| {
            let nines = Tensor::full(9f32, (1, 3, channels), &Device::Cpu)?;
            lowest_rows(&x.slice_assign(&[row..row + 1, 0..3, 0..channels], &nines)?)
        };
        let intact = lowest_rows(&x)?;
        assert!(with_nines_in(row - halo - 1)? == intact);
        assert!(with_nines_in(row - halo)? != intact);
        Ok(())
    }

    #[test]
    fn bands_together_are_the_whole_picture_bit_for_bit() -> Result<()> {
        for vae in decoders()? {
            // A short last band, one band, more than the picture has, odd and prime heights.
            for (h, w, band_rows) in [(8, 6, 3), (4, 5, 4), (3, 2, 32), (41, 3, 8), (37, 7, 1)] {
                let latents = random((h, w, 16), 1)?;
                let whole: Vec<_> = vae.decode(&latents, usize::MAX)?.collect::<Result<_>>()?;
                let bands: Vec<_> = vae.decode(&latents, band_rows)?.collect::<Result<_>>()?;
                assert_eq!((whole.len(), bands.len()), (1, h.div_ceil(band_rows)));
                assert_eq!(whole[0].dims(), [8 * h, 8 * w, 3]);
                let bands = Tensor::cat(&bands, 0)?;
                assert!(
                    values(&bands)? == values(&whole[0])?,
                    "{h}x{w} in bands of {band_rows}"
                );
            }
        }
        Ok(())
    }

    #[test]
    fn rows_that_went_wrong_are_not_given_out() -> Result<()> {
        let picture = random((9, 1, 1), 1)?;
        let band = Band::cut(&picture, &(4..5), 2)?.apply(2, Ok)?;
        assert_eq!(values(&band.rows(4..5)?)?, values(&picture.get(4)?)?);
        for rows in [3..5, 4..6] {
            let error = band.rows(rows).expect_err("spoilt rows").to_string();
            assert!(error.contains("right in 4..5 only"), "{error}");
        }
        // The picture's own edges are right.
        let band = Band::cut(&picture, &(0..9), 2)?.apply(2, Ok)?;
        assert_eq!(band.rows(0..9)?.dims(), [9, 1, 1]);
        Ok(())
    }
}
