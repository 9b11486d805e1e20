//! What an operator tells whoever records a run: its name and its inputs.

#[cfg(any(feature = "cuda", test))]
pub(crate) mod captured;

use candle_core::DType;

/// Names the rest of the scope as an operator on these tensors.
///
/// Costs a branch while nobody records. After `..` comes a slice of them.
macro_rules! op_span {
    ($name:literal, ..$inputs:expr) => {
        ::tracing::trace_span!(
            $name,
            dims = ?$inputs.iter().map(|input| input.dims()).collect::<Vec<_>>(),
            types = ?$inputs.iter().map(|input| $crate::ops::span::type_name(input.dtype())).collect::<Vec<_>>(),
        )
        .entered()
    };
    ($name:literal, $($input:expr),+ $(,)?) => {
        ::tracing::trace_span!(
            $name,
            dims = ?[$($input.dims()),+],
            types = ?[$($crate::ops::span::type_name($input.dtype())),+],
        )
        .entered()
    };
}

pub(crate) use op_span;

/// PyTorch's name of an element type, which readers of its traces know.
pub(crate) fn type_name(dtype: DType) -> &'static str {
    match dtype {
        DType::U8 => "unsigned char",
        DType::U32 => "unsigned int",
        DType::I64 => "long int",
        DType::BF16 => "c10::BFloat16",
        DType::F16 => "c10::Half",
        DType::F32 => "float",
        DType::F64 => "double",
        other => other.as_str(),
    }
}
