//! Sums and SiLU, element by element.
//!
//! candle's own kernels for these are compiled by the driver when a machine first uses one of their kind:
//! 15 s before the first picture, with those for norms and gathers (benches/README.md).

use candle_core::{Device, Result, Tensor};

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
        Device::Cpu => x + y,
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => fused("add", &[x, y], x.dims(), None),
        _ => candle_core::bail!("add: no implementation for this device"),
    }
}

/// `x · sigmoid(x)`.
///
/// # Errors
/// When the device fails.
pub fn silu(x: &Tensor) -> Result<Tensor> {
    let _span = op_span!("qwen::silu", x);
    match x.device() {
        Device::Cpu => x.silu(),
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => fused("silu", &[x], x.dims(), None),
        _ => candle_core::bail!("silu: no implementation for this device"),
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
        Device::Cpu => gate_up.narrow(1, 0, d)?.silu()? * gate_up.narrow(1, d, d)?,
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => fused("silu_gate", &[gate_up], &[rows, d], Some(d)),
        _ => candle_core::bail!("silu_gate: no implementation for this device"),
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
    let (n, vector) = (out.elem_count(), 16 / dtype.size_in_bytes());
    let is_vector = d.unwrap_or(n).is_multiple_of(vector) && cuda::aligned(&addresses, 16);
    let (kind, vector) = if is_vector { ("_vec", vector) } else { ("", 1) };

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
