//! What the hub says of a revision: its commit, its files, and each file's size and hash.

use serde::Deserialize;
use ureq::http::header::{CONTENT_LENGTH, ETAG, HeaderName};
use ureq::http::{HeaderMap, StatusCode};

use super::Hub;
use super::checksum::Checksum;
use super::client::header;
use super::fault::{Attempts, Fault};
use super::repository::{Repository, is_commit, is_relative_path};
use crate::error::Result;

/// Most bytes of a listing; a repository of 100,000 files has 10 MB.
const MAX_LISTING_BYTES: u64 = 64_000_000;

/// A commit and the names of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The commit that the revision is.
    pub(super) commit: String,
    /// Paths in the repository, with `/`.
    pub(super) files: Vec<String>,
}

impl Listing {
    /// Whether the commit has such a file.
    pub(super) fn contains(&self, file: &str) -> bool {
        self.files.iter().any(|name| name == file)
    }

    /// Names of the files right inside a folder.
    pub(super) fn inside(&self, folder: &str) -> Vec<String> {
        let name = |file: &String| {
            let name = file.strip_prefix(folder)?.strip_prefix('/')?;
            (!name.contains('/')).then(|| name.to_owned())
        };
        self.files.iter().filter_map(name).collect()
    }
}

/// A file of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RemoteFile {
    /// Path in the repository.
    pub(super) name: String,
    pub(super) bytes: u64,
    /// Name of its blob: the SHA-256 of large files, else git's hash.
    pub(super) etag: String,
}

impl RemoteFile {
    /// The hash of its content, where the hub states it.
    pub(super) fn checksum(&self) -> Option<Checksum<'_>> {
        Checksum::of_etag(&self.etag)
    }

    /// The hub's headers are about the file itself, also where they come with a redirect to its bytes.
    fn from_headers(name: &str, headers: &HeaderMap) -> Result<Self, Fault> {
        let linked = |linked: &'static str, plain| {
            header(headers, &HeaderName::from_static(linked)).or_else(|| header(headers, &plain))
        };
        let etag = linked("x-linked-etag", ETAG).unwrap_or_default();
        let etag = etag.trim_start_matches("W/").trim_matches('"');
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        if etag.is_empty() || etag.len() > 200 || !etag.chars().all(is_plain) {
            return Err(Fault::lasting(format!(
                "the hub's ETag `{etag}` is no hash"
            )));
        }
        let bytes = linked("x-linked-size", CONTENT_LENGTH)
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| Fault::lasting("the hub does not say how long it is"))?;
        Ok(Self {
            name: name.to_owned(),
            bytes,
            etag: etag.to_owned(),
        })
    }
}

impl Hub {
    /// The commit that the repository's revision is now, and the names of its files.
    pub(super) fn list(&self, repository: &Repository, attempts: Attempts) -> Result<Listing> {
        let ask = || {
            let response = self.client.info(repository)?;
            let status = response.status();
            let body = response.into_body().into_with_config();
            let bytes =
                body.limit(MAX_LISTING_BYTES)
                    .read_to_vec()
                    .map_err(|error| match error {
                        ureq::Error::BodyExceedsLimit(limit) => {
                            Fault::lasting(format!("the hub's answer has more than {limit} bytes"))
                        }
                        error => Fault::passing(format!("the hub's answer broke off: {error}")),
                    })?;
            parse(status, &bytes)
        };
        self.retry((repository, None), attempts, || false, ask)
    }

    /// Size and hash of a file of the listed commit.
    pub(super) fn describe(
        &self,
        repository: &Repository,
        listing: &Listing,
        file: &str,
    ) -> Result<RemoteFile> {
        if !listing.contains(file) {
            let fault = Fault::lasting("no such file in the repository");
            return Err(fault.of(repository, Some(file)));
        }
        let ask = || {
            let response = self.client.head(&repository.id, &listing.commit, file)?;
            RemoteFile::from_headers(file, response.headers())
        };
        let what = (repository, Some(file));
        self.retry(what, Attempts::Several, || false, ask)
    }
}

fn parse(status: StatusCode, json: &[u8]) -> Result<Listing, Fault> {
    #[derive(Deserialize)]
    struct Info {
        sha: String,
        siblings: Vec<Sibling>,
    }
    #[derive(Deserialize)]
    struct Sibling {
        rfilename: String,
    }
    let foreign = |why: String| {
        let status = status.as_u16();
        Fault::lasting(format!(
            "HTTP {status}, but the answer is not the hub's: {why}"
        ))
        .with_hint("check HF_ENDPOINT, and whether the network asks for a login")
    };
    let info: Info = serde_json::from_slice(json).map_err(|error| foreign(error.to_string()))?;
    if !is_commit(&info.sha) {
        return Err(foreign(format!("`sha` is `{}`", info.sha)));
    }
    let files: Vec<_> = info.siblings.into_iter().map(|s| s.rfilename).collect();
    if let Some(name) = files.iter().find(|name| !is_relative_path(name)) {
        return Err(foreign(format!("a file is named `{name}`")));
    }
    Ok(Listing {
        commit: info.sha,
        files,
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn described(headers: &[(&'static str, &str)]) -> Result<RemoteFile, Fault> {
        let pairs = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        RemoteFile::from_headers("f", &pairs.collect())
    }

    #[test]
    fn headers_about_the_file_win_over_those_of_the_redirect() {
        let sha256 = "0a".repeat(32);
        let quoted = format!("\"{sha256}\"");
        let redirect = [("etag", "\"x\""), ("content-length", "9")];
        let file = [
            ("x-linked-etag", quoted.as_str()),
            ("x-linked-size", "5000000000"),
        ];
        let large = described(&[redirect, file].concat()).unwrap();
        assert_eq!(
            (large.bytes, large.checksum()),
            (5_000_000_000, Some(Checksum::Sha256(&sha256)))
        );
        let small = described(&[("etag", "W/\"abc\""), ("content-length", "9")]).unwrap();
        assert_eq!(
            (small.bytes, small.etag.as_str(), small.checksum()),
            (9, "abc", None)
        );
    }

    #[test]
    fn an_etag_cannot_lead_out_of_its_folder() {
        for etag in ["", "\"\"", "../x", "a/b", "a.lock", "."] {
            assert!(
                described(&[("etag", etag), ("content-length", "9")]).is_err(),
                "{etag}"
            );
        }
        assert!(described(&[("etag", "abc")]).is_err());
        assert!(described(&[("etag", "abc"), ("content-length", "-1")]).is_err());
    }

    #[test]
    fn a_listing_names_a_commit_and_paths_inside_it() {
        let commit = "0".repeat(40);
        let listing = |sha: &str, file: &str| {
            let json =
                format!(r#"{{"sha":"{sha}","siblings":[{{"rfilename":"{file}"}}],"tags":[]}}"#);
            parse(StatusCode::OK, json.as_bytes())
        };
        let good = listing(&commit, "vae/config.json").unwrap();
        assert!(good.contains("vae/config.json"));
        assert_eq!(good.inside("vae"), ["config.json"]);
        assert_eq!(good.inside("va"), [""; 0]);
        for file in ["../x", "/x", "a/../b", "a\\\\b", "a\\u0000b"] {
            assert!(listing(&commit, file).is_err(), "{file}");
        }
        assert!(listing("../../x", "a").is_err());
        assert!(
            parse(StatusCode::NO_CONTENT, b"")
                .unwrap_err()
                .message
                .contains("HTTP 204")
        );
    }
}
