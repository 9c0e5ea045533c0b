//! POST to a receiver behind a URL. Records are the receiver's when it answered 2xx, the answer's body has arrived and
//! says so as the preset's API does; whatever else happens, they are sent again or set aside.
//!
//! ```text
//! encode  one record, for each preset      body  what stands around all of them, gzip
//! hec, bulk, loki  what their APIs say     mod   the request, and the table below
//! ```
//!
//! | answer | meaning |
//! |---|---|
//! | 2xx | accepted; `splunk-hec`: with code 0, and with `ack` only when the indexers have them; `elastic-bulk`: item by item |
//! | 413 | too large: halve |
//! | 400, 422 | something in it is bad: find out what; `splunk-hec`: by its code; `loki`: what is older than it takes is refused |
//! | 429, 503 with `Retry-After` | try again after that time |
//! | 408, 425, 429, 5xx, no whole answer | try again |
//! | 3xx, other 4xx, TLS failures, not HTTP, not the preset's API | wrong address, credentials or trust: hold, and say so |
//!
//! What a receiver says is quoted, bounded, with whatever of the configuration may be secret taken out: the
//! token, the query and the long parts of the path (hosted collectors put a token there).

pub mod body;
pub mod bulk;
pub mod encode;
pub mod hec;
pub mod loki;

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER, USER_AGENT,
};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::Full;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::{Instant, sleep, timeout};
use zeroize::Zeroizing;

use super::gzip::Gzip;
use super::lines::Lines;
use super::sender::{Again, Fate, Items, Outcome, Reason, Sender, said};
use crate::config;
use crate::config::http::{Auth, Hec, Preset};
use crate::limits;
use crate::net::backoff::retry_after;
use crate::net::{Body, Client, Error, Kind, Options, Timeouts};
use body::Frame;

/// Longest part of a path that is shown.
const SHOWN_PATH_PART: usize = 15;
/// Time for name, TCP and TLS together, unless the whole request has less.
const CONNECT: Duration = Duration::from_secs(10);
/// First and longest wait before the indexers are asked again.
const ACK_POLL: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// A receiver behind a URL. Clones share connections.
pub struct Http {
    client: Client,
    config: config::http::Http,
    /// With everything that the preset puts into the query.
    url: Uri,
    /// `https://host:port`, for texts.
    origin: String,
    /// What every request has.
    headers: HeaderMap,
    frame: Frame,
    /// Where the indexers' acknowledgement is asked for.
    acks: Option<Uri>,
    /// Away only while it is at work.
    gzip: Option<Box<Gzip>>,
    secrets: Vec<Zeroizing<String>>,
}

impl Clone for Http {
    fn clone(&self) -> Http {
        Http {
            client: self.client.clone(),
            config: self.config.clone(),
            url: self.url.clone(),
            origin: self.origin.clone(),
            headers: self.headers.clone(),
            frame: self.frame.clone(),
            acks: self.acks.clone(),
            gzip: None,
            secrets: self.secrets.clone(),
        }
    }
}

impl Http {
    /// A receiver as the configuration describes it.
    ///
    /// # Errors
    /// A text for the operator: a token that cannot stand in a header, or an unreadable `ca_file`.
    pub fn new(config: &config::http::Http) -> Result<Http, String> {
        let timeout = config.timeout;
        let times = Timeouts { connect: CONNECT.min(timeout), first_byte: timeout, stall: timeout };
        let options = Options {
            ca_file: config.trust.ca_file.as_deref(),
            identity: config.trust.identity.as_ref(),
            proxies: config.proxies.clone(),
            timeouts: times,
        };
        let client = Client::new(options).map_err(|error| error.to_string())?;
        let mut headers = headers(config)?;
        let mut url = config.url.clone();
        let mut acks = None;
        if let Preset::SplunkHec(hec) = &config.preset {
            let made_up = || hec::guid(fastrand::u128(..)).into();
            if hec.raw || hec.ack.is_some() {
                let channel: Box<str> = hec.channel.clone().unwrap_or_else(made_up);
                headers.insert("x-splunk-request-channel", text_header(&channel)?);
                acks = match hec.ack {
                    Some(_) => Some(with_path(&url, &hec::sibling(url.path(), "ack", Some(&channel)))?),
                    None => None,
                };
            }
            if hec.raw {
                url = with_path(&url, &raw_query(&url, hec))?;
            }
        }
        Ok(Http {
            client,
            origin: origin(&url),
            headers,
            frame: Frame::of(&config.preset),
            acks,
            gzip: None,
            secrets: secrets(config),
            config: config.clone(),
            url,
        })
    }

    fn request(&self, url: &Uri, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = url.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }

    /// The body of a request. Compressing it takes longer than a task may.
    async fn body(&mut self, lines: &Lines) -> Result<Bytes, Outcome> {
        if !self.config.gzip {
            return Ok(self.frame.plain(lines));
        }
        let (mut gzip, frame, lines) =
            (self.gzip.take().unwrap_or_default(), self.frame.clone(), lines.clone());
        let packed = tokio::task::spawn_blocking(move || {
            let packed = frame.packed(&lines, &mut gzip);
            (gzip, packed)
        });
        match packed.await {
            Ok((gzip, Ok(packed))) => {
                self.gzip = Some(gzip);
                Ok(packed)
            }
            _ => Err(Outcome::Retry {
                reason: Reason::Broken,
                text: "a request could not be compressed".to_owned(),
                after: None,
            }),
        }
    }

    async fn exchange(&mut self, lines: &Lines) -> Outcome {
        let body = match self.body(lines).await {
            Ok(body) => body,
            Err(outcome) => return outcome,
        };
        let mut request = self.request(&self.url, body);
        if self.config.gzip {
            request.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        if let (Some(name), Some(key)) = (&self.config.idempotency, lines.key())
            && let Ok(value) = HeaderValue::from_str(&key)
        {
            request.headers_mut().insert(name.clone(), value);
        }
        let answer = match self.client.request(request).await {
            Ok(answer) => answer,
            Err(error) => return self.failed(&error),
        };
        let (head, body) = answer.into_parts();
        if head.status.is_success() {
            return self.accepted(head.status, body, lines).await;
        }
        // the status alone decides where the preset knows no better; a body that does not come whole only makes the
        // text shorter
        let body = body.read_at_most(limits::ERROR_BODY_BYTES).await.unwrap_or_default();
        let answer = Response::from_parts(head, ());
        match &self.config.preset {
            Preset::SplunkHec(_) => self.hec_refused(&answer, &body, lines),
            Preset::Loki(_) if answer.status() == StatusCode::BAD_REQUEST => {
                let text = self.text(answer.status(), &body);
                match loki::too_old(&body, &text, lines.iter()) {
                    Some(items) => Outcome::Items(Box::new(items)),
                    None => self.refused(&answer, &body),
                }
            }
            _ => self.refused(&answer, &body),
        }
    }

    /// What a 2xx answer means.
    async fn accepted(&self, status: StatusCode, body: Body, lines: &Lines) -> Outcome {
        if let Preset::ElasticBulk(bulk) = &self.config.preset {
            return self.bulk_answered(!bulk.replace, body, lines).await;
        }
        let body = match body.read_at_most(limits::ERROR_BODY_BYTES).await {
            Ok(body) => body,
            Err(error) => return self.failed(&error),
        };
        let Preset::SplunkHec(config) = &self.config.preset else { return Outcome::Accepted };
        let said = hec::read(&body);
        match said.code.map(hec::meaning) {
            Some(hec::Meaning::Success) => {}
            _ => {
                let text = self.text(status, &body);
                return Outcome::Hold(format!(
                    "{text}, which is no answer of Splunk's HTTP Event Collector: check the output's `url`"
                ));
            }
        }
        match (config.ack, said.ack) {
            (None, _) => Outcome::Accepted,
            (Some(patience), Some(ack)) => self.acknowledged(ack, patience).await,
            (Some(_), None) => Outcome::Hold(format!(
                "{} gave no ackId: the token has no indexer acknowledgement; switch it on in Splunk, or write \
                 `ack = false`",
                self.origin
            )),
        }
    }

    /// Asks until the indexers have the events. When they never do the events are sent again: Splunk says of an id only
    /// once that it is done, so one lost answer is enough for that.
    async fn acknowledged(&self, ack: u64, patience: Duration) -> Outcome {
        let Some(url) = &self.acks else { return Outcome::Accepted };
        let until = Instant::now() + patience;
        let mut wait = ACK_POLL.0;
        let mut last = "they are not indexed yet".to_owned();
        while Instant::now() + wait < until {
            sleep(wait).await;
            wait = (wait * 2).min(ACK_POLL.1);
            let asked = self.ask(url, hec::question(ack).into_bytes().into());
            match timeout(self.config.timeout, asked).await {
                Err(_) => last = "it did not answer in time".to_owned(),
                Ok(Err(error)) => last = error.to_string(),
                Ok(Ok((status, body))) => match hec::is_indexed(&body, ack) {
                    Some(true) if status.is_success() => return Outcome::Accepted,
                    Some(_) => {}
                    None => {
                        let text = self.text(status, &body);
                        if let Some(hec::Meaning::Hold(advice)) = hec::read(&body).code.map(hec::meaning) {
                            return Outcome::Hold(format!("{text}: {advice}"));
                        }
                        last = text;
                    }
                },
            }
        }
        Outcome::Retry {
            reason: Reason::Unavailable,
            text: format!(
                "{} took events but its indexers did not acknowledge them within {patience:?} ({last}); they are sent \
                 again",
                self.origin
            ),
            after: None,
        }
    }

    async fn ask(&self, url: &Uri, body: Bytes) -> Result<(StatusCode, Bytes), Error> {
        let answer = self.client.request(self.request(url, body)).await?;
        let status = answer.status();
        Ok((status, answer.into_body().read_at_most(limits::ERROR_BODY_BYTES).await?))
    }

    async fn bulk_answered(&self, create: bool, mut body: Body, lines: &Lines) -> Outcome {
        let mut answer = bulk::Answer::new(lines.count(), create);
        let mut bytes = 0;
        let read = loop {
            match body.chunk().await {
                Ok(Some(chunk)) => {
                    bytes += chunk.len() as u64;
                    if bytes > limits::BULK_ANSWER_BYTES || answer.read(&chunk).is_err() {
                        break Err(bulk::NotAnAnswer);
                    }
                }
                Ok(None) => break answer.finish(),
                Err(error) => return self.failed(&error),
            }
        };
        let Ok(bulk::Result { fates, mut refusals, again }) = read else {
            return Outcome::Hold(format!(
                "{} answered 2xx with something else than a _bulk answer for {} items: check the output's `url`",
                self.origin,
                lines.count()
            ));
        };
        if fates.iter().all(|fate| *fate == Fate::Accepted) {
            return Outcome::Accepted;
        }
        for (_, refusal) in &mut refusals {
            refusal.text = format!("{} refused it: {}", self.origin, self.clean(refusal.text.as_bytes()));
        }
        let again = again.map(|(status, text)| Again {
            reason: match status {
                429 => Reason::Busy,
                401 | 403 | 404 | 410 => Reason::Held,
                _ => Reason::Unavailable,
            },
            text: format!(
                "{} could not take some of the records ({})",
                self.origin,
                self.clean(text.as_bytes())
            ),
            after: None,
        });
        Outcome::Items(Box::new(Items { fates, refusals, again }))
    }

    /// What an answer of Splunk's other than 2xx means.
    fn hec_refused(&self, answer: &Response<()>, body: &[u8], lines: &Lines) -> Outcome {
        let said = hec::read(body);
        let text = self.text(answer.status(), body);
        let retry = |reason, text| Outcome::Retry { reason, text, after: wish(answer) };
        match said.code.map(hec::meaning) {
            Some(hec::Meaning::Bad) => match said.invalid.and_then(|record| usize::try_from(record).ok()) {
                Some(record) if record < lines.count() => Outcome::RejectedAt(record, text),
                _ => Outcome::Rejected(text),
            },
            Some(hec::Meaning::Busy) => retry(Reason::Busy, text),
            Some(hec::Meaning::Unavailable) => retry(Reason::Unavailable, text),
            Some(hec::Meaning::Hold(advice)) => Outcome::Hold(format!("{text}: {advice}")),
            Some(hec::Meaning::Success | hec::Meaning::Unknown) | None => self.refused(answer, body),
        }
    }

    fn text(&self, status: StatusCode, body: &[u8]) -> String {
        match body.trim_ascii().is_empty() {
            true => format!("{} answered {status}", self.origin),
            false => format!("{} answered {status} ({})", self.origin, self.clean(body)),
        }
    }

    /// What an answer other than 2xx means.
    fn refused(&self, answer: &Response<()>, body: &[u8]) -> Outcome {
        let status = answer.status();
        let text = self.text(status, body);
        let retry = |reason, text, after| Outcome::Retry { reason, text, after };
        match status {
            StatusCode::PAYLOAD_TOO_LARGE => Outcome::TooLarge(text),
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Outcome::Rejected(text),
            StatusCode::TOO_MANY_REQUESTS => retry(Reason::Busy, text, wish(answer)),
            StatusCode::SERVICE_UNAVAILABLE => retry(Reason::Unavailable, text, wish(answer)),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => retry(Reason::Unavailable, text, None),
            _ if status.is_server_error() => retry(Reason::Unavailable, text, None),
            _ if status.is_redirection() => {
                let target = answer.headers().get(LOCATION).map(HeaderValue::as_bytes);
                let target = target.map_or("an unnamed place".into(), |to| self.clean(to));
                Outcome::Hold(format!(
                    "{text} and points to {target}: set the output's `url` to the final address, for records are \
                     not sent where a redirect says"
                ))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let advice = match &self.config.auth {
                    Some(Auth::Bearer(_)) => {
                        "check the output's bearer token (`bearer_token_file`) and what it may do"
                    }
                    Some(Auth::Splunk(_)) => "check the output's token (`splunk_token_file`)",
                    Some(Auth::ApiKey(_)) => "check the output's API key (`api_key_file`) and what it may do",
                    Some(Auth::Basic { .. }) => {
                        "check the output's `username` and `password_file`, and what the user may do"
                    }
                    None => {
                        "the output has no `bearer_token_file` or `username`; does the receiver want one?"
                    }
                };
                Outcome::Hold(format!("{text}: {advice}"))
            }
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::GONE => {
                Outcome::Hold(format!("{text}: check the path in the output's `url`"))
            }
            StatusCode::UNSUPPORTED_MEDIA_TYPE if self.config.gzip => Outcome::Hold(format!(
                "{text}: check whether the receiver takes gzip (`compression`), and the output's `preset`"
            )),
            _ => Outcome::Hold(format!(
                "{text}: check the output's `url`, and whether the receiver speaks what `preset` says"
            )),
        }
    }

    /// What it means that there was no whole answer.
    fn failed(&self, error: &Error) -> Outcome {
        let text = format!("{error}{}", self.certificate_advice(error));
        let reason = match error.kind() {
            Kind::Dns
            | Kind::Refused
            | Kind::Unreachable
            | Kind::ConnectTimeout
            | Kind::Proxy
            | Kind::ProxyFailed => Reason::Connect,
            Kind::FirstByteTimeout | Kind::Stall => Reason::Timeout,
            Kind::Reset | Kind::ClosedEarly | Kind::Other => Reason::Broken,
            // a wrong clock heals by itself: a hold is tried again
            Kind::UnknownIssuer
            | Kind::WrongName
            | Kind::Expired
            | Kind::NotYetValid
            | Kind::Clock
            | Kind::Certificate
            | Kind::ClientCertificate
            | Kind::NoTrust
            | Kind::Tls
            | Kind::NotHttp
            | Kind::NotAProxy
            | Kind::ProxyAuth
            | Kind::ProxyRefused => return Outcome::Hold(text),
        };
        Outcome::Retry { reason, text, after: None }
    }

    /// What to do about a client certificate, if that may be what is wrong.
    fn certificate_advice(&self, error: &Error) -> &'static str {
        let is_tls = self.url.scheme() == Some(&http::uri::Scheme::HTTPS);
        match (error.kind(), &self.config.trust.identity) {
            (Kind::ClientCertificate, None) => ": set the output's `client_cert_file` and `client_key_file`",
            (Kind::ClientCertificate, Some(_)) => {
                ": check whether the receiver trusts who signed the certificate in `client_cert_file`, and its time"
            }
            (Kind::Tls | Kind::Reset | Kind::ClosedEarly, _) if is_tls && error.is_unanswered() => {
                "; a receiver that wants a client certificate may end it so: check `client_cert_file` and \
                 `client_key_file`"
            }
            _ => "",
        }
    }

    /// A receiver's words without what may be secret.
    fn clean(&self, bytes: &[u8]) -> String {
        let mut text = Zeroizing::new(String::from_utf8_lossy(bytes).into_owned());
        for secret in &self.secrets {
            *text = text.replace(secret.as_str(), "<hidden>");
        }
        said(text.as_bytes())
    }
}

impl Sender for Http {
    async fn send(&mut self, lines: Lines) -> Outcome {
        // The indexers' acknowledgement has a patience of its own.
        let limit = match &self.config.preset {
            Preset::SplunkHec(Hec { ack: Some(patience), .. }) => self.config.timeout + *patience,
            _ => self.config.timeout,
        };
        timeout(limit, self.exchange(&lines)).await.unwrap_or_else(|_| Outcome::Retry {
            reason: Reason::Timeout,
            text: format!("{} did not answer within {limit:?}", self.origin),
            after: None,
        })
    }

    fn another(&self) -> Option<Http> {
        Some(self.clone())
    }
}

/// How long a receiver wants to be left alone.
fn wish(answer: &Response<()>) -> Option<Duration> {
    let value = answer.headers().get(RETRY_AFTER)?.to_str().ok()?;
    retry_after(value, Some(now()))
}

/// The headers of every request. Also for requests that send no records.
///
/// # Errors
/// A text for the operator, without the secret.
pub(crate) fn headers(config: &config::http::Http) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let kind = match &config.preset {
        Preset::Ndjson | Preset::ElasticBulk(_) => "application/x-ndjson",
        Preset::JsonArray | Preset::SplunkHec(_) | Preset::Loki(_) => "application/json",
    };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("trailspool/", env!("CARGO_PKG_VERSION"))));
    for header in &config.headers {
        headers.insert(header.name.clone(), header.value.clone());
    }
    if let Some(auth) = &config.auth {
        headers.insert(AUTHORIZATION, authorization(auth)?);
    }
    Ok(headers)
}

fn authorization(auth: &Auth) -> Result<HeaderValue, String> {
    let (what, text) = match auth {
        Auth::Bearer(token) => ("bearer token", Zeroizing::new(format!("Bearer {}", token.reveal()))),
        Auth::Splunk(token) => ("Splunk token", Zeroizing::new(format!("Splunk {}", token.reveal()))),
        Auth::ApiKey(key) => ("API key", Zeroizing::new(format!("ApiKey {}", key.reveal()))),
        Auth::Basic { user, password } => {
            ("password", Zeroizing::new(format!("Basic {}", *basic(user, password.reveal()))))
        }
    };
    let mut value = HeaderValue::from_str(&text).map_err(|_| {
        format!("the {what} holds a control character (a line break at its end?): it cannot be sent")
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// User and password as they stand in a header.
fn basic(user: &str, password: &str) -> Zeroizing<String> {
    let pair = Zeroizing::new(format!("{user}:{password}"));
    Zeroizing::new(base64_simd::STANDARD.encode_to_string(pair.as_bytes()))
}

fn text_header(text: &str) -> Result<HeaderValue, String> {
    HeaderValue::from_str(text).map_err(|_| "a text cannot stand in a header".to_owned())
}

/// What the raw endpoint is told of all events, which has no place for it elsewhere.
fn raw_query(url: &Uri, hec: &Hec) -> String {
    let mut query = url.query().map_or(String::new(), |query| format!("{query}&"));
    let told = [
        ("sourcetype", Some(&hec.sourcetype)),
        ("source", hec.source.as_ref()),
        ("host", hec.host.as_ref()),
        ("index", hec.index.as_ref()),
    ];
    for (name, value) in told {
        if let Some(value) = value {
            query.push_str(name);
            query.push('=');
            query.extend(utf8_percent_encode(value, NON_ALPHANUMERIC));
            query.push('&');
        }
    }
    query.pop();
    format!("{}?{query}", url.path())
}

/// The same server, another path and query.
///
/// # Errors
/// Never for paths of a preset's own.
pub(crate) fn with_path(url: &Uri, path: &str) -> Result<Uri, String> {
    let mut parts = url.clone().into_parts();
    parts.path_and_query = Some(path.parse().map_err(|_| format!("{path} cannot be a path"))?);
    Uri::from_parts(parts).map_err(|error| error.to_string())
}

/// Scheme, host and port: what of a URL can be shown.
pub(crate) fn origin(url: &Uri) -> String {
    let scheme = url.scheme_str().unwrap_or("http");
    let host = url.host().unwrap_or_default();
    match url.port_u16() {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    }
}

fn secrets(config: &config::http::Http) -> Vec<Zeroizing<String>> {
    let auth = config.auth.as_ref().map(|auth| match auth {
        Auth::Bearer(secret) | Auth::Splunk(secret) | Auth::ApiKey(secret) => secret.reveal(),
        Auth::Basic { password, .. } => password.reveal(),
    });
    // receivers that repeat a request's headers say it as it was sent
    let encoded = match &config.auth {
        Some(Auth::Basic { user, password }) => Some(basic(user, password.reveal())),
        _ => None,
    };
    let headers = config.headers.iter().filter_map(|header| Some(header.secret.as_ref()?.reveal()));
    let parts = config.url.path().split('/').filter(|part| part.len() > SHOWN_PATH_PART);
    auth.into_iter()
        .chain(headers)
        .chain(config.url.query())
        .chain(parts)
        .filter(|secret| !secret.is_empty())
        .map(|secret| Zeroizing::new(secret.to_string()))
        .chain(encoded)
        .collect()
}

#[allow(clippy::disallowed_methods)] // a `Retry-After` date is wall-clock time
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests;
