//! What the program can be told to do, one verb a file.

pub mod compare_perf;
