//! The operations the model is written in: what a device may fuse has one named function here.
//!
//! Tensors are row-major matrices `[rows, width]` (tokens or pixels by channels) and pictures
//! `[height, width, channels]`. Rows of both guidance branches lie in one matrix; the operations
//! that must keep them apart take the segments. Accumulation and statistics are in f32 whatever
//! the dtype of the operands.
//!
//! An operation's file holds its plain body for the CPU and, with the `cuda` feature, the fused one;
//! the others are what operations stand on.

mod attention;
pub(crate) mod beside;
mod cast;
mod cat;
mod check;
mod conv2d;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
mod elementwise;
mod guidance;
pub(crate) mod host;
mod joint_layout;
mod joint_qkv;
mod layer_norm;
mod linear;
mod merge_low_rank;
pub(crate) mod replay;
mod rms_norm;
mod rms_norm_silu;
mod rope_half;
pub(crate) mod span;
pub(crate) mod streaming;
#[cfg(test)]
pub(crate) mod testing;
mod to_bytes;
mod uniform;

pub(crate) use attention::attention_scratch;
pub use attention::{AttentionShape, attention};
pub(crate) use beside::beside;
pub use cast::cast;
pub use cat::cat;
pub use conv2d::{Conv2d, conv2d, upsample_conv2d};
pub use elementwise::{add, silu, silu_gate};
pub use guidance::guided_euler_step;
pub use joint_layout::JointLayout;
pub(crate) use joint_layout::consecutive;
pub use joint_qkv::{JointQkv, joint_qkv};
pub use layer_norm::{adaptive_layer_norm, gated_residual_layer_norm};
pub use linear::{Linear, linear, linear_gelu};
pub use merge_low_rank::merge_low_rank;
pub use rms_norm::{residual_rms_norm, rms_norm};
pub use rms_norm_silu::{rms_norm_channels, rms_norm_silu};
pub use rope_half::rope_half;
pub use to_bytes::to_bytes;
pub use uniform::uniform;
