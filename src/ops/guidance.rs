//! True classifier-free guidance with norm rescale, and the Euler step, in one pass over the tokens.

use candle_core::{Device, Result, Tensor};

use super::host::{host_f32, par_rows, sum, to_f32};
use super::span::op_span;

/// `latents + dt · v`, where `v` combines the branches' predictions.
///
/// With two branches `comb = uncond + scale · (cond - uncond)` and `v = comb · ‖cond‖ / ‖comb‖`, the
/// norms per token; with one branch `v` is its prediction. All of it is computed in f32.
///
/// # Shapes
/// `latents`, result: `[s_img, c]` f32; `noise_pred`: `[branches · s_img, c]`, conditional branch first.
///
/// # Errors
/// When shapes do not agree.
///
/// Source: diffusers `pipeline_qwenimage.py`, denoising loop, and
/// `scheduling_flow_match_euler_discrete.py`, `step`.
pub fn guided_euler_step(
    latents: &Tensor,
    noise_pred: &Tensor,
    true_cfg_scale: f32,
    dt: f32,
) -> Result<Tensor> {
    let _span = op_span!("qwen::guided_euler_step", latents, noise_pred);
    let (s_img, c) = latents.dims2()?;
    let branches = noise_pred.dim(0)? / s_img.max(1);
    if noise_pred.dims2()? != (branches * s_img, c) || !matches!(branches, 1 | 2) {
        candle_core::bail!(
            "guidance: predictions {:?} for {s_img} tokens",
            noise_pred.shape()
        )
    }
    match latents.device() {
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => fused(latents, noise_pred, true_cfg_scale, dt, branches),
        _ => {
            let noise_pred = to_f32(noise_pred)?;
            let (x, pred) = (host_f32(latents)?, host_f32(&noise_pred)?);
            let (cond, uncond) = pred.split_at(s_img * c);
            let mut out = x.to_vec();
            par_rows(&mut out, c, |first, out| {
                for (i, x) in out.chunks_exact_mut(c).enumerate() {
                    let token = (first + i) * c..(first + i + 1) * c;
                    let cond = &cond[token.clone()];
                    match uncond.get(token) {
                        Some(uncond) => guided_token(x, cond, uncond, true_cfg_scale, dt),
                        None => x.iter_mut().zip(cond).for_each(|(x, v)| *x += dt * v),
                    }
                }
            });
            Tensor::from_vec(out, (s_img, c), &Device::Cpu)
        }
    }
}

#[cfg(feature = "cuda")]
fn fused(
    latents: &Tensor,
    noise_pred: &Tensor,
    true_cfg_scale: f32,
    dt: f32,
    branches: usize,
) -> Result<Tensor> {
    use candle_core::DType;

    use super::cuda::{self, Arg};
    const WARPS: usize = 8;

    let (s_img, c) = latents.dims2()?;
    let context = cuda::context(latents.device())?;
    let noise_pred = noise_pred.contiguous()?;
    let out = cuda::empty((s_img, c), DType::F32, latents.device())?;
    let args = [
        Arg::tensor(latents, DType::F32)?,
        Arg::tensor(&noise_pred, noise_pred.dtype())?,
        Arg::tensor(&out, DType::F32)?,
        Arg::Float(true_cfg_scale),
        Arg::Float(dt),
        Arg::int(s_img)?,
        Arg::int(c)?,
        Arg::int(branches)?,
    ];
    let kernel = format!("guided_euler_step_{}", cuda::suffix(noise_pred.dtype())?);
    context.launch(
        "guidance",
        &kernel,
        s_img.div_ceil(WARPS),
        32 * WARPS,
        &args,
    )?;
    Ok(out)
}

fn guided_token(x: &mut [f32], cond: &[f32], uncond: &[f32], scale: f32, dt: f32) {
    let comb = |(cond, uncond): (&f32, &f32)| uncond + scale * (cond - uncond);
    let length = sum(cond, |v| v * v).sqrt();
    let comb_length = cond
        .iter()
        .zip(uncond)
        .map(comb)
        .map(|v| v * v)
        .sum::<f32>()
        .sqrt();
    let rescale = length / comb_length;
    for (x, pair) in x.iter_mut().zip(cond.iter().zip(uncond)) {
        *x += dt * (comb(pair) * rescale);
    }
}

#[cfg(test)]
mod tests {
    use candle_core::D;

    use super::*;
    use crate::ops::testing::{Target, assert_close, random, targets};

    #[test]
    fn restores_the_conditional_norm() -> Result<()> {
        for target in targets() {
            restores_the_conditional_norm_on(&target)?;
        }
        Ok(())
    }

    fn restores_the_conditional_norm_on(target: &Target) -> Result<()> {
        let latents = random((5, 64), 1)?;
        let pred = target.random((10, 64), 2)?;
        let on_target = latents.to_device(&target.device)?;
        let guided = guided_euler_step(&on_target, &pred, 4.0, -0.25)?;
        let plain = guided_euler_step(&on_target, &pred.narrow(0, 0, 5)?, 4.0, -0.25)?;
        // The step is in f32 in every dtype of the predictions.
        let pred = target.host(&pred)?;
        let (cond, uncond) = (pred.narrow(0, 0, 5)?, pred.narrow(0, 5, 5)?);
        let comb = (&uncond + ((&cond - &uncond)? * 4.0)?)?;
        let norm = |t: &Tensor| t.sqr()?.sum_keepdim(D::Minus1)?.sqrt();
        let v = comb.broadcast_mul(&(norm(&cond)? / norm(&comb)?)?)?;
        let expected = (&latents + (v * -0.25)?)?;
        assert_close(&guided, &expected, 1e-6)?;
        assert_close(&plain, &(&latents + (&cond * -0.25)?)?, 1e-6)
    }
}
