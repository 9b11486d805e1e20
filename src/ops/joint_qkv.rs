//! QK-norm and rotary embedding of both token streams, written into the joint sequence.

use candle_core::{Device, Result, Tensor};

use super::host::{host_f32, par_rows, sum, to_f32};
use super::span::op_span;
use super::{JointLayout, Linear, check, linear};

/// Epsilon of the per-head RMS norms.
const EPS: f32 = 1e-6;

/// Projections of both streams to q, k, v side by side, and the weights `[dh]` of the RMS norms of
/// q and k; `added` is the text stream.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the checkpoint's names")]
pub struct JointQkv {
    pub txt_qkv: Linear,
    pub img_qkv: Linear,
    pub norm_q: Tensor,
    pub norm_k: Tensor,
    pub norm_added_q: Tensor,
    pub norm_added_k: Tensor,
}

/// q, k and v of both streams in joint order; q and k with their per-head RMS norm and rotary
/// embedding.
///
/// The rotation takes interleaved pairs `(x[2i], x[2i+1])`.
///
/// # Shapes
/// `txt`: `[Σ txt, d]`; `img`: `[branches · s_img, d]`; `cos`, `sin`: `[rows, dh/2]` f32 in joint order;
/// result: `[rows, 3d]`.
///
/// # Errors
/// When shapes do not agree.
pub fn joint_qkv(
    txt: &Tensor,
    img: &Tensor,
    layer: &JointQkv,
    rope: (&Tensor, &Tensor),
    layout: &JointLayout,
) -> Result<Tensor> {
    let _span = op_span!("qwen::joint_qkv", txt, img, layer.img_qkv.weight);
    let streams = (txt.dim(0)?, img.dim(0)?);
    if streams.0 + streams.1 != layout.rows() || streams.1 != layout.image_rows().len() {
        candle_core::bail!("joint_qkv: {streams:?} rows for {layout:?}")
    }
    let d = img.dim(1)?;
    for projection in [&layer.txt_qkv, &layer.img_qkv] {
        projection.check(d)?;
        check::dims("joint_qkv", "qkv", &projection.weight, &[3 * d, d])?;
    }
    let dh = layer.norm_q.dims1()?;
    if dh == 0 || dh % 2 != 0 || d % dh != 0 {
        candle_core::bail!(
            "joint_qkv: rows of {d} do not divide into heads of {dh}, an even number"
        )
    }
    for norm in [&layer.norm_k, &layer.norm_added_q, &layer.norm_added_k] {
        check::dims("joint_qkv", "norm", norm, &[dh])?;
    }
    for angles in [rope.0, rope.1] {
        check::dims("joint_qkv", "rope", angles, &[layout.rows(), dh / 2])?;
    }
    match img.device() {
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => fused(txt, img, layer, rope, layout),
        _ => {
            let txt = linear(txt, &layer.txt_qkv)?;
            let img = linear(img, &layer.img_qkv)?;
            qk_norm_rope(&layout.join(&txt, &img)?, layer, rope, layout)
        }
    }
}

/// The image product writes its rows of the joint sequence; one kernel then rotates those in place
/// and brings the few text rows over.
#[cfg(feature = "cuda")]
fn fused(
    txt: &Tensor,
    img: &Tensor,
    layer: &JointQkv,
    (cos, sin): (&Tensor, &Tensor),
    layout: &JointLayout,
) -> Result<Tensor> {
    use candle_core::DType;

    use super::cuda::{self, Arg};
    use super::linear::{Activation, fused_into};
    const THREADS: usize = 256;

    let (d, dh, dtype) = (img.dim(1)?, layer.norm_q.dim(0)?, img.dtype());
    let (rows, image) = (layout.rows(), layout.image_rows());
    let context = cuda::context(img.device())?;
    let joint = cuda::empty((rows, 3 * d), dtype, img.device())?;
    let image_at = joint.narrow(0, image.start, image.len())?;
    let image_at = cuda::address(&image_at, dtype)?;
    let (txt_qkv, ()) = context.beside(
        || linear(txt, &layer.txt_qkv),
        || fused_into(image_at, img, &layer.img_qkv, Activation::Identity),
    )?;

    let addresses = [
        cuda::address(&joint, dtype)?,
        cuda::address(&txt_qkv, dtype)?,
        cuda::address(&layer.norm_q, dtype)?,
        cuda::address(&layer.norm_k, dtype)?,
        cuda::address(&layer.norm_added_q, dtype)?,
        cuda::address(&layer.norm_added_k, dtype)?,
        cuda::address(cos, DType::F32)?,
        cuda::address(sin, DType::F32)?,
    ];
    let lanes = dh / 8;
    let is_vector =
        dh % 8 == 0 && lanes.is_power_of_two() && lanes <= 32 && cuda::aligned(&addresses, 16);
    let kind = if is_vector { "_vec" } else { "" };
    let mut args: Vec<Arg> = addresses.into_iter().map(Arg::Ptr).collect();
    args.extend([
        Arg::int(d / dh)?,
        Arg::int(dh)?,
        Arg::int(image.start)?,
        Arg::int(image.end)?,
    ]);
    let kernel = format!("qk_norm_rope_{}{kind}", cuda::suffix(dtype)?);
    context.launch("joint_qkv", &kernel, rows, THREADS, &args)?;
    Ok(joint)
}

/// Norms and rotates the q and k heads of joint rows.
fn qk_norm_rope(
    joint: &Tensor,
    layer: &JointQkv,
    (cos, sin): (&Tensor, &Tensor),
    layout: &JointLayout,
) -> Result<Tensor> {
    let (dtype, width) = (joint.dtype(), joint.dim(1)?);
    let dh = layer.norm_q.dim(0)?;
    let joint = to_f32(joint)?;
    let joint = host_f32(&joint)?;
    let weights = [
        &layer.norm_q,
        &layer.norm_k,
        &layer.norm_added_q,
        &layer.norm_added_k,
    ]
    .map(to_f32)
    .into_iter()
    .collect::<Result<Vec<_>>>()?;
    let weights = weights.iter().map(host_f32).collect::<Result<Vec<_>>>()?;
    let (cos, sin) = (host_f32(cos)?, host_f32(sin)?);
    let image = layout.image_rows();

    let mut out = vec![0f32; layout.rows() * width];
    par_rows(&mut out, width, |first, out| {
        for (i, out) in out.chunks_exact_mut(width).enumerate() {
            let row = first + i;
            let stream = if image.contains(&row) { 0 } else { 2 };
            let angles = row * dh / 2..(row + 1) * dh / 2;
            let (cos, sin) = (&cos[angles.clone()], &sin[angles]);
            out.copy_from_slice(&joint[row * width..][..width]);
            let (q, kv) = out.split_at_mut(width / 3);
            let k = &mut kv[..width / 3];
            for (heads, weight) in [(q, &weights[stream]), (k, &weights[stream + 1])] {
                for head in heads.chunks_exact_mut(dh) {
                    norm_and_rotate(head, weight, cos, sin);
                }
            }
        }
    });
    Tensor::from_vec(out, (layout.rows(), width), &Device::Cpu)?.to_dtype(dtype)
}

#[expect(clippy::cast_precision_loss, reason = "a head's width is small")]
fn norm_and_rotate(head: &mut [f32], weight: &[f32], cos: &[f32], sin: &[f32]) {
    let inverse = 1.0 / (sum(head, |x| x * x) / head.len() as f32 + EPS).sqrt();
    let (pairs, _) = head.as_chunks_mut::<2>();
    let (weights, _) = weight.as_chunks::<2>();
    for (((pair, weight), cos), sin) in pairs.iter_mut().zip(weights).zip(cos).zip(sin) {
        let (re, im) = (pair[0] * inverse * weight[0], pair[1] * inverse * weight[1]);
        *pair = [re * cos - im * sin, re * sin + im * cos];
    }
}

#[cfg(test)]
mod tests {
    use candle_core::D;

    use super::*;
    use crate::ops::testing::{Target, assert_close, random, targets};

    fn reference(x: &Tensor, weight: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
        // [rows, h, dh]
        let inverse = (x.sqr()?.mean_keepdim(D::Minus1)? + 1e-6)?
            .sqrt()?
            .recip()?;
        let x = x.broadcast_mul(&inverse)?.broadcast_mul(weight)?;
        let (rows, h, dh) = x.dims3()?;
        let pairs = x.reshape((rows, h, dh / 2, 2))?;
        let (re, im) = (pairs.narrow(3, 0, 1)?, pairs.narrow(3, 1, 1)?);
        let cos = cos.reshape((rows, 1, dh / 2, 1))?;
        let sin = sin.reshape((rows, 1, dh / 2, 1))?;
        Tensor::cat(
            &[
                (re.broadcast_mul(&cos)? - im.broadcast_mul(&sin)?)?,
                (re.broadcast_mul(&sin)? + im.broadcast_mul(&cos)?)?,
            ],
            3,
        )?
        .reshape((rows, h, dh))
    }

    #[test]
    fn agrees_with_the_formula_in_both_layouts() -> Result<()> {
        for target in targets() {
            for (txt, h, dh) in [(vec![5], 3, 10), (vec![5, 2], 3, 10), (vec![3, 4], 2, 32)] {
                agrees_with_the_formula(&target, &JointLayout::new(txt, 7), h, dh)?;
            }
        }
        Ok(())
    }

    fn agrees_with_the_formula(
        target: &Target,
        layout: &JointLayout,
        h: usize,
        dh: usize,
    ) -> Result<()> {
        let d = h * dh;
        let n_txt = layout.txt.iter().sum::<usize>();
        let txt = target.random((n_txt + 1, d), 1)?.narrow(0, 1, n_txt)?;
        let img = target.random((7 * layout.branches(), d), 2)?;
        let projection = |seed| -> Result<Linear> {
            let weight = (target.random((3 * d, d), seed)? * 0.2)?;
            Ok(Linear::from_tensors(
                weight,
                Some(target.random(3 * d, seed + 1)?),
            ))
        };
        let layer = JointQkv {
            txt_qkv: projection(10)?,
            img_qkv: projection(20)?,
            norm_q: target.random(dh, 3)?,
            norm_k: target.random(dh, 4)?,
            norm_added_q: target.random(dh, 5)?,
            norm_added_k: target.random(dh, 6)?,
        };
        let cos = random((layout.rows(), dh / 2), 7)?;
        let sin = random((layout.rows(), dh / 2), 8)?;
        let rope = (
            cos.to_device(&target.device)?,
            sin.to_device(&target.device)?,
        );
        let joint = joint_qkv(&txt, &img, &layer, (&rope.0, &rope.1), layout)?;
        let (txt_out, img_out) = layout.split(&target.host(&joint)?)?;
        let (txt_cos, img_cos) = layout.split(&cos)?;
        let (txt_sin, img_sin) = layout.split(&sin)?;
        for (x, projection, out, weights, cos, sin) in [
            (
                txt,
                &layer.txt_qkv,
                txt_out,
                [&layer.norm_added_q, &layer.norm_added_k],
                txt_cos,
                txt_sin,
            ),
            (
                img,
                &layer.img_qkv,
                img_out,
                [&layer.norm_q, &layer.norm_k],
                img_cos,
                img_sin,
            ),
        ] {
            let rows = x.dim(0)?;
            // Products round to the target's dtype before the norm.
            let x = target.round(
                &target
                    .host(&x)?
                    .matmul(&target.host(&projection.weight)?.t()?)?
                    .broadcast_add(&target.host(projection.bias.as_ref().expect("set above"))?)?,
            )?;
            let part = |t: &Tensor, i| t.narrow(1, i * d, d)?.contiguous();
            for (i, weight) in weights.into_iter().enumerate() {
                let heads = part(&x, i)?.reshape((rows, h, dh))?;
                let expected = reference(&heads, &target.host(weight)?, &cos, &sin)?;
                let out = part(&out, i)?.reshape((rows, h, dh))?;
                assert_close(&out, &expected, target.tolerance(1e-6))?;
            }
            assert_close(&part(&out, 2)?, &part(&x, 2)?, target.tolerance(1e-6))?;
        }
        Ok(())
    }
}
