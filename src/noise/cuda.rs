//! torch's CUDA generator: Philox4x32-10 and the order in which a GPU's threads write its values.
//!
//! The order depends on how many threads the GPU runs at once, so the values do too, for images
//! of more values than threads. Here it is the order of an H100 or H200.
//!
//! Source: Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3" (2011); torch 2.11
//! `ATen/native/cuda/DistributionTemplates.h`; cuRAND `curand_normal4`.

use std::f32::consts::{FRAC_1_PI, TAU};

use rayon::prelude::*;

/// Threads of a block of torch's distribution kernels.
const BLOCK_THREADS: usize = 256;
/// Blocks of that size that an H100 or H200 holds at once: 132 multiprocessors of 2048 threads.
const MAX_BLOCKS: usize = 132 * (2048 / BLOCK_THREADS);
/// Normal values that a thread makes of one Philox output.
const LANES: usize = 4;

/// 2^-32.
const UNIT: f32 = 1.0 / 4_294_967_296.0;

/// The first `n` values after `manual_seed(seed)`.
pub(super) fn randn(seed: u64, n: usize) -> Vec<f32> {
    let threads = BLOCK_THREADS * n.div_ceil(BLOCK_THREADS).min(MAX_BLOCKS);
    let mut values = vec![0.0; n];
    if n == 0 {
        return values;
    }
    // In its k-th call, thread i writes elements i + threads * (4k + lane).
    for (call, values) in (0..).zip(values.chunks_mut(LANES * threads)) {
        let normals: Vec<_> = (0..threads.min(values.len()) as u64)
            .into_par_iter()
            .map(|thread| normal4(philox(seed, call, thread)))
            .collect();
        for (lane, values) in values.chunks_mut(threads).enumerate() {
            for (value, normal) in values.iter_mut().zip(&normals) {
                *value = normal[lane];
            }
        }
    }
    values
}

/// Four random words of `thread`'s `call`-th call.
fn philox(seed: u64, call: u64, thread: u64) -> [u32; 4] {
    let [mut k0, mut k1] = split(seed);
    let [call_low, call_high] = split(call);
    let [thread_low, thread_high] = split(thread);
    let mut counter = [call_low, call_high, thread_low, thread_high];
    for _ in 0..10 {
        let [low_0, high_0] = split(0xd251_1f53 * u64::from(counter[0]));
        let [low_2, high_2] = split(0xcd9e_8d57 * u64::from(counter[2]));
        counter = [
            high_2 ^ counter[1] ^ k0,
            low_2,
            high_0 ^ counter[3] ^ k1,
            low_0,
        ];
        k0 = k0.wrapping_add(0x9e37_79b9);
        k1 = k1.wrapping_add(0xbb67_ae85);
    }
    counter
}

/// Low and high half.
#[expect(clippy::cast_possible_truncation, reason = "it takes the halves")]
fn split(x: u64) -> [u32; 2] {
    [x as u32, (x >> 32) as u32]
}

/// Four normal values of four words: Box and Muller, sine first.
fn normal4([w0, w1, w2, w3]: [u32; 4]) -> [f32; LANES] {
    let pair = |radius: u32, angle: u32| {
        #[expect(clippy::cast_precision_loss, reason = "cuRAND rounds here")]
        let (radius, angle) = (radius as f32, angle as f32);
        let u = radius.mul_add(UNIT, UNIT / 2.0);
        let v = angle.mul_add(UNIT * TAU, UNIT * TAU / 2.0);
        let s = (-2.0 * u.ln()).sqrt();
        let (sin, cos) = fast_sin_cos(v);
        (s * sin, s * cos)
    };
    let (x, y) = pair(w0, w1);
    let (z, w) = pair(w2, w3);
    [x, y, z, w]
}

/// `__sincosf`, nearly: the device's sine and cosine take turns, and the product that makes turns
/// of the angle is rounded toward zero. Without that the values are off by 2e-6, with it by 7e-7.
fn fast_sin_cos(x: f32) -> (f32, f32) {
    const FLOAT32_MANTISSA: u64 = u64::MAX << (f64::MANTISSA_DIGITS - f32::MANTISSA_DIGITS);
    let turns = f64::from(x) * f64::from(FRAC_1_PI / 2.0);
    let turns = f64::from_bits(turns.to_bits() & FLOAT32_MANTISSA);
    let (sin, cos) = (turns * std::f64::consts::TAU).sin_cos();
    #[expect(clippy::cast_possible_truncation, reason = "float32 is asked for")]
    let rounded = (sin as f32, cos as f32);
    rounded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_gives_the_published_words() {
        // Random123's known answers for philox4x32-10: all zeros, all ones.
        assert_eq!(
            philox(0, 0, 0),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox(u64::MAX, u64::MAX, u64::MAX),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
    }

    #[test]
    fn more_values_than_threads_leave_no_gap() {
        let threads = BLOCK_THREADS * MAX_BLOCKS;
        for n in [0, 1, 255, 257, threads, threads + 1, 4 * threads + 3] {
            let values = randn(1, n);
            assert_eq!(values.len(), n);
            assert!(values.iter().all(|&v| v != 0.0));
        }
    }
}
