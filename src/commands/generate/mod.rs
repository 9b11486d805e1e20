//! `generate`: resolve, check, fetch, load, observe, run, save.

mod fetch;
mod log;
mod open;
mod plan;
mod results;
mod session;
mod watchers;

use std::time::Instant;

use anyhow::Result;

use self::plan::Run;
use self::session::Session;
use self::watchers::Watchers;
use crate::cli::console::Console;
use crate::cli::generate::GenerateArgs;
use crate::interrupt::Interrupt;

/// Runs the command; `started` is when `main` did.
///
/// # Errors
/// Whatever stops the run; nothing is left half-written.
pub fn run(args: GenerateArgs, started: Instant) -> Result<()> {
    let mut console = Console::new(args.log_level(), args.json());
    log::show_events(args.log_level());
    let json = args.json();
    let interrupt = Interrupt::install()?;

    let request = args.into_request()?;
    request.warnings.iter().for_each(|w| console.warning(w));
    let run = Run::plan(request)?;
    let opened = open::open(&run.request, &mut console, &interrupt)?;
    if run.request.dry_run {
        let sampling = &run.request.sampling;
        return Ok(log::show_plan(&opened.plan, sampling, json)?);
    }
    log::describe(&run, &opened, &console);

    let watchers = Watchers::new(&run.request, &opened.chosen, interrupt, console, started);
    let mut session = Session::load(run, opened, watchers)?;
    session.warm_up()?;
    session.draw_all()?;
    session.finish(json)
}
