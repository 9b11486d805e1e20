//! A run that is loaded: its pipeline, its texts and those who watch it.

use std::io::stdout;
use std::time::Instant;

use anyhow::{Context, Result};

use super::log;
use super::open::Opened;
use super::plan::Run;
use super::results::Settings;
use super::watchers::Watchers;
use crate::allocator;
use crate::cli::console::{json_text, write_result};
use crate::memory::MemoryPlan;
use crate::perf::{RunFacts, commit_hash};
use crate::pipeline::{Observer, Pipeline, TextEncodings};

/// After so many pictures freed memory goes back to the system; the next one pays for fresh pages.
const PICTURES_A_RELEASE: usize = 16;

pub(super) struct Session {
    run: Run,
    settings: Settings,
    plan: MemoryPlan,
    texts: TextEncodings,
    pipeline: Pipeline,
    watchers: Watchers,
}

impl Session {
    pub(super) fn load(run: Run, opened: Opened, mut watchers: Watchers) -> Result<Self> {
        let Opened {
            checkpoint,
            texts,
            chosen,
            settings,
            plan,
        } = opened;
        let sampling = &run.request.sampling;
        let at = (settings.precisions, &chosen.device);
        let rehearsal = checkpoint.rehearsal(&run.request.images[0], sampling, &texts, at);
        let has_room = plan.has_room_for(&rehearsal.footprint());
        let pipeline = Pipeline::load(
            checkpoint,
            sampling.clone(),
            plan.offload,
            at,
            has_room.then_some(rehearsal),
            &mut watchers.all(),
        )
        .map_err(|error| plan.explain(error))
        .with_context(|| format!("cannot load {}", run.request.model_path))?;
        watchers.perf.end_cold_start();
        Ok(Self {
            run,
            settings,
            plan,
            texts,
            pipeline,
            watchers,
        })
    }

    /// Runs a request that nobody records, where one is asked for.
    pub(super) fn warm_up(&mut self) -> Result<()> {
        let Some(steps) = self.run.request.warmup_steps else {
            return Ok(());
        };
        let Self { run, watchers, .. } = self;
        let image = &run.request.images[0];
        if self.plan.offload.text_encoder {
            watchers.console.warning(
                "--warmup-mode request encodes the texts: no text encoder is left to do it again, so that the times of pictures have none in them",
            );
        }
        watchers.console.set_warming_up(true);
        let (pipeline, texts) = (&mut self.pipeline, &mut self.texts);
        watchers
            .of_a_warm_up(|observer| pipeline.warm_up(image, texts, steps, observer))
            .map_err(|error| self.plan.explain(error))
            .context("the warm-up failed")?;
        watchers.perf.end_warm_up();
        watchers.console.set_warming_up(false);
        Ok(())
    }

    /// Makes and saves the picture of every request.
    pub(super) fn draw_all(&mut self) -> Result<()> {
        (0..self.run.request.images.len()).try_for_each(|index| {
            if index > 0 && index.is_multiple_of(PICTURES_A_RELEASE) {
                allocator::release_freed_memory();
            }
            self.draw(index)
        })
    }

    fn draw(&mut self, index: usize) -> Result<()> {
        let Self { run, watchers, .. } = self;
        let begin = Instant::now();
        watchers
            .console
            .start_progress(run.request.sampling.num_inference_steps);
        log::announce_profiling(run, index, &watchers.console);
        let mut observers = watchers.all();
        observers.request_begin()?;
        let picture = self
            .pipeline
            .generate(&run.request.images[index], &mut self.texts, &mut observers)
            .map_err(|error| self.plan.explain(error))
            .with_context(|| run.progress(index))?;
        observers
            .request_end()
            .with_context(|| run.progress(index))?;
        let saving = Instant::now();
        run.save(index, &picture, &self.settings, &watchers.console)
            .with_context(|| run.progress(index))?;
        let save = run.request.output.save.then(|| saving.elapsed());
        (watchers.perf.close_request(save))
            .context("a picture was made, its times cannot be read")?;
        log::report_request(begin.elapsed(), run, &watchers.console);
        if let Some(profiler) = &mut watchers.profiler {
            run.save_trace(index, profiler, &watchers.console)
                .with_context(|| run.trace_progress(index))?;
        }
        Ok(())
    }

    /// Reports what the run took.
    pub(super) fn finish(self, json: bool) -> Result<()> {
        let Self { run, watchers, .. } = self;
        // A run that is stopped leaves no report; once that is written, the run was not stopped.
        watchers.interrupt.check()?;
        let Watchers { perf, console, .. } = watchers;
        let facts = RunFacts {
            commit_hash: commit_hash(),
            device: self.settings.device.clone(),
            model: run.request.model_path.clone(),
        };
        let report = perf.finish(facts, |index| run.request_facts(index));
        // The pictures are there, whatever becomes of their report.
        let saved = run.save_report(&report, &console);
        log::summarise(&report, &console);
        if json {
            let dump = saved.as_ref().ok().copied().flatten();
            let json = json_text(&run.json(&self.settings, &report, dump)?)?;
            write_result(&mut stdout(), json.as_bytes())?;
        }
        saved?;
        // All is in its place; that a line was lost is told all the same.
        Ok(console.check()?)
    }
}
