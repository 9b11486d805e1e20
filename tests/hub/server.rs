//! A hub on this machine with one repository: the built-in model's files, and faults on demand.
//!
//! Large files come, as on the hub, from another origin to which requests are redirected.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use ring::digest;

pub(crate) const REPOSITORY: &str = "test/tiny";
pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What was asked.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// With names in lower case.
    pub(crate) headers: HashMap<String, String>,
    /// Asked of the origin that has the large files.
    pub(crate) is_cdn: bool,
    /// Requests for the same before this one.
    pub(crate) earlier: usize,
}

impl Request {
    pub(crate) fn range(&self) -> Option<usize> {
        let range = self.headers.get("range")?.strip_prefix("bytes=")?;
        range.strip_suffix('-')?.parse().ok()
    }

    pub(crate) fn is_listing(&self) -> bool {
        self.path.starts_with("/api/")
    }

    /// Whether it asks for the bytes of a file.
    pub(crate) fn gets(&self, file: &str) -> bool {
        self.method == "GET" && self.path.ends_with(file)
    }
}

/// What is answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// Bytes of the body after which the connection ends or, if it is to stall, says no more.
    pub(crate) cut: Option<usize>,
    pub(crate) stalls: bool,
}

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        Self::ok(Vec::new()).with_status(status)
    }

    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        Self {
            status: 200,
            headers: vec![("content-length", body.len().to_string())],
            body,
            cut: None,
            stalls: false,
        }
    }

    pub(crate) fn with_status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn redirect(to: impl Into<String>) -> Self {
        Self::status(302).with("location", to)
    }

    fn send(self, mut stream: TcpStream, head_only: bool) -> std::io::Result<()> {
        write!(
            stream,
            "HTTP/1.1 {} -\r\nconnection: close\r\n",
            self.status
        )?;
        for (name, value) in &self.headers {
            write!(stream, "{name}: {value}\r\n")?;
        }
        stream.write_all(b"\r\n")?;
        if !head_only {
            let end = self.cut.unwrap_or(self.body.len()).min(self.body.len());
            stream.write_all(&self.body[..end])?;
        }
        if self.stalls {
            stream.flush()?;
            let _ = stream.read(&mut [0]);
        }
        Ok(())
    }
}

type Fault = dyn Fn(&Request, &Hub) -> Option<Answer> + Send + Sync;

/// The server; it runs until the tests end.
pub(crate) struct Hub {
    pub(crate) endpoint: String,
    cdn: String,
    requests: Mutex<Vec<Request>>,
    fault: Box<Fault>,
}

impl Hub {
    /// A hub that answers as it should.
    pub(crate) fn start() -> Arc<Self> {
        Self::with(|_, _| None)
    }

    /// A hub that answers with what `fault` returns, or else as it should.
    pub(crate) fn with(
        fault: impl Fn(&Request, &Self) -> Option<Answer> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
        let listeners = [(listen(), false), (listen(), true)];
        let origin = |i: usize| format!("http://{}", listeners[i].0.local_addr().unwrap());
        let hub = Arc::new(Self {
            endpoint: origin(0),
            cdn: origin(1),
            requests: Mutex::default(),
            fault: Box::new(fault),
        });
        for (listener, is_cdn) in listeners {
            let hub = hub.clone();
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let hub = hub.clone();
                    // A client that is gone is no fault of the server.
                    thread::spawn(move || hub.serve(stream.unwrap(), is_cdn).ok());
                }
            });
        }
        hub
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    fn serve(&self, stream: TcpStream, is_cdn: bool) -> std::io::Result<()> {
        let mut lines = BufReader::new(stream.try_clone()?).lines();
        let first = lines.next().unwrap_or_else(|| Ok(String::new()))?;
        let mut words = first.split(' ').map(str::to_owned);
        let (Some(method), Some(path)) = (words.next(), words.next()) else {
            return Ok(());
        };
        let mut headers = HashMap::new();
        for line in lines {
            let line = line?;
            let Some((name, value)) = line.split_once(": ") else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let request = {
            let mut requests = self.requests.lock().unwrap();
            let is_same = |r: &&Request| (&r.method, &r.path) == (&method, &path);
            let request = Request {
                earlier: requests.iter().filter(is_same).count(),
                method,
                path,
                headers,
                is_cdn,
            };
            requests.push(request.clone());
            request
        };
        let answer = (self.fault)(&request, self).unwrap_or_else(|| self.answer(&request));
        answer.send(stream, request.method == "HEAD")
    }

    /// What a hub without faults answers.
    pub(crate) fn answer(&self, request: &Request) -> Answer {
        if request.path == format!("/api/models/{REPOSITORY}/revision/main")
            || request.path == format!("/api/models/{REPOSITORY}/revision/{COMMIT}")
        {
            let siblings: Vec<_> = files()
                .into_iter()
                .map(|name| serde_json::json!({ "rfilename": name }))
                .collect();
            let info = serde_json::json!({ "sha": COMMIT, "siblings": siblings });
            return Answer::ok(info.to_string());
        }
        if request.is_listing() {
            return Answer::status(404).with("x-error-code", "RevisionNotFound");
        }
        let resolve = format!("/{REPOSITORY}/resolve/{COMMIT}/");
        let prefix = if request.is_cdn { "/cdn/" } else { &resolve };
        let Some(name) = request.path.strip_prefix(prefix) else {
            return Answer::status(404).with("x-error-code", "RepoNotFound");
        };
        let Ok(content) = fs::read(model().join(name)) else {
            return Answer::status(404).with("x-error-code", "EntryNotFound");
        };
        let etag = format!("\"{}\"", etag(name));
        if name.ends_with(".safetensors") && !request.is_cdn {
            return Answer::redirect(format!("{}/cdn/{name}", self.cdn))
                .with("x-linked-etag", etag)
                .with("x-linked-size", content.len().to_string());
        }
        match request.range() {
            None => Answer::ok(content).with("etag", etag),
            Some(start) => {
                let range = format!("bytes {start}-{}/{}", content.len() - 1, content.len());
                Answer::ok(&content[start..])
                    .with_status(206)
                    .with("content-range", range)
            }
        }
    }
}

/// The repository's content.
pub(crate) fn model() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/builtin-model")
}

/// Paths of its files.
pub(crate) fn files() -> Vec<String> {
    let mut files = Vec::new();
    for entry in fs::read_dir(model()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.path().is_dir() {
            for inner in fs::read_dir(entry.path()).unwrap() {
                let inner = inner.unwrap().file_name().into_string().unwrap();
                files.push(format!("{name}/{inner}"));
            }
        } else {
            files.push(name);
        }
    }
    files
}

/// The SHA-256 of a large file, git's blob id of others.
pub(crate) fn etag(name: &str) -> String {
    let content = fs::read(model().join(name)).unwrap();
    let hash = if name.ends_with(".safetensors") {
        digest::digest(&digest::SHA256, &content)
    } else {
        let blob = [format!("blob {}\0", content.len()).as_bytes(), &content].concat();
        digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &blob)
    };
    let digits = |byte: &u8| format!("{byte:02x}");
    hash.as_ref().iter().map(digits).collect()
}
