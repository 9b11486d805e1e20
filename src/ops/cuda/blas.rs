//! Matrix products through cuBLASLt, the algorithm of each shape chosen by timing.
//!
//! cuBLASLt's first choice is up to 9 % slower than the best of its first eight on this model's
//! shapes. Choices are kept in a file for each GPU and library version, so a machine times once.

mod algorithms;
mod descriptors;

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::Arc;

use candle_core::cuda_backend::cudarc::cublaslt::{result, sys};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, DevicePtr};
use candle_core::{DType, Result, bail};

use self::algorithms::Algorithms;
use self::descriptors::{describe, layout, set};

/// Scratch memory for split products.
const WORKSPACE_BYTES: usize = 64 << 20;

/// Scratch memory for the products on `stream`.
#[expect(unsafe_code, reason = "memory is handed out before it is written")]
pub(super) fn workspace(stream: &Arc<CudaStream>) -> Result<CudaSlice<u8>> {
    // SAFETY: products write what they read.
    unsafe { stream.alloc::<u8>(WORKSPACE_BYTES) }.map_err(candle_core::Error::wrap)
}

/// Products of fewer multiplications take microseconds with any algorithm.
const MIN_MULTIPLICATIONS_TO_TIME: usize = 1 << 28;

/// The version of the library, where it is there.
pub(crate) fn library_version() -> Option<usize> {
    // A stub in place of the library answers every call with the status 1.
    Some(algorithms::library_version()).filter(|version| *version > 1)
}

/// What follows a product, fused into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Epilogue {
    /// Nothing.
    None,
    /// A bias for each column.
    Bias,
    /// A bias, then GELU in its tanh form.
    BiasGelu,
}

/// A matrix operand: rows of `stride` elements from `address`; in a batch the next one is
/// `batch_stride` elements further.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operand {
    pub(crate) address: u64,
    pub(crate) stride: usize,
    pub(crate) batch_stride: usize,
}

impl Operand {
    /// A single matrix.
    pub(crate) fn new(address: u64, stride: usize) -> Self {
        Self {
            address,
            stride,
            batch_stride: 0,
        }
    }
}

/// `out[m, n] = epilogue(a[m, k] · b)`, with `b` stored as `[n, k]` (a weight) or `[k, n]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Product {
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    pub(crate) a: Operand,
    pub(crate) b: Operand,
    pub(crate) b_is_weight: bool,
    pub(crate) out: Operand,
    pub(crate) batch: usize,
    pub(crate) dtype: DType,
    pub(crate) out_dtype: DType,
    pub(crate) epilogue: Epilogue,
    /// Address of the bias `[n]`, in `out_dtype`; read by the epilogues that have one.
    pub(crate) bias: u64,
}

/// What decides an algorithm.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Shape {
    sizes: [usize; 3],
    strides: [usize; 3],
    batch: usize,
    batch_strides: [usize; 3],
    b_is_weight: bool,
    dtypes: [DType; 2],
    epilogue: Epilogue,
    /// Bytes that all addresses are multiples of, at most 256.
    alignment: u64,
}

impl Shape {
    fn of(product: &Product) -> Self {
        let (a, b, out) = (product.a, product.b, product.out);
        let addresses = a.address | b.address | out.address | product.bias | 256;
        Self {
            sizes: [product.m, product.n, product.k],
            strides: [a.stride, b.stride, out.stride],
            batch: product.batch,
            batch_strides: [a.batch_stride, b.batch_stride, out.batch_stride],
            b_is_weight: product.b_is_weight,
            dtypes: [product.dtype, product.out_dtype],
            epilogue: product.epilogue,
            alignment: 1 << addresses.trailing_zeros(),
        }
    }

    /// The shape as the cache file names it: all of it decides.
    fn key(&self) -> String {
        format!("{self:?}")
    }

    fn is_worth_timing(&self) -> bool {
        self.sizes.iter().product::<usize>() >= MIN_MULTIPLICATIONS_TO_TIME && self.batch == 1
    }
}

/// cuBLASLt's description of a shape and the algorithm for it.
struct Plan {
    matmul: sys::cublasLtMatmulDesc_t,
    a: sys::cublasLtMatrixLayout_t,
    b: sys::cublasLtMatrixLayout_t,
    out: sys::cublasLtMatrixLayout_t,
    algorithm: sys::cublasLtMatmulAlgo_t,
}

/// A handle of the library with the plans made so far.
pub(crate) struct Blas {
    handle: sys::cublasLtHandle_t,
    plans: HashMap<Shape, Plan>,
    algorithms: Algorithms,
}

// SAFETY: the library's handles may be used from any thread, one at a time; `Context` has a lock.
#[expect(unsafe_code, reason = "raw handles are not Send by themselves")]
unsafe impl Send for Blas {}

#[expect(unsafe_code, reason = "raw library calls")]
impl Blas {
    pub(super) fn new(stream: &Arc<CudaStream>) -> Result<Self> {
        Ok(Self {
            handle: result::create_handle().map_err(candle_core::Error::wrap)?,
            plans: HashMap::new(),
            algorithms: Algorithms::open(stream),
        })
    }

    /// Issues a product on the stream of its scratch memory.
    ///
    /// # Errors
    /// When no algorithm does it or the launch fails.
    pub(super) fn run(&mut self, product: &Product, workspace: &CudaSlice<u8>) -> Result<()> {
        let shape = Shape::of(product);
        if !self.plans.contains_key(&shape) {
            let plan = self.plan(&shape, product, workspace)?;
            self.plans.insert(shape.clone(), plan);
        }
        let plan = &self.plans[&shape];
        self.launch(plan, &plan.algorithm, product, workspace)
    }

    fn launch(
        &self,
        plan: &Plan,
        algorithm: &sys::cublasLtMatmulAlgo_t,
        product: &Product,
        workspace: &CudaSlice<u8>,
    ) -> Result<()> {
        use sys::cublasLtMatmulDescAttributes_t::CUBLASLT_MATMUL_DESC_BIAS_POINTER;
        let (one, zero) = (1f32, 0f32);
        let stream = workspace.stream();
        let (workspace, _) = workspace.device_ptr(stream);
        // SAFETY: the plan describes the operands, which callers keep alive until this is issued;
        // frees are ordered after it, as `super::side` says.
        unsafe {
            if product.epilogue != Epilogue::None {
                set(
                    plan.matmul,
                    CUBLASLT_MATMUL_DESC_BIAS_POINTER,
                    &product.bias,
                )?;
            }
            result::matmul(
                self.handle,
                plan.matmul,
                (&raw const one).cast(),
                (&raw const zero).cast(),
                // Row-major `a · bᵀ` is column-major `b · aᵀ`: the weight comes first.
                product.b.address as *const c_void,
                plan.b,
                product.a.address as *const c_void,
                plan.a,
                product.out.address as *const c_void,
                plan.out,
                product.out.address as *mut c_void,
                plan.out,
                algorithm,
                workspace as *mut c_void,
                WORKSPACE_BYTES,
                stream.cu_stream().cast(),
            )
        }
        .map_err(candle_core::Error::wrap)
    }

    fn plan(
        &mut self,
        shape: &Shape,
        product: &Product,
        workspace: &CudaSlice<u8>,
    ) -> Result<Plan> {
        let [m, n, k] = shape.sizes;
        let [stride_a, stride_b, stride_out] = shape.strides;
        let [dtype, out_dtype] = shape.dtypes;
        let [batch_a, batch_b, batch_out] = shape.batch_strides;
        let layout = |dtype, rows, columns, stride, batch_stride| {
            layout(dtype, rows, columns, stride, shape.batch, batch_stride)
        };
        let mut plan = Plan {
            matmul: describe(shape)?,
            a: layout(dtype, k, m, stride_a, batch_a)?,
            b: if shape.b_is_weight {
                layout(dtype, k, n, stride_b, batch_b)?
            } else {
                layout(dtype, n, k, stride_b, batch_b)?
            },
            out: layout(out_dtype, n, m, stride_out, batch_out)?,
            algorithm: sys::cublasLtMatmulAlgo_t { data: [0; 8] },
        };
        if let Some(algorithm) = self.algorithms.known(&shape.key())
            && self.is_valid(&plan, &algorithm)
        {
            plan.algorithm = algorithm;
            return Ok(plan);
        }
        let candidates = self.candidates(&plan, shape)?;
        plan.algorithm = candidates[0];
        if shape.is_worth_timing() && candidates.len() > 1 {
            let run = |algorithm: &_| self.launch(&plan, algorithm, product, workspace);
            plan.algorithm = algorithms::fastest(workspace.stream(), &candidates, run)?;
            self.algorithms.keep(shape.key(), plan.algorithm);
        }
        Ok(plan)
    }

    /// Whether the library, as it is now, would run `algorithm` for the plan.
    fn is_valid(&self, plan: &Plan, algorithm: &sys::cublasLtMatmulAlgo_t) -> bool {
        let mut heuristic = sys::cublasLtMatmulHeuristicResult_t {
            algo: *algorithm,
            workspaceSize: 0,
            state: sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED,
            wavesCount: 0.0,
            reserved: [0; 4],
        };
        // SAFETY: live descriptors; the check reads the algorithm and writes the result.
        let status = unsafe {
            sys::cublasLtMatmulAlgoCheck(
                self.handle,
                plan.matmul,
                plan.b,
                plan.a,
                plan.out,
                plan.out,
                algorithm,
                &raw mut heuristic,
            )
        };
        status == sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS
            && heuristic.workspaceSize <= WORKSPACE_BYTES
    }

    /// The library's choices for the plan, best guess first; at least one.
    fn candidates(&self, plan: &Plan, shape: &Shape) -> Result<Vec<sys::cublasLtMatmulAlgo_t>> {
        use sys::cublasLtMatmulPreferenceAttributes_t as Attribute;
        const MOST: usize = 8;
        let preference = result::create_matmul_pref().map_err(candle_core::Error::wrap)?;
        let alignment = u32::try_from(shape.alignment).unwrap_or(1);
        // SAFETY: the attributes have the documented types (u64, then four times u32); the list
        // holds plain data that the library fills up to `found`.
        unsafe {
            let prefer = |attribute, value: *const c_void, bytes| {
                result::set_matmul_pref_attribute(preference, attribute, value, bytes)
                    .map_err(candle_core::Error::wrap)
            };
            let workspace = WORKSPACE_BYTES as u64;
            prefer(
                Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                (&raw const workspace).cast(),
                8,
            )?;
            for attribute in [
                Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
                Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
                Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
            ] {
                prefer(attribute, (&raw const alignment).cast(), 4)?;
            }
            let mut list: [sys::cublasLtMatmulHeuristicResult_t; MOST] = std::mem::zeroed();
            let mut found = 0;
            let status = sys::cublasLtMatmulAlgoGetHeuristic(
                self.handle,
                plan.matmul,
                plan.b,
                plan.a,
                plan.out,
                plan.out,
                preference,
                i32::try_from(MOST).unwrap_or(1),
                list.as_mut_ptr(),
                &raw mut found,
            );
            result::destroy_matmul_pref(preference).map_err(candle_core::Error::wrap)?;
            let found = usize::try_from(found).unwrap_or(0);
            if status != sys::cublasStatus_t::CUBLAS_STATUS_SUCCESS || found == 0 {
                bail!("cuBLASLt has no algorithm for {} ({status:?})", shape.key())
            }
            Ok(list[..found].iter().map(|choice| choice.algo).collect())
        }
    }
}
