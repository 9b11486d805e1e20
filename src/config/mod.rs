//! The checkpoint's JSON files, as serde structs with the field names of the files.

pub mod scheduler;
