//! CUPTI's activity interface: found at run time, called through a table, filling buffers.
//!
//! It is one for the process and its callbacks take no argument of ours, so the table, and the
//! buffers that wait to be read, are global.

use std::ffi::{CStr, c_char, c_void};
use std::fmt;
use std::mem::take;
use std::path::PathBuf;
use std::ptr::{self, slice_from_raw_parts_mut};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use libloading::{Library, Symbol};

use super::MAX_RECORD_BYTES;
use super::nodes;
use crate::profiler::clock::Timestamp;
use crate::profiler::trace::Api;

/// CUPTI asks for buffers of this size: 4 MiB hold some 30,000 records.
const BUFFER_WORDS: usize = (4 << 20) / size_of::<u64>();
/// `CUPTI_ACTIVITY_FLAG_FLUSH_FORCED`.
const FLUSH_FORCED: u32 = 1;
/// `CUPTI_ACTIVITY_THREAD_ID_TYPE_SYSTEM`: the numbers that the system gives threads.
const THREAD_ID_SYSTEM: u32 = 1;
/// `CUPTI_CB_DOMAIN_DRIVER_API` and `CUPTI_CB_DOMAIN_RUNTIME_API`.
const DOMAINS: (u32, u32) = (1, 2);

/// Calls that ask and change nothing. Libraries make several around each kernel; to record them all would
/// double the records of calls and slow the host down.
const QUESTIONS: [&str; 9] = [
    "cuCtxGetCurrent",
    "cuDeviceGet",
    "cuGetErrorString",
    "cuKernelGetAttribute",
    "cuModuleGetFunction",
    "cudaGetDevice",
    "cudaGetErrorString",
    "cudaGetLastError",
    "cudaStreamIsCapturing",
];
/// More than there are functions of a domain.
const MAX_CBID: u32 = 2000;

type Requested = extern "C" fn(*mut *mut u8, *mut usize, *mut usize);
type Completed = extern "C" fn(*mut c_void, u32, *mut u8, usize, usize);
type Clock = extern "C" fn() -> u64;

/// The functions that are used.
pub(super) struct Cupti {
    activity_disable: unsafe extern "C" fn(u32) -> u32,
    activity_enable: unsafe extern "C" fn(u32) -> u32,
    /// Of the driver and of the runtime, where the library has them.
    enable_call: Option<[unsafe extern "C" fn(u32, u8) -> u32; 2]>,
    /// Where the library has them.
    pub(super) graphs: Option<nodes::Functions>,
    flush_all: unsafe extern "C" fn(u32) -> u32,
    get_next_record: unsafe extern "C" fn(*mut u8, usize, *mut *mut u8) -> u32,
    get_num_dropped: unsafe extern "C" fn(*mut c_void, u32, *mut usize) -> u32,
    register_callbacks: unsafe extern "C" fn(Requested, Completed) -> u32,
    register_clock: unsafe extern "C" fn(Clock) -> u32,
    get_callback_name: unsafe extern "C" fn(u32, u32, *mut *const c_char) -> u32,
    get_result_string: unsafe extern "C" fn(u32, *mut *const c_char) -> u32,
    get_version: unsafe extern "C" fn(*mut u32) -> u32,
    set_thread_id_type: unsafe extern "C" fn(u32) -> u32,
}

/// Buffers that CUPTI has filled.
#[derive(Default)]
struct Filled {
    buffers: Vec<Buffer>,
    lost_bytes: usize,
}

/// A buffer and how much of it holds records.
pub(super) struct Buffer {
    words: Box<[u64]>,
    valid_bytes: usize,
}

static FILLED: Mutex<Filled> = Mutex::new(Filled {
    buffers: Vec::new(),
    lost_bytes: 0,
});

fn filled() -> MutexGuard<'static, Filled> {
    FILLED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives CUPTI a buffer.
#[expect(unsafe_code, reason = "a C callback")]
extern "C" fn requested(buffer: *mut *mut u8, size: *mut usize, max_records: *mut usize) {
    let words = vec![0u64; BUFFER_WORDS].into_boxed_slice();
    // SAFETY: CUPTI passes places for its results; it returns the buffer through `completed`.
    unsafe {
        *buffer = Box::into_raw(words).cast();
        *size = BUFFER_WORDS * size_of::<u64>();
        *max_records = 0; // as many as fit
    }
}

/// Takes a buffer back; it is read after the run.
#[expect(unsafe_code, reason = "a C callback")]
extern "C" fn completed(
    _context: *mut c_void,
    _stream: u32,
    buffer: *mut u8,
    _: usize,
    valid: usize,
) {
    if buffer.is_null() {
        return;
    }
    // SAFETY: the pointer is one that `requested` gave away, and comes back once.
    let words = unsafe { Box::from_raw(slice_from_raw_parts_mut(buffer.cast(), BUFFER_WORDS)) };
    let mut filled = filled();
    if (filled.buffers.len() + 1) * size_of_val(&*words) > MAX_RECORD_BYTES {
        filled.lost_bytes += valid;
    } else if valid > 0 {
        filled.buffers.push(Buffer {
            words,
            valid_bytes: valid,
        });
    }
}

/// Makes the host's clock the clock of all records.
extern "C" fn clock() -> u64 {
    Timestamp::now().0
}

impl Cupti {
    /// The library with its callbacks registered, opened at the first call.
    pub(super) fn get() -> Result<&'static Self, String> {
        static CUPTI: OnceLock<Result<Cupti, String>> = OnceLock::new();
        CUPTI.get_or_init(Self::open).as_ref().map_err(Clone::clone)
    }

    fn open() -> Result<Self, String> {
        let cupti = Self::load()?;
        // SAFETY: the callbacks live as long as the process.
        #[expect(unsafe_code, reason = "C functions")]
        unsafe {
            cupti.check((cupti.register_clock)(clock))?;
            cupti.check((cupti.set_thread_id_type)(THREAD_ID_SYSTEM))?;
            cupti.check((cupti.register_callbacks)(requested, completed))?;
        }
        Ok(cupti)
    }

    fn load() -> Result<Self, String> {
        let mut failures = Vec::new();
        for path in candidates() {
            // SAFETY: NVIDIA's library, whose constructors ask nothing of us.
            #[expect(unsafe_code, reason = "opens a library")]
            match unsafe { Library::new(&path) } {
                // Never closed: it leaves code behind that runs when threads end.
                Ok(library) => return Self::bind(Box::leak(Box::new(library))),
                Err(error) => failures.push(error.to_string()),
            }
        }
        // The first name is the one to install.
        let failure = failures.into_iter().next().unwrap_or_default();
        Err(format!("CUPTI is not there: {failure}"))
    }

    #[expect(unsafe_code, reason = "takes functions from a library")]
    fn bind(library: &'static Library) -> Result<Self, String> {
        macro_rules! function {
            ($name:literal) => {{
                // SAFETY: the type is the one that cupti.h declares.
                let symbol: Result<Symbol<'_, _>, _> = unsafe { library.get($name) };
                *symbol.map_err(|error| error.to_string())?
            }};
        }
        let enable_call = || {
            Ok::<_, String>([
                function!(b"cuptiActivityEnableDriverApi\0"),
                function!(b"cuptiActivityEnableRuntimeApi\0"),
            ])
        };
        let graphs = || {
            Ok::<_, String>(nodes::Functions {
                subscribe: function!(b"cuptiSubscribe\0"),
                enable_callback: function!(b"cuptiEnableCallback\0"),
                get_graph_node_id: function!(b"cuptiGetGraphNodeId\0"),
            })
        };
        Ok(Self {
            enable_call: enable_call().ok(),
            graphs: graphs().ok(),
            activity_disable: function!(b"cuptiActivityDisable\0"),
            activity_enable: function!(b"cuptiActivityEnable\0"),
            flush_all: function!(b"cuptiActivityFlushAll\0"),
            get_next_record: function!(b"cuptiActivityGetNextRecord\0"),
            get_num_dropped: function!(b"cuptiActivityGetNumDroppedRecords\0"),
            register_callbacks: function!(b"cuptiActivityRegisterCallbacks\0"),
            register_clock: function!(b"cuptiActivityRegisterTimestampCallback\0"),
            get_callback_name: function!(b"cuptiGetCallbackName\0"),
            get_result_string: function!(b"cuptiGetResultString\0"),
            get_version: function!(b"cuptiGetVersion\0"),
            set_thread_id_type: function!(b"cuptiSetThreadIdType\0"),
        })
    }
}

/// The version of the library, where it is there.
pub(crate) fn version() -> Option<u32> {
    Some(Cupti::load().ok()?.version())
}

/// The system's library, the toolkit's, and those of versions with the same records.
fn candidates() -> Vec<PathBuf> {
    let named = ["CUDA_HOME", "CUDA_PATH", "CUDA_ROOT"]
        .into_iter()
        .find_map(std::env::var_os);
    let usual = || ["/usr/local/cuda", "/opt/cuda"].map(PathBuf::from).to_vec();
    let toolkits = named.map_or_else(usual, |named| vec![named.into()]);
    let mut candidates = Vec::new();
    for name in ["libcupti.so.13", "libcupti.so.12"] {
        candidates.push(name.into());
        for toolkit in &toolkits {
            candidates.push(toolkit.join("extras/CUPTI/lib64").join(name));
            candidates.push(toolkit.join("lib64").join(name));
        }
    }
    candidates
}

#[expect(unsafe_code, reason = "C functions")]
impl Cupti {
    /// Starts recording a kind of activity.
    pub(super) fn enable(&self, kind: u32) -> Result<(), String> {
        // SAFETY: a number; CUPTI refuses those it does not know.
        self.check(unsafe { (self.activity_enable)(kind) })
    }

    /// Records no more [`QUESTIONS`], until a kind of calls is enabled again.
    pub(super) fn leave_out_questions(&self) {
        static CBIDS: OnceLock<Vec<(Api, u32)>> = OnceLock::new();
        let Some([driver, runtime]) = self.enable_call else {
            return;
        };
        let cbids = CBIDS.get_or_init(|| {
            let all = |api| (1..MAX_CBID).map(move |cbid| (api, cbid));
            let all = all(Api::Driver).chain(all(Api::Runtime));
            let asks = |(api, cbid): &(Api, u32)| {
                let name = self.function_name(*api, *cbid);
                name.is_some_and(|name| QUESTIONS.contains(&name))
            };
            all.filter(asks).collect()
        });
        for (api, cbid) in cbids {
            let enable = match api {
                Api::Driver => driver,
                Api::Runtime => runtime,
            };
            // SAFETY: numbers. A call that is recorded all the same is no harm.
            let _ = unsafe { enable(*cbid, 0) };
        }
    }

    /// Stops recording a kind of activity.
    pub(super) fn disable(&self, kind: u32) {
        // SAFETY: as above. What was not enabled stays disabled.
        let _ = unsafe { (self.activity_disable)(kind) };
    }

    /// Has CUPTI hand over what it has recorded so far.
    pub(super) fn flush(&self) {
        // SAFETY: CUPTI calls `completed` for each of its buffers.
        let _ = unsafe { (self.flush_all)(FLUSH_FORCED) };
    }

    /// Everything recorded so far, and the bytes that were beyond the bound.
    pub(super) fn take(&self) -> (Vec<Buffer>, usize) {
        self.flush();
        let Filled {
            buffers,
            lost_bytes,
        } = take(&mut *filled());
        (buffers, lost_bytes)
    }

    /// Records that CUPTI had no room for since the last call.
    pub(super) fn dropped(&self) -> u64 {
        let mut dropped = 0;
        // SAFETY: no context and stream 0 mean all; `dropped` is a place for the result.
        let _ = unsafe { (self.get_num_dropped)(ptr::null_mut(), 0, &raw mut dropped) };
        dropped as u64
    }

    /// Calls `read` with each record of a buffer.
    pub(super) fn for_each_record(&self, mut buffer: Buffer, mut read: impl FnMut(*const u8)) {
        let start = buffer.words.as_mut_ptr().cast();
        let mut record = ptr::null_mut();
        // SAFETY: the buffer was filled by CUPTI up to `valid_bytes`, and outlives the records.
        while unsafe { (self.get_next_record)(start, buffer.valid_bytes, &raw mut record) } == 0 {
            read(record);
        }
    }

    /// The name of an API function, without the version that CUPTI adds to the runtime's.
    pub(super) fn function_name(&self, api: Api, cbid: u32) -> Option<&'static str> {
        let domain = match api {
            Api::Driver => DOMAINS.0,
            Api::Runtime => DOMAINS.1,
        };
        let mut name = ptr::null();
        // SAFETY: `name` is a place for the result.
        let code = unsafe { (self.get_callback_name)(domain, cbid, &raw mut name) };
        // SAFETY: CUPTI's names are constants of the library, which is never closed.
        let name = (code == 0 && !name.is_null()).then(|| unsafe { CStr::from_ptr(name) })?;
        Some(unversioned(api, name.to_str().ok()?))
    }

    /// CUPTI's version, as it numbers itself.
    pub(super) fn version(&self) -> u32 {
        let mut version = 0;
        // SAFETY: `version` is a place for the result.
        let _ = unsafe { (self.get_version)(&raw mut version) };
        version
    }

    pub(super) fn check(&self, code: u32) -> Result<(), String> {
        if code == 0 {
            return Ok(());
        }
        let mut text = ptr::null();
        // SAFETY: `text` is a place for the result, which is a constant of the library.
        let text = unsafe {
            let known = (self.get_result_string)(code, &raw mut text) == 0 && !text.is_null();
            known.then(|| CStr::from_ptr(text).to_string_lossy())
        };
        Err(format!("CUPTI error {code}, {}", text.unwrap_or_default()))
    }
}

/// Without the version of the runtime's names: `cudaLaunchKernel_v7000`.
fn unversioned(api: Api, name: &'static str) -> &'static str {
    match (api, name.rsplit_once("_v")) {
        (Api::Runtime, Some((name, version)))
            if !version.is_empty() && version.bytes().all(|b| b.is_ascii_digit()) =>
        {
            name
        }
        _ => name,
    }
}

impl fmt::Debug for Cupti {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cupti")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_is_there_has_the_functions_and_knows_their_names() {
        match Cupti::load() {
            Ok(cupti) => {
                assert!(cupti.version() > 0);
                let name = cupti.function_name(Api::Runtime, 211);
                assert_eq!(name, Some("cudaLaunchKernel"));
                assert_eq!(cupti.function_name(Api::Driver, u32::MAX), None);
                assert!(cupti.check(0).is_ok());
                let error = cupti.check(35).expect_err("an error's number");
                assert!(error.contains("PRIVILEGES"), "{error}");
            }
            Err(why) => assert!(why.starts_with("CUPTI is not there: "), "{why}"),
        }
    }

    #[test]
    fn names_have_no_version_of_cupti() {
        assert_eq!(
            unversioned(Api::Runtime, "cudaLaunchKernel_v7000"),
            "cudaLaunchKernel"
        );
        assert_eq!(
            unversioned(Api::Driver, "cuMemcpyHtoDAsync_v2"),
            "cuMemcpyHtoDAsync_v2"
        );
        assert_eq!(
            unversioned(Api::Runtime, "cudaMalloc_value"),
            "cudaMalloc_value"
        );
    }
}
