//! Sums and SiLU, element by element.
//!
//! candle's own kernels for these are compiled by the driver when a machine first uses one of their kind:
//! 15 s before the first picture, with those for norms and gathers (benches/README.md).

use candle_core::{Result, Tensor};

use super::check;
use super::span::op_span;

/// `x + y`.
///
/// # Shapes
/// All the same.
///
/// # Errors
/// When shapes do not agree.
pub fn add(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    let _span = op_span!("qwen::add", x, y);
    check::dims("add", "y", y, x.dims())?;
    match x.device() {
        #[cfg(feature = "cuda")]
        candle_core::Device::Cuda(_) => fused("add", &[x, y], x.dims(), None),
        _ => x + y,
    }
}

/// `x · sigmoid(x)`.
///
/// # Errors
/// When the device fails.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    let _span = op_span!("qwen::silu", x);
    match x.device() {
        #[cfg(feature = "cuda")]
        candle_core::Device::Cuda(_) => fused("silu", &[x], x.dims(), None),
        _ => x.silu(),
    }
}

/// `silu(gate) · up` of the two halves of each row.
///
/// # Shapes
/// `gate_up`: `[rows, 2d]`; result: `[rows, d]`.
///
/// # Errors
/// When rows have no halves.
pub fn silu_gate(gate_up: &Tensor) -> Result<Tensor> {
    let _span = op_span!("qwen::silu_gate", gate_up);
    let (rows, width) = gate_up.dims2()?;
    let d = width / 2;
    check::dims("silu_gate", "gate_up", gate_up, &[rows, 2 * d])?;
    match gate_up.device() {
        #[cfg(feature = "cuda")]
        candle_core::Device::Cuda(_) => fused("silu_gate", &[gate_up], &[rows, d], Some(d)),
        _ => gate_up.narrow(1, 0, d)?.silu()? * gate_up.narrow(1, d, d)?,
    }
}

/// Kernel `name` on its inputs; `d` is the width of a result's row, where it matters.
#[cfg(feature = "cuda")]
fn fused(name: &str, inputs: &[&Tensor], shape: &[usize], d: Option<usize>) -> Result<Tensor> {
    use super::cuda::{self, Arg};

    let (dtype, device) = (inputs[0].dtype(), inputs[0].device());
    let out = cuda::empty(shape, dtype, device)?;
    let inputs: Vec<_> = (inputs.iter().copied().map(cuda::contiguous)).collect::<Result<_>>()?;
    let tensors = inputs.iter().chain([&out]);
    let addresses: Vec<_> = tensors
        .map(|t| cuda::address(t, dtype))
        .collect::<Result<_>>()?;
    let n = out.elem_count();
    let (kind, vector) = cuda::access(dtype, d.unwrap_or(n), &addresses);

    let mut args: Vec<Arg> = addresses.into_iter().map(Arg::Ptr).collect();
    args.push(Arg::Long(n as u64));
    if let Some(d) = d {
        args.push(Arg::int(d)?);
    }
    let kernel = format!("{name}_{}{kind}", cuda::suffix(dtype)?);
    cuda::context(device)?.launch_over("elementwise", &kernel, n / vector, &args)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, targets};

    #[test]
    fn agree_with_candle_on_offset_views() -> Result<()> {
        for target in targets() {
            for width in [2, 10, 96] {
                let x = target.random((8, width), 1)?.narrow(0, 1, 7)?;
                let y = target.random((7, width), 2)?;
                let tolerance = target.tolerance(1e-6);
                let (a, b) = (target.host(&x)?, target.host(&y)?);
                assert_close(&add(&x, &y)?, &(&a + &b)?, tolerance)?;
                assert_close(&silu(&x)?, &a.silu()?, tolerance)?;
                let halves = a.chunk(2, 1)?;
                let gated = (halves[0].silu()? * &halves[1])?;
                assert_close(&silu_gate(&x)?, &gated, tolerance)?;
            }
        }
        Ok(())
    }
}
