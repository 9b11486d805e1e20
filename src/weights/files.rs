//! Which files hold a component's weights: those its index names, else the only one there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use super::fault::{INCOMPLETE, fault, fault_with_hint};
use super::json::{TensorMap, parse_json};
use super::source::ModelSource;
use crate::error::Result;

const SUFFIX: &str = ".safetensors";
const INDEX_SUFFIX: &str = ".safetensors.index.json";
const PICKLES: [&str; 5] = ["bin", "ckpt", "pkl", "pt", "pth"];

/// The weight files of one component.
#[derive(Debug)]
pub(super) struct WeightFiles {
    /// Plain names inside the component's folder.
    pub(super) names: BTreeSet<String>,
    /// What says which tensor is where, if the folder has it.
    pub(super) index: Option<Index>,
}

/// A `*.safetensors.index.json`.
#[derive(Debug)]
pub(super) struct Index {
    /// Path in the checkpoint.
    pub(super) file: String,
    /// Tensor to file name.
    pub(super) weight_map: BTreeMap<String, String>,
}

impl WeightFiles {
    pub(super) fn find(source: &ModelSource, component: &str) -> Result<Self> {
        Self::among(&source.list(component)?, source, component)
    }

    /// Decides between the files of these names; of them, `source` needs to have the index only.
    ///
    /// As diffusers does, it prefers the names without a variant (`.fp16`) in them.
    fn among(names: &[String], source: &ModelSource, component: &str) -> Result<Self> {
        // File managers leave files of their own beside others.
        let names: BTreeSet<&str> = (names.iter().map(String::as_str))
            .filter(|name| !name.starts_with('.'))
            .collect();
        // The one is transformers' name, the other diffusers'.
        let stem = match component {
            "text_encoder" => "model",
            _ => "diffusion_pytorch_model",
        };
        let plain = |suffix: &str| names.get(&*format!("{stem}{suffix}")).copied();
        let indexes: Vec<_> = (names.iter().copied())
            .filter(|name| name.ends_with(INDEX_SUFFIX))
            .collect();
        let of_file = |file: &str| Self {
            names: BTreeSet::from([file.to_owned()]),
            index: None,
        };
        let index = match (plain(INDEX_SUFFIX), plain(SUFFIX), &*indexes) {
            (Some(index), ..) | (None, None, &[index]) => index,
            (None, Some(file), _) => return Ok(of_file(file)),
            (None, None, []) => return Ok(of_file(only_file(component, &names)?)),
            (None, None, several) => {
                let message = format!("several indexes, expected one: {}", listing(several));
                return Err(fault(component, message));
            }
        };
        let index = Index::read(source, format!("{component}/{index}"))?;
        Ok(Self {
            names: index.weight_map.values().cloned().collect(),
            index: Some(index),
        })
    }
}

/// The weight files of a component whose folder holds, here or elsewhere, files of these names; an
/// index among them is read from `source`.
///
/// # Errors
/// Files that are ambiguous or not safetensors; an index that cannot be used.
pub(crate) fn weight_files(
    source: &ModelSource,
    component: &str,
    names: &[String],
) -> Result<Vec<String>> {
    let files = WeightFiles::among(names, source, component)?;
    let path = |name| format!("{component}/{name}");
    Ok(files.names.into_iter().map(path).collect())
}

impl Index {
    fn read(source: &ModelSource, file: String) -> Result<Self> {
        #[derive(Deserialize)]
        struct Json {
            weight_map: TensorMap<String>,
        }
        let Json { weight_map } = parse_json(&file, &source.read(&file)?)?;
        let TensorMap(weight_map) = weight_map;
        if weight_map.is_empty() {
            return Err(fault(&file, "weight_map is empty"));
        }
        for name in weight_map.values() {
            check_name(name)
                .map_err(|why| fault(&file, format!("weight_map names `{name}`, {why}")))?;
        }
        Ok(Self { file, weight_map })
    }
}

/// Accepts a plain file name only: joined to the folder it must stay inside. Links are not looked
/// at, since the Hugging Face cache consists of them.
fn check_name(name: &str) -> Result<(), &'static str> {
    if name.contains(['/', '\\', '\0']) || matches!(name, "" | "." | "..") {
        return Err("expected a plain file name");
    }
    if !name.ends_with(SUFFIX) {
        return Err("expected a *.safetensors file; pickles are never read");
    }
    Ok(())
}

/// The only safetensors file of a folder without an index.
fn only_file<'a>(component: &str, names: &BTreeSet<&'a str>) -> Result<&'a str> {
    let names = names.iter().copied();
    let files: Vec<_> = names
        .clone()
        .filter(|name| name.ends_with(SUFFIX))
        .collect();
    match files.as_slice() {
        [file] => Ok(file),
        [] => match names.clone().find(|name| is_pickle(name)) {
            Some(pickle) => Err(fault_with_hint(
                component,
                format!("no *.safetensors, only `{pickle}`"),
                "reading a pickle can run code, so it is never done; fetch or convert to safetensors",
            )),
            None => Err(fault_with_hint(component, "no *.safetensors", INCOMPLETE)),
        },
        several => Err(fault_with_hint(
            component,
            format!("several files and no index: {}", listing(several)),
            format!("the folder needs its *{INDEX_SUFFIX}, or one file alone"),
        )),
    }
}

fn is_pickle(name: &str) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|extension| PICKLES.iter().any(|pickle| extension == *pickle))
}

/// A few of the names, for an error.
pub(crate) fn listing(names: &[impl AsRef<str>]) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<&str> = names.iter().take(SHOWN).map(AsRef::as_ref).collect();
    let dots = if names.len() > SHOWN { ", …" } else { "" };
    format!("{}{dots}", shown.join(", "))
}
