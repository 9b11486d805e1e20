//! What can be typed after `compare-perf`.

use std::path::PathBuf;

use clap::Args;

/// Compare perf dumps of qwen-gen and sglang as Markdown; fail on a regression
///
/// Exit codes: 0 no regression, 1 regression beyond --fail-above, 2 a dump or flag is unusable.
#[derive(Debug, Clone, Args)]
pub struct ComparePerfArgs {
    /// Dump to compare with
    pub base: PathBuf,

    /// Dumps that are compared with BASE
    #[arg(required = true)]
    pub new: Vec<PathBuf>,

    /// Exit with 1 if any NEW is slower than BASE by more than PCT percent, in any of its requests
    #[arg(long, value_name = "PCT", value_parser = percentage, allow_negative_numbers = true)]
    pub fail_above: Option<f64>,

    /// Check this stage, of 0.1 ms at least, instead of the end-to-end latency
    #[arg(long, value_name = "NAME", requires = "fail_above")]
    pub stage: Option<String>,
}

fn percentage(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
        _ => Err("expected a number of percent, 0 or more".into()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{FromArgMatches, error::ErrorKind};

    use super::*;

    fn parse(args: &[&str]) -> Result<ComparePerfArgs, ErrorKind> {
        let command = ComparePerfArgs::augment_args(clap::Command::new("compare-perf"));
        let args = [&["compare-perf"], args].concat();
        (command.try_get_matches_from(args))
            .and_then(|matches| ComparePerfArgs::from_arg_matches(&matches))
            .map_err(|error| error.kind())
    }

    #[test]
    fn takes_a_baseline_and_at_least_one_more() {
        assert_eq!(
            parse(&["a"]).err(),
            Some(ErrorKind::MissingRequiredArgument)
        );
        let args = parse(&["a", "b", "c", "--fail-above", "2.5", "--stage", "S"]);
        let args = args.expect("valid");
        assert_eq!(args.base, PathBuf::from("a"));
        assert_eq!(args.new, [PathBuf::from("b"), PathBuf::from("c")]);
        assert_eq!(args.fail_above, Some(2.5));
        assert_eq!(args.stage.as_deref(), Some("S"));
    }

    #[test]
    fn the_limit_is_a_finite_percentage_and_a_stage_needs_one() {
        for limit in ["NaN", "inf", "-1", "5%", ""] {
            assert!(
                parse(&["a", "b", &format!("--fail-above={limit}")]).is_err(),
                "{limit}"
            );
        }
        assert!(parse(&["a", "b", "--stage", "S"]).is_err());
    }
}
