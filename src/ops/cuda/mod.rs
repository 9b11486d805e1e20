//! What the fused bodies stand on: a device's kernels and library handles, and raw views of tensors.
//!
//! Everything runs on the device's one stream, but for what runs [`beside`](crate::ops::beside) it and
//! the copies of [`streaming`], which order streams of their own by events. Allocations are
//! stream-ordered, so memory may be dropped as soon as the work that uses it is issued.

pub(crate) mod blas;
pub(crate) mod cudnn;
pub(crate) mod graph;
mod pinned;
mod side;
pub(crate) mod streaming;
mod upload;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use candle_core::cuda_backend::CudaDType;
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaModule, CudaSlice, CudaStream, DevicePtr, DriverError, LaunchConfig,
    PushKernelArg,
};
use candle_core::cuda_backend::cudarc::nvrtc::Ptx;
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, DType, Device, Result, Shape, Storage, Tensor, bail};
use half::{bf16, f16};

pub(crate) use self::side::contiguous;

/// The kernels of each `.cu` file by its name, as `build.rs` compiled them; no two kernels share a
/// name.
const MODULES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/modules.rs"));

/// What one device needs beyond its candle handle.
pub(crate) struct Context {
    pub(crate) stream: Arc<CudaStream>,
    workspace: CudaSlice<u8>,
    side: side::Side,
    modules: HashMap<&'static str, Arc<CudaModule>>,
    functions: Mutex<HashMap<String, CudaFunction>>,
    /// The way of weights to the device.
    pub(crate) uploads: upload::Uploads,
    blas: Mutex<blas::Blas>,
    cudnn: Mutex<Option<cudnn::Cudnn>>,
}

impl Context {
    fn new(device: &CudaDevice) -> Result<Self> {
        let stream = device.cuda_stream();
        let modules = MODULES
            .iter()
            .map(|(file, image)| {
                let image = Ptx::from_binary(image.to_vec());
                let module = stream.context().load_module(image);
                Ok((*file, module.map_err(candle_core::Error::wrap)?))
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            modules,
            functions: Mutex::default(),
            uploads: upload::Uploads::default(),
            blas: Mutex::new(blas::Blas::new(&stream)?),
            cudnn: Mutex::new(cudnn::Cudnn::open(&stream)),
            workspace: blas::workspace(&stream)?,
            side: side::Side::new(&stream)?,
            stream,
        })
    }

    /// Issues a product.
    ///
    /// # Errors
    /// When no algorithm does it or the launch fails.
    pub(crate) fn product(&self, product: &blas::Product) -> Result<()> {
        let mut blas = self.blas.lock().unwrap_or_else(PoisonError::into_inner);
        blas.run(product, self.workspace())
    }

    /// cuDNN, where the machine has it.
    pub(crate) fn cudnn(&self) -> MutexGuard<'_, Option<cudnn::Cudnn>> {
        self.cudnn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A kernel by its file's name and its own.
    fn function(&self, file: &str, name: &str) -> Result<CudaFunction> {
        let mut functions = self
            .functions
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(function) = functions.get(name) {
            return Ok(function.clone());
        }
        let Some(module) = self.modules.get(file) else {
            bail!("there are no kernels of the name {file}")
        };
        let function = module
            .load_function(name)
            .map_err(candle_core::Error::wrap)?;
        functions.insert(name.to_owned(), function.clone());
        Ok(function)
    }
}

/// The context of `device`, made at its first use.
pub(crate) fn context(device: &Device) -> Result<Arc<Context>> {
    type Contexts = Mutex<Vec<(usize, Arc<Context>)>>;
    static CONTEXTS: OnceLock<Contexts> = OnceLock::new();
    let device = device.as_cuda_device()?;
    // Handles are the address of the context: one for each opened device.
    let key = Arc::as_ptr(device.cuda_stream().context()).addr();
    let contexts = CONTEXTS.get_or_init(Mutex::default);
    let mut contexts = contexts.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, context)) = contexts.iter().find(|(k, _)| *k == key) {
        return Ok(context.clone());
    }
    let context = Arc::new(Context::new(device)?);
    contexts.push((key, context.clone()));
    Ok(context)
}

/// Words in an [`Arg::Table`].
pub(crate) const TABLE: usize = 128;

/// An argument of a kernel.
#[derive(Debug, Clone)]
pub(crate) enum Arg {
    /// Address of device memory.
    Ptr(u64),
    /// `int`.
    Int(i32),
    /// `float`.
    Float(f32),
    /// `unsigned long long` or `size_t`.
    Long(u64),
    /// A struct of addresses and sizes.
    Table(Box<[u64; TABLE]>),
}

impl Arg {
    /// A contiguous tensor of `dtype`, which is what the kernel reads or writes.
    pub(crate) fn tensor(tensor: &Tensor, dtype: DType) -> Result<Self> {
        address(tensor, dtype).map(Self::Ptr)
    }

    /// A size as the `int` that kernels take.
    pub(crate) fn int(value: usize) -> Result<Self> {
        match i32::try_from(value) {
            Ok(value) => Ok(Self::Int(value)),
            Err(_) => bail!("a size of {value} is more than a kernel takes"),
        }
    }
}

impl Context {
    /// Launches a kernel whose threads loop over `elements`, on enough blocks for every GPU.
    ///
    /// # Errors
    /// As [`Context::launch`].
    pub(crate) fn launch_over(
        &self,
        file: &str,
        name: &str,
        elements: usize,
        args: &[Arg],
    ) -> Result<()> {
        const THREADS: usize = 256;
        const MAX_BLOCKS: usize = 1 << 14;
        let blocks = elements.div_ceil(THREADS).min(MAX_BLOCKS);
        self.launch(file, name, blocks, THREADS, args)
    }

    /// Launches kernel `name` of `file` on a one-dimensional grid.
    ///
    /// # Errors
    /// When there is no such kernel for this GPU, the grid is empty or too large, or the launch fails.
    #[expect(unsafe_code, reason = "kernels take raw pointers")]
    pub(crate) fn launch(
        &self,
        file: &str,
        name: &str,
        grid: usize,
        block: usize,
        args: &[Arg],
    ) -> Result<()> {
        let function = self.function(file, name)?;
        let (Ok(grid), Ok(block)) = (u32::try_from(grid), u32::try_from(block)) else {
            bail!("`{name}`: a grid of {grid} blocks is too large")
        };
        let config = LaunchConfig {
            grid_dim: (grid, 1, 1),
            block_dim: (block, 1, 1),
            shared_mem_bytes: 0,
        };
        let mut launch = self.current().launch_builder(&function);
        for arg in args {
            match arg {
                Arg::Ptr(value) | Arg::Long(value) => launch.arg(value),
                Arg::Int(value) => launch.arg(value),
                Arg::Float(value) => launch.arg(value),
                Arg::Table(words) => launch.arg(&**words),
            };
        }
        // SAFETY: callers pass the arguments their `.cu` file declares: addresses of live tensors, of
        // the dtype and of the sizes it expects.
        unsafe { launch.launch(config) }.map_err(candle_core::Error::wrap)?;
        Ok(())
    }
}

/// The suffix of a kernel's instance for `dtype`.
pub(crate) fn suffix(dtype: DType) -> Result<&'static str> {
    match dtype {
        DType::BF16 => Ok("bf16"),
        DType::F32 => Ok("f32"),
        other => bail!("no kernels for {other:?}"),
    }
}

/// How a kernel reads rows of `width` elements at `addresses`: the ending of its name, and how many elements at
/// once, 16 bytes of them where all are aligned so.
pub(crate) fn access(dtype: DType, width: usize, addresses: &[u64]) -> (&'static str, usize) {
    let vector = 16 / dtype.size_in_bytes();
    if width.is_multiple_of(vector) && aligned(addresses, 16) {
        ("_vec", vector)
    } else {
        ("", 1)
    }
}

/// Device address of the first element of a contiguous tensor of `dtype`: the storage's, moved by
/// the view's offset.
pub(crate) fn address(tensor: &Tensor, dtype: DType) -> Result<u64> {
    if !tensor.is_contiguous() {
        bail!("a view of shape {:?} is not contiguous", tensor.shape())
    }
    if tensor.dtype() != dtype {
        bail!(
            "a tensor of shape {:?} is {:?}, not {dtype:?}",
            tensor.shape(),
            tensor.dtype()
        )
    }
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else {
        bail!("expected a tensor on the GPU")
    };
    let stream = storage.device.cuda_stream();
    // The guard would record events between streams; `crate::device` has that switched off.
    let base = match dtype {
        DType::BF16 => storage.as_cuda_slice::<bf16>()?.device_ptr(&stream).0,
        DType::F16 => storage.as_cuda_slice::<f16>()?.device_ptr(&stream).0,
        DType::F32 => storage.as_cuda_slice::<f32>()?.device_ptr(&stream).0,
        DType::F64 => storage.as_cuda_slice::<f64>()?.device_ptr(&stream).0,
        other => bail!("no kernels for {other:?}"),
    };
    Ok(base + (layout.start_offset() * dtype.size_in_bytes()) as u64)
}

/// A tensor whose elements nobody has written yet; the caller writes all of them.
#[expect(unsafe_code, reason = "memory is handed out before it is written")]
pub(crate) fn empty(shape: impl Into<Shape>, dtype: DType, device: &Device) -> Result<Tensor> {
    let shape = shape.into();
    let context = context(device)?;
    let stream = context.current();
    let device = device.as_cuda_device()?;
    let n = shape.elem_count();
    // SAFETY: floats have no invalid values, and the caller writes every element.
    let storage = match dtype {
        DType::BF16 => storage(unsafe { stream.alloc::<bf16>(n) }, device)?,
        DType::F16 => storage(unsafe { stream.alloc::<f16>(n) }, device)?,
        DType::F32 => storage(unsafe { stream.alloc::<f32>(n) }, device)?,
        DType::F64 => storage(unsafe { stream.alloc::<f64>(n) }, device)?,
        other => bail!("no kernels for {other:?}"),
    };
    let tensor = Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false);
    #[cfg(test)]
    poison(&tensor)?;
    Ok(tensor)
}

fn storage<T: CudaDType>(
    memory: std::result::Result<CudaSlice<T>, DriverError>,
    device: &CudaDevice,
) -> Result<CudaStorage> {
    let memory = memory.map_err(candle_core::Error::wrap)?;
    Ok(CudaStorage::wrap_cuda_slice(memory, device.clone()))
}

/// Fills fresh memory with NaN, so that a test sees what a kernel has not written.
#[cfg(test)]
#[expect(unsafe_code, reason = "raw memset")]
fn poison(tensor: &Tensor) -> Result<()> {
    let context = context(tensor.device())?;
    let bytes = tensor.elem_count() * tensor.dtype().size_in_bytes();
    // SAFETY: the tensor owns that many bytes.
    unsafe {
        candle_core::cuda_backend::cudarc::driver::result::memset_d8_async(
            address(tensor, tensor.dtype())?,
            0xff,
            bytes,
            context.current().cu_stream(),
        )
    }
    .map_err(candle_core::Error::wrap)
}

/// Whether all addresses are multiples of `bytes`.
pub(crate) fn aligned(addresses: &[u64], bytes: u64) -> bool {
    addresses.iter().all(|address| address % bytes == 0)
}
