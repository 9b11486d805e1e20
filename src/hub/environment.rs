//! What the environment says: Python's variables, with Python's meanings.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use ureq::http::Uri;

use crate::error::{Error, Result};
use crate::files::{expand_home, read_bounded};

/// Most bytes of a token's file; a token has less than a hundred, those of other hubs some thousand.
const MAX_TOKEN_BYTES: u64 = 16_384;

const ENDPOINT: &str = "https://huggingface.co";

/// How the hub is reached, and where its files are kept.
#[derive(Debug)]
pub(super) struct Settings {
    /// Folder of the repositories' folders.
    pub(super) cache: PathBuf,
    /// Address without a slash at its end.
    pub(super) endpoint: String,
    pub(super) token: Option<Token>,
    /// The variable that forbids requests.
    pub(super) offline: Option<&'static str>,
}

/// A secret; it is not printed.
pub(super) struct Token(String);

impl Token {
    /// Value of the `Authorization` header.
    pub(super) fn bearer(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl Settings {
    /// # Errors
    /// A usage error that names the variable.
    pub(super) fn read(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let environment = Environment { variable };
        Ok(Self {
            cache: environment.cache()?,
            endpoint: environment.endpoint()?,
            token: environment.token()?,
            offline: environment.offline(),
        })
    }
}

/// Whether the environment's variables say not to show the progress of downloads.
pub fn hides_progress(variable: impl Fn(&str) -> Option<OsString>) -> bool {
    Environment { variable }.is_true("HF_HUB_DISABLE_PROGRESS_BARS")
}

struct Environment<F> {
    variable: F,
}

impl<F: Fn(&str) -> Option<OsString>> Environment<F> {
    /// A value that is not empty.
    fn get(&self, name: &str) -> Option<OsString> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| {
            ["1", "on", "yes", "true"]
                .iter()
                .any(|yes| value.eq_ignore_ascii_case(yes))
        })
    }

    /// The variable that says so: the first that is set counts.
    fn offline(&self) -> Option<&'static str> {
        let names = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"];
        let set = names.into_iter().find(|name| self.get(name).is_some());
        set.filter(|name| self.is_true(name))
    }

    /// A path, whose `~` is the home folder.
    fn path(&self, name: &str) -> Option<PathBuf> {
        let path = PathBuf::from(self.get(name)?);
        Some(expand_home(path, self.user_home()))
    }

    fn user_home(&self) -> Option<PathBuf> {
        self.get("HOME").map(PathBuf::from)
    }

    /// The folder of all of Hugging Face's files.
    fn home(&self) -> Option<PathBuf> {
        self.path("HF_HOME").or_else(|| {
            let caches = self
                .path("XDG_CACHE_HOME")
                .or_else(|| Some(self.user_home()?.join(".cache")))?;
            Some(caches.join("huggingface"))
        })
    }

    fn cache(&self) -> Result<PathBuf> {
        let given = self
            .path("HF_HUB_CACHE")
            .or_else(|| self.path("HUGGINGFACE_HUB_CACHE"));
        given
            .or_else(|| Some(self.home()?.join("hub")))
            .ok_or_else(|| Error::Usage {
                message: "no folder for downloads: HOME is not set".to_owned(),
                hint: Some("set HF_HOME or HF_HUB_CACHE to a folder".to_owned()),
            })
    }

    fn endpoint(&self) -> Result<String> {
        let Some(endpoint) = self.get("HF_ENDPOINT") else {
            return Ok(ENDPOINT.to_owned());
        };
        let endpoint = endpoint.to_string_lossy();
        let endpoint = endpoint.trim_end_matches('/');
        let is_base = |uri: Uri| {
            // What follows the host is a port, or what could be none.
            let after_host = |host| {
                uri.authority()?
                    .as_str()
                    .split_once(host)
                    .map(|(_, rest)| rest)
            };
            let port = uri.host().and_then(after_host).unwrap_or_default();
            matches!(uri.scheme_str(), Some("https" | "http"))
                && (port.is_empty() || uri.port_u16().is_some())
        };
        if !endpoint.contains(['?', '#']) && endpoint.parse().is_ok_and(is_base) {
            return Ok(endpoint.to_owned());
        }
        let message = format!("HF_ENDPOINT `{endpoint}`: expected https://HOST");
        Err(Error::usage(message))
    }

    fn token(&self) -> Result<Option<Token>> {
        if self.is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            return Ok(None);
        }
        let names = ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"];
        for name in names {
            let given = self.get(name).unwrap_or_default();
            if let Some(token) = parse_token(&given.to_string_lossy(), name)? {
                return Ok(Some(token));
            }
        }
        let path = self
            .path("HF_TOKEN_PATH")
            .or_else(|| Some(self.home()?.join("token")));
        // Most people have none, and a file that cannot be read is as good as none.
        let read = |path: &Path| String::from_utf8(read_bounded(path, MAX_TOKEN_BYTES).ok()?).ok();
        match path.as_deref().and_then(|path| Some((path, read(path)?))) {
            Some((path, token)) => parse_token(&token, &path.display().to_string()),
            None => Ok(None),
        }
    }
}

/// A token fit for a header; the error does not repeat it.
fn parse_token(text: &str, origin: &str) -> Result<Option<Token>> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let message = format!("{origin}: not a token, it holds spaces or special characters");
        return Err(Error::usage(message));
    }
    Ok(Some(Token(text.to_owned())))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs;

    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings> {
        Settings::read(|name| {
            let found = variables.iter().find(|(n, _)| *n == name)?;
            Some(found.1.into())
        })
    }

    fn cache(variables: &[(&str, &str)]) -> String {
        let cache = settings(variables).unwrap().cache;
        cache.into_os_string().into_string().unwrap()
    }

    #[test]
    fn the_cache_is_where_python_has_it() {
        let home = ("HOME", "/home/a");
        assert_eq!(cache(&[home]), "/home/a/.cache/huggingface/hub");
        let xdg = ("XDG_CACHE_HOME", "/xdg");
        assert_eq!(cache(&[home, xdg]), "/xdg/huggingface/hub");
        let hf_home = ("HF_HOME", "~/hf");
        assert_eq!(cache(&[home, xdg, hf_home]), "/home/a/hf/hub");
        let legacy = ("HUGGINGFACE_HUB_CACHE", "/old");
        assert_eq!(cache(&[home, hf_home, legacy]), "/old");
        let hub = ("HF_HUB_CACHE", "/hub");
        assert_eq!(cache(&[hub, legacy, hf_home]), "/hub");
        assert_eq!(
            cache(&[home, ("HF_HUB_CACHE", "")]),
            "/home/a/.cache/huggingface/hub"
        );
        let error = settings(&[]).unwrap_err();
        assert!(error.hint().unwrap().contains("HF_HUB_CACHE"), "{error}");
    }

    #[test]
    fn the_token_comes_from_the_environment_or_a_file_and_is_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("token"), "hf_file\n").unwrap();
        fs::write(folder.path().join("other"), "hf_other").unwrap();
        let home = ("HF_HOME", folder.path().to_str().unwrap());
        let token = |variables: &[(&str, &str)]| {
            let settings = settings(&[&[home], variables].concat()).unwrap();
            assert!(!format!("{settings:?}").contains("hf_"));
            settings.token.map(|token| token.bearer())
        };
        let other = folder.path().join("other");
        assert_eq!(token(&[]).as_deref(), Some("Bearer hf_file"));
        assert_eq!(
            token(&[("HF_TOKEN_PATH", other.to_str().unwrap())]).as_deref(),
            Some("Bearer hf_other")
        );
        assert_eq!(
            token(&[("HF_TOKEN", " hf_env ")]).as_deref(),
            Some("Bearer hf_env")
        );
        assert_eq!(token(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        assert_eq!(token(&[("HF_TOKEN_PATH", "/dev/zero")]), None);
        fs::write(&other, "x".repeat(20_000)).unwrap();
        let too_long = ("HF_TOKEN_PATH", other.to_str().unwrap());
        assert_eq!(token(&[too_long]), None);
        let error = settings(&[home, ("HF_TOKEN", "hf_a\nb")])
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("HF_TOKEN: ") && !error.contains("hf_a"),
            "{error}"
        );
    }

    #[test]
    fn the_endpoint_is_a_web_address() {
        let endpoint = |value| settings(&[("HOME", "/"), ("HF_ENDPOINT", value)]);
        assert_eq!(endpoint("").unwrap().endpoint, ENDPOINT);
        assert_eq!(
            endpoint("http://localhost:8/").unwrap().endpoint,
            "http://localhost:8"
        );
        assert!(endpoint("https://user@[::1]:443/base").is_ok());
        for value in [
            "localhost",
            "ftp://host",
            "https://",
            "https://a b",
            "http://host:99999",
            "http://host:",
            "http://host?a=b",
            "http://host#a",
        ] {
            let error = endpoint(value).unwrap_err().to_string();
            assert!(error.starts_with("HF_ENDPOINT `"), "{error}");
        }
    }

    #[test]
    fn offline_is_a_yes() {
        let [first, second] = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"];
        let offline = |one, other| {
            let variables = [("HOME", "/"), (first, one), (second, other)];
            settings(&variables).unwrap().offline
        };
        for yes in ["1", "True", "ON"] {
            assert_eq!(offline(yes, ""), Some(first));
            assert_eq!(offline("", yes), Some(second));
            assert_eq!(offline("0", yes), None, "the first that is set counts");
        }
        assert_eq!(offline("no", ""), None);
        assert_eq!(offline("", ""), None);
    }

    #[test]
    fn a_blank_token_is_none() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("token"), "hf_file").unwrap();
        let home = folder.path().to_str().unwrap();
        let variables = [("HF_HOME", home), ("HF_TOKEN", " ")];
        let token = settings(&variables).unwrap().token.unwrap();
        assert_eq!(token.bearer(), "Bearer hf_file");
    }
}
