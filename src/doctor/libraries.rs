//! The driver and the libraries that a run on a GPU opens, each asked for where it is opened.

use std::fs;

use serde::Serialize;

/// A library.
#[derive(Debug, Serialize)]
pub struct Library {
    /// NVIDIA's name of it.
    pub name: &'static str,
    /// Its version, as it numbers itself; absent where the library is missing.
    pub version: Option<String>,
    /// What a run is like without it.
    pub without: &'static str,
}

/// Version of the kernel's driver or, in a container that hides it, of CUDA (`CUDA 13.0`).
pub(super) fn driver_version() -> Option<String> {
    let text = fs::read_to_string("/proc/driver/nvidia/version");
    let version = text.ok().and_then(|text| version_of(&text));
    #[cfg(feature = "cuda")]
    let version = version.or_else(|| {
        let cuda = crate::device::driver_version();
        (cuda > 0).then(|| format!("CUDA {}.{}", cuda / 1000, cuda % 1000 / 10))
    });
    version
}

/// The first word of the first line that is a version (`580.159.04`).
fn version_of(text: &str) -> Option<String> {
    let mut words = text.lines().next()?.split_whitespace();
    let is_version =
        |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    words.find(is_version).map(ToOwned::to_owned)
}

/// Whether this user may record GPU work: root, or the driver allows it to all.
pub(super) fn profiling_permitted() -> Option<bool> {
    use std::os::unix::fs::MetadataExt;

    let params = fs::read_to_string("/proc/driver/nvidia/params").ok()?;
    let is_root = fs::metadata("/proc/self").ok()?.uid() == 0;
    Some(is_root || !is_restricted(&params)?)
}

fn is_restricted(params: &str) -> Option<bool> {
    let mut lines = params.lines();
    let value = lines.find_map(|line| line.strip_prefix("RmProfilingAdminOnly:"))?;
    Some(value.trim() != "0")
}

#[cfg(feature = "cuda")]
pub(super) fn find() -> Vec<Library> {
    use crate::ops::cuda::{blas, cudnn};
    use crate::profiler;

    let three_parts = |version: usize| {
        let (major, rest) = (version / 10_000, version % 10_000);
        format!("{major}.{}.{}", rest / 100, rest % 100)
    };
    vec![
        Library {
            name: "cuBLASLt",
            version: blas::library_version().map(three_parts),
            without: "no run on a GPU",
        },
        Library {
            name: "cuDNN",
            version: cudnn::library_version().map(three_parts),
            without: "attention and decoding are slower",
        },
        Library {
            name: "CUPTI",
            version: profiler::cupti_version().map(|version| version.to_string()),
            without: "--profile records the host's rows only",
        },
        Library {
            name: "NVTX",
            version: Some("built in".to_owned()),
            without: "Nsight shows no stages and steps",
        },
    ]
}

#[cfg(not(feature = "cuda"))]
pub(super) fn find() -> Vec<Library> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drivers_files_are_understood() {
        for kernel in ["Kernel Module", "Open Kernel Module for x86_64"] {
            let text = format!(
                "NVRM version: NVIDIA UNIX x86_64 {kernel}  580.159.04  Release Build\nGCC version: 12.3.0\n"
            );
            assert_eq!(version_of(&text).as_deref(), Some("580.159.04"));
        }
        assert_eq!(version_of(""), None);
        let params = |value| format!("EnableMSI: 1\nRmProfilingAdminOnly: {value}\nX: 0\n");
        assert_eq!(is_restricted(&params(1)), Some(true));
        assert_eq!(is_restricted(&params(0)), Some(false));
        assert_eq!(is_restricted("EnableMSI: 1\n"), None);
    }
}
