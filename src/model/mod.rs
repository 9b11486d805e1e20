//! The three networks of Qwen-Image, written once for every device on the operations of [`crate::ops`].

#[cfg(test)]
mod testing;
pub mod text_encoder;
pub mod transformer;
pub mod vae;
