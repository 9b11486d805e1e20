//! The attributes of cuDNN's backend descriptors, each with the type of its values.
//!
//! Names and numbers are those of `cudnn_graph.h`, version 9: `cudnnBackendAttributeName_t` and the
//! enumerations that its attributes take.

use std::ffi::c_void;
use std::marker::PhantomData;

/// An attribute whose values are `T`s.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attribute<T> {
    pub(super) number: i32,
    values: PhantomData<T>,
}

impl<T> Attribute<T> {
    const fn new(number: i32) -> Self {
        Self {
            number,
            values: PhantomData,
        }
    }
}

/// What an attribute may hold; in memory it is what the library expects of values of that type.
pub(super) trait Value: Copy {
    /// Its number in `cudnnBackendAttributeType_t`.
    const TYPE: i32;
}

macro_rules! values {
    ($($type:ty = $number:literal),+ $(,)?) => {
        $(impl Value for $type {
            const TYPE: i32 = $number;
        })+
    };
}
values! {
    Handle = 0, DataType = 1, Bool = 2, i64 = 3, f32 = 4, Pointer = 6, ConvolutionMode = 7,
    HeurMode = 8, PointwiseMode = 14, Raw = 15,
}

/// `cudnnHandle_t`.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub(super) struct Handle(pub(super) *mut c_void);

/// `cudnnBackendDescriptor_t`.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub(super) struct Raw(pub(super) *mut c_void);

/// An address, of device memory or of a value that is passed from the host.
#[derive(Debug, Clone, Copy)]
#[repr(transparent)]
pub(super) struct Pointer(pub(super) u64);

/// A `bool` of C.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub(super) enum Bool {
    True = 1,
}

/// `cudnnDataType_t`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub(super) enum DataType {
    F32 = 0,
    Bf16 = 9,
}

/// `cudnnConvolutionMode_t`.
#[derive(Debug, Clone, Copy)]
#[repr(i32)]
pub(super) enum ConvolutionMode {
    /// What networks call a convolution.
    CrossCorrelation = 1,
}

/// `cudnnBackendHeurMode_t`.
#[derive(Debug, Clone, Copy)]
#[repr(i32)]
pub(super) enum HeurMode {
    Fallback = 2,
    A = 3,
}

/// `cudnnPointwiseMode_t`.
#[derive(Debug, Clone, Copy)]
#[repr(i32)]
pub(super) enum PointwiseMode {
    Add = 0,
}

macro_rules! attributes {
    ($($name:ident: $type:ty = $number:literal),+ $(,)?) => {
        $(pub(super) const $name: Attribute<$type> = Attribute::new($number);)+
    };
}
attributes! {
    POINTWISE_MODE: PointwiseMode = 0,
    POINTWISE_MATH_PREC: DataType = 1,
    CONVOLUTION_COMP_TYPE: DataType = 100,
    CONVOLUTION_CONV_MODE: ConvolutionMode = 101,
    CONVOLUTION_DILATIONS: i64 = 102,
    CONVOLUTION_FILTER_STRIDES: i64 = 103,
    CONVOLUTION_POST_PADDINGS: i64 = 104,
    CONVOLUTION_PRE_PADDINGS: i64 = 105,
    CONVOLUTION_SPATIAL_DIMS: i64 = 106,
    ENGINEHEUR_MODE: HeurMode = 200,
    ENGINEHEUR_OPERATION_GRAPH: Raw = 201,
    ENGINEHEUR_RESULTS: Raw = 202,
    EXECUTION_PLAN_HANDLE: Handle = 400,
    EXECUTION_PLAN_ENGINE_CONFIG: Raw = 401,
    EXECUTION_PLAN_WORKSPACE_SIZE: i64 = 402,
    OPERATION_CONVOLUTION_FORWARD_ALPHA: f32 = 700,
    OPERATION_CONVOLUTION_FORWARD_BETA: f32 = 701,
    OPERATION_CONVOLUTION_FORWARD_CONV_DESC: Raw = 702,
    OPERATION_CONVOLUTION_FORWARD_W: Raw = 703,
    OPERATION_CONVOLUTION_FORWARD_X: Raw = 704,
    OPERATION_CONVOLUTION_FORWARD_Y: Raw = 705,
    OPERATION_POINTWISE_PW_DESCRIPTOR: Raw = 750,
    OPERATION_POINTWISE_XDESC: Raw = 751,
    OPERATION_POINTWISE_BDESC: Raw = 752,
    OPERATION_POINTWISE_YDESC: Raw = 753,
    OPERATIONGRAPH_HANDLE: Handle = 800,
    OPERATIONGRAPH_OPS: Raw = 801,
    TENSOR_BYTE_ALIGNMENT: i64 = 900,
    TENSOR_DATA_TYPE: DataType = 901,
    TENSOR_DIMENSIONS: i64 = 902,
    TENSOR_STRIDES: i64 = 903,
    TENSOR_UNIQUE_ID: i64 = 906,
    TENSOR_IS_VIRTUAL: Bool = 907,
    TENSOR_IS_BY_VALUE: Bool = 908,
    VARIANT_PACK_UNIQUE_IDS: i64 = 1000,
    VARIANT_PACK_DATA_POINTERS: Pointer = 1001,
    VARIANT_PACK_WORKSPACE: Pointer = 1003,
    OPERATION_SDPA_FWD_QDESC: Raw = 2800,
    OPERATION_SDPA_FWD_KDESC: Raw = 2801,
    OPERATION_SDPA_FWD_VDESC: Raw = 2802,
    OPERATION_SDPA_FWD_ODESC: Raw = 2803,
    OPERATION_SDPA_FWD_SCALEDESC: Raw = 2805,
}
