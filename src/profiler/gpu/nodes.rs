//! Which operator each node of a CUDA graph is of.
//!
//! A record tells the node that a kernel was, and no more. CUPTI calls back when a node is made, while its
//! operator is captured, and when it is cloned into the graph that is launched, whose nodes the records tell.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::mem::{offset_of, take};
use std::ptr;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::cupti::Cupti;
use crate::ops::span::captured::{CapturedOperator, innermost};

/// `CUPTI_CB_DOMAIN_RESOURCE`.
const RESOURCE: u32 = 3;
/// `CUPTI_CBID_RESOURCE_GRAPHNODE_CREATED` and `_CLONED`.
const CREATED: u32 = 13;
const CLONED: u32 = 20;

pub(super) type Node = *mut c_void;
pub(super) type Callback = extern "C" fn(*mut c_void, u32, u32, *const ResourceData);

/// The functions that are used.
pub(super) struct Functions {
    pub(super) subscribe: unsafe extern "C" fn(*mut *mut c_void, Callback, *mut c_void) -> u32,
    pub(super) enable_callback: unsafe extern "C" fn(u32, *mut c_void, u32, u32) -> u32,
    pub(super) get_graph_node_id: unsafe extern "C" fn(Node, *mut u64) -> u32,
}

/// `CUpti_ResourceData`.
#[repr(C)]
pub(super) struct ResourceData {
    context: *mut c_void,
    stream: *mut c_void,
    descriptor: *const GraphData,
}

/// The beginning of `CUpti_GraphData`.
#[repr(C)]
struct GraphData {
    graphs: [*mut c_void; 2],
    node: Node,
    original_node: Node,
}

const _: () = assert!(
    offset_of!(ResourceData, descriptor) == 16 && offset_of!(GraphData, original_node) == 24
);

/// Operators by the nodes' ids.
static OPERATORS: Mutex<BTreeMap<u64, CapturedOperator>> = Mutex::new(BTreeMap::new());

fn operators() -> MutexGuard<'static, BTreeMap<u64, CapturedOperator>> {
    OPERATORS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps the operators of nodes from now on.
///
/// # Errors
/// Says what is refused.
pub(super) fn subscribe(cupti: &'static Cupti) -> Result<(), String> {
    static SUBSCRIBED: OnceLock<Result<(), String>> = OnceLock::new();
    let subscribe = || {
        let functions = cupti.graphs.as_ref().ok_or("CUPTI is too old")?;
        let mut subscriber = ptr::null_mut();
        let data = ptr::from_ref(functions).cast_mut().cast();
        // SAFETY: the callback and its data live as long as the process; `subscriber` is a place for the result.
        #[expect(unsafe_code, reason = "C functions")]
        unsafe {
            cupti.check((functions.subscribe)(&raw mut subscriber, on_node, data))?;
            for event in [CREATED, CLONED] {
                cupti.check((functions.enable_callback)(1, subscriber, RESOURCE, event))?;
            }
        }
        Ok(())
    };
    SUBSCRIBED.get_or_init(subscribe).clone()
}

/// The operators of all nodes that were made since the last call.
pub(super) fn take_operators() -> BTreeMap<u64, CapturedOperator> {
    take(&mut operators())
}

#[expect(unsafe_code, reason = "a C callback")]
extern "C" fn on_node(functions: *mut c_void, domain: u32, event: u32, data: *const ResourceData) {
    if domain != RESOURCE || data.is_null() {
        return;
    }
    // SAFETY: `subscribe` passed functions that live as long as the process.
    let functions = unsafe { &*functions.cast::<Functions>() };
    // SAFETY: CUPTI passes such data for events of resources, and a graph's for those of nodes.
    let Some(graph) = (unsafe { (*data).descriptor.as_ref() }) else {
        return;
    };
    let id = |node| {
        let mut id = 0;
        // SAFETY: CUPTI passed the node; `id` is a place for the result.
        let code = unsafe { (functions.get_graph_node_id)(node, &raw mut id) };
        (code == 0).then_some(id)
    };
    let mut operators = operators();
    let operator = match event {
        CREATED => innermost(),
        CLONED => id(graph.original_node).and_then(|original| operators.get(&original).copied()),
        _ => None,
    };
    if let (Some(operator), Some(id)) = (operator, id(graph.node)) {
        operators.insert(id, operator);
    }
}
