//! Runs of the program itself, each in a folder of its own.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process;
use std::time::Duration;

use assert_cmd::Command;
use serde_json::Value;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_qwen-gen");

/// What [`Scratch::generate`] adds: the built-in model and as little work as shows something, on
/// the CPU of every machine.
const DEFAULTS: [(&str, &str); 6] = [
    ("--model-path", "builtin:tiny"),
    ("--prompt", "a red circle"),
    ("--width", "64"),
    ("--height", "64"),
    ("--num-inference-steps", "2"),
    ("--device", "cpu"),
];

/// A folder to run the program in.
pub struct Scratch(TempDir);

impl Scratch {
    pub fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    pub fn write(&self, file: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    /// Everything below a folder, sorted, folders with a slash; none when there is no such folder.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path(folder)).into_iter().flatten() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if entry.path().is_dir() {
                let inside = self.names(&format!("{folder}/{name}"));
                names.extend(inside.iter().map(|inner| format!("{name}/{inner}")));
                names.push(name + "/");
            } else {
                names.push(name);
            }
        }
        names.sort();
        names
    }

    /// The program with these arguments, to be started.
    pub fn process<S: AsRef<str>>(&self, args: &[S]) -> process::Command {
        self.prepared(&[PROGRAM], args)
    }

    /// A line of the shell, to be started, in which `"$0" "$@"` is the program with these arguments.
    pub fn shell<S: AsRef<str>>(&self, line: &str, args: &[S]) -> process::Command {
        self.prepared(&["sh", "-c", line, PROGRAM], args)
    }

    fn prepared<S: AsRef<str>>(&self, program: &[&str], args: &[S]) -> process::Command {
        let mut command = process::Command::new(program[0]);
        command
            .args(&program[1..])
            .args(args.iter().map(AsRef::as_ref))
            .current_dir(self.0.path())
            .env_remove("COLUMNS")
            .env_remove("RUST_BACKTRACE")
            .env_remove("SGLANG_DIFFUSION_TORCH_PROFILER_DIR")
            .env_remove("SGLANG_TORCH_PROFILER_DIR")
            .env_remove("QWEN_GEN_MEMORY_LIMIT_GIB")
            .env("SGLANG_GIT_COMMIT", "abc1234");
        command
    }

    /// The program with these arguments, to be run to its end.
    pub fn command<S: AsRef<str>>(&self, args: &[S]) -> Command {
        bounded(self.process(args))
    }

    pub fn run<S: AsRef<str>>(&self, args: &[S]) -> Run {
        Run::of(&mut self.command(args))
    }

    /// `generate` with these arguments, and the defaults for those not among them.
    pub fn generate(&self, args: &[&str]) -> Run {
        self.run(&generate_args(args))
    }

    /// As [`generate`](Self::generate), within the shell's `ulimit`.
    pub fn generate_within(&self, ulimit: &str, args: &[&str]) -> Run {
        let line = format!("ulimit {ulimit}; exec \"$0\" \"$@\"");
        Run::of(&mut bounded(self.shell(&line, &generate_args(args))))
    }

    /// A picture of the run with these arguments.
    #[track_caller]
    pub fn picture(&self, args: &[&str]) -> Picture {
        let file = ["--output-file-path", "picture.png"];
        self.generate(&[args, &file].concat()).success();
        Picture::read(&self.path("picture.png"))
    }
}

/// A command that has two minutes.
pub fn bounded(command: process::Command) -> Command {
    let mut command = Command::from_std(command);
    command.timeout(Duration::from_mins(2));
    command
}

/// `generate` with these arguments, and [`DEFAULTS`] for those not among them.
pub fn generate_args(args: &[&str]) -> Vec<String> {
    let given = |flag: &str| args.iter().any(|arg| arg.split('=').next() == Some(flag));
    let defaults = DEFAULTS
        .iter()
        .filter(|(flag, _)| !given(flag))
        .flat_map(|(flag, value)| [*flag, *value]);
    std::iter::once("generate")
        .chain(defaults)
        .chain(args.iter().copied())
        .map(str::to_owned)
        .collect()
}

/// How a run of the program ended.
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    pub fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    pub fn success(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }

    /// Fails as it should: this exit code, one `error:` line, at most a hint after it.
    #[track_caller]
    pub fn failure(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        let mut lines = self
            .stderr
            .lines()
            .skip_while(|line| line.starts_with("warning: "));
        let error = lines.next().unwrap_or_default();
        assert!(error.starts_with("error: "), "{}", self.stderr);
        assert!(
            lines.all(|line| line.starts_with("hint: ")),
            "{}",
            self.stderr
        );
        error.to_owned()
    }

    /// The object that `--json` prints.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).expect("one JSON object and nothing else")
    }
}

/// A PNG file.
#[derive(Debug, PartialEq)]
pub struct Picture {
    pub size: (u32, u32),
    pub rgb: Vec<u8>,
    /// Text chunks by keyword.
    pub text: BTreeMap<String, String>,
}

impl Picture {
    #[track_caller]
    pub fn read(path: &Path) -> Self {
        let file = std::io::BufReader::new(fs::File::open(path).unwrap());
        let mut reader = png::Decoder::new(file).read_info().unwrap();
        let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut rgb).unwrap();
        reader.finish().unwrap();
        let info = reader.info();
        assert_eq!(info.color_type, png::ColorType::Rgb);
        let latin = info.uncompressed_latin1_text.iter();
        let utf8 = info.utf8_text.iter();
        Self {
            size: (info.width, info.height),
            text: latin
                .map(|chunk| (chunk.keyword.clone(), chunk.text.clone()))
                .chain(utf8.map(|chunk| (chunk.keyword.clone(), chunk.get_text().unwrap())))
                .collect(),
            rgb,
        }
    }

    /// The JSON chunk.
    #[track_caller]
    pub fn recipe(&self) -> Value {
        serde_json::from_str(&self.text["qwen-gen"]).unwrap()
    }

    /// Mean absolute difference of the pixels.
    #[track_caller]
    pub fn difference(&self, other: &Self) -> f64 {
        assert_eq!(self.size, other.size);
        let differences = self.rgb.iter().zip(&other.rgb);
        let sum: u64 = differences.map(|(a, b)| u64::from(a.abs_diff(*b))).sum();
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let mean = sum as f64 / self.rgb.len() as f64;
        mean
    }
}

/// A folder with one of the random checkpoints, to be spoilt.
pub fn copy_checkpoint(name: &str, to: &Path) {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.path().is_dir() {
                copy(&entry.path(), &target);
            } else {
                fs::copy(entry.path(), target).unwrap();
            }
        }
    }
    copy(&checkpoint(name), to);
}

/// One of the random checkpoints.
pub fn checkpoint(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/checkpoints")
        .join(name)
}
