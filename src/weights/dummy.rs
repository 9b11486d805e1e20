//! `--load-format dummy`: seeded random weights in place of a download.
//!
//! The values keep a deep network's activations finite; the picture is noise.

use candle_core::{DType, Device, Result, Shape, Tensor};

use crate::ops::uniform;

/// Spread of biases, and of norm weights around 1.
const SMALL: f32 = 0.02;

/// A tensor whose values depend on its component, name and shape only.
pub(super) fn tensor(
    component: &str,
    name: &str,
    shape: &Shape,
    dtype: DType,
    device: &Device,
) -> Result<Tensor> {
    let seed = seed(component, name);
    let (mean, std) = distribution(name, shape.dims());
    // A uniform distribution of width w has standard deviation w / sqrt(12).
    let width = std * 12_f32.sqrt();
    uniform(seed, (mean, width), shape, dtype, device)
}

/// Mean and standard deviation by the role of the tensor.
fn distribution(name: &str, dims: &[usize]) -> (f32, f32) {
    let fan_in: usize = dims.iter().skip(1).product();
    if name.ends_with("bias") {
        (0.0, SMALL)
    } else if fan_in == 1 {
        // A norm's weight: `[c]`, in the VAE `[c, 1, 1]`.
        (1.0, SMALL)
    } else {
        #[expect(clippy::cast_precision_loss, reason = "a scale, not a count")]
        let fan_in = fan_in as f32;
        (0.0, fan_in.sqrt().recip())
    }
}

/// FNV-1a of `component/name`.
fn seed(component: &str, name: &str) -> u64 {
    [component, "/", name]
        .iter()
        .flat_map(|part| part.bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn moments(values: &[f32]) -> (f32, f32) {
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let n = values.len() as f32;
        let mean = values.iter().sum::<f32>() / n;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / n;
        (mean, variance.sqrt())
    }

    fn draw(name: &str, dims: &[usize]) -> Vec<f32> {
        tensor("vae", name, &Shape::from(dims), DType::F32, &Device::Cpu)
            .unwrap()
            .flatten_all()
            .unwrap()
            .to_vec1()
            .unwrap()
    }

    #[test]
    fn values_follow_the_role() {
        for (name, dims, mean, std) in [
            ("conv.weight", vec![64, 16, 5, 5], 0.0, 0.05),
            ("conv.bias", vec![4096], 0.0, SMALL),
            ("norm.weight", vec![4096], 1.0, SMALL),
            ("norm.gamma", vec![4096, 1, 1], 1.0, SMALL),
        ] {
            let (m, s) = moments(&draw(name, &dims));
            assert!((m - mean).abs() < 0.1 * std, "{name}: mean {m}");
            assert!((s - std).abs() < 0.05 * std, "{name}: std {s}");
        }
    }

    #[test]
    fn values_depend_on_the_name_only() {
        assert_eq!(draw("a.weight", &[8, 8]), draw("a.weight", &[8, 8]));
        assert_ne!(draw("a.weight", &[8, 8]), draw("b.weight", &[8, 8]));
        assert_ne!(seed("vae", "x"), seed("transformer", "x"));
    }
}
