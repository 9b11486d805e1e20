//! Tells the program which commit it was built from and, with the `cuda` feature, compiles the kernels.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    commit();
    if env::var_os("CARGO_FEATURE_CUDA").is_some() {
        kernels();
    }
    #[cfg(feature = "cuda")]
    nvtx();
}

fn commit() {
    // In a worktree they are elsewhere.
    for file in ["HEAD", "logs/HEAD"] {
        // A path that does not exist, in an unpacked archive, would mean every time.
        if let Some(path) = git(&["--git-path", file]).filter(|path| Path::new(path).exists()) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    if let Some(commit) = git(&["HEAD"]) {
        println!("cargo:rustc-env=QWEN_GEN_COMMIT={commit}");
    }
}

fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("rev-parse").args(args).output();
    let output = output.ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// NVTX is a header of the toolkit.
#[cfg(feature = "cuda")]
fn nvtx() {
    let file = "src/profiler/nvtx.c";
    println!("cargo:rerun-if-changed={file}");
    println!("cargo:rerun-if-env-changed=CUDA_HOME");
    let toolkit = env::var_os("CUDA_HOME").unwrap_or_else(|| "/usr/local/cuda".into());
    cc::Build::new()
        .file(file)
        .include(Path::new(&toolkit).join("include"))
        .compile("qwen_gen_nvtx");
}

/// The files with kernels, each compiled to `OUT_DIR/<stem>.fatbin`; `OUT_DIR/modules.rs` lists them.
const KERNELS: &[&str] = &[
    "src/ops/attention.cu",
    "src/ops/conv2d.cu",
    "src/ops/elementwise.cu",
    "src/ops/guidance.cu",
    "src/ops/layer_norm.cu",
    "src/ops/joint_qkv.cu",
    "src/ops/merge_low_rank.cu",
    "src/ops/rms_norm.cu",
    "src/ops/rms_norm_silu.cu",
    "src/ops/rope_half.cu",
    "src/ops/to_bytes.cu",
    "src/weights/dummy.cu",
];

fn kernels() {
    println!("cargo:rerun-if-env-changed=CUDA_COMPUTE_CAP");
    println!("cargo:rerun-if-env-changed=NVCC");
    println!("cargo:rerun-if-env-changed=NVCC_APPEND_FLAGS");
    println!("cargo:rerun-if-changed=src/ops/cuda/common.cuh");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let architectures = architectures();
    let list = architectures.join(",");
    println!("cargo:rustc-env=QWEN_GEN_ARCHITECTURES={list}");
    let mut modules = Vec::new();
    for file in KERNELS {
        println!("cargo:rerun-if-changed={file}");
        let stem = Path::new(file).file_stem().expect("a file name");
        let target = out.join(stem).with_extension("fatbin");
        modules.push(format!(
            r#"("{}", include_bytes!(r"{}"))"#,
            stem.display(),
            target.display()
        ));
        let mut nvcc = Command::new(nvcc());
        nvcc.args([
            "-O3",
            "--std=c++17",
            "--fatbin",
            "-I",
            "src/ops",
            file,
            "-o",
        ]);
        nvcc.arg(&target);
        for architecture in &architectures {
            nvcc.arg(format!(
                "-gencode=arch=compute_{architecture},code=sm_{architecture}"
            ));
        }
        // Newer GPUs compile the newest architecture's portable code when the program starts.
        if let Some(newest) = architectures.last() {
            nvcc.arg(format!(
                "-gencode=arch=compute_{newest},code=compute_{newest}"
            ));
        }
        let status = nvcc.status().unwrap_or_else(|error| {
            panic!("the `cuda` feature needs nvcc (scripts/cuda-toolchain.sh): {error}")
        });
        assert!(status.success(), "nvcc failed on {file}");
    }
    let modules = format!("&[{}]", modules.join(",\n"));
    fs::write(out.join("modules.rs"), modules).expect("OUT_DIR is ours");
}

fn nvcc() -> PathBuf {
    if let Some(nvcc) = env::var_os("NVCC") {
        return nvcc.into();
    }
    match env::var_os("CUDA_HOME") {
        Some(home) => Path::new(&home).join("bin/nvcc"),
        None => "nvcc".into(),
    }
}

/// `CUDA_COMPUTE_CAP`, else the GPU in this machine, else all that the kernels are written for.
fn architectures() -> Vec<String> {
    if let Ok(cap) = env::var("CUDA_COMPUTE_CAP") {
        return vec![cap];
    }
    let query = Command::new("nvidia-smi")
        .args(["--query-gpu=compute_cap", "--format=csv,noheader"])
        .output();
    let detected = query.ok().filter(|output| output.status.success());
    let detected = detected.and_then(|output| String::from_utf8(output.stdout).ok());
    match detected.as_deref().and_then(|text| text.lines().next()) {
        Some(cap) => vec![cap.trim().replace('.', "")],
        None => ["80", "89", "90"].map(String::from).to_vec(),
    }
}
