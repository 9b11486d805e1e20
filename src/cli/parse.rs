//! What the parser says of a command line, in the program's own words where its own say too little.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, PathBufValueParser, StringValueParser, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, CommandFactory, Parser};

use super::Cli;
use crate::error::Error;
use crate::files::expand_home;

/// Why a command line is not one.
#[derive(Debug)]
pub enum Refusal {
    /// In the program's words.
    Own(Error),
    /// In the parser's; help and version are among them.
    Parser(clap::Error),
}

/// Parses a command line.
///
/// # Errors
/// When it is not one, or asks for help.
pub fn parse(args: &[OsString]) -> Result<Cli, Refusal> {
    Cli::try_parse_from(args).map_err(|error| {
        let own = match error.kind() {
            ErrorKind::InvalidUtf8 => not_utf8(args),
            ErrorKind::UnknownArgument => ambiguous(args, &error),
            _ => None,
        };
        own.map_or(Refusal::Parser(error), |message| {
            Refusal::Own(Error::usage(message))
        })
    })
}

/// The first argument that is not UTF-8, and the flag before it.
fn not_utf8(args: &[OsString]) -> Option<String> {
    let at = args.iter().position(|arg| arg.to_str().is_none())?;
    let flags = args[..at].iter().rev().filter_map(|arg| arg.to_str());
    let flag = flags.clone().find(|arg| arg.starts_with("--"));
    let value = args[at].display();
    Some(format!("{} {value}: not UTF-8", flag.unwrap_or("argument")))
}

/// The flags of the verb that an unknown one is short for, where they are several.
fn ambiguous(args: &[OsString], error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(given)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let prefix = given.strip_prefix("--")?;
    let cli = Cli::command();
    let verb = cli.find_subcommand(args.get(1)?)?;
    let names = verb
        .get_arguments()
        .filter_map(Arg::get_long_and_visible_aliases);
    let mut flags: Vec<_> = (names.flatten())
        .filter(|name| name.starts_with(prefix))
        .map(|name| format!("--{name}"))
        .collect();
    flags.sort_unstable();
    (flags.len() > 1).then(|| format!("{given} is short for several flags: {}", flags.join(", ")))
}

/// A path, in which shells leave `~` as it is after `--flag=`.
pub(super) fn file_path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().map(|path| expand_home(path, std::env::home_dir()))
}

/// As [`file_path`]; upstream takes an empty one for none.
pub(super) fn folder() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().try_map(|path| {
        if path.is_empty() {
            Err("a folder has a name; --no-save-output saves nothing")
        } else {
            Ok(expand_home(path.into(), std::env::home_dir()))
        }
    })
}

/// A path as in [`file_path`], or another name of a model.
pub(super) fn model() -> impl TypedValueParser<Value = String> {
    StringValueParser::new().map(|name| {
        let path = expand_home(PathBuf::from(&name), std::env::home_dir());
        path.into_os_string().into_string().unwrap_or(name)
    })
}
