//! cuBLASLt's descriptions of products and matrices.

use candle_core::cuda_backend::cudarc::cublaslt::{result, sys};
use candle_core::{DType, Result, bail};

use super::{Epilogue, Shape};

/// The description of a product of this shape.
#[expect(unsafe_code, reason = "raw library calls")]
pub(super) fn describe(shape: &Shape) -> Result<sys::cublasLtMatmulDesc_t> {
    use sys::cublasLtEpilogue_t as Fused;
    use sys::cublasLtMatmulDescAttributes_t as Attribute;
    let matmul = result::create_matmul_desc(
        sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
        sys::cudaDataType_t::CUDA_R_32F,
    )
    .map_err(candle_core::Error::wrap)?;
    let epilogue = match shape.epilogue {
        Epilogue::None => Fused::CUBLASLT_EPILOGUE_DEFAULT,
        Epilogue::Bias => Fused::CUBLASLT_EPILOGUE_BIAS,
        Epilogue::BiasGelu => Fused::CUBLASLT_EPILOGUE_GELU_BIAS,
    } as u32;
    // SAFETY: attributes of the documented types (i32, u32, i32) on a fresh descriptor.
    unsafe {
        set(
            matmul,
            Attribute::CUBLASLT_MATMUL_DESC_TRANSA,
            &i32::from(shape.b_is_weight),
        )?;
        set(matmul, Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue)?;
        if shape.epilogue != Epilogue::None {
            let dtype = data_type(shape.dtypes[1])? as i32;
            set(
                matmul,
                Attribute::CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE,
                &dtype,
            )?;
        }
    }
    Ok(matmul)
}

/// A column-major layout.
#[expect(unsafe_code, reason = "raw library calls")]
pub(super) fn layout(
    dtype: DType,
    rows: usize,
    columns: usize,
    stride: usize,
    batch: usize,
    batch_stride: usize,
) -> Result<sys::cublasLtMatrixLayout_t> {
    use sys::cublasLtMatrixLayoutAttribute_t as Attribute;
    let layout = result::create_matrix_layout(
        data_type(dtype)?,
        rows as u64,
        columns as u64,
        i64::try_from(stride).map_err(candle_core::Error::wrap)?,
    )
    .map_err(candle_core::Error::wrap)?;
    if batch > 1 {
        let count = i32::try_from(batch).map_err(candle_core::Error::wrap)?;
        let offset = i64::try_from(batch_stride).map_err(candle_core::Error::wrap)?;
        // SAFETY: attributes of the documented types (i32, i64) on a fresh layout.
        unsafe {
            result::set_matrix_layout_attribute(
                layout,
                Attribute::CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT,
                (&raw const count).cast(),
                4,
            )
            .map_err(candle_core::Error::wrap)?;
            result::set_matrix_layout_attribute(
                layout,
                Attribute::CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
                (&raw const offset).cast(),
                8,
            )
            .map_err(candle_core::Error::wrap)?;
        }
    }
    Ok(layout)
}

/// Sets an attribute of a product's description.
///
/// # Safety
/// `value` has the attribute's documented type.
#[expect(unsafe_code, reason = "raw library calls")]
pub(super) unsafe fn set<T>(
    matmul: sys::cublasLtMatmulDesc_t,
    attribute: sys::cublasLtMatmulDescAttributes_t,
    value: &T,
) -> Result<()> {
    // SAFETY: the caller's promise.
    unsafe {
        result::set_matmul_desc_attribute(
            matmul,
            attribute,
            std::ptr::from_ref(value).cast(),
            size_of::<T>(),
        )
    }
    .map_err(candle_core::Error::wrap)
}

fn data_type(dtype: DType) -> Result<sys::cudaDataType_t> {
    match dtype {
        DType::BF16 => Ok(sys::cudaDataType_t::CUDA_R_16BF),
        DType::F32 => Ok(sys::cudaDataType_t::CUDA_R_32F),
        other => bail!("no products in {other:?}"),
    }
}
