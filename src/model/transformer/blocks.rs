//! The transformer's blocks: where they wait, and one pass through them.

use candle_core::{Device, Result};
use tracing::trace_span;

use super::block::Block;
use crate::model::load_layers;
use crate::ops::streaming::{Parked, Streaming};

#[derive(Debug)]
pub(super) struct Blocks {
    blocks: Vec<Block>,
    streaming: Option<Streaming>,
}

impl Blocks {
    /// Loads `count` blocks. The matrices of `streamed` of them, evenly spread, wait in host memory
    /// and come to the device one ahead of use, while the blocks between them are at work.
    pub(super) fn load(
        count: usize,
        streamed: usize,
        device: &Device,
        load: impl Fn(usize) -> Result<Block> + Send + Sync,
    ) -> Result<Self> {
        let streamed = streamed.min(count);
        let loaded = load_layers(count, |index| {
            let mut block = load(index)?;
            let streams = place(index, count, streamed).is_some();
            let parked = streams.then(|| Parked::take(device, block.matrices_mut()));
            Ok((block, parked.transpose()?))
        })?;
        let (blocks, parked): (_, Vec<_>) = loaded.into_iter().unzip();
        // The last block lacks matrices; unless it streams alone it is not the first that does.
        let groups: Vec<_> = parked.into_iter().flatten().collect();
        let streaming = (!groups.is_empty()).then(|| Streaming::new(device, groups));
        Ok(Self {
            blocks,
            streaming: streaming.transpose()?,
        })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Block> {
        self.blocks.iter()
    }

    /// Whether some wait in host memory.
    pub(super) fn streams(&self) -> bool {
        self.streaming.is_some()
    }

    /// Runs the blocks in their order.
    pub(super) fn try_for_each(&self, mut run: impl FnMut(&Block) -> Result<()>) -> Result<()> {
        for (index, block) in self.blocks.iter().enumerate() {
            let _span = trace_span!("block", index = index as u64).entered();
            if let Some(streaming) = &self.streaming
                && let Some(place) = place(index, self.blocks.len(), streaming.groups())
            {
                streaming.with(place, |matrices| run(&block.with_matrices(matrices)))?;
                continue;
            }
            run(block)?;
        }
        Ok(())
    }
}

/// Which of the `streamed` blocks block `index` of `count` is, if it is one: they are evenly spread.
fn place(index: usize, count: usize, streamed: usize) -> Option<usize> {
    let before = |index: usize| index * streamed / count;
    (before(index + 1) > before(index)).then(|| before(index))
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn blocks_that_stream_are_evenly_spread() {
        let places = |streamed| -> Vec<_> { (0..6).map(|i| place(i, 6, streamed)).collect() };
        assert_eq!(places(0), [None; 6]);
        assert_eq!(places(2), [None, None, Some(0), None, None, Some(1)]);
        assert_eq!(
            places(4).into_iter().flatten().collect::<Vec<_>>(),
            [0, 1, 2, 3]
        );
        assert_eq!(places(6), [0, 1, 2, 3, 4, 5].map(Some));
    }
}
