//! The stages from a prompt to a picture.

pub mod observer;
