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
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::stdout(error)),
        _ => Ok(()),
    }
}

/// A value as one JSON object, for [`write_result`].
///
/// # Errors
/// [`Error::Output`] when it has no form in JSON.
pub fn json_text(value: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(value).map_err(Error::stdout)?;
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
    /// Of the denoising steps.
    progress: Option<ProgressBar>,
    /// When a step was last told where there is no bar.
    last_told: Instant,
    download: Option<Download>,
    /// Why a line could not be written to stdout.
    lost: OnceCell<io::Error>,
    /// Lines of stages and steps are left out of a warm-up.
    warming_up: bool,
    stage_started: Instant,
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
            last_told: Instant::now(),
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
        let bar = ProgressBar::with_draw_target(Some(steps as u64), self.draw_target());
        self.progress = Some(bar.with_style(style));
        self.last_told = Instant::now();
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
            Some(error) => Err(Error::stdout(error)),
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
        match download.or(self.progress.as_ref()) {
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
        if let Some(bar) = &self.progress {
            bar.set_message(stage.name());
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
            && let Some(steps) = self.progress.as_ref().and_then(ProgressBar::length)
        {
            #[expect(clippy::cast_precision_loss, reason = "steps are few")]
            let per_step = seconds / steps as f64;
            self.info(&format!(
                "[{}] average time per step: {per_step:.4} seconds",
                stage.name()
            ));
        }
        if stage == Stage::Decoding
            && let Some(bar) = self.progress.take()
        {
            bar.finish_and_clear();
        }
        Ok(())
    }

    fn step_begin(&mut self, step: usize, _sigma: f32) -> Result<()> {
        if step == 0
            && let Some(bar) = &self.progress
        {
            bar.reset_eta();
            self.last_told = Instant::now();
        }
        Ok(())
    }

    fn step_end(&mut self, _step: usize, _latents: &Tensor) -> Result<()> {
        let Some(bar) = &self.progress else {
            return Ok(());
        };
        bar.inc(1);
        let is_told = self.level <= LogLevel::Info && bar.is_hidden();
        if is_told && self.last_told.elapsed() >= PLAIN_PROGRESS_EVERY {
            self.last_told = Instant::now();
            let (done, steps) = (bar.position(), bar.length().unwrap_or_default());
            let (step, remaining) = (1.0 / bar.per_sec(), bar.eta().as_secs());
            // A closed pipe does not stop a run.
            let _ = writeln!(
                stderr(),
                "denoising: step {done}/{steps}, {step:.3} s/step, {remaining} s remaining"
            );
        }
        Ok(())
    }
}
