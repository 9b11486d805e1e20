//! Attention and convolutions through cuDNN's graph interface, opened when the program runs.
//!
//! A plan is made for each shape and kept. Without the library, or where it does not do a shape,
//! the operations have bodies of their own.

mod attribute;
mod backend;
mod graph;

use std::collections::HashMap;
use std::sync::Arc;

use candle_core::Result;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, DevicePtr};

use self::attribute::DataType;
use self::graph::{Graph, Library, Operation, Plan, TensorSpec};

/// The first version whose attention is a single operation.
const MIN_VERSION: usize = 91_301;

/// The version of the library, where it is there and new enough.
pub(crate) fn library_version() -> Option<usize> {
    backend::library_version().filter(|version| *version >= MIN_VERSION)
}

/// Attention of `tokens` rows of fused q, k, v in bf16; no mask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct AttentionPlan {
    pub(crate) tokens: usize,
    pub(crate) heads: usize,
    pub(crate) head_dim: usize,
}

/// A 3x3 convolution with padding 1 and bias of an `[h, w, c_in]` picture in bf16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ConvPlan {
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) c_in: usize,
    pub(crate) c_out: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    Attention(AttentionPlan),
    Conv(ConvPlan),
}

/// The library with the plans made so far; `None` for a shape it does not do.
pub(crate) struct Cudnn {
    library: Library,
    stream: Arc<CudaStream>,
    plans: HashMap<Key, Option<Plan>>,
    workspace: Option<CudaSlice<u8>>,
}

impl Cudnn {
    /// Opens the library, if it is there and new enough.
    pub(super) fn open(stream: &Arc<CudaStream>) -> Option<Self> {
        let library = Library::open(stream.cu_stream().cast())?;
        (library.version() >= MIN_VERSION).then(|| Self {
            library,
            stream: stream.clone(),
            plans: HashMap::new(),
            workspace: None,
        })
    }

    /// Issues attention from fused rows at `qkv` to rows at `out`; false where it cannot be done.
    ///
    /// # Errors
    /// When the launch fails.
    pub(crate) fn attention(&mut self, shape: AttentionPlan, qkv: u64, out: u64) -> Result<bool> {
        let plan = |library: &Library| attention_graph(library, shape);
        let d = (shape.heads * shape.head_dim * size_of::<half::bf16>()) as u64;
        self.execute(
            Key::Attention(shape),
            plan,
            &[qkv, qkv + d, qkv + 2 * d, out],
        )
    }

    /// Issues a convolution; false where it cannot be done.
    ///
    /// # Errors
    /// When the launch fails.
    pub(crate) fn conv(
        &mut self,
        shape: ConvPlan,
        (x, weight, bias, out): (u64, u64, u64, u64),
    ) -> Result<bool> {
        let plan = |library: &Library| conv_graph(library, shape);
        self.execute(Key::Conv(shape), plan, &[x, weight, bias, out])
    }

    fn execute(
        &mut self,
        key: Key,
        build: impl FnOnce(&Library) -> Option<Plan>,
        addresses: &[u64],
    ) -> Result<bool> {
        let plan = self
            .plans
            .entry(key)
            .or_insert_with(|| build(&self.library));
        let Some(plan) = plan else {
            return Ok(false);
        };
        if self.workspace.as_ref().map_or(0, CudaSlice::len) < plan.workspace_bytes() {
            // The old one makes room first; without a new one the operation's own body has to do.
            self.workspace = None;
            self.workspace = allocate(&self.stream, plan.workspace_bytes()).ok();
            if self.workspace.is_none() {
                return Ok(false);
            }
        }
        let workspace = self
            .workspace
            .as_ref()
            .map_or(0, |w| w.device_ptr(&self.stream).0);
        self.library.execute(plan, addresses, workspace)?;
        Ok(true)
    }
}

#[expect(unsafe_code, reason = "memory is handed out before it is written")]
fn allocate(stream: &Arc<CudaStream>, bytes: usize) -> Result<CudaSlice<u8>> {
    // SAFETY: scratch memory; the library writes what it reads.
    unsafe { stream.alloc::<u8>(bytes) }.map_err(candle_core::Error::wrap)
}

/// q, k, v, o as `[1, heads, tokens, head_dim]` views of row-major rows.
fn attention_graph(library: &Library, shape: AttentionPlan) -> Option<Plan> {
    let AttentionPlan {
        tokens,
        heads,
        head_dim,
    } = shape;
    let d = heads * head_dim;
    let view = |width: usize| {
        let dims = [1, heads, tokens, head_dim];
        let strides = [tokens * width, head_dim, width, 1];
        TensorSpec::new(DataType::Bf16, dims, strides)
    };
    #[expect(clippy::cast_precision_loss, reason = "a head's width is small")]
    let scale = 1.0 / (head_dim as f32).sqrt();
    let graph = Graph {
        tensors: vec![view(3 * d), view(3 * d), view(3 * d), view(d)],
        operation: Operation::Attention { scale },
    };
    library.plan(&graph)
}

/// x, weight, bias, y, channels innermost.
fn conv_graph(library: &Library, shape: ConvPlan) -> Option<Plan> {
    let ConvPlan { h, w, c_in, c_out } = shape;
    let channels_last = |n: usize, c: usize, h: usize, w: usize| {
        TensorSpec::new(DataType::Bf16, [n, c, h, w], [h * w * c, 1, w * c, c])
    };
    let graph = Graph {
        tensors: vec![
            channels_last(1, c_in, h, w),
            channels_last(c_out, c_in, 3, 3),
            channels_last(1, c_out, 1, 1),
            channels_last(1, c_out, h, w),
        ],
        operation: Operation::ConvBias,
    };
    library.plan(&graph)
}
