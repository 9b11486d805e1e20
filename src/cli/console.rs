//! What the user sees: log lines on stdout as upstream prints them, the rest on stderr.
//!
//! A closed pipe on either stream does not stop a run.

use std::cell::OnceCell;
use std::fmt;
use std::io::{self, IsTerminal, Write, stderr, stdout};
use std::time::{Duration, Instant};

use candle_core::Tensor;
use indicatif::{
    BinaryBytes, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle,
};
use serde::Serialize;

use super::download::Download;
use super::generate::LogLevel;
use crate::error::{Error, Result};
use crate::hub;
use crate::pipeline::{Observer, Stage};

/// How often progress is told where there is no bar.
pub(super) const PLAIN_PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// Writes what a command was run for, not what it says on the way.
///
/// # Errors
/// [`Error::Output`] when it cannot be written; a reader that has seen enough is no error.
pub fn write_result(out: &mut dyn Write, bytes: &[u8]) -> Result<()> {
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::Output {
            path: "standard output".into(),
            message: error.to_string(),
        }),
        _ => Ok(()),
    }
}

/// A value as one JSON object, for [`write_result`].
///
/// # Errors
/// [`Error::Output`] when it has no form in JSON.
pub fn json_text(value: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Error::Output {
        path: "standard output".into(),
        message: error.to_string(),
    })?;
    Ok(text + "\n")
}

/// What the bar shows of time, once a step is done.
fn write_pace(state: &ProgressState, out: &mut dyn fmt::Write) {
    if state.pos() > 0 {
        let step = 1.0 / state.per_sec();
        let rest = HumanDuration(state.eta());
        let _ = write!(out, ", {step:.3} s/step, {rest:#} remaining");
    }
}

/// Prints the lines of one run.
#[derive(Debug)]
pub struct Console {
    level: LogLevel,
    /// Stdout is kept for the JSON object.
    json: bool,
    colour: bool,
    progress: Option<Progress>,
    download: Option<Download>,
    /// Why a line could not be written to stdout.
    lost: OnceCell<io::Error>,
    /// Lines of stages and steps are left out of a warm-up.
    warming_up: bool,
    stage_started: Instant,
}

#[derive(Debug)]
struct Progress {
    bar: ProgressBar,
    started: Instant,
    last_told: Instant,
    done: u32,
    steps: usize,
}

impl Console {
    /// A console for one run.
    #[must_use]
    pub fn new(level: LogLevel, json: bool) -> Self {
        let variable = |name| std::env::var_os(name).unwrap_or_default();
        let colour =
            stderr().is_terminal() && variable("NO_COLOR").is_empty() && variable("TERM") != "dumb";
        Self {
            level,
            json,
            colour,
            progress: None,
            download: None,
            lost: OnceCell::new(),
            warming_up: false,
            stage_started: Instant::now(),
        }
    }

    /// A line about what the run does.
    pub fn info(&self, message: &str) {
        if self.level <= LogLevel::Info {
            self.log(message);
        }
    }

    /// A line for those who asked for more.
    pub fn debug(&self, message: &str) {
        if self.level <= LogLevel::Debug {
            self.log(message);
        }
    }

    /// A line that names an output; printed at every level.
    pub fn path(&self, message: &str) {
        self.log(message);
    }

    /// A `warning:` line.
    pub fn warning(&self, message: &str) {
        if self.level <= LogLevel::Warning {
            self.stderr_line("warning", "33", message);
        }
    }

    /// The object of `--json`.
    ///
    /// # Errors
    /// [`Error::Output`] when it cannot be written.
    pub fn json_object(&self, object: &serde_json::Value) -> Result<()> {
        write_result(&mut stdout(), format!("{object:#}\n").as_bytes())
    }

    /// `error:` with the chain of causes, and `hint:` where there is a way out.
    pub fn error(error: &anyhow::Error) {
        let console = Self::new(LogLevel::Info, false);
        console.stderr_line("error", "31", &format!("{error:#}"));
        if let Some(hint) = error
            .chain()
            .find_map(|e| e.downcast_ref::<Error>()?.hint())
        {
            console.stderr_line("hint", "36", hint);
        }
    }

    /// Whether prompts are printed.
    #[must_use]
    pub fn shows_prompts(&self) -> bool {
        self.level <= LogLevel::Debug
    }

    /// Shows progress over `steps` denoising steps from now on.
    #[expect(clippy::missing_panics_doc, reason = "the template is a constant")]
    pub fn start_progress(&mut self, steps: usize) {
        let style = ProgressStyle::with_template("{msg} {wide_bar} step {pos}/{len}{pace}")
            .expect("the template is well-formed")
            .with_key("pace", write_pace);
        let bar =
            ProgressBar::with_draw_target(Some(steps as u64), self.draw_target()).with_style(style);
        self.progress = Some(Progress {
            bar,
            started: Instant::now(),
            last_told: Instant::now(),
            done: 0,
            steps,
        });
    }

    /// What happens while files are fetched.
    pub fn hub_event(&mut self, event: &hub::Event) {
        match event {
            hub::Event::Planned { files, bytes } => {
                self.end_download();
                let size = BinaryBytes(*bytes);
                let files = match files {
                    1 => "1 file".to_owned(),
                    several => format!("{several} files"),
                };
                self.info(&format!("Downloading {files}, {size} to come"));
                let target = if hub::hides_progress(|name| std::env::var_os(name)) {
                    ProgressDrawTarget::hidden()
                } else {
                    self.draw_target()
                };
                self.download = Some(Download::new(*bytes, target));
            }
            hub::Event::Received(bytes) => {
                let tells = self.level <= LogLevel::Info;
                if let Some(download) = &mut self.download {
                    download.advance(*bytes, tells);
                }
            }
            hub::Event::Waiting { file } => self.info(&format!(
                "Waiting for another process, which is downloading {file}"
            )),
            hub::Event::Retried { reason } => self.warning(reason),
            hub::Event::CacheUsed { reason } => {
                self.warning(&format!("using the cached files: {reason}"));
            }
        }
    }

    /// Takes the bar of a download away.
    pub fn end_download(&mut self) {
        if let Some(download) = self.download.take() {
            download.bar.finish_and_clear();
        }
    }

    fn draw_target(&self) -> ProgressDrawTarget {
        if self.level > LogLevel::Info {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        }
    }

    /// Silences stages and steps while a warm-up runs.
    pub fn set_warming_up(&mut self, warming_up: bool) {
        self.warming_up = warming_up;
    }

    fn log(&self, message: &str) {
        let time = jiff::ZonedDateTime::now().strftime("%m-%d %H:%M:%S");
        let line = format!("[{time}] {message}\n");
        self.suspended(|| {
            if self.json {
                let _ = stderr().write_all(line.as_bytes());
            } else if let Err(error) = stdout().write_all(line.as_bytes())
                && error.kind() != io::ErrorKind::BrokenPipe
            {
                let _ = self.lost.set(error);
            }
        });
    }

    /// Fails when a line could not be written to stdout, which scripts read.
    ///
    /// # Errors
    /// [`Error::Output`].
    pub fn check(&self) -> Result<()> {
        match self.lost.get() {
            Some(error) => Err(Error::Output {
                path: "standard output".into(),
                message: error.to_string(),
            }),
            None => Ok(()),
        }
    }

    fn stderr_line(&self, label: &str, colour: &str, message: &str) {
        self.suspended(|| {
            let _ = if self.colour {
                writeln!(stderr(), "\x1b[1;{colour}m{label}:\x1b[0m {message}")
            } else {
                writeln!(stderr(), "{label}: {message}")
            };
        });
    }

    /// Prints without tearing the bar.
    fn suspended(&self, print: impl FnOnce()) {
        let download = self.download.as_ref().map(|download| &download.bar);
        let progress = self.progress.as_ref().map(|progress| &progress.bar);
        match download.or(progress) {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

impl Observer for Console {
    fn load_begin(&mut self, component: &'static str) -> Result<()> {
        self.debug(&format!("loading {component}"));
        Ok(())
    }

    fn stage_begin(&mut self, stage: Stage) -> Result<()> {
        self.stage_started = Instant::now();
        if self.warming_up {
            return Ok(());
        }
        self.info(&format!("[{}] started...", stage.name()));
        if let Some(progress) = &self.progress {
            progress.bar.set_message(stage.name());
        }
        Ok(())
    }

    fn stage_end(&mut self, stage: Stage) -> Result<()> {
        if self.warming_up {
            return Ok(());
        }
        let seconds = self.stage_started.elapsed().as_secs_f64();
        self.info(&format!(
            "[{}] finished in {seconds:.4} seconds",
            stage.name()
        ));
        if stage == Stage::Denoising
            && let Some(progress) = &self.progress
        {
            #[expect(clippy::cast_precision_loss, reason = "steps are few")]
            let per_step = seconds / progress.steps as f64;
            self.info(&format!(
                "[{}] average time per step: {per_step:.4} seconds",
                stage.name()
            ));
        }
        if stage == Stage::Decoding
            && let Some(progress) = self.progress.take()
        {
            progress.bar.finish_and_clear();
        }
        Ok(())
    }

    fn step_begin(&mut self, step: usize, _sigma: f32) -> Result<()> {
        if step == 0
            && let Some(progress) = &mut self.progress
        {
            progress.started = Instant::now();
            progress.last_told = progress.started;
            progress.bar.reset_eta();
        }
        Ok(())
    }

    fn step_end(&mut self, _step: usize, _latents: &Tensor) -> Result<()> {
        let Some(progress) = self.progress.as_mut().filter(|_| !self.warming_up) else {
            return Ok(());
        };
        progress.done += 1;
        progress.bar.inc(1);
        if progress.bar.is_hidden() && progress.last_told.elapsed() >= PLAIN_PROGRESS_EVERY {
            progress.last_told = Instant::now();
            let per_step = progress.started.elapsed() / progress.done;
            let (done, steps) = (progress.done, progress.steps);
            let remaining = (per_step
                * u32::try_from(steps)
                    .unwrap_or(u32::MAX)
                    .saturating_sub(done))
            .as_secs();
            let message = format!(
                "denoising: step {done}/{steps}, {:.3} s/step, {remaining} s remaining",
                per_step.as_secs_f64()
            );
            if self.level <= LogLevel::Info {
                let _ = writeln!(stderr(), "{message}");
            }
        }
        Ok(())
    }
}
