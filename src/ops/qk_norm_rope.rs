//! QK-norm and rotary embedding of both token streams, written into the joint sequence.

use std::ops::Range;

use candle_core::{Device, Result, Tensor};

use super::host::{host_f32, par_rows, sum, to_f32};

/// Epsilon of the per-head RMS norms.
const EPS: f32 = 1e-6;

/// Where each stream's rows lie in the joint sequence of all branches.
///
/// One branch: `txt, img`. Two: `txt₀, img₀, img₁, txt₁`. Attention does not care for the order
/// of keys, so the second branch may hold its text last; the image rows of all branches are then
/// one block, which products read in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JointLayout {
    /// Text tokens of each branch: one or two.
    pub txt: Vec<usize>,
    /// Image tokens of one branch.
    pub s_img: usize,
}

impl JointLayout {
    /// A layout for `txt.len()` branches.
    ///
    /// # Panics
    /// When there are not one or two branches.
    #[must_use]
    pub fn new(txt: Vec<usize>, s_img: usize) -> Self {
        assert!(matches!(txt.len(), 1 | 2), "one or two guidance branches");
        Self { txt, s_img }
    }

    /// Number of guidance branches.
    #[must_use]
    pub fn branches(&self) -> usize {
        self.txt.len()
    }

    /// Rows of the joint sequence.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.txt.iter().sum::<usize>() + self.s_img * self.branches()
    }

    /// Rows that attend to each other: one range for each branch.
    #[must_use]
    pub fn segments(&self) -> Vec<Range<usize>> {
        let mut end = 0;
        self.txt
            .iter()
            .map(|txt| {
                let start = end;
                end += txt + self.s_img;
                start..end
            })
            .collect()
    }

    /// Rows of the image tokens of all branches.
    #[must_use]
    pub fn image_rows(&self) -> Range<usize> {
        self.txt[0]..self.txt[0] + self.s_img * self.branches()
    }

    /// Cuts joint rows into the text rows of all branches, one after the other, and the image rows.
    ///
    /// # Shapes
    /// `joint`: `[rows, width]`; results: `[Σ txt, width]`, `[branches · s_img, width]`.
    ///
    /// # Errors
    /// When `joint` has another number of rows.
    pub fn split(&self, joint: &Tensor) -> Result<(Tensor, Tensor)> {
        let image = self.image_rows();
        let before = joint.narrow(0, 0, image.start)?;
        let txt = match self.branches() {
            1 => before,
            _ => Tensor::cat(&[&before, &joint.narrow(0, image.end, self.txt[1])?], 0)?,
        };
        Ok((txt, joint.narrow(0, image.start, image.len())?))
    }

    /// Joins per-stream rows in the layout's order; the inverse of [`JointLayout::split`].
    ///
    /// # Errors
    /// When a stream has another number of rows.
    pub fn join(&self, txt: &Tensor, img: &Tensor) -> Result<Tensor> {
        match self.branches() {
            1 => Tensor::cat(&[txt, img], 0),
            _ => Tensor::cat(
                &[
                    &txt.narrow(0, 0, self.txt[0])?,
                    img,
                    &txt.narrow(0, self.txt[0], self.txt[1])?,
                ],
                0,
            ),
        }
    }
}

/// Weights `[dh]` of the RMS norms of q and k; `added` is the text stream.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the checkpoint's names")]
pub struct QkNorms {
    pub norm_q: Tensor,
    pub norm_k: Tensor,
    pub norm_added_q: Tensor,
    pub norm_added_k: Tensor,
}

/// Joins the streams' q, k, v and gives q and k their per-head RMS norm and rotary embedding.
///
/// The rotation takes interleaved pairs `(x[2i], x[2i+1])`. v is joined as it is.
///
/// # Shapes
/// `txt_qkv`: `[Σ txt, 3d]`; `img_qkv`: `[branches · s_img, 3d]`; `cos`, `sin`: `[rows, dh/2]` f32 in
/// joint order; result: `[rows, 3d]`.
///
/// # Errors
/// When shapes do not agree.
pub fn qk_norm_rope(
    txt_qkv: &Tensor,
    img_qkv: &Tensor,
    norms: &QkNorms,
    (cos, sin): (&Tensor, &Tensor),
    layout: &JointLayout,
) -> Result<Tensor> {
    match img_qkv.device() {
        Device::Cpu => plain(txt_qkv, img_qkv, norms, (cos, sin), layout),
        _ => candle_core::bail!("qk_norm_rope: no implementation for this device"),
    }
}

fn plain(
    txt_qkv: &Tensor,
    img_qkv: &Tensor,
    norms: &QkNorms,
    (cos, sin): (&Tensor, &Tensor),
    layout: &JointLayout,
) -> Result<Tensor> {
    let width = img_qkv.dim(1)?;
    let dh = norms.norm_q.dim(0)?;
    let joint = to_f32(&layout.join(txt_qkv, img_qkv)?)?;
    let joint = host_f32(&joint)?;
    let weights = [
        &norms.norm_q,
        &norms.norm_k,
        &norms.norm_added_q,
        &norms.norm_added_k,
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
    Tensor::from_vec(out, (layout.rows(), width), &Device::Cpu)?.to_dtype(img_qkv.dtype())
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
    use crate::ops::testing::{assert_close, random};

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
        let (h, dh) = (3, 10);
        let d = h * dh;
        for txt in [vec![5], vec![5, 2]] {
            let layout = JointLayout::new(txt, 7);
            let n_txt = layout.txt.iter().sum::<usize>();
            let txt = random((n_txt + 1, 3 * d), 1)?.narrow(0, 1, n_txt)?;
            let img = random((7 * layout.branches(), 3 * d), 2)?;
            let norms = QkNorms {
                norm_q: random(dh, 3)?,
                norm_k: random(dh, 4)?,
                norm_added_q: random(dh, 5)?,
                norm_added_k: random(dh, 6)?,
            };
            let cos = random((layout.rows(), dh / 2), 7)?;
            let sin = random((layout.rows(), dh / 2), 8)?;
            let joint = qk_norm_rope(&txt, &img, &norms, (&cos, &sin), &layout)?;
            let (txt_out, img_out) = layout.split(&joint)?;
            let (txt_cos, img_cos) = layout.split(&cos)?;
            let (txt_sin, img_sin) = layout.split(&sin)?;
            for (x, out, weights, cos, sin) in [
                (
                    &txt,
                    txt_out,
                    [&norms.norm_added_q, &norms.norm_added_k],
                    txt_cos,
                    txt_sin,
                ),
                (
                    &img,
                    img_out,
                    [&norms.norm_q, &norms.norm_k],
                    img_cos,
                    img_sin,
                ),
            ] {
                let rows = x.dim(0)?;
                let part = |t: &Tensor, i| t.narrow(1, i * d, d)?.contiguous();
                for (i, weight) in weights.into_iter().enumerate() {
                    let heads = part(x, i)?.reshape((rows, h, dh))?;
                    let expected = reference(&heads, weight, &cos, &sin)?;
                    assert_close(&part(&out, i)?.reshape((rows, h, dh))?, &expected, 1e-6)?;
                }
                assert_close(&part(&out, 2)?, &part(x, 2)?, 0.0)?;
            }
        }
        Ok(())
    }

    #[test]
    fn image_rows_of_all_branches_are_one_block() {
        let layout = JointLayout::new(vec![5, 2], 7);
        assert_eq!(layout.rows(), 21);
        assert_eq!(layout.image_rows(), 5..19);
        assert_eq!(layout.segments(), vec![0..12, 12..21]);
    }
}
