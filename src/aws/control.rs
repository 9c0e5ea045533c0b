//! Small requests whose answers are read whole, bounded, into memory that is wiped, for they may hold credentials. What
//! the HTTP library itself buffered is out of reach. [`Service`] is one that takes signed POSTs.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::Full;
use zeroize::Zeroizing;

use super::credentials::Keys;
use super::fault::{Class, Fault};
use super::sigv4::Scope;
use crate::net::clock::seconds_from;
use crate::{limits, net};

pub(super) const USER_AGENT: &str = concat!("trailspool/", env!("CARGO_PKG_VERSION"));

/// An answer, read whole.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// At most as long as was allowed.
    pub(super) body: Zeroizing<Vec<u8>>,
    /// The server's time, or ours if it does not say.
    pub(super) date: SystemTime,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum NoAnswer {
    Net(net::Error),
    /// More than this many bytes.
    TooLong(usize),
    /// The request cannot be made of these parts.
    Unsendable(String),
}

impl Answer {
    /// The body as one word, as the metadata service writes names and tokens.
    pub(super) fn word(&self) -> Option<&str> {
        let text = std::str::from_utf8(&self.body).ok()?.trim();
        (!text.is_empty() && text.bytes().all(|c| c.is_ascii_graphic())).then_some(text)
    }

    /// The fault that this answer is, by a row of its service's table.
    pub(super) fn fault(
        &self,
        on: &dyn fmt::Display,
        (class, cause, why): (Class, &'static str, String),
        said: &str,
    ) -> Fault {
        let mut fault = Fault::new(class, cause, format!("{on}: {why} ({said})"));
        fault.said = said.into();
        let retry_after = self.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        fault.retry_after = retry_after.and_then(|value| net::backoff::retry_after(value, Some(self.date)));
        fault
    }
}

impl NoAnswer {
    pub(super) fn fault(self, on: &dyn fmt::Display) -> Fault {
        match self {
            NoAnswer::Net(error) => Fault::of_net(on, &error),
            NoAnswer::TooLong(bytes) => Fault::new(
                Class::Retry,
                "bad-answer",
                format!("{on}: the answer is longer than {bytes} bytes"),
            ),
            NoAnswer::Unsendable(why) => {
                Fault::new(Class::Config, "config", format!("{on}: the request cannot be made ({why})"))
            }
        }
    }
}

/// Sends a request and reads its answer, whatever its status, which may hold credentials.
pub(super) async fn ask(client: &net::Client, request: Request<Full<Bytes>>) -> Result<Answer, NoAnswer> {
    ask_for(client, request, limits::CREDENTIALS_BYTES).await
}

/// As [`ask`], for an answer of another greatest length. One of more than [`limits::CREDENTIALS_BYTES`] leaves copies
/// of its parts behind.
async fn ask_for(
    client: &net::Client,
    mut request: Request<Full<Bytes>>,
    bound: usize,
) -> Result<Answer, NoAnswer> {
    request.headers_mut().insert(header::USER_AGENT, header::HeaderValue::from_static(USER_AGENT));
    let (head, mut from) = client.request(request).await.map_err(NoAnswer::Net)?.into_parts();
    // Room for all that may come: growing would leave copies of a secret behind.
    let mut body = Zeroizing::new(Vec::with_capacity(limits::CREDENTIALS_BYTES.min(bound)));
    while let Some(piece) = from.chunk().await.map_err(NoAnswer::Net)? {
        if body.len() + piece.len() > bound {
            return Err(NoAnswer::TooLong(bound));
        }
        body.extend_from_slice(&piece);
    }
    let date = head.headers.get(header::DATE).and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
    Ok(Answer { status: head.status, headers: head.headers, body, date: date.unwrap_or_else(now) })
}

/// A service that takes signed POSTs, as one source reaches it.
#[derive(Debug)]
pub(super) struct Service {
    endpoint: Uri,
    scope: Scope,
    client: net::Client,
    /// Seconds that the server's clock is ahead of ours.
    clock_ahead: AtomicI64,
    /// Bytes of an answer.
    bound: usize,
}

/// What a request is about: its `Display` begins the texts of faults.
pub(super) trait About: fmt::Display + Sync {
    /// What an answer with another status than 200 means.
    fn refused(&self, answer: &Answer) -> Fault;
}

impl Service {
    pub(super) fn new(endpoint: Uri, scope: Scope, client: net::Client, bound: usize) -> Service {
        Service { endpoint, scope, client, clock_ahead: AtomicI64::new(0), bound }
    }

    /// Host and port.
    pub(super) fn host(&self) -> &str {
        self.endpoint.authority().map_or("", |authority| authority.as_str())
    }

    /// Sends a body, once more with the server's date if our clock turns out wrong. The answer has status 200.
    pub(super) async fn post(
        &self,
        about: &dyn About,
        headers: &[(header::HeaderName, &'static str)],
        body: Bytes,
        keys: &Keys,
    ) -> Result<Answer, Fault> {
        let ahead = self.clock_ahead.load(Ordering::Relaxed);
        let fault = match self.send(about, headers, &body, keys, ahead).await? {
            Ok(answer) => return Ok(answer),
            Err(fault) => fault,
        };
        let Class::ClockSkew(theirs) = fault.class else { return Err(fault) };
        let ahead = seconds_from(now(), theirs);
        self.clock_ahead.store(ahead, Ordering::Relaxed);
        self.send(about, headers, &body, keys, ahead).await?
    }

    /// The outer error: no answer; the inner one: an answer that refuses.
    async fn send(
        &self,
        about: &dyn About,
        headers: &[(header::HeaderName, &'static str)],
        body: &Bytes,
        keys: &Keys,
        ahead: i64,
    ) -> Result<Result<Answer, Fault>, Fault> {
        let unsendable = |why: &dyn fmt::Display| NoAnswer::Unsendable(why.to_string()).fault(about);
        let mut request = Request::post(self.endpoint.clone()).header(header::HOST, self.host());
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        let mut request = request.body(Full::new(body.clone())).map_err(|error| unsendable(&error))?;
        let at = shift(now(), ahead);
        self.scope.sign(&mut request, body, keys, at).map_err(|error| unsendable(&error))?;
        let answer = ask_for(&self.client, request, self.bound).await.map_err(|why| why.fault(about))?;
        match answer.status {
            StatusCode::OK => Ok(Ok(answer)),
            _ => Ok(Err(about.refused(&answer))),
        }
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "this is the shell that knows the time for signatures and expiry"
)]
pub(super) fn now() -> SystemTime {
    SystemTime::now()
}

/// Another moment, so many seconds later; the same where there is no such moment.
pub(super) fn shift(time: SystemTime, seconds: i64) -> SystemTime {
    let by = Duration::from_secs(seconds.unsigned_abs());
    let shifted = if seconds < 0 { time.checked_sub(by) } else { time.checked_add(by) };
    shifted.unwrap_or(time)
}

/// Remote text for a line of the log: clipped, and without control characters.
pub(super) fn clip(text: &str) -> String {
    const CHARACTERS: usize = 200;
    text.trim().chars().take(CHARACTERS).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
