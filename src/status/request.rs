//! The head of an HTTP request to the status server: what is asked for, and whether it may be. A core.
//!
//! **Who may ask.** With a token configured, who sends it: `Authorization: Bearer TOKEN`, or `Basic` with it as the
//! password, which browsers can ask their user for. Without one the server listens on loopback only, and takes
//! requests that name this machine as their host: a page on the Web could else reach it under a name of its own that
//! resolves to 127.0.0.1 (DNS rebinding).

use core::net::IpAddr;

use base64_simd::STANDARD;
use sha2::{Digest, Sha256};

use crate::config::Secret;

/// Headers of a request that are looked at. Browsers send some 20.
pub const HEADERS: usize = 64;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// `/`
    Html,
    /// `/status.json`
    Json,
    /// `/status.txt`
    Text,
    /// `/metrics`
    Metrics,
    /// `/healthz`
    Health,
}

/// What to do about the bytes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Read on: the head is not whole.
    More,
    /// Answer; `head`: without the body.
    Page {
        /// Which page.
        page: Page,
        /// The method is HEAD.
        head: bool,
    },
    /// Answer with this.
    Refuse(Refusal),
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It is no HTTP/1 request, or has no host.
    Malformed,
    /// The token is missing or wrong.
    Unauthorized,
    /// It was meant for another host.
    WrongHost,
    /// There is no such page.
    NotFound,
    /// Only GET and HEAD.
    Method,
    /// The head is too long.
    TooLong,
}

impl Refusal {
    /// The status line's code and words.
    pub fn status(self) -> &'static str {
        match self {
            Refusal::Malformed => "400 Bad Request",
            Refusal::Unauthorized => "401 Unauthorized",
            Refusal::NotFound => "404 Not Found",
            Refusal::Method => "405 Method Not Allowed",
            Refusal::WrongHost => "421 Misdirected Request",
            Refusal::TooLong => "431 Request Header Fields Too Large",
        }
    }

    /// What is told.
    pub fn text(self) -> &'static str {
        match self {
            Refusal::Malformed => "this is not an HTTP/1.1 request\n",
            Refusal::Unauthorized => {
                "send the token of status_token_file as Bearer, or as the password of Basic\n"
            }
            Refusal::NotFound => "there are /, /status.json, /status.txt, /metrics and /healthz\n",
            Refusal::Method => "only GET and HEAD\n",
            Refusal::WrongHost => {
                "this server answers requests for localhost and loopback addresses; to reach it under another name \
                 configure a token\n"
            }
            Refusal::TooLong => "the request's head is too long\n",
        }
    }
}

/// Reads the head of a request. `token`: what has to be sent along.
pub fn read(bytes: &[u8], token: Option<&Secret>) -> Asked {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Asked::More,
        Err(httparse::Error::TooManyHeaders) => return Asked::Refuse(Refusal::TooLong),
        Err(_) => return Asked::Refuse(Refusal::Malformed),
    }
    let (Some(method), Some(target)) = (request.method, request.path) else {
        return Asked::Refuse(Refusal::Malformed);
    };
    if let Err(refusal) = may(request.headers, token) {
        return Asked::Refuse(refusal);
    }
    let head = match method {
        "GET" => false,
        "HEAD" => true,
        _ => return Asked::Refuse(Refusal::Method),
    };
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let page = match path {
        "/" => Page::Html,
        "/status.json" => Page::Json,
        "/status.txt" => Page::Text,
        "/metrics" => Page::Metrics,
        "/healthz" => Page::Health,
        _ => return Asked::Refuse(Refusal::NotFound),
    };
    Asked::Page { page, head }
}

fn may(headers: &[httparse::Header<'_>], token: Option<&Secret>) -> Result<(), Refusal> {
    let only = |name: &str| {
        let mut found = headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
        let first = found.next().map(|header| header.value);
        if found.next().is_some() { Err(Refusal::Malformed) } else { Ok(first) }
    };
    let host = only("host")?.ok_or(Refusal::Malformed)?;
    match token {
        Some(token) => match only("authorization")?.is_some_and(|given| authorizes(given, token)) {
            true => Ok(()),
            false => Err(Refusal::Unauthorized),
        },
        None if names_this_machine(host) => Ok(()),
        None => Err(Refusal::WrongHost),
    }
}

/// `Bearer TOKEN`, or `Basic` with the token as password.
fn authorizes(given: &[u8], token: &Secret) -> bool {
    let Some(space) = given.iter().position(|byte| *byte == b' ') else { return false };
    let (scheme, rest) = (&given[..space], given[space..].trim_ascii());
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return same(rest, token);
    }
    if scheme.eq_ignore_ascii_case(b"basic") {
        let Ok(pair) = STANDARD.decode_to_vec(rest) else { return false };
        let colon = pair.iter().position(|byte| *byte == b':');
        return colon.is_some_and(|colon| same(&pair[colon + 1..], token));
    }
    false
}

/// In a time that does not depend on where the two differ: digests are compared, all of their bytes.
fn same(given: &[u8], token: &Secret) -> bool {
    let (given, right) = (Sha256::digest(given), Sha256::digest(token.reveal()));
    given.iter().zip(right.iter()).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

/// `localhost`, `127.0.0.1` or `[::1]`, with any port: it may be forwarded.
fn names_this_machine(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host) else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if port.is_empty() || is_port(port) => address,
            _ => return false,
        },
        None => match host.find(':') {
            Some(colon) if is_port(&host[colon..]) => &host[..colon],
            Some(_) => return false,
            None => host,
        },
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn is_port(text: &str) -> bool {
    text.strip_prefix(':').is_some_and(|digits| digits.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str, headers: &str) -> String {
        format!("GET {path} HTTP/1.1\r\n{headers}\r\n")
    }

    fn local(path: &str) -> Asked {
        read(get(path, "Host: localhost:9464\r\n").as_bytes(), None)
    }

    fn secret() -> Secret {
        Secret::new("s3same".to_owned())
    }

    #[test]
    fn pages_have_their_paths() {
        let page = |page| Asked::Page { page, head: false };
        assert_eq!(local("/"), page(Page::Html));
        assert_eq!(local("/status.json"), page(Page::Json));
        assert_eq!(local("/status.txt"), page(Page::Text));
        assert_eq!(local("/metrics?name[]=x"), page(Page::Metrics));
        assert_eq!(local("/healthz"), page(Page::Health));
        for other in ["/../etc/passwd", "/metrics/", "//", "/Healthz", "http://localhost/metrics"] {
            assert_eq!(local(other), Asked::Refuse(Refusal::NotFound), "{other}");
        }
    }

    #[test]
    fn only_get_and_head_are_answered() {
        let with =
            |method: &str| read(format!("{method} / HTTP/1.1\r\nHost: [::1]\r\n\r\n").as_bytes(), None);
        assert_eq!(with("HEAD"), Asked::Page { page: Page::Html, head: true });
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "get"] {
            assert_eq!(with(method), Asked::Refuse(Refusal::Method), "{method}");
        }
    }

    #[test]
    fn without_a_token_only_requests_for_this_machine_are_answered() {
        for host in ["localhost", "LOCALHOST:1", "127.0.0.1:9464", "127.9.9.9", "[::1]", "[::1]:80"] {
            let asked = read(get("/", &format!("Host: {host}\r\n")).as_bytes(), None);
            assert_eq!(asked, Asked::Page { page: Page::Html, head: false }, "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "localhost:x",
            "localhost:1:2",
            "[::1",
            "[::1]x",
            "[10.0.0.1]",
            "",
            "evil@localhost",
        ] {
            let asked = read(get("/", &format!("Host: {host}\r\n")).as_bytes(), None);
            assert_eq!(asked, Asked::Refuse(Refusal::WrongHost), "{host}");
        }
        assert_eq!(read(get("/", "").as_bytes(), None), Asked::Refuse(Refusal::Malformed));
        let twice = get("/", "Host: localhost\r\nHost: evil.example\r\n");
        assert_eq!(read(twice.as_bytes(), None), Asked::Refuse(Refusal::Malformed));
    }

    #[test]
    fn with_a_token_only_who_sends_it_is_answered() {
        let asked = |authorization: &str| {
            let headers = format!("Host: box.example\r\n{authorization}");
            read(get("/metrics", &headers).as_bytes(), Some(&secret()))
        };
        let basic = STANDARD.encode_to_string("who:s3same");
        for right in ["Authorization: Bearer s3same\r\n", "authorization: bearer  s3same\r\n"] {
            assert_eq!(asked(right), Asked::Page { page: Page::Metrics, head: false }, "{right}");
        }
        let right = format!("Authorization: Basic {basic}\r\n");
        assert_eq!(asked(&right), Asked::Page { page: Page::Metrics, head: false });
        for wrong in [
            "",
            "Authorization: Bearer\r\n",
            "Authorization: Bearer s3sam\r\n",
            "Authorization: Bearer s3same2\r\n",
            "Authorization: s3same\r\n",
            "Authorization: Basic s3same\r\n",
            "Authorization: Basic czNzYW1l\r\n",
            "Authorization: Digest s3same\r\n",
        ] {
            assert_eq!(asked(wrong), Asked::Refuse(Refusal::Unauthorized), "{wrong}");
        }
    }

    #[test]
    fn what_is_no_request_is_refused_and_a_part_of_one_is_read_on() {
        let whole = get("/", "Host: localhost\r\n");
        for end in 0..whole.len() {
            assert_eq!(read(&whole.as_bytes()[..end], None), Asked::More, "{end}");
        }
        for bad in
            ["\x16\x03\x01", "GET /\r\n\r\n", "GET / HTTP/2.0\r\n\r\n", "GET / HTTP/1.1\r\nno colon\r\n\r\n"]
        {
            assert_eq!(read(bad.as_bytes(), None), Asked::Refuse(Refusal::Malformed), "{bad:?}");
        }
        let many = get("/", &"a: b\r\n".repeat(HEADERS + 1));
        assert_eq!(read(many.as_bytes(), None), Asked::Refuse(Refusal::TooLong));
    }
}
