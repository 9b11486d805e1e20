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
    fn among(names: &[String], source: &ModelSource, component: &str) -> Result<Self> {
        let indexes: Vec<_> = names.iter().filter(|n| n.ends_with(INDEX_SUFFIX)).collect();
        match indexes.as_slice() {
            [] => Ok(Self {
                names: BTreeSet::from([only_file(component, names)?.to_owned()]),
                index: None,
            }),
            [index] => {
                let index = Index::read(source, format!("{component}/{index}"))?;
                Ok(Self {
                    names: index.weight_map.values().cloned().collect(),
                    index: Some(index),
                })
            }
            several => Err(fault(
                component,
                format!("several indexes, expected one: {}", listing(several)),
            )),
        }
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
fn only_file<'a>(component: &str, names: &'a [String]) -> Result<&'a str> {
    let files: Vec<_> = names.iter().filter(|n| n.ends_with(SUFFIX)).collect();
    match files.as_slice() {
        [file] => Ok(file),
        [] => match names.iter().find(|name| is_pickle(name)) {
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
pub(crate) fn listing(names: &[&String]) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<_> = names.iter().take(SHOWN).map(|name| name.as_str()).collect();
    let dots = if names.len() > SHOWN { ", …" } else { "" };
    format!("{}{dots}", shown.join(", "))
}
