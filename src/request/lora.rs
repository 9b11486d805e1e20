//! Which LoRA files, and how strong.

use std::fs;
use std::io;
use std::path::Path;

use crate::error::{Error, Result};
use crate::hub::{Repository, RepositoryId, Revision};
use crate::human::printable;
use crate::request::check_path;
use crate::weights::listing;

const SUFFIX: &str = ".safetensors";

/// What was typed of LoRAs, before defaults.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "the flags of the same names")]
pub struct LoraArgs {
    pub paths: Vec<String>,
    pub scales: Vec<f64>,
    pub weight_name: Option<String>,
}

/// An adapter by name.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraName {
    /// What `--lora-path` names.
    pub place: LoraPlace,
    /// Strength: 1 as it was trained, 0 as if it were not there.
    pub scale: f64,
}

/// Where an adapter's file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoraPlace {
    /// On this machine.
    File(String),
    /// In a repository of the Hugging Face Hub, under the name given to `--lora-weight-name`.
    Repository(Repository, Option<String>),
}

/// The place and the scale of each path.
pub(super) fn resolve_loras(args: &LoraArgs) -> Result<Vec<LoraName>> {
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
    let paths = args.paths.iter().zip(scales);
    paths
        .map(|(path, scale)| {
            if !(-100.0..=100.0).contains(&scale) {
                return Err(Error::usage(format!(
                    "--lora-scale {scale}: expected a number from -100 to 100"
                )));
            }
            let place = find(path, args.weight_name.as_deref())?;
            if let LoraPlace::File(file) = &place {
                check_path("--lora-path", Path::new(file))?;
            }
            Ok(LoraName { place, scale })
        })
        .collect()
}

/// What `--lora-path` means: a file, one in that folder, or one in that repository.
fn find(path: &str, weight_name: Option<&str>) -> Result<LoraPlace> {
    let id = RepositoryId::parse(path).filter(|_| !path.ends_with(SUFFIX));
    let metadata = match (fs::metadata(path), id) {
        (Ok(metadata), _) => metadata,
        (Err(error), Some(id)) if error.kind() == io::ErrorKind::NotFound => {
            let revision = Revision::default();
            let name = weight_name.map(str::to_owned);
            return Ok(LoraPlace::Repository(Repository { id, revision }, name));
        }
        (Err(error), _) if error.kind() == io::ErrorKind::NotFound => {
            return Err(refuse(path, "no such file or folder", None));
        }
        (Err(error), _) => return Err(refuse(path, &error.to_string(), None)),
    };
    if !metadata.is_dir() {
        return match weight_name {
            None if path.ends_with(SUFFIX) => Ok(LoraPlace::File(path.to_owned())),
            None => Err(refuse(
                path,
                "expected a *.safetensors file, a folder or a repository",
                None,
            )),
            Some(_) => Err(refuse(
                path,
                "a file; --lora-weight-name is for folders and repositories",
                None,
            )),
        };
    }
    let names = names_in(path)
        .map_err(|error| refuse(path, &format!("cannot be listed: {error}"), None))?;
    let name = pick_lora(path, names, "there", weight_name)?;
    // Both are UTF-8.
    Ok(LoraPlace::File(
        Path::new(path).join(name).display().to_string(),
    ))
}

/// The one of a folder's or repository's files that is meant; `place` says where they are.
///
/// # Errors
/// A usage error when none is, or several could be.
pub(crate) fn pick_lora(
    path: &str,
    mut names: Vec<String>,
    place: &str,
    weight_name: Option<&str>,
) -> Result<String> {
    names.retain(|name| name.ends_with(SUFFIX));
    names.sort_unstable();
    let known = listing(&names);
    match (weight_name, names.as_slice()) {
        (_, []) => Err(refuse(path, &format!("no *.safetensors {place}"), None)),
        (None, [name]) => Ok(name.clone()),
        (None, _) => {
            let hint = "--lora-weight-name picks one".to_owned();
            Err(refuse(path, &format!("several files: {known}"), Some(hint)))
        }
        (Some(name), names) if names.iter().any(|known| known == name) => Ok(name.to_owned()),
        (Some(name), _) => {
            let hint = format!("there are {known}");
            Err(refuse(path, &format!("no `{name}` {place}"), Some(hint)))
        }
    }
}

fn refuse(path: &str, why: &str, hint: Option<String>) -> Error {
    Error::Usage {
        message: format!("--lora-path `{}`: {}", printable(path), printable(why)),
        hint,
    }
}

fn names_in(folder: &str) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        // A name that is not UTF-8 cannot be asked for.
        names.extend(entry?.file_name().into_string().ok());
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn resolve(paths: &[&str], scales: &[f64], weight_name: Option<&str>) -> Result<Vec<LoraName>> {
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
            let places = [&a, &b].map(|file| LoraPlace::File(file.clone()));
            assert_eq!([&loras[0].place, &loras[1].place], places.each_ref());
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
        let find = |name: Option<&str>| super::find(path, name).map_err(|e| e.to_string());
        let refused = |why: &str| Err(format!("--lora-path `{path}`: {why}"));
        fs::write(folder.path().join("README.md"), "").unwrap();
        assert_eq!(find(None), refused("no *.safetensors there"));
        fs::write(folder.path().join("a.safetensors"), "").unwrap();
        let a = format!("{path}/a.safetensors");
        let found = LoraPlace::File(a.clone());
        assert_eq!(find(None).as_ref(), Ok(&found));
        fs::write(folder.path().join("b.safetensors"), "").unwrap();
        assert_eq!(
            find(None),
            refused("several files: a.safetensors, b.safetensors")
        );
        assert_eq!(find(Some("a.safetensors")).as_ref(), Ok(&found));
        for name in ["c.safetensors", "README.md", "../a.safetensors", ""] {
            assert_eq!(find(Some(name)), refused(&format!("no `{name}` there")));
        }
        assert!(super::find(&a, Some("a.safetensors")).is_err());
        assert!(super::find(&format!("{path}/README.md"), None).is_err());
    }

    #[test]
    fn what_is_not_here_may_be_a_repository() {
        let place = find("org/adapters", Some("a.safetensors")).unwrap();
        let LoraPlace::Repository(repository, name) = place else {
            panic!("{place:?}");
        };
        assert_eq!(repository.id.as_str(), "org/adapters");
        assert_eq!(name.as_deref(), Some("a.safetensors"));
        assert!(find("org/adapter.safetensors", None).is_err());
        assert!(find("./org/adapters", None).is_err());
    }
}
