//! Scaled dot-product attention of all three networks: rows attend within their segment.

use std::ops::Range;

use candle_core::{DType, Device, Result, Tensor};
use rayon::prelude::*;

use super::host::{self, Matrix, host_f32, sum, to_f32};
use super::span::op_span;

/// Largest matrix of scores on a GPU, where cuDNN does not do the shape or the dtype.
const MAX_SCORES_BYTES: usize = 256 << 20;

/// Bytes that attention then holds besides its rows: scores in f32 and their softmax in `dtype`.
pub(crate) fn attention_scratch(heads: usize, tokens: usize, dtype: DType) -> u64 {
    let scores = heads * tokens * tokens * size_of::<f32>();
    let scores = scores.min(MAX_SCORES_BYTES);
    (scores + scores / size_of::<f32>() * dtype.size_in_bytes()) as u64
}

/// How fused rows divide into heads: q, then k, then v.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionShape {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads in turn.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Whether a row sees only itself and the rows before it.
    pub causal: bool,
}

impl AttentionShape {
    /// Width of the fused rows.
    #[must_use]
    pub fn qkv_width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }
}

/// `softmax(q kᵀ / sqrt(dh)) v` within each segment of rows.
///
/// # Shapes
/// `qkv`: `[rows, (heads + 2 kv_heads) · dh]`; result: `[rows, heads · dh]`. The segments are disjoint,
/// in order, and cover all rows.
///
/// # Errors
/// When shapes do not agree.
pub fn attention(
    qkv: &Tensor,
    shape: &AttentionShape,
    segments: &[Range<usize>],
) -> Result<Tensor> {
    let _span = op_span!("qwen::attention", qkv);
    let (rows, width) = qkv.dims2()?;
    let follows = |end, segment: &Range<usize>| (segment.start == end).then_some(segment.end);
    if width != shape.qkv_width() || segments.iter().try_fold(0, follows) != Some(rows) {
        candle_core::bail!("attention: {rows} rows of {width} do not fit {shape:?}, {segments:?}")
    }
    match qkv.device() {
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => fused::attention(qkv, shape, segments),
        _ => plain(qkv, shape, segments),
    }
}

/// Query rows whose scores are held at once: they stay in the cache, and the whole matrix of
/// scores is never in memory.
const QUERY_ROWS: usize = 64;

fn plain(qkv: &Tensor, shape: &AttentionShape, segments: &[Range<usize>]) -> Result<Tensor> {
    let (rows, width) = qkv.dims2()?;
    let out_width = shape.heads * shape.head_dim;
    let input = to_f32(qkv)?;
    let input = host_f32(&input)?;

    let mut out = vec![0f32; rows * out_width];
    let mut rest = out.as_mut_slice();
    let mut blocks = Vec::new();
    for segment in segments {
        let (rows, after) = rest.split_at_mut(segment.len() * out_width);
        rest = after;
        let keys = &input[segment.start * width..segment.end * width];
        for (i, out) in rows.chunks_mut(QUERY_ROWS * out_width).enumerate() {
            blocks.push((i * QUERY_ROWS, keys, out));
        }
    }
    blocks
        .into_par_iter()
        .for_each_init(Vec::new, |scores, (first, keys, out)| {
            attend_block(out, first, keys, shape, scores);
        });
    Tensor::from_vec(out, (rows, out_width), &Device::Cpu)?.to_dtype(qkv.dtype())
}

/// Attention of one block of query rows, all heads; `first` is the block's first row in `segment`.
#[expect(clippy::cast_precision_loss, reason = "a head's width is small")]
fn attend_block(
    out: &mut [f32],
    first: usize,
    segment: &[f32],
    shape: &AttentionShape,
    scores: &mut Vec<f32>,
) {
    let (width, dh) = (shape.qkv_width(), shape.head_dim);
    let out_width = shape.heads * dh;
    let queries = out.len() / out_width;
    let keys = if shape.causal {
        first + queries
    } else {
        segment.len() / width
    };
    let scale = 1.0 / (dh as f32).sqrt();
    scores.resize(queries * keys, 0.0);

    for head in 0..shape.heads {
        let kv_head = head / (shape.heads / shape.kv_heads);
        let q = Matrix::rows(&segment[first * width + head * dh..], width);
        let k = Matrix::rows(&segment[(shape.heads + kv_head) * dh..], width);
        let v = Matrix::rows(
            &segment[(shape.heads + shape.kv_heads + kv_head) * dh..],
            width,
        );
        host::matmul(scores, keys, (queries, keys, dh), q, k.t(), false);
        for (i, row) in scores.chunks_exact_mut(keys).enumerate() {
            let seen = if shape.causal { first + i + 1 } else { keys };
            softmax(&mut row[..seen], scale);
            row[seen..].fill(0.0);
        }
        let p = Matrix::rows(scores, keys);
        host::matmul(
            &mut out[head * dh..],
            out_width,
            (queries, dh, keys),
            p,
            v,
            false,
        );
    }
}

/// `softmax(scale · row)` in place.
fn softmax(row: &mut [f32], scale: f32) {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for x in row.iter_mut() {
        *x = host::exp((*x - max) * scale);
    }
    let inverse = 1.0 / sum(row, |x| x);
    for x in row {
        *x *= inverse;
    }
}

#[cfg(feature = "cuda")]
mod fused {
    //! cuDNN's fused attention where it does the shape, else two products around a softmax, for as
    //! many query rows at a time as fit a bounded matrix of scores.

    use std::ops::Range;

    use candle_core::{DType, Result, Tensor};

    use super::{AttentionShape, MAX_SCORES_BYTES};
    use crate::ops::cuda::blas::{Epilogue, Operand, Product};
    use crate::ops::cuda::cudnn::AttentionPlan;
    use crate::ops::cuda::{self, Arg, Context};

    pub(super) fn attention(
        qkv: &Tensor,
        shape: &AttentionShape,
        segments: &[Range<usize>],
    ) -> Result<Tensor> {
        let context = cuda::context(qkv.device())?;
        let (qkv, dtype) = (qkv.contiguous()?, qkv.dtype());
        let rows = qkv.dim(0)?;
        let out_width = shape.heads * shape.head_dim;
        let out = cuda::empty((rows, out_width), dtype, qkv.device())?;
        let element = dtype.size_in_bytes();
        for segment in segments {
            let at = |t: &Tensor, width: usize| {
                Ok::<u64, candle_core::Error>(
                    cuda::address(t, dtype)? + (segment.start * width * element) as u64,
                )
            };
            let (qkv_at, out_at) = (at(&qkv, shape.qkv_width())?, at(&out, out_width)?);
            let plan = AttentionPlan {
                tokens: segment.len(),
                heads: shape.heads,
                head_dim: shape.head_dim,
            };
            let is_plain = !shape.causal && shape.heads == shape.kv_heads;
            if is_plain
                && dtype == DType::BF16
                && let Some(cudnn) = context.cudnn().as_mut()
                && cudnn.attention(plan, qkv_at, out_at)?
            {
                continue;
            }
            by_products(&context, &qkv, shape, segment.len(), (qkv_at, out_at))?;
        }
        Ok(out)
    }

    fn by_products(
        context: &Context,
        qkv: &Tensor,
        shape: &AttentionShape,
        tokens: usize,
        (qkv_at, out_at): (u64, u64),
    ) -> Result<()> {
        let AttentionShape {
            heads,
            kv_heads,
            head_dim: dh,
            causal,
        } = *shape;
        let (width, out_width) = (shape.qkv_width(), heads * dh);
        let (dtype, element) = (qkv.dtype(), qkv.dtype().size_in_bytes());
        // Heads that one batched product does: all, or those that share a k and v.
        let (groups, batch, kv_stride) = if heads == kv_heads {
            (1, heads, dh)
        } else {
            (kv_heads, heads / kv_heads, 0)
        };
        let chunk = (MAX_SCORES_BYTES / (batch * tokens * size_of::<f32>())).clamp(1, tokens);
        #[expect(clippy::cast_precision_loss, reason = "a head's width is small")]
        let scale = 1.0 / (dh as f32).sqrt();
        let offset = |base: u64, elements: usize| base + (elements * element) as u64;

        for group in 0..groups {
            for first in (0..tokens).step_by(chunk) {
                let queries = chunk.min(tokens - first);
                let scores = cuda::empty((batch * queries, tokens), DType::F32, qkv.device())?;
                let weights = cuda::empty((batch * queries, tokens), dtype, qkv.device())?;
                let matrix = |address, stride, batch_stride| Operand {
                    address,
                    stride,
                    batch_stride,
                };
                let head = group * batch * dh;
                let q = offset(qkv_at, first * width + head);
                let k = offset(qkv_at, (heads + group) * dh);
                let v = offset(qkv_at, (heads + kv_heads + group) * dh);
                let product = Product {
                    m: queries,
                    n: tokens,
                    k: dh,
                    a: matrix(q, width, dh),
                    b: matrix(k, width, kv_stride),
                    b_is_weight: true,
                    out: matrix(
                        cuda::address(&scores, DType::F32)?,
                        tokens,
                        queries * tokens,
                    ),
                    batch,
                    dtype,
                    out_dtype: DType::F32,
                    epilogue: Epilogue::None,
                    bias: 0,
                };
                context.product(&product)?;
                let args = [
                    Arg::tensor(&scores, DType::F32)?,
                    Arg::tensor(&weights, dtype)?,
                    Arg::Float(scale),
                    Arg::int(tokens)?,
                    Arg::int(queries)?,
                    Arg::int(first)?,
                    Arg::Int(causal.into()),
                ];
                let kernel = format!("softmax_{}", cuda::suffix(dtype)?);
                context.launch("attention", &kernel, batch * queries, 256, &args)?;
                let product = Product {
                    m: queries,
                    n: dh,
                    k: tokens,
                    a: matrix(cuda::address(&weights, dtype)?, tokens, queries * tokens),
                    b: matrix(v, width, kv_stride),
                    b_is_weight: false,
                    out: matrix(offset(out_at, first * out_width + head), out_width, dh),
                    out_dtype: dtype,
                    ..product
                };
                context.product(&product)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{assert_close, targets};

    /// The whole matrix of scores, from candle's own operations.
    #[expect(clippy::cast_precision_loss, reason = "a head's width is small")]
    fn reference(qkv: &Tensor, shape: &AttentionShape) -> Result<Tensor> {
        let (rows, _) = qkv.dims2()?;
        let (h, hk, dh) = (shape.heads, shape.kv_heads, shape.head_dim);
        let heads = qkv.reshape((rows, h + 2 * hk, dh))?.transpose(0, 1)?;
        let repeat = |t: Tensor| {
            t.unsqueeze(1)?
                .expand((hk, h / hk, rows, dh))?
                .reshape((h, rows, dh))
        };
        let q = heads.narrow(0, 0, h)?.contiguous()?;
        let k = repeat(heads.narrow(0, h, hk)?)?;
        let v = repeat(heads.narrow(0, h + hk, hk)?)?;
        let mut scores = (q.matmul(&k.transpose(1, 2)?.contiguous()?)? / (dh as f64).sqrt())?;
        if shape.causal {
            let mask: Vec<f32> = (0..rows * rows)
                .map(|i| {
                    if i % rows > i / rows {
                        f32::NEG_INFINITY
                    } else {
                        0.0
                    }
                })
                .collect();
            scores = scores.broadcast_add(&Tensor::from_vec(mask, (rows, rows), &Device::Cpu)?)?;
        }
        candle_nn::ops::softmax_last_dim(&scores)?
            .matmul(&v)?
            .transpose(0, 1)?
            .reshape((rows, h * dh))
    }

    #[test]
    fn segments_attend_to_themselves_alone() -> Result<()> {
        for (heads, kv_heads, head_dim, causal) in [
            (5, 5, 32, false),
            (3, 3, 128, false),
            (1, 1, 48, false),
            (1, 1, 384, false),
            (4, 2, 16, true),
        ] {
            let shape = AttentionShape {
                heads,
                kv_heads,
                head_dim,
                causal,
            };
            for target in targets() {
                let qkv = target
                    .random((171, shape.qkv_width()), 1)?
                    .narrow(0, 1, 170)?;
                let out = attention(&qkv, &shape, &[0..131, 131..170])?;
                let qkv = target.host(&qkv)?;
                let segments = [
                    reference(&qkv.narrow(0, 0, 131)?, &shape)?,
                    reference(&qkv.narrow(0, 131, 39)?, &shape)?,
                ];
                let expected = Tensor::cat(&segments, 0)?;
                assert_close(&out, &expected, target.tolerance(2e-6))?;
            }
        }
        Ok(())
    }
}
