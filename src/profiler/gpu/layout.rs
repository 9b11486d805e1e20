//! The records of CUPTI's buffers, as far as they are read.
//!
//! Later versions of a record add fields at its end and move none, so these are the beginnings of
//! `CUpti_ActivityKernel9`, `Memcpy5`, `Memset4`, `API`, `Overhead2`,
//! `CudaEvent`, `Synchronization` and `Memory3` (CUDA 12.0) and of those after them (seen in 13.0). Numbers where
//! C has enumerations: a value that is not known here must be no harm. The offsets that the
//! assertions name are those of `cupti_activity.h`.
#![expect(clippy::struct_field_names, reason = "named as in the header")]

use std::ffi::c_char;
use std::mem::offset_of;

/// `CUpti_ActivityKind`: what a record is, and what is switched on.
pub(super) mod kind {
    pub(in super::super) const MEMCPY: u32 = 1;
    pub(in super::super) const MEMSET: u32 = 2;
    pub(in super::super) const KERNEL: u32 = 3;
    pub(in super::super) const DRIVER: u32 = 4;
    pub(in super::super) const RUNTIME: u32 = 5;
    pub(in super::super) const CONCURRENT_KERNEL: u32 = 10;
    pub(in super::super) const OVERHEAD: u32 = 17;
    pub(in super::super) const CUDA_EVENT: u32 = 36;
    pub(in super::super) const SYNCHRONIZATION: u32 = 38;
    pub(in super::super) const MEMORY2: u32 = 49;
}

/// A kernel that ran.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Kernel {
    pub(super) kind: u32,
    cache_config: u8,
    shared_memory_config: u8,
    pub(super) registers_per_thread: u16,
    partitioned_global_cache: [u32; 2],
    pub(super) start: u64,
    pub(super) end: u64,
    completed: u64,
    pub(super) device_id: u32,
    pub(super) context_id: u32,
    pub(super) stream_id: u32,
    pub(super) grid: [i32; 3],
    pub(super) block: [i32; 3],
    pub(super) static_shared_memory: i32,
    pub(super) dynamic_shared_memory: i32,
    local_memory: [u32; 2],
    pub(super) correlation_id: u32,
    grid_id: i64,
    pub(super) name: *const c_char,
    reserved0: usize,
    queued: u64,
    submitted: u64,
    launch_type: [u8; 4],
    shared_memory_executed: u32,
    pub(super) graph_node_id: u64,
    shmem_limit_config: u32,
    pub(super) graph_id: u32,
    access_policy_window: usize,
    pub(super) channel_id: u32,
    pub(super) channel_type: u32,
}

/// A copy that ran.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Memcpy {
    pub(super) kind: u32,
    pub(super) copy_kind: u8,
    pub(super) src_kind: u8,
    pub(super) dst_kind: u8,
    flags: u8,
    pub(super) bytes: u64,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) device_id: u32,
    pub(super) context_id: u32,
    pub(super) stream_id: u32,
    pub(super) correlation_id: u32,
    runtime_correlation_id: u32,
    pad: u32,
    reserved0: usize,
    pub(super) graph_node_id: u64,
    pub(super) graph_id: u32,
}

/// A fill that ran.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Memset {
    pub(super) kind: u32,
    value: u32,
    pub(super) bytes: u64,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) device_id: u32,
    pub(super) context_id: u32,
    pub(super) stream_id: u32,
    pub(super) correlation_id: u32,
    flags: u16,
    pub(super) memory_kind: u16,
    pad: u32,
    reserved0: usize,
    pub(super) graph_node_id: u64,
    pub(super) graph_id: u32,
}

/// A call of the runtime or driver.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Api {
    pub(super) kind: u32,
    pub(super) cbid: u32,
    pub(super) start: u64,
    pub(super) end: u64,
    process_id: u32,
    pub(super) thread_id: u32,
    pub(super) correlation_id: u32,
}

/// A cost of recording. An object's id is two or three numbers; of a thread, process and thread.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Overhead {
    pub(super) kind: u32,
    pub(super) overhead_kind: u32,
    pub(super) object_kind: u32,
    pub(super) object_id: [u32; 3],
    pub(super) start: u64,
    pub(super) end: u64,
}

/// An event put into a stream.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct CudaEvent {
    pub(super) kind: u32,
    pub(super) correlation_id: u32,
    context_id: u32,
    pub(super) stream_id: u32,
    pub(super) event_id: u32,
}

/// A wait.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Synchronization {
    pub(super) kind: u32,
    pub(super) sync_kind: u32,
    pub(super) start: u64,
    pub(super) end: u64,
    pub(super) correlation_id: u32,
    pub(super) context_id: u32,
    pub(super) stream_id: u32,
    pub(super) event_id: u32,
}

/// An allocation or release.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct Memory {
    pub(super) kind: u32,
    pub(super) operation: u32,
    pub(super) memory_kind: u32,
    correlation_id: u32,
    pub(super) address: u64,
    pub(super) bytes: u64,
    pub(super) timestamp: u64,
    pc: u64,
    process_id: u32,
    pub(super) device_id: u32,
    context_id: u32,
    stream_id: u32,
    name: usize,
    is_async: [u32; 2],
    pub(super) pool_type: u32,
    pad2: u32,
    pool_address: u64,
    release_threshold: u64,
    pub(super) pool_size: u64,
}

const _: () = assert!(
    offset_of!(Kernel, start) == 16
        && offset_of!(Kernel, grid) == 52
        && offset_of!(Kernel, correlation_id) == 92
        && offset_of!(Kernel, name) == 104
        && offset_of!(Kernel, graph_node_id) == 144
        && offset_of!(Kernel, graph_id) == 156
        && offset_of!(Kernel, channel_type) == 172
        && offset_of!(Memcpy, bytes) == 8
        && offset_of!(Memcpy, correlation_id) == 44
        && offset_of!(Memcpy, graph_id) == 72
        && offset_of!(Memset, correlation_id) == 44
        && offset_of!(Memset, memory_kind) == 50
        && offset_of!(Memset, graph_id) == 72
        && offset_of!(Api, correlation_id) == 32
        && offset_of!(Overhead, end) == 32
        && offset_of!(CudaEvent, event_id) == 16
        && offset_of!(Synchronization, event_id) == 36
        && offset_of!(Memory, device_id) == 52
        && offset_of!(Memory, pool_type) == 80
        && offset_of!(Memory, pool_size) == 104
);
