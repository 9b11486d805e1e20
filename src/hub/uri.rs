//! Addresses: building them, following redirects, telling whose they are.

use std::net::IpAddr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ureq::http::Uri;
use ureq::http::uri::{PathAndQuery, Scheme};

/// What is escaped in a segment of a path.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// What is escaped in several segments.
const PATH: &AsciiSet = &SEGMENT.remove(b'/');

/// Escapes what is not a plain character of a path; with `/` it is a segment.
pub(super) fn escape(text: &str, keeps_slashes: bool) -> String {
    let escaped = if keeps_slashes { PATH } else { SEGMENT };
    utf8_percent_encode(text, escaped).to_string()
}

/// Where a redirect from `uri` leads: an absolute address or a path of the same host, and never from
/// https to http.
pub(super) fn redirected(uri: &Uri, location: &str) -> Option<Uri> {
    let next = if location.starts_with('/') && !location.starts_with("//") {
        let mut parts = uri.clone().into_parts();
        parts.path_and_query = Some(location.parse::<PathAndQuery>().ok()?);
        Uri::from_parts(parts).ok()?
    } else {
        location.parse::<Uri>().ok()?
    };
    let is_web = next.scheme() == Some(&Scheme::HTTPS) || next.scheme() == Some(&Scheme::HTTP);
    let is_downgrade = uri.scheme() == Some(&Scheme::HTTPS) && next.scheme() == Some(&Scheme::HTTP);
    (is_web && next.host().is_some() && !is_downgrade).then_some(next)
}

/// Whether both have the same scheme, host and port.
pub(super) fn is_same_origin(a: &Uri, b: &Uri) -> bool {
    let port = |uri: &Uri| {
        let default = if uri.scheme() == Some(&Scheme::HTTPS) {
            443
        } else {
            80
        };
        uri.port_u16().unwrap_or(default)
    };
    let host = |uri: &Uri| uri.host().map(str::to_ascii_lowercase);
    a.scheme() == b.scheme() && host(a) == host(b) && port(a) == port(b)
}

/// Whether nobody on the way can read what is sent there: https, or this machine.
pub(super) fn is_confidential(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    uri.scheme() == Some(&Scheme::HTTPS)
        || host.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn segments_are_escaped() {
        assert_eq!(escape("refs/pr/1 é", false), "refs%2Fpr%2F1%20%C3%A9");
        assert_eq!(escape("vae/a+b.json", true), "vae/a%2Bb.json");
    }

    #[test]
    fn redirects_stay_on_the_web() {
        let from =
            |from: &str, to| redirected(&from.parse().unwrap(), to).map(|uri| uri.to_string());
        let hub = "https://hub.co:8/a?b";
        assert_eq!(from(hub, "/c?d").as_deref(), Some("https://hub.co:8/c?d"));
        assert_eq!(
            from(hub, "https://cdn.co/x").as_deref(),
            Some("https://cdn.co/x")
        );
        for refused in [
            "http://cdn.co/x",
            "//cdn.co/x",
            "ftp://x/y",
            "file:///etc/passwd",
            "x",
            "",
        ] {
            assert_eq!(from(hub, refused), None, "{refused}");
        }
        assert_eq!(from("http://a/", "http://b/").as_deref(), Some("http://b/"));
    }

    #[test]
    fn only_https_and_this_machine_are_confidential() {
        let confidential = |uri: &str| is_confidential(&uri.parse().unwrap());
        for uri in [
            "https://hub.co",
            "http://localhost:8",
            "http://127.0.0.1",
            "http://127.8.9.1:8",
            "http://[::1]:8",
        ] {
            assert!(confidential(uri), "{uri}");
        }
        for uri in [
            "http://hub.co",
            "http://localhost.hub.co",
            "http://127.0.0.1.hub.co",
            "http://192.168.0.1",
            "http://0.0.0.0:8",
            "http://[::2]",
        ] {
            assert!(!confidential(uri), "{uri}");
        }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let same = |a: &str, b: &str| is_same_origin(&a.parse().unwrap(), &b.parse().unwrap());
        assert!(same("https://a.co/x", "https://A.co:443/y"));
        for other in [
            "http://a.co",
            "https://a.co:444",
            "https://b.a.co",
            "https://a.co.evil",
        ] {
            assert!(!same("https://a.co", other), "{other}");
        }
    }
}
