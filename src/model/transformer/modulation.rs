//! Modulation: shift, scale and gate of every sublayer, tabled for all steps before the loop.
//!
//! `temb` depends on the timestep alone, so one product per layer with a row for each step gives
//! every vector the loop needs, and the modulation weights (a third of the model's) can go.

use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;

use crate::ops::{Linear, adaptive_layer_norm, gated_residual_layer_norm, linear};

/// Modulation vectors of one layer for all steps, `[steps, n · d]`.
#[derive(Debug, Clone)]
pub(super) struct ModulationTable {
    rows: Tensor,
}

impl ModulationTable {
    /// Applies the layer's `n` stacked projections to `silu(temb)`, `[steps, d]`.
    pub(super) fn new(silu_temb: &Tensor, n: usize, d: usize, vb: &VarBuilder<'_>) -> Result<Self> {
        let rows = linear(silu_temb, &Linear::new(d, n * d, vb)?)?;
        Ok(Self { rows })
    }

    /// The vectors of a step, `[n · d]`, in the checkpoint's order.
    pub(super) fn at(&self, step: usize) -> Result<Tensor> {
        self.rows.get(step)
    }
}

/// All vectors of a step, one layer's after the other's.
pub(super) struct Vectors<'a> {
    all: &'a Tensor,
    d: usize,
    used: usize,
}

impl<'a> Vectors<'a> {
    pub(super) fn new(all: &'a Tensor, d: usize) -> Self {
        Self { all, d, used: 0 }
    }

    /// The next layer's vectors `[d]`.
    pub(super) fn next<const N: usize>(&mut self) -> Result<[Tensor; N]> {
        let first = self.used;
        self.used += N;
        let vectors = (first..self.used)
            .map(|i| self.all.narrow(0, i * self.d, self.d))
            .collect::<Result<Vec<_>>>()?;
        Ok(vectors
            .try_into()
            .expect("as many vectors as were asked for"))
    }
}

/// What an adaptive LayerNorm applies.
pub(super) struct Shifted {
    pub(super) shift: Tensor,
    pub(super) scale: Tensor,
}

/// A residual stream `[rows, d]` whose last update waits for the norm that follows it.
///
/// Adding an update and normalising the sum are one pass over the rows that way.
pub(super) struct Stream {
    x: Tensor,
    update: Option<(Tensor, Tensor)>,
}

impl Stream {
    pub(super) fn new(x: Tensor) -> Self {
        Self { x, update: None }
    }

    /// `x += gate · y`.
    pub(super) fn add(&mut self, y: Tensor, gate: Tensor) {
        debug_assert!(self.update.is_none(), "every update is followed by a norm");
        self.update = Some((y, gate));
    }

    /// The stream with its last update.
    #[cfg(test)]
    pub(super) fn value(&self) -> Result<Tensor> {
        match &self.update {
            None => Ok(self.x.clone()),
            Some((y, gate)) => &self.x + y.broadcast_mul(gate)?,
        }
    }

    /// The adaptive LayerNorm of the stream.
    pub(super) fn modulated(&mut self, Shifted { shift, scale }: &Shifted) -> Result<Tensor> {
        let Some((y, gate)) = self.update.take() else {
            return adaptive_layer_norm(&self.x, shift, scale);
        };
        let (x, normed) = gated_residual_layer_norm(&self.x, &y, &gate, shift, scale)?;
        self.x = x;
        Ok(normed)
    }
}
