//! The transformer's blocks: where they wait, and one pass through them.

#[cfg(feature = "cuda")]
use candle_core::Tensor;
use candle_core::{Device, Result};
use tracing::trace_span;

use super::block::Block;
use crate::model::load_layers;
#[cfg(feature = "cuda")]
use crate::ops::cuda::streaming::{Parked, Streaming};

/// Where the blocks' matrices are while they are not at work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Placement {
    /// On the device.
    #[default]
    Resident,
    /// In pinned host memory; they are copied to the GPU one block ahead of use.
    Streamed,
}

#[derive(Debug)]
pub(super) struct Blocks {
    blocks: Vec<Block>,
    #[cfg(feature = "cuda")]
    streaming: Option<Streaming>,
}

impl Blocks {
    /// Loads `count` blocks.
    pub(super) fn load(
        count: usize,
        placement: Placement,
        device: &Device,
        load: impl Fn(usize) -> Result<Block> + Send + Sync,
    ) -> Result<Self> {
        match placement {
            Placement::Resident => Ok(Self {
                blocks: load_layers(count, load)?,
                #[cfg(feature = "cuda")]
                streaming: None,
            }),
            #[cfg(feature = "cuda")]
            Placement::Streamed if device.is_cuda() => Self::stream(count, device, load),
            Placement::Streamed => {
                candle_core::bail!("blocks can stream to a GPU, not to {device:?}")
            }
        }
    }

    #[cfg(feature = "cuda")]
    fn stream(
        count: usize,
        device: &Device,
        load: impl Fn(usize) -> Result<Block> + Send + Sync,
    ) -> Result<Self> {
        let loaded = load_layers(count, |index| {
            let mut block = load(index)?;
            let matrices = block.matrices_mut();
            let parked = Parked::new(device, &matrices)?;
            for matrix in matrices {
                *matrix = Tensor::zeros(0, matrix.dtype(), device)?;
            }
            Ok((block, parked))
        })?;
        let (blocks, parked) = loaded.into_iter().unzip();
        Ok(Self {
            blocks,
            // All but the last block have all matrices.
            streaming: Some(Streaming::new(device, parked)?),
        })
    }

    /// Runs the blocks in their order.
    pub(super) fn try_for_each(&self, mut run: impl FnMut(&Block) -> Result<()>) -> Result<()> {
        for (index, block) in self.blocks.iter().enumerate() {
            let _span = trace_span!("block", index = index as u64).entered();
            #[cfg(feature = "cuda")]
            if let Some(streaming) = &self.streaming {
                streaming.with(index, |matrices| run(&block.with_matrices(matrices)))?;
                continue;
            }
            run(block)?;
        }
        Ok(())
    }
}
