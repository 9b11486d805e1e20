//! Reads a trace as a stream: ours and those of PyTorch's profiler, zipped or not.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use serde::Deserialize;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};

use super::analysis::{STAGE, STEP};
use super::bounded::Bounded;
use super::event::{Category, Event, Phase};
use super::recorded::{HostKind, HostRange, MemorySample, Recorded, Span, Work, WorkKind};
use crate::error::{Error, Result};
use crate::human::printable;
use crate::weights::Object;

/// What is kept and worked out of so many takes 2 GB (2.6 GB were measured at 15 million, half of them a graph's
/// kernels, half calls); no viewer shows a tenth of them.
const MAX_EVENTS: u64 = 12_000_000;
const MAX_NAMES_BYTES: usize = 128 << 20;
/// Stages and steps, each of which has rows and bars; a run has 1000 steps at most.
const MAX_PARTS: usize = 10_000;
const MAX_DEVICES: usize = 64;
/// What the parser holds of the file at once.
const MAX_STRING_BYTES: usize = 16 << 20;
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const BUFFER_BYTES: usize = 1 << 16;

impl Recorded {
    /// Reads the trace at `path`.
    ///
    /// # Errors
    /// [`Error::Input`] when it cannot be read or is no trace.
    pub(super) fn read(path: &Path) -> Result<Self> {
        open(path)
            .map_err(|error| error.to_string())
            .and_then(|json| parse(json).map_err(|error| format!("not a trace: {error}")))
            .map_err(|message| Error::Input {
                path: path.to_owned(),
                message,
            })
    }
}

/// The JSON in the file.
fn open(path: &Path) -> std::io::Result<impl Read> {
    let mut file = BufReader::with_capacity(BUFFER_BYTES, File::open(path)?);
    let json: Box<dyn Read> = if file.fill_buf()?.starts_with(&GZIP_MAGIC) {
        Box::new(MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let json = Bounded::new(json, MAX_STRING_BYTES);
    Ok(BufReader::with_capacity(BUFFER_BYTES, json))
}

/// Parses a trace's JSON.
pub(super) fn parse(json: impl Read) -> serde_json::Result<Recorded> {
    let mut deserializer = serde_json::Deserializer::from_reader(json);
    let mut recorded = deserializer.deserialize_map(Top::default())?;
    deserializer.end()?;
    recorded.host.sort_by_key(|range| {
        let Span { start, end } = range.span;
        (range.row, start, std::cmp::Reverse(end))
    });
    recorded.work.sort_by_key(|work| work.span);
    recorded.memory.sort_by_key(|sample| sample.at);
    if recorded.window.is_none() {
        let host = recorded.host.iter().map(|range| range.span);
        let work = recorded.work.iter().map(|work| work.span);
        let spans = || host.clone().chain(work.clone());
        recorded.window = (spans().map(|span| span.start).min())
            .zip(spans().map(|span| span.end).max())
            .map(|(start, end)| Span { start, end });
        if recorded.window.is_none() && recorded.count > 0 {
            let message = "no range of a kind that is known (cpu_op, user_annotation, kernel, ...)";
            return Err(serde_json::Error::custom(message));
        }
    }
    Ok(recorded)
}

/// The object at the top.
#[derive(Default)]
struct Top {
    recorded: Recorded,
    rows: HashMap<(i64, i64), u32>,
    /// Stages and steps so far.
    parts: usize,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum TopKey {
    TraceEvents,
    DeviceProperties,
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Device {
    name: Option<String>,
}

impl<'de> Visitor<'de> for Top {
    type Value = Recorded;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `traceEvents`")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Recorded, A::Error> {
        let mut found = false;
        while let Some(key) = map.next_key()? {
            match key {
                TopKey::TraceEvents => {
                    map.next_value_seed(List(&mut self))?;
                    found = true;
                }
                TopKey::DeviceProperties => {
                    map.next_value_seed(Devices(&mut self.recorded.devices))?;
                }
                TopKey::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        if found {
            Ok(self.recorded)
        } else {
            Err(A::Error::missing_field("traceEvents"))
        }
    }
}

/// The list of devices, of which names are kept.
struct Devices<'a>(&'a mut Vec<String>);

impl<'de> DeserializeSeed<'de> for Devices<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Devices<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of devices")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        self.0.clear();
        while let Some(Device { name }) = list.next_element()? {
            if self.0.len() == MAX_DEVICES {
                let message = format!("more than {MAX_DEVICES} devices");
                return Err(A::Error::custom(message));
            }
            self.0.extend(name.as_deref().map(printable));
        }
        Ok(())
    }
}

/// The list of events.
struct List<'a>(&'a mut Top);

impl<'de> DeserializeSeed<'de> for List<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(Object(event)) = list.next_element()? {
            self.0.add(&event);
            let recorded = &self.0.recorded;
            if recorded.count > MAX_EVENTS {
                let message = format!("more than {MAX_EVENTS} events");
                return Err(A::Error::custom(message));
            }
            if recorded.names.bytes > MAX_NAMES_BYTES {
                return Err(A::Error::custom("too many different names"));
            }
            if self.0.parts > MAX_PARTS {
                let message = format!("more than {MAX_PARTS} stages and steps");
                return Err(A::Error::custom(message));
            }
        }
        Ok(())
    }
}

impl Top {
    /// Keeps what is reported on.
    fn add(&mut self, event: &Event) {
        self.recorded.count += 1;
        let span = event.span();
        let recorded = &mut self.recorded;
        match (event.phase, event.category) {
            (Phase::Range, Category::Trace) => recorded.window = Some(span),
            (Phase::Range, Category::CpuOp) => self.add_host(HostKind::Operator, span, event),
            (Phase::Range, Category::UserAnnotation) => {
                self.add_host(HostKind::Annotation, span, event);
            }
            (Phase::Range, Category::CudaRuntime | Category::CudaDriver) => {
                self.add_host(HostKind::Call, span, event);
            }
            (Phase::Range, Category::Kernel) => self.add_work(WorkKind::Kernel, span, event),
            (Phase::Range, Category::GpuMemcpy) => self.add_work(WorkKind::Copy, span, event),
            (Phase::Range, Category::GpuMemset) => self.add_work(WorkKind::Set, span, event),
            (Phase::Instant | Phase::Counter, _) => {
                let on_device = event.device_allocated();
                if let Some(bytes) = on_device.or(event.host_resident()) {
                    recorded.memory.push(MemorySample {
                        at: span.start,
                        bytes,
                        on_device: on_device.is_some(),
                    });
                }
            }
            _ => {}
        }
    }

    fn add_host(&mut self, kind: HostKind, span: Span, event: &Event) {
        let Some(row) = event.row() else {
            return;
        };
        let is_part = event.name.starts_with(STAGE) || event.name.starts_with(STEP);
        self.parts += usize::from(is_part && kind == HostKind::Annotation);
        let next = u32::try_from(self.rows.len()).unwrap_or(u32::MAX);
        self.recorded.host.push(HostRange {
            row: *self.rows.entry(row).or_insert(next),
            span,
            kind,
            name: self.recorded.names.id(&event.name),
            correlation: event.correlation(),
        });
    }

    fn add_work(&mut self, kind: WorkKind, span: Span, event: &Event) {
        let names = &mut self.recorded.names;
        let operator = event.operator();
        self.recorded.work.push(Work {
            operator: operator.map(|(name, index)| (names.id(name), index)),
            span,
            kind,
            name: self.recorded.names.id(&event.name),
            correlation: event.correlation(),
            bytes: event.bytes(),
            occupancy_pct: event.occupancy_pct(),
        });
    }
}
