//! Checkpoints good and hostile: what opens and reads, and how the rest is refused.

#![expect(clippy::unwrap_used, reason = "tests")]

mod checkpoint;
mod config_refusals;
mod lora;
mod reading;
mod tensor_refusals;
mod weight_refusals;
