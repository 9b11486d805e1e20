//! Rotary angles of image and text tokens over three axes: frame, height, width.

use candle_core::{Device, Result, Tensor};

use crate::ops::JointLayout;

const THETA: f32 = 10_000.0;

/// Cosine and sine of every joint row's angles.
///
/// Image token `(y, x)` of a grid `hh x ww` sits at `(0, y - (hh - hh/2), x - (ww - ww/2))`, text
/// token `k` at `max(hh/2, ww/2) + k` on all axes.
///
/// # Shapes
/// Results: `[rows, Σ axes_dims / 2]`, f32.
///
/// Source: diffusers `transformer_qwenimage.py`, `QwenEmbedRope` with `scale_rope`.
#[expect(clippy::cast_precision_loss, reason = "positions are small")]
pub(super) fn joint_rope(
    axes_dims: &[usize; 3],
    (hh, ww): (usize, usize),
    layout: &JointLayout,
    device: &Device,
) -> Result<(Tensor, Tensor)> {
    let frequencies = axes_dims.map(|dim| {
        (0..dim / 2)
            .map(|i| 1.0 / THETA.powf((2 * i) as f32 / dim as f32))
            .collect::<Vec<f32>>()
    });
    let half: usize = frequencies.iter().map(Vec::len).sum();
    let mut angles = Vec::with_capacity(layout.rows() * half);
    let mut token = |position: [f32; 3]| {
        for (frequencies, position) in frequencies.iter().zip(position) {
            angles.extend(frequencies.iter().map(|frequency| position * frequency));
        }
    };

    let first_text = (hh / 2).max(ww / 2);
    let text = |token: &mut dyn FnMut([f32; 3]), length: usize| {
        (first_text..first_text + length).for_each(|p| token([p as f32; 3]));
    };
    text(&mut token, layout.txt[0]);
    for _ in 0..layout.branches() {
        for y in 0..hh {
            for x in 0..ww {
                let centred = |i: usize, n: usize| i as f32 - (n - n / 2) as f32;
                token([0.0, centred(y, hh), centred(x, ww)]);
            }
        }
    }
    layout.txt[1..].iter().for_each(|&n| text(&mut token, n));

    let table = |f: fn(f32) -> f32| {
        let values = angles.iter().map(|&a| f(a)).collect::<Vec<_>>();
        Tensor::from_vec(values, (layout.rows(), half), device)
    };
    Ok((table(f32::cos)?, table(f32::sin)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With axes of width 2 the only frequency is 1: an angle is a position.
    #[test]
    fn positions_of_an_odd_and_an_even_side() -> Result<()> {
        let layout = JointLayout::new(vec![2, 1], 6);
        let (cos, sin) = joint_rope(&[2, 2, 2], (3, 2), &layout, &Device::Cpu)?;
        let text = |position: f32| [position; 3];
        let image = [-2f32, -1., 0.]
            .into_iter()
            .flat_map(|y| [[0., y, -1.], [0., y, 0.]]);
        let positions: Vec<[f32; 3]> = [text(1.), text(2.)]
            .into_iter()
            .chain(image.clone())
            .chain(image)
            .chain([text(1.)])
            .collect();
        let expected = |f: fn(f32) -> f32| positions.iter().map(|p| p.map(f).to_vec()).collect();
        let expected: [Vec<Vec<f32>>; 2] = [expected(f32::cos), expected(f32::sin)];
        assert_eq!([cos.to_vec2::<f32>()?, sin.to_vec2()?], expected);
        Ok(())
    }
}
