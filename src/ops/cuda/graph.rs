//! CUDA graphs: what a function launches, to be launched again on other inputs.

use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::{CudaGraph, CudaStream, result, sys};
use candle_core::{Error, Result, Tensor, bail};
use tracing::trace_span;

use super::{Context, address, context, empty};
use crate::ops::span::captured::captured;
use crate::ops::span::op_span;

/// What a function launched, with memory for its inputs and its output.
pub(crate) struct Graph {
    launches: CudaGraph,
    inputs: Vec<Tensor>,
    output: Tensor,
    context: Arc<Context>,
}

impl Graph {
    /// Captures what `run` launches for inputs and an output like these; nothing of it runs.
    ///
    /// Memory that `run` allocates and drops is the graph's; what else it reads has to stay.
    ///
    /// # Errors
    /// Those of `run`, or when something cannot be captured.
    pub(crate) fn capture(
        inputs: &[&Tensor],
        output: &Tensor,
        run: impl FnOnce(&[&Tensor]) -> Result<Tensor>,
    ) -> Result<Self> {
        let _span = trace_span!("capture_graph").entered();
        let context = context(output.device())?;
        let like = |tensor: &Tensor| empty(tensor.shape(), tensor.dtype(), tensor.device());
        let inputs: Vec<Tensor> = inputs
            .iter()
            .map(|input| like(input))
            .collect::<Result<_>>()?;
        let output = like(output)?;

        let stream = &context.stream;
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        stream.begin_capture(mode).map_err(Error::wrap)?;
        let issued = captured(|| {
            let inputs: Vec<&Tensor> = inputs.iter().collect();
            copy(&run(&inputs)?, &output, stream)?;
            // What was dropped beside belongs to the graph, too.
            context.beside(|| Ok(()), || Ok(()))
        });
        if issued.is_err() {
            // A broken capture frees nothing; what was to be freed was never there.
            let _ = stream.context().check_err();
        }
        let flags = sys::CUgraphInstantiate_flags(0);
        let graph = stream.end_capture(flags);
        issued?;
        let Some(launches) = graph.map_err(Error::wrap)? else {
            bail!("the capture has no graph")
        };
        launches.upload().map_err(Error::wrap)?;
        Ok(Self {
            launches,
            inputs,
            output,
            context,
        })
    }

    /// Launches it on these inputs; the output is overwritten by the next launch.
    ///
    /// # Errors
    /// Inputs of other shapes than the captured ones, or when the device fails.
    pub(crate) fn launch(&self, inputs: &[&Tensor]) -> Result<Tensor> {
        let _span = op_span!("qwen::replay", ..inputs);
        for (own, input) in self.inputs.iter().zip(inputs) {
            copy(input, own, &self.context.stream)?;
        }
        self.launches.launch().map_err(Error::wrap)?;
        Ok(self.output.clone())
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // It must not go while it runs. A device that failed runs nothing.
        let _ = self.context.stream.synchronize();
    }
}

/// Issues a copy of a contiguous tensor.
#[expect(unsafe_code, reason = "raw copies")]
fn copy(from: &Tensor, to: &Tensor, stream: &CudaStream) -> Result<()> {
    if from.shape() != to.shape() {
        bail!("{:?} instead of {:?}", from.shape(), to.shape())
    }
    let bytes = to.elem_count() * to.dtype().size_in_bytes();
    let (from, to) = (address(from, to.dtype())?, address(to, to.dtype())?);
    // SAFETY: both are tensors of that many bytes, and later work on the stream waits.
    unsafe { result::memcpy_dtod_async(to, from, bytes, stream.cu_stream()) }.map_err(Error::wrap)
}
