//! The report for people: a label and a fact a line, the verdict last.

use std::fmt;

use super::Report;
use crate::human::size;
use crate::memory::HostMemory;

/// Width of the labels.
const LABEL: usize = 10;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |label: &str, fact: String| writeln!(f, "{label:<LABEL$} {fact}");
        row("program", self.program_line())?;
        let cpu = &self.cpu;
        let extensions = cpu.extensions.join(" ");
        let line = format!("{} threads, {} {extensions}", cpu.threads, cpu.architecture);
        row("cpu", line.trim_end().to_owned())?;
        let memory = self
            .memory
            .as_ref()
            .map_or("unknown".to_owned(), memory_line);
        row("memory", memory)?;
        let driver = self.driver.as_ref();
        row(
            "driver",
            driver.map_or("no NVIDIA driver", |v| v).to_owned(),
        )?;
        for gpu in &self.gpus {
            let (free, total) = (size(gpu.free_bytes), size(gpu.total_bytes));
            row(
                &format!("cuda:{}", gpu.index),
                format!(
                    "{}, compute {}, {free} of {total} free",
                    gpu.name, gpu.compute_capability
                ),
            )?;
        }
        for library in &self.libraries {
            let fact = match &library.version {
                Some(version) => version.clone(),
                None => format!("missing: {}", library.without),
            };
            row(library.name, fact)?;
        }
        match self.profiling_permitted {
            Some(true) => row("profiling", "permitted".to_owned())?,
            Some(false) => row(
                "profiling",
                "for root only (NVreg_RestrictProfilingToAdminUsers): --profile records the host's rows only"
                    .to_owned(),
            )?,
            None => {}
        }
        for folder in &self.folders {
            let free = folder
                .free_bytes
                .map_or(String::new(), |bytes| format!(", {} free", size(bytes)));
            let state = match (folder.exists, folder.writable) {
                (true, true) => "writable",
                (true, false) => "not writable",
                (false, true) => "not there yet",
                (false, false) => "not there, and cannot be made",
            };
            row(
                folder.name,
                format!("{}: {state}{free}", folder.path.display()),
            )?;
        }
        for component in self.model.iter().flat_map(|model| &model.components) {
            #[expect(clippy::cast_precision_loss, reason = "for people")]
            let millions = component.stored.parameters as f64 / 1e6;
            let stored = size(component.stored.bytes);
            let fact = format!(
                "{}: {millions:.1} million parameters, {stored}",
                component.name
            );
            row("model", fact)?;
        }
        if let Some(model) = &self.model {
            row("plan", indented(&model.plan_text))?;
        }
        if let Some(why) = &self.model_unknown {
            row("model", why.clone())?;
        }
        if let Some(device) = &self.device {
            row("device", device.clone())?;
        }
        let hint = self
            .refusal
            .as_ref()
            .and_then(|refusal| refusal.hint.as_deref());
        // A plan that does not fit comes after what to do about it.
        let (hint, plan) = hint.map_or((None, None), |hint| match hint.split_once('\n') {
            Some((hint, plan)) => (Some(hint), Some(plan)),
            None => (Some(hint), None),
        });
        if let Some(plan) = plan {
            row("plan", indented(plan))?;
        }
        row("generate", self.verdict(hint))
    }
}

impl Report {
    fn program_line(&self) -> String {
        let program = &self.program;
        let commit: String = program.commit.chars().take(7).collect();
        let support = match (program.cuda, program.architectures.as_slice()) {
            (false, _) => "without GPU support".to_owned(),
            (true, []) => "with GPU support".to_owned(),
            (true, list) => format!("with GPU support, kernels for sm_{}", list.join(", sm_")),
        };
        format!("qwen-gen {} ({commit}), {support}", program.version)
    }

    fn verdict(&self, hint: Option<&str>) -> String {
        match &self.refusal {
            None if self.model_unknown.is_some() => {
                "not known; generate --dry-run fetches what tells".to_owned()
            }
            None => "would run".to_owned(),
            Some(refusal) => {
                let hint = hint.map_or(String::new(), |hint| format!(" ({hint})"));
                format!("would be refused: {}{hint}", refusal.reason)
            }
        }
    }
}

/// Lines below each other, after a label.
fn indented(lines: &str) -> String {
    lines.replace('\n', &format!("\n{:LABEL$} ", ""))
}

fn memory_line(memory: &HostMemory) -> String {
    let (available, total) = (size(memory.available_bytes), size(memory.total_bytes));
    format!("{available} of {total} available")
}
