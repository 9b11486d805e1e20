//! What a run will write, and where: decided and checked before anything is loaded.

use std::collections::HashSet;
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::files;
use crate::output::{self, Naming};
use crate::perf::RequestFacts;
use crate::profiler;
use crate::request::{GenerateRequest, check_path};

/// A request with its id and the paths of its outputs, all found writable.
pub(super) struct Run {
    pub(super) request: GenerateRequest,
    pub(super) id: String,
    /// One for each picture; none when they are not saved.
    pub(super) paths: Vec<PathBuf>,
    /// Of each request; empty where none is recorded.
    pub(super) trace_paths: Vec<PathBuf>,
}

impl Run {
    /// # Errors
    /// When two outputs would be one file, or one is an input or cannot be written.
    pub(super) fn plan(request: GenerateRequest) -> Result<Self> {
        let new_id = || uuid::Uuid::new_v4().to_string();
        let mut run = Self {
            id: request.request_id.clone().unwrap_or_else(new_id),
            request,
            paths: Vec::new(),
            trace_paths: Vec::new(),
        };
        // Given names are checked in any case.
        let paths = run.picture_paths()?;
        if run.request.output.save {
            run.paths = paths;
        }
        if let Some(window) = &run.request.profile {
            let folder = profiler::trace_folder(|variable| std::env::var_os(variable));
            check_path("trace folder", &folder)?;
            run.trace_paths = (0..run.request.images.len())
                .map(|index| folder.join(window.file_name(&run.request_id(index))))
                .collect();
        }
        run.check_outputs()?;
        Ok(run)
    }

    fn picture_paths(&self) -> Result<Vec<PathBuf>> {
        let output = &self.request.output;
        let (folder, given) = match (&output.file_path, &output.file_name) {
            (Some(path), _) => {
                let (folder, name) = output::split_file_path(path);
                (folder, Some(("--output-file-path", name)))
            }
            (None, Some(name)) => (
                output.folder.clone(),
                Some(("--output-file-name", name.clone())),
            ),
            (None, None) => (output.folder.clone(), None),
        };
        let naming = match &given {
            Some((flag, name)) => Naming::Given { name, flag },
            None => Naming::Automatic {
                time: jiff::ZonedDateTime::now().datetime(),
                request_id: &self.id,
            },
        };
        let outputs = self.request.outputs_per_prompt();
        let names = output::output_names(naming, &self.prompts(), outputs)?;
        Ok(names.into_iter().map(|name| folder.join(name)).collect())
    }

    /// No output may be an input, or stand where another has to be.
    fn check_outputs(&self) -> Result<()> {
        let outputs = self.paths.iter().chain(&self.trace_paths);
        let mut places = Vec::new();
        for output in outputs.chain(&self.request.perf_dump_path) {
            files::check_writable(output)?;
            places.extend(files::place(output).map(|place| (place, output)));
        }
        let of_model = self.request.model.files();
        let inputs = self
            .request
            .input_files()
            .chain(of_model.iter().map(PathBuf::as_path));
        let inputs: HashSet<_> = inputs.filter_map(files::place).collect();
        let display = |path: &PathBuf| path.display().to_string();
        if let Some((_, output)) = places.iter().find(|(place, _)| inputs.contains(place)) {
            let output = display(output);
            return Err(Error::usage(format!(
                "{output}: it is an input of this run"
            )));
        }
        // What lies in a folder follows the folder.
        places.sort();
        let clash = places
            .windows(2)
            .find(|pair| pair[1].0.starts_with(&pair[0].0));
        clash.map_or(Ok(()), |pair| {
            let (one, other) = (display(pair[0].1), display(pair[1].1));
            let message =
                format!("{one} and {other}: outputs of this run, and only one can be there");
            Err(Error::usage(message))
        })
    }

    /// The id of one of several requests carries its index.
    pub(super) fn request_id(&self, index: usize) -> String {
        match self.request.images.len() {
            1 => self.id.clone(),
            _ => format!("{}-{index}", self.id),
        }
    }

    /// The first request is that of the run for upstream, with all prompts.
    pub(super) fn request_facts(&self, index: usize) -> RequestFacts {
        let prompts = || match index {
            0 => self.prompts(),
            _ => vec![self.request.images[index].prompt.clone()],
        };
        RequestFacts {
            request_id: self.request_id(index),
            prompt: self.request.prompt_file.is_none().then(prompts),
        }
    }

    pub(super) fn prompts(&self) -> Vec<String> {
        let outputs = self.request.outputs_per_prompt();
        let images = self.request.images.iter().step_by(outputs);
        images.map(|image| image.prompt.clone()).collect()
    }

    /// What was done when request `index` failed.
    pub(super) fn progress(&self, index: usize) -> String {
        let (number, all) = (index + 1, self.request.images.len());
        match number {
            _ if all == 1 => "the picture was not made".to_owned(),
            2.. if self.request.output.save => {
                format!("picture {number} of {all} was not made, those before it are saved")
            }
            _ => format!("picture {number} of {all} was not made"),
        }
    }

    /// What was done when the trace of request `index` failed.
    pub(super) fn trace_progress(&self, index: usize) -> String {
        let made = index + 1;
        match (self.request.images.len(), self.request.output.save) {
            (1, true) => "the picture is saved, its trace is not".to_owned(),
            (1, false) => "the trace is not saved".to_owned(),
            (all, _) => format!("picture {made} of {all} was made, its trace is not saved"),
        }
    }
}
