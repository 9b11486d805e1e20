//! Products with a weight matrix: `y = x Wᵀ + b`, and the same followed by GELU.

use candle_core::{Device, Result, Tensor};
use candle_nn::VarBuilder;

#[cfg(feature = "cuda")]
use super::cuda::{
    self,
    blas::{Epilogue, Operand, Product},
};
use super::host::{self, Matrix, host_f32, par_rows, to_f32};
use super::span::op_span;
use super::{cat, check};

/// A weight `[n, k]` with its bias `[n]`, where it has one.
#[derive(Debug, Clone)]
pub struct Linear {
    pub(crate) weight: Tensor,
    pub(crate) bias: Option<Tensor>,
}

impl Linear {
    /// Wraps loaded tensors.
    #[must_use]
    pub fn from_tensors(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias }
    }

    /// Reads `weight` and `bias` of a layer from `k` to `n` channels.
    ///
    /// # Errors
    /// When a tensor is missing or has another shape.
    pub fn new(k: usize, n: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self::from_tensors(
            vb.get((n, k), "weight")?,
            Some(vb.get(n, "bias")?),
        ))
    }

    /// Reads a layer without bias.
    ///
    /// # Errors
    /// As [`Linear::new`].
    pub fn no_bias(k: usize, n: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self::from_tensors(vb.get((n, k), "weight")?, None))
    }

    /// Fails unless it takes `k` channels.
    pub(super) fn check(&self, k: usize) -> Result<()> {
        let n = self.weight.dim(0)?;
        check::dims("linear", "weight", &self.weight, &[n, k])?;
        match &self.bias {
            Some(bias) => check::dims("linear", "bias", bias, &[n]),
            None => Ok(()),
        }
    }

    /// Stacks layers of one input into one product; their outputs lie side by side.
    ///
    /// # Errors
    /// When widths differ, or some layers have a bias and some have none.
    pub fn stack(layers: &[Self]) -> Result<Self> {
        let weights: Vec<_> = layers.iter().map(|l| &l.weight).collect();
        let biases: Vec<_> = layers.iter().filter_map(|l| l.bias.as_ref()).collect();
        if !biases.is_empty() && biases.len() != layers.len() {
            candle_core::bail!("cannot stack layers with and without bias")
        }
        Ok(Self {
            weight: cat(&weights)?,
            bias: (!biases.is_empty()).then(|| cat(&biases)).transpose()?,
        })
    }
}

/// What follows the bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    Identity,
    GeluTanh,
}

/// `x Wᵀ + b`.
///
/// # Shapes
/// `x`: `[m, k]`; result: `[m, n]`, in `x`'s dtype.
///
/// # Errors
/// When shapes do not agree.
pub fn linear(x: &Tensor, layer: &Linear) -> Result<Tensor> {
    let _span = op_span!("qwen::linear", x, layer.weight);
    apply(x, layer, Activation::Identity)
}

/// `gelu(x Wᵀ + b)`, GELU in its tanh form.
///
/// # Shapes
/// As [`linear`].
///
/// # Errors
/// As [`linear`].
pub fn linear_gelu(x: &Tensor, layer: &Linear) -> Result<Tensor> {
    let _span = op_span!("qwen::linear_gelu", x, layer.weight);
    apply(x, layer, Activation::GeluTanh)
}

fn apply(x: &Tensor, layer: &Linear, activation: Activation) -> Result<Tensor> {
    let ((m, k), n) = (x.dims2()?, layer.weight.dim(0)?);
    layer.check(k)?;
    match x.device() {
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => {
            let out = cuda::empty((m, n), x.dtype(), x.device())?;
            fused_into(cuda::address(&out, x.dtype())?, x, layer, activation)?;
            Ok(out)
        }
        _ => plain(x, layer, activation, (m, n, k)),
    }
}

/// The product with its epilogue, written to rows of `n` elements from address `out`.
#[cfg(feature = "cuda")]
pub(super) fn fused_into(
    out: u64,
    x: &Tensor,
    layer: &Linear,
    activation: Activation,
) -> Result<()> {
    let (m, k) = x.dims2()?;
    let n = layer.weight.dim(0)?;
    let (x, dtype) = (cuda::contiguous(x)?, x.dtype());
    let context = cuda::context(x.device())?;
    let product = Product {
        m,
        n,
        k,
        a: Operand::new(cuda::address(&x, dtype)?, k),
        b: Operand::new(cuda::address(&layer.weight, dtype)?, k),
        b_is_weight: true,
        out: Operand::new(out, n),
        batch: 1,
        dtype,
        out_dtype: dtype,
        epilogue: match (activation, &layer.bias) {
            (Activation::Identity, None) => Epilogue::None,
            (Activation::Identity, Some(_)) => Epilogue::Bias,
            (Activation::GeluTanh, Some(_)) => Epilogue::BiasGelu,
            (Activation::GeluTanh, None) => {
                candle_core::bail!("linear_gelu: a layer without a bias on the GPU")
            }
        },
        bias: match &layer.bias {
            Some(bias) => cuda::address(bias, dtype)?,
            None => 0,
        },
    };
    context.product(&product)
}

/// Rows below this are left to the product's own split of columns over threads.
const MIN_ROWS_TO_SPLIT: usize = 96;

fn plain(
    x: &Tensor,
    layer: &Linear,
    activation: Activation,
    (m, n, k): (usize, usize, usize),
) -> Result<Tensor> {
    let (input, weight) = (to_f32(x)?, to_f32(&layer.weight)?);
    let bias = layer.bias.as_ref().map(to_f32).transpose()?;
    let bias = bias.as_ref().map(host_f32).transpose()?;
    let (input, weight) = (host_f32(&input)?, host_f32(&weight)?);

    let rows = |first: usize, out: &mut [f32], parallel: bool| {
        let a = Matrix::rows(&input[first * k..], k);
        let shape = (out.len() / n, n, k);
        host::matmul(out, n, shape, a, Matrix::rows(&weight, k).t(), parallel);
        for row in out.chunks_exact_mut(n) {
            if let Some(bias) = &bias {
                row.iter_mut().zip(&**bias).for_each(|(y, bias)| *y += bias);
            }
            if activation == Activation::GeluTanh {
                for y in row {
                    *y = host::gelu_tanh(*y);
                }
            }
        }
    };
    let mut out = vec![0f32; m * n];
    if m < MIN_ROWS_TO_SPLIT {
        rows(0, &mut out, true);
    } else {
        par_rows(&mut out, n, |first, out| rows(first, out, false));
    }
    Tensor::from_vec(out, (m, n), &Device::Cpu)?.to_dtype(x.dtype())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, random, targets};

    #[test]
    fn any_number_of_threads_gives_the_same_bits() -> Result<()> {
        for (m, n, k) in [(517, 3, 24), (1024, 16, 16), (97, 640, 160), (131, 64, 96)] {
            let (x, weight) = (random((m, k), 1)?, random((n, k), 2)?);
            let layer = Linear::from_tensors(weight, Some(random(n, 3)?));
            let on = |threads| -> Result<Vec<f32>> {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
                let pool = pool.build().map_err(candle_core::Error::wrap)?;
                pool.install(|| linear(&x, &layer))?
                    .flatten_all()?
                    .to_vec1()
            };
            let alone = on(1)?;
            for threads in [2, 3, 48, 64] {
                assert!(on(threads)? == alone, "{m}x{n}x{k} on {threads} threads");
            }
        }
        Ok(())
    }

    #[test]
    fn agrees_with_matmul_on_odd_sizes_and_offset_views() -> Result<()> {
        for target in targets() {
            for (m, n, k) in [
                (1, 1, 1),
                (5, 7, 3),
                (131, 33, 65),
                (200, 160, 96),
                (37, 512, 768),
            ] {
                let x = target.random((m + 2, k), 1)?.narrow(0, 2, m)?;
                let (weight, bias) = (target.random((n, k), 2)?, target.random(n, 3)?);
                let layer = Linear::from_tensors(weight, Some(bias));
                let expected = target
                    .host(&x)?
                    .matmul(&target.host(&layer.weight)?.t()?)?
                    .broadcast_add(&target.host(layer.bias.as_ref().expect("set above"))?)?;
                let tolerance = target.tolerance(1e-5);
                assert_close(&linear(&x, &layer)?, &expected, tolerance)?;
                assert_close(&linear_gelu(&x, &layer)?, &expected.gelu()?, tolerance)?;
            }
        }
        Ok(())
    }

    #[test]
    fn stacked_layers_lie_side_by_side() -> Result<()> {
        let x = random((4, 6), 1)?;
        let a = Linear::from_tensors(random((3, 6), 2)?, Some(random(3, 3)?));
        let b = Linear::from_tensors(random((5, 6), 4)?, Some(random(5, 5)?));
        let both = linear(&x, &Linear::stack(&[a.clone(), b.clone()])?)?;
        assert_close(&both.narrow(1, 0, 3)?, &linear(&x, &a)?, 1e-6)?;
        assert_close(&both.narrow(1, 3, 5)?, &linear(&x, &b)?, 1e-6)
    }
}
