//! Logarithm, sine and cosine as torch's AVX2 kernels compute them: the Cephes polynomials in
//! float32, with fused multiply-adds where the compiler that built torch put them.
//!
//! The standard library's functions are more accurate and differ in about one value of seven.
//!
//! Source: torch 2.15 `ATen/native/cpu/avx_mathfun.h`; S. Moshier, Cephes `logf.c`, `sinf.c`.

#![expect(
    clippy::excessive_precision,
    clippy::unreadable_literal,
    reason = "the coefficients as Cephes prints them"
)]

use std::f32::consts::FRAC_1_SQRT_2;

/// Natural logarithm of a normal, positive `x`.
#[inline]
pub(super) fn ln(x: f32) -> f32 {
    // x = m * 2^e with m in [sqrt(1/2), sqrt(2)); the polynomial is in m - 1.
    let bits = x.to_bits();
    let m = f32::from_bits((bits & 0x007f_ffff) | 0x3f00_0000);
    #[expect(clippy::cast_precision_loss, reason = "an exponent has 8 bits")]
    let e = (bits >> 23) as f32 - 126.0;
    let (e, x) = if m < FRAC_1_SQRT_2 {
        (e - 1.0, (m - 1.0) + m)
    } else {
        (e, m - 1.0)
    };
    let z = x * x;
    let mut y = 7.0376836292e-2;
    for coefficient in [
        -1.1514610310e-1,
        1.1676998740e-1,
        -1.2420140846e-1,
        1.4249322787e-1,
        -1.6668057665e-1,
        2.0000714765e-1,
        -2.4999993993e-1,
        3.3333331174e-1,
    ] {
        y = f32::mul_add(y, x, coefficient);
    }
    y *= x;
    // ln 2 in two parts: e * 0.693359375 is exact.
    y = y.mul_add(z, e * -2.12194440e-4);
    y = z.mul_add(-0.5, y);
    e.mul_add(0.693359375, x + y)
}

/// Sine and cosine of an `x` from 0 to some thousands.
#[inline]
pub(super) fn sin_cos(x: f32) -> (f32, f32) {
    // x = r + j * pi/4 with j even and |r| <= pi/4; pi/4 is subtracted in three parts.
    #[expect(clippy::cast_possible_truncation, reason = "the octant, rounded down")]
    let j = ((x * 1.27323954473516) as i32 + 1) & !1;
    #[expect(clippy::cast_precision_loss, reason = "a small integer")]
    let y = j as f32;
    let x = y.mul_add(-0.78515625, x);
    let x = y.mul_add(-2.4187564849853515625e-4, x);
    let x = y.mul_add(-3.77489497744594108e-8, x);
    let z = x * x;

    let mut cos = 2.443315711809948e-5;
    cos = f32::mul_add(cos, z, -1.388731625493765e-3);
    cos = cos.mul_add(z, 4.166664568298827e-2);
    cos *= z;
    cos = cos.mul_add(z, -(0.5 * z));
    cos += 1.0;

    let mut sin = -1.9515295891e-4;
    sin = f32::mul_add(sin, z, 8.3321608736e-3);
    sin = sin.mul_add(z, -1.6666654611e-1);
    sin *= z;
    sin = sin.mul_add(x, x);

    let (sin, cos) = if j & 2 == 0 { (sin, cos) } else { (cos, sin) };
    let negate = |value: f32, yes: bool| if yes { -value } else { value };
    (negate(sin, j & 4 != 0), negate(cos, (j + 2) & 4 != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_standard_library() {
        for i in 1..=u16::MAX {
            let u = f32::from(i) / 65536.0;
            assert!((ln(u) - u.ln()).abs() <= 1e-6 * u.ln().abs(), "ln {u}");
            let angle = u * std::f32::consts::TAU;
            let (sin, cos) = sin_cos(angle);
            assert!((sin - angle.sin()).abs() < 2e-7, "sin {angle}");
            assert!((cos - angle.cos()).abs() < 2e-7, "cos {angle}");
        }
    }
}
