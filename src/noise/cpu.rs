//! torch's CPU generator: how normal values are made from Mersenne Twister words.
//!
//! Source: torch 2.15 `ATen/native/cpu/DistributionTemplates.h` (`normal_fill_AVX2`, `normal_fill`)
//! and `ATen/core/DistributionsHelper.h` (`normal_distribution`).

use std::f32::consts::TAU as TAU_F32;
use std::f64::consts::TAU;

use super::cephes;
use super::mt19937::Mt19937;

/// Values made together: eight radii and eight angles.
const BLOCK: usize = 16;

/// `torch.Generator("cpu")`.
#[derive(Debug, Clone)]
pub struct CpuGenerator {
    words: Mt19937,
    /// The second value of the last pair of a short call, which the next short call starts with.
    spare: Option<f64>,
}

impl CpuGenerator {
    /// The generator after `manual_seed(seed)`, which looks at the low 32 bits only.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "as torch does")]
        let words = Mt19937::new(seed as u32);
        Self { words, spare: None }
    }

    /// The next `n` values, as one call of `torch.randn(n)` draws them.
    ///
    /// Two calls differ from one call of the same total: torch fills blocks of 16 and, when `n` is
    /// no multiple of 16, draws the last 16 values anew.
    pub fn randn(&mut self, n: usize) -> Vec<f32> {
        if n < BLOCK {
            return (0..n).map(|_| self.next_scalar()).collect();
        }
        let mut values: Vec<f32> = (0..n).map(|_| self.next_uniform()).collect();
        let (blocks, rest) = values.as_chunks_mut();
        blocks.iter_mut().for_each(box_muller);
        if !rest.is_empty()
            && let Some(last) = values.last_chunk_mut()
        {
            last.fill_with(|| self.next_uniform());
            box_muller(last);
        }
        values
    }

    /// A multiple of 2^-24 in `[0, 1)`.
    fn next_uniform(&mut self) -> f32 {
        #[expect(clippy::cast_precision_loss, reason = "24 bits fit a float32")]
        let word = (self.words.next_u32() & 0x00ff_ffff) as f32;
        word / 16_777_216.0
    }

    /// A multiple of 2^-53 in `[0, 1)`.
    fn next_uniform_f64(&mut self) -> f64 {
        let high = u64::from(self.words.next_u32());
        let low = u64::from(self.words.next_u32());
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit a float64")]
        let word = ((high << 32 | low) & ((1 << 53) - 1)) as f64;
        word / 9_007_199_254_740_992.0
    }

    /// The next value of a call for fewer than 16, made in float64.
    fn next_scalar(&mut self) -> f32 {
        let value = self.spare.take().unwrap_or_else(|| {
            let angle = TAU * self.next_uniform_f64();
            let radius = (-2.0 * (-self.next_uniform_f64()).ln_1p()).sqrt();
            self.spare = Some(radius * angle.sin());
            radius * angle.cos()
        });
        #[expect(clippy::cast_possible_truncation, reason = "a float32 is asked for")]
        let value = value as f32;
        value
    }
}

/// Turns 16 uniform values into normal ones: the radii are in the first half, the angles in the
/// second.
fn box_muller(block: &mut [f32; BLOCK]) {
    let (first, second) = block.split_at_mut(BLOCK / 2);
    for (u, v) in first.iter_mut().zip(second) {
        // 1 - u lies in (0, 1], where the logarithm is finite.
        let radius = (-2.0 * cephes::ln(1.0 - *u)).sqrt();
        let (sin, cos) = cephes::sin_cos(TAU_F32 * *v);
        *u = radius * cos;
        *v = radius * sin;
    }
}
