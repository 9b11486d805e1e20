//! cuDNN's backend interface: entry points found at run time, and descriptors with attributes.

use std::ffi::{c_char, c_void};
use std::ptr;
use std::sync::Arc;

use candle_core::{Result, bail};
use libloading::Library as SharedLibrary;

use super::attribute::{Attribute, ENGINEHEUR_RESULTS, Handle, Raw, Value};

pub(super) type Status = i32;

/// `cudnnBackendDescriptorType_t`.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Pointwise = 0,
    Convolution = 1,
    EngineConfig = 3,
    EngineHeuristic = 4,
    ExecutionPlan = 5,
    OperationConvolutionForward = 10,
    OperationPointwise = 13,
    OperationGraph = 15,
    VariantPack = 16,
    Tensor = 17,
    OperationSdpaForward = 41,
}

/// The library's file, in every cuDNN 9.
pub(super) const FILE: &str = "libcudnn.so.9";

/// The version of the library, where it is there.
#[expect(unsafe_code, reason = "raw library calls")]
pub(super) fn library_version() -> Option<usize> {
    // SAFETY: the symbol has this signature, takes and changes nothing.
    unsafe {
        let library = SharedLibrary::new(FILE).ok()?;
        let version: unsafe extern "C" fn() -> usize = *library.get(b"cudnnGetVersion").ok()?;
        Some(version())
    }
}

/// Entry points of the library.
pub(super) struct Functions {
    pub(super) version: unsafe extern "C" fn() -> usize,
    pub(super) create: unsafe extern "C" fn(i32, *mut Raw) -> Status,
    pub(super) destroy: unsafe extern "C" fn(Raw) -> Status,
    pub(super) set: unsafe extern "C" fn(Raw, i32, i32, i64, *const c_void) -> Status,
    pub(super) get: unsafe extern "C" fn(Raw, i32, i32, i64, *mut i64, *mut c_void) -> Status,
    pub(super) finalize: unsafe extern "C" fn(Raw) -> Status,
    pub(super) execute: unsafe extern "C" fn(Handle, Raw, Raw) -> Status,
    pub(super) last_error: unsafe extern "C" fn(*mut c_char, usize),
    /// Keeps the entry points mapped.
    pub(super) _library: SharedLibrary,
}

/// A descriptor, destroyed when dropped.
pub(super) struct Descriptor {
    pub(super) raw: Raw,
    pub(super) functions: Arc<Functions>,
}

#[expect(unsafe_code, reason = "raw library calls")]
impl Descriptor {
    /// Sets an attribute.
    pub(super) fn set<T: Value>(&self, attribute: Attribute<T>, values: &[T]) -> Result<()> {
        let count = i64::try_from(values.len()).unwrap_or(i64::MAX);
        let Attribute { number, .. } = attribute;
        // SAFETY: reads `count` values of the attribute's type.
        let status = unsafe {
            (self.functions.set)(self.raw, number, T::TYPE, count, values.as_ptr().cast())
        };
        self.functions.check(status, "set an attribute")
    }

    /// Reads an attribute into `values`; the number found.
    pub(super) fn get<T: Value>(&self, attribute: Attribute<T>, values: &mut [T]) -> Result<usize> {
        let count = i64::try_from(values.len()).unwrap_or(i64::MAX);
        let Attribute { number, .. } = attribute;
        // Only a null pointer asks for the number of values.
        let place = if values.is_empty() {
            ptr::null_mut()
        } else {
            values.as_mut_ptr().cast()
        };
        let mut found = 0i64;
        // SAFETY: writes at most `count` values of the attribute's type.
        let status = unsafe {
            (self.functions.get)(self.raw, number, T::TYPE, count, &raw mut found, place)
        };
        self.functions.check(status, "get an attribute")?;
        Ok(usize::try_from(found).unwrap_or(0))
    }

    /// How many configurations a heuristic has found.
    pub(super) fn results(&self) -> Result<usize> {
        self.get(ENGINEHEUR_RESULTS, &mut [])
    }

    pub(super) fn finalize(&self) -> Result<()> {
        // SAFETY: a descriptor whose attributes are set.
        let status = unsafe { (self.functions.finalize)(self.raw) };
        self.functions.check(status, "finalize a descriptor")
    }
}

#[expect(unsafe_code, reason = "raw library calls")]
impl Drop for Descriptor {
    fn drop(&mut self) {
        // SAFETY: made by the same library, destroyed once.
        unsafe { (self.functions.destroy)(self.raw) };
    }
}

#[expect(unsafe_code, reason = "raw library calls")]
impl Functions {
    pub(super) fn check(&self, status: Status, what: &str) -> Result<()> {
        if status == 0 {
            return Ok(());
        }
        let mut message = [0u8; 512];
        // SAFETY: writes at most that many bytes, the last of them 0.
        unsafe { (self.last_error)(message.as_mut_ptr().cast(), message.len()) };
        let message = message.split(|byte| *byte == 0).next().unwrap_or_default();
        bail!(
            "cuDNN could not {what}: status {status}: {}",
            String::from_utf8_lossy(message).trim()
        )
    }
}
