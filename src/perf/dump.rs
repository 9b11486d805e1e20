//! Reads perf dumps for a comparison: ours and those of every version of upstream.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::error::{Error, Result};
use crate::files::read_bounded;
use crate::human::printable;
use crate::weights::Object;

/// Ten thousand requests of 50 steps are 50 MB.
const MAX_BYTES: u64 = 256 << 20;

/// Of different names; there are six.
const MAX_STAGES: usize = 1000;

/// 31 years. What is longer is no measurement, and sums stay finite.
const MAX_DURATION_MS: f64 = 1e12;

/// Where old dumps list every step among the stages, the sum of the steps.
pub(super) const DENOISING_LOOP: &str = "Denoising Loop";

/// The part of a perf dump that is compared.
#[derive(Debug, Clone)]
pub struct Dump {
    path: PathBuf,
    /// End-to-end latency; more than 0.
    pub total_ms: f64,
    /// Stages in the order they ran.
    pub stages: Vec<DumpStage>,
    /// What was measured.
    pub commit_hash: String,
    /// Denoising steps; 0 where it does not say.
    steps: usize,
    /// The requests after the first, which have none of their own.
    further: Vec<Dump>,
}

/// A stage of a dump.
#[derive(Debug, Clone, PartialEq)]
pub struct DumpStage {
    /// Its name, once in a dump.
    pub name: String,
    /// Sum of the entries with this name.
    pub duration_ms: f64,
    /// Number of entries.
    pub count: usize,
}

/// The keys that all versions have; other keys differ and are not read.
#[derive(Deserialize)]
struct Wire {
    total_duration_ms: f64,
    #[serde(rename = "steps")]
    stages: Vec<Object<WireStage>>,
    commit_hash: Option<String>,
    #[serde(default)]
    denoise_steps_ms: Vec<IgnoredAny>,
    /// Ours: the same record for each request after the first.
    #[serde(default)]
    requests: Vec<Object<Wire>>,
}

#[derive(Deserialize)]
struct WireStage {
    name: String,
    duration_ms: f64,
}

impl Dump {
    /// Reads a dump.
    ///
    /// # Errors
    /// [`Error::Input`] when the file is missing, too large, no perf dump, or holds a negative
    /// duration or a total of 0.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = read_bounded(path, MAX_BYTES)?;
        let Object(wire) = serde_json::from_slice(&bytes)
            .map_err(|error| unusable(path, format!("not a perf dump: {error}")))?;
        Self::of(path, wire)
    }

    fn of(path: &Path, wire: Wire) -> Result<Self> {
        let further = wire.requests.into_iter();
        let mut dump = Self {
            path: path.to_owned(),
            total_ms: checked(path, "total_duration_ms", wire.total_duration_ms)?,
            stages: Vec::new(),
            commit_hash: wire.commit_hash.unwrap_or_else(|| "N/A".into()),
            steps: wire.denoise_steps_ms.len(),
            further: further
                .map(|Object(wire)| Self::of(path, wire))
                .collect::<Result<_>>()?,
        };
        if dump.total_ms == 0.0 {
            return Err(unusable(path, "total_duration_ms is 0"));
        }
        let mut steps = 0;
        for Object(WireStage { name, duration_ms }) in wire.stages {
            let duration_ms = checked(path, &name, duration_ms)?;
            dump.add(
                if is_step(&name) {
                    DENOISING_LOOP
                } else {
                    &name
                },
                duration_ms,
            );
            steps += usize::from(is_step(&name));
            if dump.stages.len() > MAX_STAGES {
                return Err(unusable(path, format!("more than {MAX_STAGES} stages")));
            }
        }
        if dump.steps == 0 {
            dump.steps = steps;
        }
        Ok(dump)
    }

    /// The file's name without its folder.
    #[must_use]
    pub fn file_name(&self) -> String {
        let name = self.path.file_name().unwrap_or(self.path.as_os_str());
        name.to_string_lossy().into_owned()
    }

    /// All its requests, the first of which it is itself.
    pub fn requests(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self).chain(&self.further)
    }

    /// Fails unless its requests can be compared with those of `base`, one by one.
    ///
    /// # Errors
    /// [`Error::Input`] when `base` has another number of requests, or took another number of steps.
    pub(super) fn check_requests(&self, base: &Self) -> Result<()> {
        for (what, own, others) in [
            ("requests", self.requests().count(), base.requests().count()),
            ("denoising steps", self.steps, base.steps),
        ] {
            // Not every version lists steps.
            if own != others && own.min(others) > 0 {
                let base = base.path.display();
                let message = format!("{what} in it: {own}, in {base}: {others}");
                return Err(self.unusable(message));
            }
        }
        Ok(())
    }

    /// The stage called `name`.
    #[must_use]
    pub fn stage(&self, name: &str) -> Option<&DumpStage> {
        self.stages.iter().find(|stage| stage.name == name)
    }

    /// Duration of a stage, or of the whole request.
    ///
    /// # Errors
    /// [`Error::Input`] when there is no such stage or it took no time: there is nothing to compare.
    pub fn duration_ms(&self, stage: Option<&str>) -> Result<f64> {
        let Some(name) = stage else {
            return Ok(self.total_ms);
        };
        match self.stage(name) {
            Some(stage) if stage.duration_ms > 0.0 => Ok(stage.duration_ms),
            Some(_) => Err(self.unusable(format!("stage `{name}` took 0 ms"))),
            None => {
                let names: Vec<_> = self.stages.iter().map(|stage| &*stage.name).collect();
                let names = names.join(", ");
                Err(self.unusable(format!("no stage `{name}`, found: {names}")))
            }
        }
    }

    /// What is wrong with it.
    pub(super) fn unusable(&self, message: impl AsRef<str>) -> Error {
        unusable(&self.path, message)
    }

    fn add(&mut self, name: &str, duration_ms: f64) {
        if let Some(stage) = self.stages.iter_mut().find(|stage| stage.name == name) {
            stage.duration_ms += duration_ms;
            stage.count += 1;
        } else {
            self.stages.push(DumpStage {
                name: name.to_owned(),
                duration_ms,
                count: 1,
            });
        }
    }
}

/// Whether an entry is a step, as in dumps without `denoise_steps_ms`: `denoising_step_12`.
fn is_step(name: &str) -> bool {
    name.strip_prefix("denoising_step_").is_some_and(|number| {
        !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn checked(path: &Path, what: &str, duration_ms: f64) -> Result<f64> {
    if (0.0..=MAX_DURATION_MS).contains(&duration_ms) {
        Ok(duration_ms)
    } else {
        Err(unusable(
            path,
            format!("{what}: {duration_ms} ms is no duration"),
        ))
    }
}

/// What is wrong with a dump, which may have said so itself.
fn unusable(path: &Path, message: impl AsRef<str>) -> Error {
    Error::Input {
        path: path.to_owned(),
        message: printable(message.as_ref()),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
pub(super) mod tests {
    use super::*;

    pub(in crate::perf) fn read(name: &str, json: &str) -> Result<Dump> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, json).unwrap();
        Dump::read(&path)
    }

    fn stages(json: &str) -> Vec<(String, f64, usize)> {
        let dump = read("a.json", json).unwrap();
        (dump.stages.into_iter())
            .map(|stage| (stage.name, stage.duration_ms, stage.count))
            .collect()
    }

    #[test]
    fn our_own_report_is_read() {
        let report = crate::perf::report::tests::report();
        let dump = read("a.json", &serde_json::to_string(&report).unwrap()).unwrap();
        assert_eq!(dump.stages.len(), report.first.stages.len());
        assert_eq!(dump.duration_ms(Some("DenoisingStage")).ok(), Some(60.0));
        assert_eq!(dump.duration_ms(None).ok(), Some(66.0));
    }

    #[test]
    fn dumps_of_all_versions_are_read() {
        for meta in [r#"["a"]"#, r#""a""#, "null"] {
            let json = format!(
                r#"{{"timestamp": "", "total_duration_ms": 5, "steps": [{{"name": "A",
                "duration_ms": 2}}], "meta": {{"prompt": {meta}, "model": "m"}}}}"#
            );
            assert_eq!(stages(&json), [("A".into(), 2.0, 1)]);
        }
    }

    #[test]
    fn steps_among_the_stages_are_folded_in_place() {
        let json = r#"{"total_duration_ms": 9.5, "commit_hash": null, "steps": [
            {"name": "TextEncodingStage", "duration_ms": 1},
            {"name": "denoising_step_0", "duration_ms": 2},
            {"name": "denoising_step_1", "duration_ms": 3.5},
            {"name": "denoising_step_x", "duration_ms": 1},
            {"name": "DecodingStage", "duration_ms": 2}]}"#;
        assert_eq!(
            stages(json),
            [
                ("TextEncodingStage".into(), 1.0, 1),
                (DENOISING_LOOP.into(), 5.5, 2),
                ("denoising_step_x".into(), 1.0, 1),
                ("DecodingStage".into(), 2.0, 1),
            ]
        );
    }

    #[test]
    fn what_is_no_perf_dump_is_refused() {
        for json in [
            "",
            "[]",
            "{}",
            "{\"total_duration_ms\": 1.0",
            r#"{"total_duration_ms": 1.0}"#,
            r#"{"steps": []}"#,
            r#"{"total_duration_ms": "1", "steps": []}"#,
            r#"{"total_duration_ms": null, "steps": []}"#,
            r#"{"total_duration_ms": NaN, "steps": []}"#,
            r#"{"total_duration_ms": 1e999, "steps": []}"#,
            r#"{"total_duration_ms": 1e300, "steps": []}"#,
            r#"{"total_duration_ms": 0, "steps": []}"#,
            r#"{"total_duration_ms": -1, "steps": []}"#,
            r#"{"total_duration_ms": 1, "steps": [{"name": "A", "duration_ms": -1}]}"#,
            r#"{"total_duration_ms": 1, "steps": [{"duration_ms": 1}]}"#,
            r#"{"total_duration_ms": 1, "steps": [{"name": "A"}]}"#,
            r#"{"total_duration_ms": 1, "steps": []} {}"#,
            r#"[1, [["A", 1]], null, []]"#,
            r#"{"total_duration_ms": 1, "steps": [["A", 1]]}"#,
            r#"{"total_duration_ms": 1, "steps": [], "requests": [[1, [], null, []]]}"#,
        ] {
            let error = read("a.json", json).unwrap_err();
            assert!(matches!(error, Error::Input { .. }), "{json}");
            assert!(error.to_string().contains("a.json"), "{error}");
        }
        let stage = |i| format!(r#"{{"name": "{i}", "duration_ms": 1}}"#);
        let stages: Vec<_> = (0..=MAX_STAGES).map(stage).collect();
        let json = format!(
            r#"{{"total_duration_ms": 1, "steps": [{}]}}"#,
            stages.join(",")
        );
        let error = read("a.json", &json).unwrap_err().to_string();
        assert!(error.ends_with("more than 1000 stages"), "{error}");
        assert!(Dump::read(Path::new("/nowhere/a.json")).is_err());
    }

    #[test]
    fn a_missing_or_empty_stage_is_an_error() {
        let json = r#"{"total_duration_ms": 1, "steps": [{"name": "A", "duration_ms": 0}]}"#;
        let dump = read("a.json", json).unwrap();
        let message = |stage| dump.duration_ms(Some(stage)).unwrap_err().to_string();
        assert!(message("A").ends_with("stage `A` took 0 ms"));
        assert!(message("B").ends_with("no stage `B`, found: A"));
    }
}
