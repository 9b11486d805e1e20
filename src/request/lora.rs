//! Which LoRA files, and how strong.

use std::fs;
use std::io;
use std::path::Path;

use crate::error::{Error, Result};
use crate::weights::{Lora, is_repository_id, listing};

const SUFFIX: &str = ".safetensors";

/// What was typed of LoRAs, before defaults.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "the flags of the same names")]
pub struct LoraArgs {
    pub paths: Vec<String>,
    pub scales: Vec<f64>,
    pub weight_name: Option<String>,
}

/// The file and the scale of each path.
pub(super) fn resolve_loras(args: &LoraArgs) -> Result<Vec<Lora>> {
    let scales = match args.scales.as_slice() {
        [scale] => vec![*scale; args.paths.len()],
        scales if scales.len() == args.paths.len() => scales.to_vec(),
        scales => {
            return Err(Error::usage(format!(
                "--lora-scale has {} values: expected 1, or {} (one for each --lora-path)",
                scales.len(),
                args.paths.len()
            )));
        }
    };
    let weight_name = args.weight_name.as_deref();
    let paths = args.paths.iter().zip(scales);
    paths
        .map(|(path, scale)| {
            if !(-100.0..=100.0).contains(&scale) {
                return Err(Error::usage(format!(
                    "--lora-scale {scale}: expected a number from -100 to 100"
                )));
            }
            let file = find_file(path, weight_name)?;
            Ok(Lora { file, scale })
        })
        .collect()
}

/// The file that `--lora-path` means: itself, or one in that folder.
fn find_file(path: &str, weight_name: Option<&str>) -> Result<String> {
    let refuse = |why: &str, hint: Option<String>| Error::Usage {
        message: format!("--lora-path `{path}`: {why}"),
        hint,
    };
    let is_id = is_repository_id(path) && !path.ends_with(SUFFIX);
    let metadata = fs::metadata(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound if is_id => refuse(
            "no such file or folder, and this build does not download from the Hugging Face Hub",
            Some(format!(
                "`hf download {path} --local-dir DIR`, then pass DIR"
            )),
        ),
        io::ErrorKind::NotFound => refuse("no such file or folder", None),
        _ => refuse(&error.to_string(), None),
    })?;
    if !metadata.is_dir() {
        return match weight_name {
            None if path.ends_with(SUFFIX) => Ok(path.to_owned()),
            None => Err(refuse("expected a *.safetensors file or a folder", None)),
            Some(_) => Err(refuse("a file; --lora-weight-name is for folders", None)),
        };
    }
    let names = safetensors_in(path)
        .map_err(|error| refuse(&format!("cannot be listed: {error}"), None))?;
    let listing = listing(&names.iter().collect::<Vec<_>>());
    let name = match (weight_name, names.as_slice()) {
        (_, []) => return Err(refuse("no *.safetensors in this folder", None)),
        (None, [name]) => name,
        (None, _) => {
            let hint = "--lora-weight-name picks one".to_owned();
            return Err(refuse(&format!("several files: {listing}"), Some(hint)));
        }
        (Some(name), names) => names.iter().find(|known| *known == name).ok_or_else(|| {
            let hint = format!("there are {listing}");
            refuse(&format!("no `{name}` in this folder"), Some(hint))
        })?,
    };
    // Both are UTF-8.
    Ok(Path::new(path).join(name).display().to_string())
}

/// Names of a folder's safetensors files, sorted.
fn safetensors_in(folder: &str) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        // A name that is not UTF-8 cannot be asked for.
        names.extend(entry?.file_name().into_string().ok());
    }
    names.retain(|name| name.ends_with(SUFFIX));
    names.sort_unstable();
    Ok(names)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn resolve(paths: &[&str], scales: &[f64], weight_name: Option<&str>) -> Result<Vec<Lora>> {
        resolve_loras(&LoraArgs {
            paths: paths.iter().map(ToString::to_string).collect(),
            scales: scales.to_vec(),
            weight_name: weight_name.map(str::to_owned),
        })
    }

    #[test]
    fn one_scale_is_everyones() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let (a, b) = (file("a.safetensors"), file("b.safetensors"));
        fs::write(&a, "").unwrap();
        fs::write(&b, "").unwrap();
        let scales = |scales: &[f64]| -> Vec<f64> {
            let loras = resolve(&[&a, &b], scales, None).unwrap();
            assert_eq!([&loras[0].file, &loras[1].file], [&a, &b]);
            loras.iter().map(|lora| lora.scale).collect()
        };
        assert_eq!(scales(&[0.5]), [0.5, 0.5]);
        assert_eq!(scales(&[0.5, -1.0]), [0.5, -1.0]);
        for scales in [&[1.0, 1.0, 1.0][..], &[], &[f64::NAN], &[1.0, 101.0]] {
            let error = resolve(&[&a, &b], scales, None).unwrap_err();
            assert!(error.to_string().starts_with("--lora-scale"), "{error}");
        }
        assert_eq!(resolve(&[], &[1.0], None).unwrap(), []);
    }

    #[test]
    fn a_folder_stands_for_the_only_file_or_the_named_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        let find = |name: Option<&str>| find_file(path, name).map_err(|e| e.to_string());
        let refused = |why: &str| Err(format!("--lora-path `{path}`: {why}"));
        fs::write(folder.path().join("README.md"), "").unwrap();
        assert_eq!(find(None), refused("no *.safetensors in this folder"));
        fs::write(folder.path().join("a.safetensors"), "").unwrap();
        let a = format!("{path}/a.safetensors");
        assert_eq!(find(None).as_ref(), Ok(&a));
        fs::write(folder.path().join("b.safetensors"), "").unwrap();
        assert_eq!(
            find(None),
            refused("several files: a.safetensors, b.safetensors")
        );
        assert_eq!(find(Some("a.safetensors")).as_ref(), Ok(&a));
        for name in ["c.safetensors", "README.md", "../a.safetensors", ""] {
            assert_eq!(
                find(Some(name)),
                refused(&format!("no `{name}` in this folder"))
            );
        }
        assert!(find_file(&a, Some("a.safetensors")).is_err());
        assert!(find_file(&format!("{path}/README.md"), None).is_err());
    }
}
