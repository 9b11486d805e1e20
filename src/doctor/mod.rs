//! What this machine can run: facts, gathered without doing any of the work.
//!
//! A fact that cannot be found out is absent, never an error; what `generate` would refuse is the
//! report's verdict.

mod cpu;
mod folders;
mod libraries;
mod model;
mod text;

use serde::Serialize;

use self::cpu::Cpu;
use self::folders::{Folder, PICTURES};
use self::libraries::Library;
use self::model::Model;
use crate::device::{self, DeviceChoice, Gpu};
use crate::error::{Error, Result};
use crate::memory::HostMemory;
use crate::perf::commit_hash;
use crate::profiler;
use crate::request::SizeArgs;

/// What was found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The program itself.
    pub program: Program,
    /// The CPU.
    pub cpu: Cpu,
    /// The machine's memory, where `/proc` tells.
    pub memory: Option<HostMemory>,
    /// Version of the NVIDIA driver that is loaded.
    pub driver: Option<String>,
    /// GPUs that this build can use.
    pub gpus: Vec<Gpu>,
    /// Libraries of the GPU; none without GPU support.
    pub libraries: Vec<Library>,
    /// Whether the driver lets this user record GPU work, where it tells.
    pub profiling_permitted: Option<bool>,
    /// Folders the program writes to.
    pub folders: Vec<Folder>,
    /// The device `generate` would use, with the reason.
    pub device: Option<String>,
    /// The model asked for, where it is sound.
    pub model: Option<Model>,
    /// Why nothing can be said of it.
    pub model_unknown: Option<String>,
    /// Why `generate` would be refused.
    pub refusal: Option<Refusal>,
}

/// The program itself.
#[derive(Debug, Serialize)]
pub struct Program {
    /// Version of qwen-gen.
    pub version: &'static str,
    /// Commit it was built from.
    pub commit: String,
    /// Whether it has GPU support.
    pub cuda: bool,
    /// GPU architectures it has kernels for (`90`).
    pub architectures: Vec<&'static str>,
}

/// Why `generate` would be refused.
#[derive(Debug, Serialize)]
pub struct Refusal {
    /// What is wrong, as `generate` says it.
    pub reason: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self {
            reason: error.to_string(),
            hint: error.hint().map(ToOwned::to_owned),
        }
    }
}

impl Report {
    /// Looks at the machine, at `device`, and at the model at `model_path` if there is one, for
    /// pictures of `size`.
    #[must_use]
    pub fn gather(model_path: Option<&str>, size: SizeArgs, device: DeviceChoice) -> Self {
        let (chosen, no_device) = split(device.prepare());
        let model = match (model_path, &chosen) {
            (Some(path), Some(chosen)) => model::look_at(path, size, chosen).map(Some),
            _ => Ok(None),
        };
        let (model, no_model) = split(model);
        let (model, model_unknown) = match model.flatten() {
            Some(Ok(model)) => (Some(model), None),
            Some(Err(why)) => (None, Some(why)),
            None => (None, None),
        };
        let variable = |name: &str| std::env::var_os(name);
        let folders = folders::find(profiler::trace_folder(variable));
        let pictures = folders.iter().find(|folder| folder.name == PICTURES);
        let no_place = pictures
            .filter(|folder| !folder.writable)
            .map(|folder| Refusal {
                reason: format!("cannot write to the folder {}", folder.path.display()),
                hint: Some("--output-path names another".to_owned()),
            });
        Self {
            program: Program {
                version: env!("CARGO_PKG_VERSION"),
                commit: commit_hash(),
                cuda: cfg!(feature = "cuda"),
                architectures: option_env!("QWEN_GEN_ARCHITECTURES")
                    .map_or(Vec::new(), |list| list.split(',').collect()),
            },
            cpu: Cpu::read(),
            memory: HostMemory::read(),
            driver: libraries::driver_version(),
            gpus: device::gpus(),
            libraries: libraries::find(),
            profiling_permitted: libraries::profiling_permitted(),
            folders,
            device: chosen.map(|chosen| chosen.reason),
            model,
            model_unknown,
            refusal: no_device.or(no_model).or(no_place),
        }
    }
}

fn split<T>(result: Result<T>) -> (Option<T>, Option<Refusal>) {
    match result {
        Ok(value) => (Some(value), None),
        Err(error) => (None, Some(error.into())),
    }
}
