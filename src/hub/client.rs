//! Requests to the hub: the token goes to the hub's own origin only, and not where others could read
//! it on the way; redirects are followed here.

use std::io;
use std::time::Duration;

use ureq::http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, HeaderName, LOCATION, RANGE, RETRY_AFTER,
};
use ureq::http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::environment::Token;
use super::fault::{Again, Fault};
use super::repository::{Repository, RepositoryId};
use super::uri::{escape, is_confidential, is_same_origin, redirected};

const USER_AGENT: &str = concat!("qwen-gen/", env!("CARGO_PKG_VERSION"));
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence of a server.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(30);
/// Longest time for a listing, all of it; the cache may stand in for one.
const INFO_TIMEOUT: Duration = Duration::from_secs(15);
const MAX_REDIRECTS: usize = 10;

/// Talks to one hub.
#[derive(Debug)]
pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    token: Option<Token>,
    /// There is a token, but the endpoint is not to have it.
    withholds_token: bool,
}

impl Client {
    pub(super) fn new(endpoint: String, token: Option<Token>) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(USER_AGENT)
            .tls_config(TlsConfig::builder().root_certs(root_certs()).build())
            .timeout_resolve(Some(CONNECT_TIMEOUT))
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(SILENCE_TIMEOUT))
            .timeout_per_read(Some(SILENCE_TIMEOUT))
            .timeout_per_write(Some(SILENCE_TIMEOUT))
            .build();
        let is_confidential = endpoint.parse().is_ok_and(|uri| is_confidential(&uri));
        Self {
            agent: config.into(),
            endpoint,
            withholds_token: token.is_some() && !is_confidential,
            token: token.filter(|_| is_confidential),
        }
    }

    /// What the hub knows of a repository's revision.
    pub(super) fn info(&self, repository: &Repository) -> Result<Response<Body>, Fault> {
        let Repository { id, revision } = repository;
        let revision = escape(revision.as_str(), false);
        let url = format!("{}/api/models/{id}/revision/{revision}", self.endpoint);
        self.send(&Method::GET, &url, None, id, Some(INFO_TIMEOUT))
    }

    /// The headers the hub has for a file, from wherever its bytes are to come.
    pub(super) fn head(
        &self,
        id: &RepositoryId,
        commit: &str,
        file: &str,
    ) -> Result<Response<Body>, Fault> {
        self.send(&Method::HEAD, &self.url(id, commit, file), None, id, None)
    }

    /// A file from byte `start` on, or all of it if the server so chooses.
    pub(super) fn get(
        &self,
        id: &RepositoryId,
        commit: &str,
        file: &str,
        start: u64,
    ) -> Result<Response<Body>, Fault> {
        let start = (start > 0).then_some(start);
        self.send(&Method::GET, &self.url(id, commit, file), start, id, None)
    }

    fn url(&self, id: &RepositoryId, commit: &str, file: &str) -> String {
        let file = escape(file, true);
        format!("{}/{id}/resolve/{commit}/{file}", self.endpoint)
    }

    fn send(
        &self,
        method: &Method,
        url: &str,
        start: Option<u64>,
        id: &RepositoryId,
        whole: Option<Duration>,
    ) -> Result<Response<Body>, Fault> {
        let bad_address = |error| Fault::lasting(format!("{url}: {error}"));
        let first: Uri = url.parse().map_err(bad_address)?;
        let mut uri = first.clone();
        for _ in 0..=MAX_REDIRECTS {
            let is_hub = is_same_origin(&uri, &first);
            // Lengths and hashes are those of the plain bytes.
            let mut request = Request::builder()
                .method(method)
                .uri(&uri)
                .header(ACCEPT_ENCODING, "identity");
            if let Some(token) = self.token.as_ref().filter(|_| is_hub) {
                request = request.header(AUTHORIZATION, token.bearer());
            }
            if let Some(start) = start {
                request = request.header(RANGE, format!("bytes={start}-"));
            }
            let request = request
                .body(())
                .map_err(|e| Fault::lasting(e.to_string()))?;
            let request = self.agent.configure_request(request);
            let request = request.timeout_global(whole).build();
            let response = (self.agent.run(request)).map_err(|error| unreachable(&uri, &error))?;
            if !response.status().is_redirection() {
                self.check(&response, &uri, is_hub, id)?;
                return Ok(response);
            }
            let location = header(response.headers(), &LOCATION).unwrap_or_default();
            let Some(next) = redirected(&uri, location) else {
                let message = format!("redirected to `{location}`, which is not followed");
                return Err(Fault::lasting(message));
            };
            // The hub describes a file before it says where the bytes are.
            if method == Method::HEAD && !is_same_origin(&next, &first) {
                return Ok(response);
            }
            uri = next;
        }
        Err(Fault::lasting(format!(
            "more than {MAX_REDIRECTS} redirects"
        )))
    }

    /// Refuses what is not a success, as far as possible with a way out.
    fn check(
        &self,
        response: &Response<Body>,
        uri: &Uri,
        is_hub: bool,
        id: &RepositoryId,
    ) -> Result<(), Fault> {
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let page = format!("{}/{id}", self.endpoint);
        let code = header(response.headers(), &HeaderName::from_static("x-error-code"));
        let code = code.unwrap_or_default();
        let fault = |why: &str| Fault::lasting(format!("HTTP {}: {why}", status.as_u16()));
        Err(match status {
            // Its addresses expire; the hub has new ones.
            _ if !is_hub && !status.is_server_error() => {
                let host = uri.host().unwrap_or_default();
                Fault::passing(format!("HTTP {} from {host}", status.as_u16()))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if self.withholds_token => {
                fault("access denied; the token was not sent, since HF_ENDPOINT is not https")
                    .with_hint("set HF_ENDPOINT to an https address to use HF_TOKEN there")
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if code == "GatedRepo" => {
                fault("the repository is gated").with_hint(format!(
                    "accept its licence at {page}, then set HF_TOKEN to a token of that account"
                ))
            }
            StatusCode::UNAUTHORIZED if self.token.is_some() => {
                fault("no such repository, or the token has no access to it")
                    .with_hint("check the name, and the token in HF_TOKEN or of `hf auth login`")
            }
            StatusCode::UNAUTHORIZED => fault("no such repository, or a private or gated one")
                .with_hint(format!(
                    "check the name (there is no such folder either); for a private or gated repository accept its licence at {page} and set HF_TOKEN"
                )),
            StatusCode::FORBIDDEN => fault("access denied").with_hint(format!(
                "accept the licence at {page}, and set HF_TOKEN to a token that may read it"
            )),
            StatusCode::NOT_FOUND => match code {
                "RevisionNotFound" => fault("no such revision").with_hint(format!(
                    "check --revision: a branch, a tag or a commit of {page}"
                )),
                "EntryNotFound" => fault("no such file in the repository"),
                _ if self.withholds_token => fault("not found").with_hint(format!(
                    "check the name: {page}; a private repository needs the token, which is sent over https only"
                )),
                _ => fault("not found")
                    .with_hint(format!("check the name (there is no such folder either): {page}")),
            },
            StatusCode::TOO_MANY_REQUESTS => Fault {
                again: retry_after(response.headers()),
                ..fault("too many requests").with_hint(if self.token.is_some() || self.withholds_token {
                    "try again later"
                } else {
                    "try again later, or set HF_TOKEN: the limit is higher with an account"
                })
            },
            _ if status.is_server_error() => Fault {
                again: retry_after(response.headers()),
                ..fault("the server has a fault").with_hint("try again later")
            },
            StatusCode::RANGE_NOT_SATISFIABLE => Fault::of_beginning("HTTP 416: no such range"),
            _ => fault("unexpected answer"),
        })
    }
}

/// The machine's certificates, to which a company may have added its own; Mozilla's where it has none.
fn root_certs() -> RootCerts {
    let found = rustls_native_certs::load_native_certs().certs;
    if found.is_empty() {
        return RootCerts::WebPki;
    }
    let certificates = found
        .iter()
        .map(|der| Certificate::from_der(der).to_owned());
    RootCerts::from(certificates)
}

/// A header's text.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn retry_after(headers: &HeaderMap) -> Again {
    let seconds = header(headers, &RETRY_AFTER).and_then(|text| text.trim().parse().ok());
    seconds.map_or(Again::Soon, |seconds| {
        Again::After(Duration::from_secs(seconds))
    })
}

/// No answer at all.
fn unreachable(uri: &Uri, error: &ureq::Error) -> Fault {
    let host = uri.host().unwrap_or_default();
    let fault = match error {
        // A certificate stays what it is.
        ureq::Error::Io(error) if error.to_string().contains("certificate") => {
            return Fault::lasting(format!("cannot reach {host}: {error}"))
                .with_hint("SSL_CERT_FILE can name the certificates to trust");
        }
        // No TLS on the other side.
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => Fault::lasting,
        ureq::Error::Io(_)
        | ureq::Error::Timeout(_)
        | ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::ConnectProxyFailed(_)
        | ureq::Error::Protocol(_) => Fault::passing,
        _ => Fault::lasting,
    };
    fault(format!("cannot reach {host}: {error}"))
        .with_hint("check the network, the proxy variables and HF_ENDPOINT")
}
