//! cuDNN's graphs: an operation on tensors becomes a plan, a plan runs on addresses.

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use candle_core::{Result, bail};
use libloading::Library as SharedLibrary;

use super::backend::{DataType, Descriptor, FILE, Functions, Handle, Kind, Raw, Status, Type};

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
            let mut handle = ptr::null_mut();
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
        operation_graph.set(800, Type::Handle, &[self.handle])?;
        operation_graph.set(801, Type::Descriptor, &raws)?;
        operation_graph.finalize()?;

        // Heuristic mode A, then the fallback.
        for mode in [3i32, 2] {
            let heuristic = self.descriptor(Kind::EngineHeuristic)?;
            heuristic.set(201, Type::Descriptor, &[operation_graph.raw])?;
            heuristic.set(200, Type::HeurMode, &[mode])?;
            if heuristic.finalize().is_err() {
                continue;
            }
            for config in self.engine_configs(&heuristic)? {
                let plan = self.descriptor(Kind::ExecutionPlan)?;
                plan.set(400, Type::Handle, &[self.handle])?;
                plan.set(401, Type::Descriptor, &[config.raw])?;
                if plan.finalize().is_err() {
                    continue;
                }
                let mut workspace = 0i64;
                plan.get(402, Type::Int64, std::slice::from_mut(&mut workspace))?;
                let workspace_bytes = usize::try_from(workspace).unwrap_or(0);
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
        let mut pointers = addresses.to_vec();
        let mut ids = plan.ids.clone();
        if let Some(scale) = &plan.scale {
            pointers.push(ptr::from_ref::<f32>(scale).addr() as u64);
            ids.push(SCALE_ID);
        }
        pack.set(1001, Type::VoidPtr, &pointers)?;
        pack.set(1000, Type::Int64, &ids)?;
        pack.set(1003, Type::VoidPtr, &[workspace])?;
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
        let scale = self.tensor(SCALE_ID, &one, Some(908))?;
        let attention = self.descriptor(Kind::OperationSdpaForward)?;
        for (attribute, tensor) in (2800..).zip(tensors) {
            attention.set(attribute, Type::Descriptor, &[tensor.raw])?;
        }
        attention.set(2805, Type::Descriptor, &[scale.raw])?;
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
        let between = self.tensor(VIRTUAL_ID, &between, Some(907))?;

        let settings = self.descriptor(Kind::Convolution)?;
        settings.set(100, Type::Dtype, &[DataType::F32 as i32])?;
        // Cross-correlation, as networks mean it.
        settings.set(101, Type::ConvolutionMode, &[1i32])?;
        settings.set(106, Type::Int64, &[2i64])?;
        for attribute in [102, 103, 104, 105] {
            // Dilation, stride and both paddings are 1.
            settings.set(attribute, Type::Int64, &[1i64, 1])?;
        }
        settings.finalize()?;
        let conv = self.descriptor(Kind::OperationConvolutionForward)?;
        conv.set(702, Type::Descriptor, &[settings.raw])?;
        conv.set(703, Type::Descriptor, &[weight.raw])?;
        conv.set(704, Type::Descriptor, &[x.raw])?;
        conv.set(705, Type::Descriptor, &[between.raw])?;
        conv.set(700, Type::Float, &[1f32])?;
        conv.set(701, Type::Float, &[0f32])?;
        conv.finalize()?;

        let add = self.descriptor(Kind::Pointwise)?;
        add.set(0, Type::PointwiseMode, &[0i32])?;
        add.set(1, Type::Dtype, &[DataType::F32 as i32])?;
        add.finalize()?;
        let add_bias = self.descriptor(Kind::OperationPointwise)?;
        add_bias.set(750, Type::Descriptor, &[add.raw])?;
        add_bias.set(751, Type::Descriptor, &[between.raw])?;
        add_bias.set(752, Type::Descriptor, &[bias.raw])?;
        add_bias.set(753, Type::Descriptor, &[y.raw])?;
        add_bias.finalize()?;
        Ok(vec![(conv, vec![settings, between]), (add_bias, vec![add])])
    }

    /// A tensor's descriptor; `flag` is the boolean attribute to set (virtual or by value).
    fn tensor(&self, id: i64, spec: &TensorSpec, flag: Option<i32>) -> Result<Descriptor> {
        let tensor = self.descriptor(Kind::Tensor)?;
        tensor.set(900, Type::Int64, &[16i64])?;
        tensor.set(901, Type::Dtype, &[spec.data_type as i32])?;
        tensor.set(902, Type::Int64, &spec.dims)?;
        tensor.set(903, Type::Int64, &spec.strides)?;
        tensor.set(906, Type::Int64, &[id])?;
        if let Some(flag) = flag {
            tensor.set(flag, Type::Boolean, &[1u8])?;
        }
        tensor.finalize()?;
        Ok(tensor)
    }

    /// The heuristic's engine configurations, best guess first.
    fn engine_configs(&self, heuristic: &Descriptor) -> Result<Vec<Descriptor>> {
        let count = heuristic.count(202)?;
        let configs = (0..count)
            .map(|_| self.descriptor(Kind::EngineConfig))
            .collect::<Result<Vec<_>>>()?;
        let mut raws: Vec<Raw> = configs.iter().map(|config| config.raw).collect();
        let found = heuristic.get(202, Type::Descriptor, &mut raws)?;
        Ok(configs.into_iter().take(found).collect())
    }

    fn descriptor(&self, kind: Kind) -> Result<Descriptor> {
        let mut raw = ptr::null_mut();
        // SAFETY: writes the new descriptor to `raw`.
        let status = unsafe { (self.functions.create)(kind as i32, &raw mut raw) };
        self.functions.check(status, "create a descriptor")?;
        Ok(Descriptor {
            raw,
            functions: self.functions.clone(),
        })
    }
}
