//! Tells the program which commit it was built from and, with the `cuda` feature, compiles the kernels.

use std::path::Path;
use std::process::Command;
#[cfg(feature = "cuda")]
use std::{env, fs, path::PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    commit();
    #[cfg(feature = "cuda")]
    {
        kernels();
        nvtx();
    }
}

fn commit() {
    // In a worktree they are elsewhere.
    for file in ["HEAD", "logs/HEAD"] {
        // A path that does not exist, in an unpacked archive, would mean every time.
        if let Some(path) = git(&["--git-path", file]).filter(|path| Path::new(path).exists()) {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    // In a copy inside another repository it would be that one's.
    let is_here = git(&["--show-prefix"]).is_some_and(|prefix| prefix.is_empty());
    if let Some(commit) = git(&["HEAD"]).filter(|_| is_here) {
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
    let usual = || ["/usr/local/cuda", "/opt/cuda"].map(PathBuf::from).to_vec();
    let toolkits = toolkit().map_or_else(usual, |named| vec![named]);
    cc::Build::new()
        .file(file)
        .includes(toolkits.iter().map(|toolkit| toolkit.join("include")))
        .compile("qwen_gen_nvtx");
}

/// The toolkit that the environment names.
#[cfg(feature = "cuda")]
fn toolkit() -> Option<PathBuf> {
    let variables = ["CUDA_HOME", "CUDA_PATH", "CUDA_ROOT"];
    for variable in variables {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    variables
        .into_iter()
        .find_map(env::var_os)
        .map(PathBuf::from)
}

/// Compiles each `src/ops/*.cu` to `OUT_DIR/<stem>.fatbin`; `OUT_DIR/modules.rs` lists them.
#[cfg(feature = "cuda")]
fn kernels() {
    println!("cargo:rerun-if-env-changed=CUDA_COMPUTE_CAP");
    println!("cargo:rerun-if-env-changed=NVCC");
    println!("cargo:rerun-if-env-changed=NVCC_APPEND_FLAGS");
    // A new operation is named there.
    println!("cargo:rerun-if-changed=src/ops/mod.rs");
    println!("cargo:rerun-if-changed=src/ops/cuda/common.cuh");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let nvcc = nvcc();
    let architectures = architectures();
    let list = architectures.join(",");
    println!("cargo:rustc-env=QWEN_GEN_ARCHITECTURES={list}");
    let mut modules = Vec::new();
    let files = fs::read_dir("src/ops").expect("the operations are there");
    let mut files: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    files.retain(|file| file.extension() == Some("cu".as_ref()));
    files.sort();
    for file in &files {
        println!("cargo:rerun-if-changed={}", file.display());
        let stem = file.file_stem().expect("a file name");
        let target = out.join(stem).with_extension("fatbin");
        modules.push(format!(
            r#"("{}", include_bytes!(r"{}"))"#,
            stem.display(),
            target.display()
        ));
        let mut compile = Command::new(&nvcc);
        compile.args(["-O3", "--std=c++17", "--fatbin", "-I", "src/ops", "-o"]);
        compile.args([&target, file]);
        for architecture in &architectures {
            compile.arg(format!(
                "-gencode=arch=compute_{architecture},code=sm_{architecture}"
            ));
        }
        // Newer GPUs compile the newest architecture's portable code when the program starts.
        if let Some(newest) = architectures.last() {
            compile.arg(format!(
                "-gencode=arch=compute_{newest},code=compute_{newest}"
            ));
        }
        let status = compile.status().unwrap_or_else(|error| {
            panic!("the `cuda` feature needs nvcc (scripts/cuda-toolchain.sh): {error}")
        });
        assert!(status.success(), "nvcc failed on {}", file.display());
    }
    let modules = format!("&[{}]", modules.join(",\n"));
    fs::write(out.join("modules.rs"), modules).expect("OUT_DIR is ours");
}

#[cfg(feature = "cuda")]
fn nvcc() -> PathBuf {
    if let Some(nvcc) = env::var_os("NVCC") {
        return nvcc.into();
    }
    toolkit().map_or("nvcc".into(), |toolkit| toolkit.join("bin/nvcc"))
}

/// `CUDA_COMPUTE_CAP`, else the GPU in this machine, else all that the kernels are written for.
#[cfg(feature = "cuda")]
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
