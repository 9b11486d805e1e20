//! cuDNN's graphs: an operation on tensors becomes a plan, a plan runs on addresses.

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use candle_core::{Result, bail};
use libloading::Library as SharedLibrary;

use super::attribute::{
    self as at, Attribute, Bool, ConvolutionMode, DataType, Handle, HeurMode, Pointer,
    PointwiseMode, Raw,
};
use super::backend::{Descriptor, FILE, Functions, Kind, Status};

/// Engines that want more scratch memory are passed over: no memory plan counts it.
const MAX_WORKSPACE_BYTES: usize = 256 << 20;

/// A four-dimensional tensor in device memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct TensorSpec {
    data_type: DataType,
    dims: [i64; 4],
    strides: [i64; 4],
}

impl TensorSpec {
    pub(super) fn new(data_type: DataType, dims: [usize; 4], strides: [usize; 4]) -> Self {
        let signed = |sizes: [usize; 4]| sizes.map(|size| i64::try_from(size).unwrap_or(i64::MAX));
        Self {
            data_type,
            dims: signed(dims),
            strides: signed(strides),
        }
    }
}

/// What is done with the tensors of a graph.
#[derive(Debug, Clone, Copy)]
pub(super) enum Operation {
    /// q, k, v -> o.
    Attention { scale: f32 },
    /// x, weight, bias -> y; 3x3, padding 1.
    ConvBias,
}

/// One operation with its tensors, which get the ids 1, 2, 3, ... in this order.
pub(super) struct Graph {
    pub(super) tensors: Vec<TensorSpec>,
    pub(super) operation: Operation,
}

/// The id of the scale, passed by value.
const SCALE_ID: i64 = 100;
/// The id of the convolution's result before its bias, which is nowhere in memory.
const VIRTUAL_ID: i64 = 101;

/// Entry points of the library and a handle on a stream.
pub(super) struct Library {
    handle: Handle,
    functions: Arc<Functions>,
}

// SAFETY: the library's handles may be used from any thread, one at a time; `Context` has a lock.
#[expect(unsafe_code, reason = "raw handles are not Send by themselves")]
unsafe impl Send for Library {}

// SAFETY: as for the library.
#[expect(unsafe_code, reason = "raw handles are not Send by themselves")]
unsafe impl Send for Plan {}

/// An executable plan of one graph.
pub(super) struct Plan {
    descriptor: Descriptor,
    /// Of the tensors in memory.
    ids: Vec<i64>,
    /// Passed by value, from host memory.
    scale: Option<Box<f32>>,
    workspace_bytes: usize,
}

impl Plan {
    pub(super) fn workspace_bytes(&self) -> usize {
        self.workspace_bytes
    }
}

#[expect(unsafe_code, reason = "raw library calls")]
impl Library {
    /// Opens the library and makes a handle on `stream`; none where either fails.
    pub(super) fn open(stream: *mut c_void) -> Option<Self> {
        // SAFETY: the symbols have these signatures in every cuDNN 9.
        unsafe {
            let library = SharedLibrary::new(FILE).ok()?;
            let create_handle: unsafe extern "C" fn(*mut Handle) -> Status =
                *library.get(b"cudnnCreate").ok()?;
            let set_stream: unsafe extern "C" fn(Handle, *mut c_void) -> Status =
                *library.get(b"cudnnSetStream").ok()?;
            let functions = Functions {
                version: *library.get(b"cudnnGetVersion").ok()?,
                create: *library.get(b"cudnnBackendCreateDescriptor").ok()?,
                destroy: *library.get(b"cudnnBackendDestroyDescriptor").ok()?,
                set: *library.get(b"cudnnBackendSetAttribute").ok()?,
                get: *library.get(b"cudnnBackendGetAttribute").ok()?,
                finalize: *library.get(b"cudnnBackendFinalize").ok()?,
                execute: *library.get(b"cudnnBackendExecute").ok()?,
                last_error: *library.get(b"cudnnGetLastErrorString").ok()?,
                _library: library,
            };
            let mut handle = Handle(ptr::null_mut());
            if create_handle(&raw mut handle) != 0 || set_stream(handle, stream) != 0 {
                return None;
            }
            Some(Self {
                handle,
                functions: Arc::new(functions),
            })
        }
    }

    /// As `cudnnGetVersion`: 91400 is 9.14.0.
    pub(super) fn version(&self) -> usize {
        // SAFETY: takes and changes nothing.
        unsafe { (self.functions.version)() }
    }

    /// A plan for `graph`, from the first engine that does it; none where no engine does.
    pub(super) fn plan(&self, graph: &Graph) -> Option<Plan> {
        match self.try_plan(graph) {
            Ok(plan) => plan,
            Err(error) => {
                tracing::debug!("cuDNN: {error}");
                None
            }
        }
    }

    fn try_plan(&self, graph: &Graph) -> Result<Option<Plan>> {
        let tensors = (1..)
            .zip(&graph.tensors)
            .map(|(id, spec)| self.tensor(id, spec, None))
            .collect::<Result<Vec<_>>>()?;
        let (operations, scale) = match graph.operation {
            Operation::Attention { scale } => (vec![self.attention(&tensors)?], Some(scale)),
            Operation::ConvBias => (self.conv_bias(graph, &tensors)?, None),
        };
        let raws: Vec<Raw> = operations
            .iter()
            .map(|(operation, _)| operation.raw)
            .collect();
        let operation_graph = self.descriptor(Kind::OperationGraph)?;
        operation_graph.set(at::OPERATIONGRAPH_HANDLE, &[self.handle])?;
        operation_graph.set(at::OPERATIONGRAPH_OPS, &raws)?;
        operation_graph.finalize()?;

        for mode in [HeurMode::A, HeurMode::Fallback] {
            let heuristic = self.descriptor(Kind::EngineHeuristic)?;
            heuristic.set(at::ENGINEHEUR_OPERATION_GRAPH, &[operation_graph.raw])?;
            heuristic.set(at::ENGINEHEUR_MODE, &[mode])?;
            if heuristic.finalize().is_err() {
                continue;
            }
            for config in self.engine_configs(&heuristic)? {
                let plan = self.descriptor(Kind::ExecutionPlan)?;
                plan.set(at::EXECUTION_PLAN_HANDLE, &[self.handle])?;
                plan.set(at::EXECUTION_PLAN_ENGINE_CONFIG, &[config.raw])?;
                if plan.finalize().is_err() {
                    continue;
                }
                let mut workspace = [0i64];
                plan.get(at::EXECUTION_PLAN_WORKSPACE_SIZE, &mut workspace)?;
                let workspace_bytes = usize::try_from(workspace[0]).unwrap_or(0);
                if workspace_bytes > MAX_WORKSPACE_BYTES {
                    continue;
                }
                return Ok(Some(Plan {
                    descriptor: plan,
                    ids: (1..).take(graph.tensors.len()).collect(),
                    scale: scale.map(Box::new),
                    workspace_bytes,
                }));
            }
        }
        Ok(None)
    }

    /// Runs `plan` on tensors at `addresses`, in the graph's order.
    ///
    /// # Errors
    /// When the launch fails.
    pub(super) fn execute(&self, plan: &Plan, addresses: &[u64], workspace: u64) -> Result<()> {
        let pack = self.descriptor(Kind::VariantPack)?;
        let mut pointers: Vec<Pointer> = addresses.iter().copied().map(Pointer).collect();
        let mut ids = plan.ids.clone();
        if let Some(scale) = &plan.scale {
            pointers.push(Pointer(ptr::from_ref::<f32>(scale).addr() as u64));
            ids.push(SCALE_ID);
        }
        pack.set(at::VARIANT_PACK_DATA_POINTERS, &pointers)?;
        pack.set(at::VARIANT_PACK_UNIQUE_IDS, &ids)?;
        pack.set(at::VARIANT_PACK_WORKSPACE, &[Pointer(workspace)])?;
        pack.finalize()?;
        // SAFETY: the addresses are of live tensors of the graph's shapes.
        let status =
            unsafe { (self.functions.execute)(self.handle, plan.descriptor.raw, pack.raw) };
        self.functions.check(status, "execute")
    }

    /// The operations of attention, and what must outlive them.
    fn attention(&self, tensors: &[Descriptor]) -> Result<(Descriptor, Vec<Descriptor>)> {
        let one = TensorSpec {
            data_type: DataType::F32,
            dims: [1; 4],
            strides: [1; 4],
        };
        let scale = self.tensor(SCALE_ID, &one, Some(at::TENSOR_IS_BY_VALUE))?;
        let attention = self.descriptor(Kind::OperationSdpaForward)?;
        for (attribute, tensor) in [
            at::OPERATION_SDPA_FWD_QDESC,
            at::OPERATION_SDPA_FWD_KDESC,
            at::OPERATION_SDPA_FWD_VDESC,
            at::OPERATION_SDPA_FWD_ODESC,
        ]
        .into_iter()
        .zip(tensors)
        {
            attention.set(attribute, &[tensor.raw])?;
        }
        attention.set(at::OPERATION_SDPA_FWD_SCALEDESC, &[scale.raw])?;
        attention.finalize()?;
        Ok((attention, vec![scale]))
    }

    /// A convolution to a tensor that is nowhere in memory, and the addition of its bias.
    fn conv_bias(
        &self,
        graph: &Graph,
        tensors: &[Descriptor],
    ) -> Result<Vec<(Descriptor, Vec<Descriptor>)>> {
        let [x, weight, bias, y] = tensors else {
            bail!("a convolution has four tensors")
        };
        let between = TensorSpec {
            data_type: DataType::F32,
            ..graph.tensors[3]
        };
        let between = self.tensor(VIRTUAL_ID, &between, Some(at::TENSOR_IS_VIRTUAL))?;

        let settings = self.descriptor(Kind::Convolution)?;
        settings.set(at::CONVOLUTION_COMP_TYPE, &[DataType::F32])?;
        settings.set(
            at::CONVOLUTION_CONV_MODE,
            &[ConvolutionMode::CrossCorrelation],
        )?;
        settings.set(at::CONVOLUTION_SPATIAL_DIMS, &[2])?;
        settings.set(at::CONVOLUTION_DILATIONS, &[1, 1])?;
        settings.set(at::CONVOLUTION_FILTER_STRIDES, &[1, 1])?;
        settings.set(at::CONVOLUTION_PRE_PADDINGS, &[1, 1])?;
        settings.set(at::CONVOLUTION_POST_PADDINGS, &[1, 1])?;
        settings.finalize()?;
        let conv = self.descriptor(Kind::OperationConvolutionForward)?;
        conv.set(at::OPERATION_CONVOLUTION_FORWARD_CONV_DESC, &[settings.raw])?;
        conv.set(at::OPERATION_CONVOLUTION_FORWARD_W, &[weight.raw])?;
        conv.set(at::OPERATION_CONVOLUTION_FORWARD_X, &[x.raw])?;
        conv.set(at::OPERATION_CONVOLUTION_FORWARD_Y, &[between.raw])?;
        conv.set(at::OPERATION_CONVOLUTION_FORWARD_ALPHA, &[1.0])?;
        conv.set(at::OPERATION_CONVOLUTION_FORWARD_BETA, &[0.0])?;
        conv.finalize()?;

        let add = self.descriptor(Kind::Pointwise)?;
        add.set(at::POINTWISE_MODE, &[PointwiseMode::Add])?;
        add.set(at::POINTWISE_MATH_PREC, &[DataType::F32])?;
        add.finalize()?;
        let add_bias = self.descriptor(Kind::OperationPointwise)?;
        add_bias.set(at::OPERATION_POINTWISE_PW_DESCRIPTOR, &[add.raw])?;
        add_bias.set(at::OPERATION_POINTWISE_XDESC, &[between.raw])?;
        add_bias.set(at::OPERATION_POINTWISE_BDESC, &[bias.raw])?;
        add_bias.set(at::OPERATION_POINTWISE_YDESC, &[y.raw])?;
        add_bias.finalize()?;
        Ok(vec![(conv, vec![settings, between]), (add_bias, vec![add])])
    }

    /// A tensor's descriptor; `flag` is set where there is one.
    fn tensor(
        &self,
        id: i64,
        spec: &TensorSpec,
        flag: Option<Attribute<Bool>>,
    ) -> Result<Descriptor> {
        let tensor = self.descriptor(Kind::Tensor)?;
        tensor.set(at::TENSOR_BYTE_ALIGNMENT, &[16])?;
        tensor.set(at::TENSOR_DATA_TYPE, &[spec.data_type])?;
        tensor.set(at::TENSOR_DIMENSIONS, &spec.dims)?;
        tensor.set(at::TENSOR_STRIDES, &spec.strides)?;
        tensor.set(at::TENSOR_UNIQUE_ID, &[id])?;
        if let Some(flag) = flag {
            tensor.set(flag, &[Bool::True])?;
        }
        tensor.finalize()?;
        Ok(tensor)
    }

    /// The heuristic's engine configurations, best guess first.
    fn engine_configs(&self, heuristic: &Descriptor) -> Result<Vec<Descriptor>> {
        let configs = (0..heuristic.results()?)
            .map(|_| self.descriptor(Kind::EngineConfig))
            .collect::<Result<Vec<_>>>()?;
        let mut raws: Vec<Raw> = configs.iter().map(|config| config.raw).collect();
        let found = heuristic.get(at::ENGINEHEUR_RESULTS, &mut raws)?;
        Ok(configs.into_iter().take(found).collect())
    }

    fn descriptor(&self, kind: Kind) -> Result<Descriptor> {
        let mut raw = Raw(ptr::null_mut());
        // SAFETY: writes the new descriptor to `raw`.
        let status = unsafe { (self.functions.create)(kind as i32, &raw mut raw) };
        self.functions.check(status, "create a descriptor")?;
        Ok(Descriptor {
            raw,
            functions: self.functions.clone(),
        })
    }
}
