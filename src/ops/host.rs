//! What the plain bodies stand on: f32 slices of tensors, rows in parallel, the matrix product.
//!
//! Work is split over rayon's threads once, by rows; inside a run of rows everything is sequential.

use std::ops::{Deref, Range};

use candle_core::{DType, Result, Storage, StorageRef, Tensor, bail};
use rayon::prelude::*;

/// Fewer elements than this are not worth waking a thread for.
const PARALLEL_THRESHOLD: usize = 8192;

/// The elements of a contiguous f32 tensor in host memory, from the view's own offset.
pub(crate) struct HostF32<'a> {
    storage: StorageRef<'a>,
    range: Range<usize>,
}

impl Deref for HostF32<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(storage) => &storage
                .as_slice::<f32>()
                .expect("`host_f32` checked the dtype")[self.range.clone()],
            _ => unreachable!("`host_f32` checked the device"),
        }
    }
}

/// Borrows `tensor`'s elements.
///
/// # Errors
/// When it is not on the CPU, not f32 or not contiguous.
pub(crate) fn host_f32(tensor: &Tensor) -> Result<HostF32<'_>> {
    let (storage, layout) = tensor.storage_and_layout();
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("a view of shape {:?} is not contiguous", tensor.shape())
    };
    if !matches!(&*storage, Storage::Cpu(_)) || tensor.dtype() != DType::F32 {
        bail!("expected f32 in host memory, found {:?}", tensor.dtype())
    }
    Ok(HostF32 {
        storage,
        range: start..end,
    })
}

/// `tensor` as contiguous f32; the same tensor where it is that already.
pub(crate) fn to_f32(tensor: &Tensor) -> Result<Tensor> {
    tensor.to_dtype(DType::F32)?.contiguous()
}

/// A run of rows that one thread computes has at least so many rows and elements. For fewer the product's
/// library adds in another order, and a picture must not depend on the number of threads.
const MIN_RUN: (usize, usize) = (8, 1024);

/// Splits `out` into runs of whole rows and calls `f(first_row, rows)` for each, in parallel.
pub(crate) fn par_rows<T: Send>(out: &mut [T], width: usize, f: impl Fn(usize, &mut [T]) + Sync) {
    if out.is_empty() {
        return;
    }
    let rows = out.len() / width;
    let runs = if out.len() < PARALLEL_THRESHOLD {
        1
    } else {
        let most = (rows / MIN_RUN.0).min(out.len() / MIN_RUN.1);
        rayon::current_num_threads().min(most).max(1)
    };
    // As even as can be: what is left after equal runs would be too short.
    let mut rest = out;
    let mut parts = Vec::with_capacity(runs);
    for run in 0..runs {
        let (first, end) = (rows * run / runs, rows * (run + 1) / runs);
        let (part, after) = rest.split_at_mut((end - first) * width);
        parts.push((first, part));
        rest = after;
    }
    let parts = parts.into_par_iter();
    parts.for_each(|(first, rows)| f(first, rows));
}

/// A matrix inside a slice: element `(i, j)` is at `i * row_stride + j * col_stride`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    pub(crate) data: &'a [f32],
    pub(crate) row_stride: usize,
    pub(crate) col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows of `row_stride` elements, of which the first ones are the matrix.
    pub(crate) fn rows(data: &'a [f32], row_stride: usize) -> Self {
        Self {
            data,
            row_stride,
            col_stride: 1,
        }
    }

    /// The same memory read as its transpose.
    pub(crate) fn t(self) -> Self {
        Self {
            data: self.data,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }

    fn covers(&self, rows: usize, cols: usize) -> bool {
        self.data.len() > (rows - 1) * self.row_stride + (cols - 1) * self.col_stride
    }
}

/// `out[m, n] = a[m, k] · b[k, n]`; `out` has rows of `out_stride`.
///
/// Runs on the calling thread, or on all of rayon's with `parallel`.
///
/// # Panics
/// When a slice is shorter than its matrix.
#[expect(unsafe_code, reason = "the product's library takes raw pointers")]
#[expect(
    clippy::cast_possible_wrap,
    reason = "slices are shorter than isize::MAX"
)]
pub(crate) fn matmul(
    out: &mut [f32],
    out_stride: usize,
    (m, n, k): (usize, usize, usize),
    a: Matrix<'_>,
    b: Matrix<'_>,
    parallel: bool,
) {
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    assert!(a.covers(m, k) && b.covers(k, n));
    assert!(n <= out_stride && out.len() >= (m - 1) * out_stride + n);
    let parallelism = if parallel {
        gemm::Parallelism::Rayon(rayon::current_num_threads())
    } else {
        gemm::Parallelism::None
    };
    // SAFETY: the assertions above keep every access inside the three slices; `out` is borrowed
    // exclusively and its rows do not overlap.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            out_stride as isize,
            false,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// `e^x` to about 1e-7 relative, without branches so that loops over it vectorise; NaN stays NaN.
///
/// Cephes' reduction `x = n ln 2 + r` and polynomial of degree 5 in `r`.
#[inline]
pub(crate) fn exp(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low mantissa bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.3, 88.3);
    let t = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = t - ROUND;
    let r = n.mul_add(-0.693_359_4, x);
    let r = n.mul_add(2.121_944_4e-4, r);
    let p = 1.987_569_1e-4_f32
        .mul_add(r, 1.398_2e-3)
        .mul_add(r, 8.333_452e-3)
        .mul_add(r, 4.166_579_6e-2)
        .mul_add(r, 1.666_666_5e-1)
        .mul_add(r, 0.5)
        .mul_add(r * r, r)
        + 1.0;
    p * f32::from_bits(t.to_bits().wrapping_add(127) << 23)
}

/// `x / (1 + e^-x)`.
#[inline]
pub(crate) fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// GELU in its tanh form, `x · sigmoid(2 sqrt(2/π) (x + 0.044715 x³))`.
#[inline]
pub(crate) fn gelu_tanh(x: f32) -> f32 {
    let u = 1.595_769_2 * (0.044_715 * x * x).mul_add(x, x);
    x / (1.0 + exp(-u))
}

/// Sum of `f` over a row, in eight partial sums so that the loop vectorises.
#[inline]
pub(crate) fn sum(row: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0f32; 8];
    let (head, tail) = row.as_chunks::<8>();
    for chunk in head {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += f(x);
        }
    }
    lanes.iter().sum::<f32>() + tail.iter().map(|&x| f(x)).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_agrees_with_libm() {
        for i in -870i16..880 {
            let x = f32::from(i) * 0.1;
            let relative = (f64::from(exp(x)) / f64::from(x).exp() - 1.0).abs();
            assert!(relative < 2.5e-7, "exp({x}): {relative:e}");
        }
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(-1e30) < 1e-37);
    }
}
