//! Signals: the first SIGINT, SIGTERM or SIGHUP asks the run to stop, the second ends the process; so does the
//! first while weights are read, which can take a minute and leaves nothing to be finished.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use candle_core::Tensor;
use libc::SIGXFSZ;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::error::{Error, Result};
use crate::pipeline::{Observer, Stage};
use crate::process::ignores;

/// From here on a file that outgrows the process's limit is a failed write, not the process's death.
pub fn survive_file_size_limit() {
    // Where the system refuses, it stays as it was.
    let _ = flag::register(SIGXFSZ, Arc::default());
}

/// Watches for signals; as an observer it stops the run at the next stage or step.
#[derive(Debug, Clone, Default)]
pub struct Interrupt {
    signal: Arc<AtomicUsize>,
    /// Whether the next signal ends the process.
    at_once: Arc<AtomicBool>,
}

impl Interrupt {
    /// Installs the handlers.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn install() -> std::io::Result<Self> {
        let interrupt = Self::default();
        // With `nohup` a run outlives its terminal.
        let signals = [SIGINT, SIGTERM, SIGHUP].into_iter();
        for signal in signals.filter(|signal| *signal != SIGHUP || !ignores(*signal)) {
            // In this order the first signal, of either kind, finds `at_once` false and only sets the flags.
            flag::register_conditional_shutdown(signal, 128 + signal, interrupt.at_once.clone())?;
            flag::register(signal, interrupt.at_once.clone())?;
            flag::register_usize(
                signal,
                interrupt.signal.clone(),
                signal.unsigned_abs() as usize,
            )?;
        }
        Ok(interrupt)
    }

    /// Fails once a signal has arrived.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn check(&self) -> Result<()> {
        match self.signal.load(Ordering::Relaxed) {
            0 => Ok(()),
            signal => Err(Error::Interrupted {
                signal: i32::try_from(signal).unwrap_or(SIGINT),
            }),
        }
    }
}

impl Observer for Interrupt {
    fn load_begin(&mut self, _component: &'static str) -> Result<()> {
        self.at_once.store(true, Ordering::Relaxed);
        self.check()
    }

    fn load_end(&mut self, _component: &'static str, _bytes: u64) -> Result<()> {
        self.at_once.store(false, Ordering::Relaxed);
        self.check()
    }

    fn stage_begin(&mut self, _stage: Stage) -> Result<()> {
        self.check()
    }

    fn step_begin(&mut self, _step: usize, _sigma: f32) -> Result<()> {
        self.check()
    }

    fn step_end(&mut self, _step: usize, _latents: &Tensor) -> Result<()> {
        self.check()
    }

    fn request_end(&mut self) -> Result<()> {
        self.check()
    }
}
