//! The seed of every picture.

use super::in_range;
use crate::error::{Error, Result};

/// Most pictures of one run.
const MAX_PICTURES: usize = 10_000;

/// The seed of every picture, prompt by prompt.
pub(super) fn resolve_seeds(
    given: &[u64],
    outputs: Option<usize>,
    prompts: usize,
) -> Result<Vec<u64>> {
    if let Some(outputs) = outputs {
        in_range("--num-outputs-per-prompt", outputs, 1..=MAX_PICTURES)?;
    }
    let each = outputs.unwrap_or(given.len());
    if each * prompts > MAX_PICTURES {
        return Err(Error::usage(format!(
            "prompts with pictures of each (--num-outputs-per-prompt, --seed): {prompts} with {each}, at most {MAX_PICTURES} pictures in one run"
        )));
    }
    let per_prompt = match (given, outputs) {
        ([seed], outputs) => (0..outputs.unwrap_or(1) as u64)
            .map(|k| {
                seed.checked_add(k).ok_or_else(|| {
                    Error::usage(format!("--seed {seed}: seed + {k} does not fit in 64 bits"))
                })
            })
            .collect::<Result<Vec<_>>>()?,
        (seeds, None) => seeds.to_vec(),
        (seeds, Some(outputs)) if seeds.len() == outputs => seeds.to_vec(),
        (seeds, Some(outputs)) if seeds.len() == outputs * prompts => return Ok(seeds.to_vec()),
        (seeds, Some(outputs)) => {
            return Err(Error::usage(format!(
                "--seed has {} values: expected 1, {outputs} (outputs of a prompt) or {} (pictures in all)",
                seeds.len(),
                outputs * prompts
            )));
        }
    };
    Ok(per_prompt.repeat(prompts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prompt_restarts_at_the_seed() -> Result<()> {
        assert_eq!(resolve_seeds(&[7], Some(2), 2)?, [7, 8, 7, 8]);
        assert_eq!(resolve_seeds(&[7, 9], None, 2)?, [7, 9, 7, 9]);
        assert_eq!(resolve_seeds(&[1, 2, 3, 4], Some(2), 2)?, [1, 2, 3, 4]);
        assert!(resolve_seeds(&[1, 2, 3], Some(2), 1).is_err());
        assert!(resolve_seeds(&[u64::MAX], Some(2), 1).is_err());
        assert!(resolve_seeds(&[0], Some(100), 100).is_ok());
        assert!(resolve_seeds(&[0], Some(100), 101).is_err());
        assert!(resolve_seeds(&vec![0; 10_002], Some(5001), 2).is_err());
        Ok(())
    }
}
