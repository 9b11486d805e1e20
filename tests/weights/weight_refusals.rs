//! Weight files that must be refused, each with the file and the reason.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use candle_core::{DType, Device};
use safetensors::tensor::{Dtype, TensorView};

use crate::checkpoint::{Checkpoint, INDEX, SHARD, index, raw, shard};

#[test]
fn refuses_names_that_leave_the_folder() {
    for name in [
        "../x.safetensors",
        "/etc/x.safetensors",
        "a/x.safetensors",
        "..",
        "",
        "a\\x.safetensors",
    ] {
        let checkpoint = Checkpoint::with(INDEX, index(&[("x", name)]));
        assert_eq!(
            checkpoint
                .weights_refusal()
                .split(", expected")
                .next()
                .unwrap(),
            format!("{INDEX}: weight_map names `{name}`")
        );
    }
    let checkpoint = Checkpoint::with(INDEX, index(&[("x", "model.bin")]));
    assert!(
        checkpoint
            .weights_refusal()
            .ends_with("pickles are never read")
    );
}

#[test]
fn refuses_indexes_that_do_not_match() {
    let checkpoint = Checkpoint::with(
        INDEX,
        index(&[("x", "a.safetensors"), ("y", "b.safetensors")]),
    );
    assert!(
        checkpoint
            .weights_refusal()
            .starts_with("vae/a.safetensors: not found in ")
    );
    checkpoint.write("vae/a.safetensors", shard(&["x"]));
    checkpoint.write("vae/b.safetensors", shard(&["z"]));
    assert_eq!(
        checkpoint.weights_refusal(),
        format!("{INDEX}: weight_map places tensor `y` in vae/b.safetensors, which lacks it")
    );
    checkpoint.write("vae/b.safetensors", shard(&["x", "y"]));
    assert_eq!(
        checkpoint.weights_refusal(),
        "vae/b.safetensors: tensor `x` is in vae/a.safetensors too"
    );
    checkpoint.write("vae/b.safetensors", shard(&["y"]));
    checkpoint.weights().unwrap();
    checkpoint.write("vae/other.safetensors.index.json", "{}");
    assert!(
        checkpoint
            .weights_refusal()
            .starts_with("vae: several indexes")
    );
    let checkpoint = Checkpoint::with(INDEX, index(&[]));
    assert!(
        checkpoint
            .weights_refusal()
            .ends_with("weight_map is empty")
    );
    checkpoint.write(INDEX, "{\"weight_map\": {\"x\": \"a\", \"x\": \"b\"}}");
    assert!(
        checkpoint
            .weights_refusal()
            .contains("tensor `x` appears twice")
    );
}

#[test]
fn refuses_folders_without_one_file() {
    let checkpoint = Checkpoint::new();
    assert_eq!(checkpoint.weights_refusal(), "vae: no *.safetensors");
    checkpoint.write("vae/pytorch_model.bin", "");
    assert_eq!(
        checkpoint.weights_refusal(),
        "vae: no *.safetensors, only `pytorch_model.bin`"
    );
    checkpoint.write("vae/a.safetensors", "");
    checkpoint.write("vae/b.safetensors", "");
    assert_eq!(
        checkpoint.weights_refusal(),
        "vae: several files and no index: a.safetensors, b.safetensors"
    );
    // As diffusers: what has no variant in its name is meant.
    let name = "vae/diffusion_pytorch_model";
    checkpoint.write(&format!("{name}.fp16.safetensors"), "");
    checkpoint.write(&format!("{name}.fp16.safetensors.index.json"), "");
    checkpoint.write("vae/._diffusion_pytorch_model.safetensors", "");
    checkpoint.write(&format!("{name}.safetensors"), shard(&["x"]));
    checkpoint.weights().unwrap();
    fs::remove_dir_all(checkpoint.path("vae")).unwrap();
    assert!(
        checkpoint
            .weights_refusal()
            .starts_with("vae: not found in ")
    );
}

#[test]
fn refuses_what_is_not_a_regular_file() {
    let irregular = format!("{SHARD}: cannot be opened: not a regular file");
    let checkpoint = Checkpoint::new();
    let path = checkpoint.path(SHARD);
    assert!(
        Command::new("mkfifo")
            .arg(&path)
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(checkpoint.weights_refusal(), irregular);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(checkpoint.weights_refusal(), irregular);
    fs::remove_dir(&path).unwrap();
    symlink("/dev/zero", &path).unwrap();
    assert_eq!(checkpoint.weights_refusal(), irregular);
}

#[test]
fn refuses_files_that_are_not_whole() {
    let good = shard(&["x", "y"]);
    for len in [0, 7, 8, 40, good.len() - 1] {
        let message = Checkpoint::with(SHARD, &good[..len]).weights_refusal();
        assert!(message.starts_with(SHARD), "{len}: {message}");
    }
    let longer = [good.as_slice(), b"x"].concat();
    assert_eq!(
        Checkpoint::with(SHARD, longer).weights_refusal(),
        format!("{SHARD}: 17 bytes of tensors, the header describes 16")
    );
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4\n";
    assert_eq!(
        Checkpoint::with(SHARD, pointer).weights_refusal(),
        format!("{SHARD}: a git-lfs pointer, not the file itself")
    );
    let error = Checkpoint::with("vae/config.json", pointer).config_refusal();
    assert!(error.contains("git-lfs"));
}

/// The header was good, then another process cut the file: an error, not a SIGBUS.
#[test]
fn a_file_cut_short_while_it_is_read_is_an_error() {
    let checkpoint = Checkpoint::with(SHARD, shard(&["x"]));
    let weights = checkpoint.weights().unwrap();
    let file = fs::File::options()
        .write(true)
        .open(checkpoint.path(SHARD))
        .unwrap();
    file.set_len(64).unwrap();
    let vb = weights.var_builder(DType::F32, &Device::Cpu);
    let message = vb.get(2, "x").unwrap_err().to_string();
    assert!(
        message.starts_with(&format!("{SHARD}: cannot read tensor `x`: ")),
        "{message}"
    );
}

#[test]
fn refuses_hostile_headers() {
    let entry = |name: &str, dtype: &str, shape: &str, offsets: &str| {
        format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
    };
    let x = |dtype, shape, offsets| entry("x", dtype, shape, offsets);
    let max = u64::MAX;
    for (entries, why) in [
        (
            vec![x("F32", "[2]", "[0,8]"), entry("y", "F32", "[2]", "[4,12]")],
            "tensor `y` does not start where",
        ),
        (
            vec![x("F32", "[2]", "[4,12]")],
            "tensor `x` does not start where",
        ),
        (
            vec![x("F32", "[2]", "[0,8]"), x("F32", "[2]", "[8,16]")],
            "tensor `x` appears twice at line 1",
        ),
        (
            vec![x("F32", "[4]", "[0,16]")],
            "12 bytes of tensors, the header describes 16",
        ),
        (
            vec![x("F32", "[1]", "[0,4]")],
            "12 bytes of tensors, the header describes 4",
        ),
        (
            vec![x("F32", "[2]", "[8,0]")],
            "tensor `x`: data_offsets [8, 0], expected 8 bytes for F32 [2]",
        ),
        (
            vec![x("F32", "[2]", "[0,12]")],
            "tensor `x`: data_offsets [0, 12], expected 8 bytes for F32 [2]",
        ),
        (
            vec![x("F32", &format!("[{max},2]"), "[0,12]")],
            "tensor `x`: shape [18446744073709551615, 2] overflows",
        ),
        (
            vec![x("F32", "[4294967296,4294967296]", "[0,0]")],
            "tensor `x`: shape [4294967296, 4294967296] overflows",
        ),
        (
            vec![x("F32", "[1,1,1,1,1,1,1,1,3]", "[0,12]")],
            "tensor `x` has 9 dimensions, expected at most 8",
        ),
        (
            vec![x("F32", "[3,0]", "[0,0]")],
            "tensor `x` is empty: shape [3, 0]",
        ),
        (
            vec![x("F32", "[-3]", "[0,12]")],
            "tensor `x`: invalid value: integer `-3`, expected usize",
        ),
        (
            vec![x("F33", "[3]", "[0,12]")],
            "tensor `x`: unknown variant `F33`",
        ),
        (
            vec![x("F\\u001b[31m", "[3]", "[0,12]")],
            "tensor `x`: unknown variant `F\\u{1b}[31m`",
        ),
        (
            vec![r#""x":{"dtype":"F32","shape":[3]}"#.into()],
            "tensor `x`: missing field `data_offsets`",
        ),
        (vec!["[".repeat(100_000)], "nested 100001 levels deep"),
        (
            vec![r#""x":"#.into()],
            "tensor `x`: expected value at line 1 column 6",
        ),
        (
            vec!["x".into()],
            "not valid JSON: key must be a string at line 1 column 2",
        ),
    ] {
        let header = format!("{{{}}}", entries.join(","));
        let message = Checkpoint::with(SHARD, raw(&header, 12)).weights_refusal();
        assert!(
            message.starts_with(&format!("{SHARD}: {why}")),
            "{message}\nexpected {why}"
        );
    }
}

#[test]
fn refuses_hostile_header_lengths() {
    for (length, why) in [
        (
            u64::MAX,
            "header of 18446744073709551615 bytes, expected at most 100000000",
        ),
        (
            100_000_001,
            "header of 100000001 bytes, expected at most 100000000",
        ),
        (
            99_999_999,
            "cut short: header of 99999999 bytes in a file of 12",
        ),
    ] {
        let mut file = length.to_le_bytes().to_vec();
        file.extend(b"{}  ");
        assert_eq!(
            Checkpoint::with(SHARD, file).weights_refusal(),
            format!("{SHARD}: {why}")
        );
    }
}

#[test]
fn refuses_dtypes_that_are_not_plain_floats() {
    let view = TensorView::new(Dtype::F8_E4M3, vec![2], &[0, 0]).unwrap();
    let checkpoint = Checkpoint::with(SHARD, safetensors::serialize([("x", view)], None).unwrap());
    let weights = checkpoint.weights().unwrap();
    let error = weights
        .var_builder(DType::F32, &Device::Cpu)
        .get(2, "x")
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{SHARD}: tensor `x` is stored as F8_E4M3, expected F32, F16, BF16 or F64")
    );
}
