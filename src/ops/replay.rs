//! A function that is called again and again with tensors of the same shapes: a GPU gets all of its work at once.
//!
//! The host needs longer to launch a short kernel than the GPU to run it. A CUDA graph of everything that
//! one call launches is launched in the time of a few kernels, allocates nothing, and leaves the GPU less
//! to do between two kernels.

use candle_core::{Result, Tensor};

#[cfg(feature = "cuda")]
use super::cuda::graph::Graph;

/// A function, and on a GPU what a call of it launches.
pub(crate) struct Replay<F> {
    run: F,
    #[cfg(feature = "cuda")]
    launches: Launches,
}

/// How a function's kernels are launched.
#[cfg(feature = "cuda")]
enum Launches {
    OneByOne,
    /// One by one in the next call, which captures them.
    ToBeCaptured,
    AtOnce(Graph),
}

impl<F: Fn(&[&Tensor]) -> Result<Tensor>> Replay<F> {
    /// `run` does the same on tensors of the same shapes in every call, copies nothing from the host and waits for
    /// nothing. Unless `captures`, every call launches its kernels one by one.
    pub(crate) fn new(run: F, captures: bool) -> Self {
        #[cfg(not(feature = "cuda"))]
        let _ = captures;
        Self {
            run,
            #[cfg(feature = "cuda")]
            launches: if captures {
                Launches::ToBeCaptured
            } else {
                Launches::OneByOne
            },
        }
    }

    /// `run` of the inputs. The result may be overwritten by the next call.
    ///
    /// # Errors
    /// Those of `run`, or when the device fails.
    pub(crate) fn call(&mut self, inputs: &[&Tensor]) -> Result<Tensor> {
        #[cfg(feature = "cuda")]
        if let Launches::AtOnce(graph) = &self.launches {
            return graph.launch(inputs);
        }
        let output = (self.run)(inputs)?;
        // After a call, so that all that is made when it is first needed is there.
        #[cfg(feature = "cuda")]
        if output.device().is_cuda() && matches!(self.launches, Launches::ToBeCaptured) {
            self.launches = match Graph::capture(inputs, &output, &self.run) {
                Ok(graph) => Launches::AtOnce(graph),
                Err(error) => {
                    tracing::debug!("launches cannot be captured: {error}");
                    Launches::OneByOne
                }
            };
        }
        Ok(output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::testing::{Target, assert_close, targets};
    use crate::ops::{Linear, adaptive_layer_norm, beside, linear, linear_gelu};

    /// An MLP on the rows beside one on a part of them.
    fn mlp(target: &Target) -> Result<impl Fn(&[&Tensor]) -> Result<Tensor>> {
        let d = 64;
        let layer = |seed| -> Result<Linear> {
            let weight = (target.random((d, d), seed)? * 0.2)?;
            Ok(Linear::from_tensors(weight, Some(target.random(d, seed)?)))
        };
        let (up, down) = (layer(1)?, layer(2)?);
        let (device, vector) = (target.device.clone(), target.random(d, 3)?);
        Ok(move |inputs: &[&Tensor]| {
            let [rows, few] = inputs else {
                candle_core::bail!("two inputs")
            };
            let run = |rows: &Tensor| {
                let normed = adaptive_layer_norm(rows, &vector, &vector)?;
                linear(&linear_gelu(&normed, &up)?, &down)
            };
            let (few, rows) = beside(&device, || run(few), || run(rows))?;
            crate::ops::cat(&[&rows, &few])
        })
    }

    #[test]
    fn every_call_is_a_run_of_its_inputs() -> Result<()> {
        for target in targets() {
            let run = mlp(&target)?;
            let mut replay = Replay::new(&run, true);
            for seed in 0..4 {
                // Views, which the function reads where they are.
                let all = target.random((40, 64), 10 + seed)?;
                let inputs = [&all.narrow(0, 3, 30)?, &all.narrow(0, 34, 5)?];
                let expected = target.host(&run(&inputs)?)?;
                assert_close(&replay.call(&inputs)?, &expected, 0.0)?;
            }
            #[cfg(feature = "cuda")]
            if target.device.is_cuda() {
                assert!(matches!(replay.launches, Launches::AtOnce(_)));
            }
        }
        Ok(())
    }

    #[test]
    fn what_cannot_be_captured_is_run() -> Result<()> {
        for target in targets() {
            let run = mlp(&target)?;
            let waiting = |inputs: &[&Tensor]| {
                let output = run(inputs)?;
                output.device().synchronize()?;
                Ok(output)
            };
            let mut replay = Replay::new(waiting, true);
            for seed in 0..3 {
                let rows = target.random((40, 64), 10 + seed)?;
                let few = target.random((2, 64), 20 + seed)?;
                let expected = target.host(&run(&[&rows, &few])?)?;
                assert_close(&replay.call(&[&rows, &few])?, &expected, 0.0)?;
            }
            #[cfg(feature = "cuda")]
            if target.device.is_cuda() {
                assert!(matches!(replay.launches, Launches::OneByOne));
            }
        }
        Ok(())
    }

    #[test]
    fn a_failure_is_the_functions() -> Result<()> {
        for target in targets() {
            let mut replay = Replay::new(mlp(&target)?, true);
            let rows = target.random((40, 64), 1)?;
            assert!(replay.call(&[&rows]).is_err());
            replay.call(&[&rows, &rows])?;
        }
        Ok(())
    }
}
