//! A component's safetensors files: checking them together, reading tensors.
//!
//! Every header is read and checked before the first tensor is. Tensors are read one by one with
//! positioned reads, so that no second copy of a component is ever in memory: to a GPU they go
//! through small pinned buffers.

use std::collections::{HashMap, HashSet};

use candle_core::{DType, Device, Tensor};
use safetensors::tensor::TensorInfo;

use super::fault::{fault, fault_with_hint};
use super::files::{Index, WeightFiles};
use super::header::MAX_HEADER_BYTES;
use super::source::ModelSource;
use super::tensor_file::TensorFile;
use super::{StoredSize, TensorShapes};
use crate::error::{Error, Result};

/// The open files of one component.
#[derive(Debug)]
pub(super) struct Shards {
    component: &'static str,
    files: Vec<TensorFile>,
    /// Tensor name to position in `files`.
    routing: HashMap<String, usize>,
}

impl Shards {
    /// Opens the component's files and checks their headers.
    pub(super) fn open(source: &ModelSource, component: &'static str) -> Result<Self> {
        let WeightFiles { names, index } = WeightFiles::find(source, component)?;
        let mut files: Vec<TensorFile> = Vec::with_capacity(names.len());
        let mut routing: HashMap<_, usize> = HashMap::new();
        let mut header_bytes = 0;
        for name in names {
            let file = format!("{component}/{name}");
            let blob = source.open(&file)?;
            let file = TensorFile::new(file, blob)?;
            header_bytes += file.header_bytes();
            if header_bytes > MAX_HEADER_BYTES {
                let message = format!(
                    "with it the headers of {component} have {header_bytes} bytes, expected at most {MAX_HEADER_BYTES}"
                );
                return Err(fault(&file.name, message));
            }
            for tensor in file.tensors() {
                if let Some(other) = routing.get(&tensor) {
                    let other = &files[*other].name;
                    let message = format!("tensor `{tensor}` is in {other} too");
                    return Err(fault(&file.name, message));
                }
                routing.insert(tensor, files.len());
            }
            files.push(file);
        }
        let shards = Self {
            component,
            files,
            routing,
        };
        if let Some(index) = index {
            shards.check_against(&index)?;
        }
        Ok(shards)
    }

    fn check_against(&self, index: &Index) -> Result<()> {
        for (tensor, name) in &index.weight_map {
            let file = format!("{}/{name}", self.component);
            let found = self.routing.get(tensor);
            if found.is_none_or(|shard| self.files[*shard].name != file) {
                return Err(fault(
                    &index.file,
                    format!("weight_map places tensor `{tensor}` in {file}, which lacks it"),
                ));
            }
        }
        Ok(())
    }

    /// What the headers describe.
    pub(super) fn size(&self) -> StoredSize {
        let mut size = StoredSize::default();
        for info in self.infos() {
            size.bytes += (info.data_offsets.1 - info.data_offsets.0) as u64;
            size.parameters += info.shape.iter().product::<usize>() as u64;
        }
        size
    }

    /// The dtypes of all matrices that can be read.
    pub(super) fn dtypes(&self) -> HashSet<DType> {
        let matrices = self.infos().filter(|info| info.shape.len() > 1);
        matrices
            .filter_map(|info| info.dtype.try_into().ok())
            .collect()
    }

    fn infos(&self) -> impl Iterator<Item = &TensorInfo> {
        let routed = self.routing.keys();
        routed.filter_map(|name| self.find(name).ok().map(|(_, info)| info))
    }

    /// Whether a shard holds the tensor.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.routing.contains_key(name)
    }

    /// Checks that all `tensors` are there as they will be read, and no other that `belongs` to them.
    pub(super) fn check(
        &self,
        tensors: &TensorShapes,
        belongs: impl Fn(&str) -> bool,
    ) -> Result<()> {
        for (name, shape) in tensors {
            let (file, info) = self.find(name)?;
            // First, since quantised weights have shapes of their own.
            file.dtype(name, info)?;
            self.check_shape(name, (file, info), shape)?;
        }
        let is_left = |name: &&String| belongs(name) && !tensors.contains_key(*name);
        let mut left: Vec<_> = self.routing.keys().filter(is_left).collect();
        left.sort_unstable();
        let Some((first, others)) = left.split_first() else {
            return Ok(());
        };
        let which = match others.len() {
            0 => "is".to_owned(),
            more => format!("and {more} more are"),
        };
        let (file, _) = self.find(first)?;
        Err(fault_with_hint(
            &file.name,
            format!(
                "tensor `{first}` {which} not part of the network in {}/config.json",
                self.component
            ),
            "is it the config.json of these weights, its number of layers right? other kinds of model are not supported",
        ))
    }

    /// Reads a tensor onto `device`, in `dtype` where that is how it arrives; with it, how many bytes were read.
    ///
    /// # Errors
    /// No such tensor; another shape than `expected`; a dtype that is not a plain float; a read that
    /// fails.
    pub(super) fn read(
        &self,
        name: &str,
        expected: &[usize],
        dtype: DType,
        device: &Device,
    ) -> Result<(Tensor, u64)> {
        let (file, info) = self.find(name)?;
        self.check_shape(name, (file, info), expected)?;
        let tensor = file.read(name, info, dtype, device)?;
        let (start, end) = info.data_offsets;
        Ok((tensor, (end - start) as u64))
    }

    /// The file that holds a tensor, and what its header says of it.
    fn find(&self, name: &str) -> Result<(&TensorFile, &TensorInfo)> {
        let found = self.routing.get(name).and_then(|shard| {
            let file = &self.files[*shard];
            Some((file, file.info(name)?))
        });
        found.ok_or_else(|| Error::MissingTensor {
            component: self.component.to_owned(),
            name: name.to_owned(),
        })
    }

    fn check_shape(
        &self,
        name: &str,
        (file, TensorInfo { shape, .. }): (&TensorFile, &TensorInfo),
        expected: &[usize],
    ) -> Result<()> {
        if shape == expected {
            return Ok(());
        }
        Err(fault(
            &file.name,
            format!(
                "tensor `{name}` has shape {shape:?}, expected {expected:?} (from {}/config.json)",
                self.component
            ),
        ))
    }
}
