//! POST of newline-delimited JSON. Records are the receiver's when it answered 2xx *and* the answer's body
//! has arrived; whatever else happens, they are sent again or set aside.
//!
//! | answer | meaning |
//! |---|---|
//! | 2xx | accepted |
//! | 413 | too large: halve |
//! | 400, 422 | something in it is bad: find out what |
//! | 429, 503 with `Retry-After` | try again after that time |
//! | 408, 425, 429, 5xx, no whole answer | try again |
//! | 3xx, other 4xx, TLS failures, not HTTP | wrong address, credentials or trust: hold, and say so |
//!
//! What a receiver says is quoted, bounded, with whatever of the configuration may be secret taken out: the
//! token, the query and the long parts of the path (hosted collectors put a token there).

use std::path::Path;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER, USER_AGENT};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::Full;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::lines::Lines;
use super::sender::{Outcome, Reason, Sender, said};
use crate::config::Secret;
use crate::limits;
use crate::net::backoff::retry_after;
use crate::net::{Client, Error, Kind, Options, Proxies, Timeouts};

/// Longest part of a path that is shown.
const SHOWN_PATH_PART: usize = 15;
/// Time for name, TCP and TLS together, unless the whole request has less.
const CONNECT: Duration = Duration::from_secs(10);

/// A receiver behind a URL.
pub struct Http {
    client: Client,
    url: Uri,
    /// `https://host:port`, for texts.
    origin: String,
    timeout: Duration,
    authorization: Option<HeaderValue>,
    secrets: Vec<Zeroizing<String>>,
}

impl Http {
    /// A receiver at `url`; `timeout` is for one request, from connecting to the end of the answer. `way`: the
    /// `ca_file` and the proxies.
    ///
    /// # Errors
    /// A text for the operator: a token that cannot stand in a header, or an unreadable `ca_file`.
    pub fn new(
        url: &Uri,
        timeout: Duration,
        bearer_token: Option<&Secret>,
        way: (Option<&Path>, Proxies),
    ) -> Result<Http, String> {
        let times = Timeouts { connect: CONNECT.min(timeout), first_byte: timeout, stall: timeout };
        let (ca_file, proxies) = way;
        let client = Client::new(Options { ca_file, identity: None, proxies, timeouts: times })
            .map_err(|error| error.to_string())?;
        let authorization = bearer_token.map(bearer).transpose()?;
        Ok(Http {
            client,
            url: url.clone(),
            origin: origin(url),
            timeout,
            authorization,
            secrets: secrets(url, bearer_token),
        })
    }

    fn request(&self, lines: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(lines));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.url.clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
        headers
            .insert(USER_AGENT, HeaderValue::from_static(concat!("trailspool/", env!("CARGO_PKG_VERSION"))));
        if let Some(value) = &self.authorization {
            headers.insert(AUTHORIZATION, value.clone());
        }
        request
    }

    async fn exchange(&self, lines: Bytes) -> Outcome {
        let answer = match self.client.request(self.request(lines)).await {
            Ok(answer) => answer,
            Err(error) => return self.failed(&error),
        };
        let (head, body) = answer.into_parts();
        if head.status.is_success() {
            return match body.read_at_most(limits::ERROR_BODY_BYTES).await {
                Ok(_) => Outcome::Accepted,
                Err(error) => self.failed(&error),
            };
        }
        // the status alone decides; a body that does not come whole only makes the text shorter
        let body = body.read_at_most(limits::ERROR_BODY_BYTES).await.unwrap_or_default();
        self.refused(&Response::from_parts(head, ()), &body)
    }

    /// What an answer other than 2xx means.
    fn refused(&self, answer: &Response<()>, body: &[u8]) -> Outcome {
        let status = answer.status();
        let header = |name| answer.headers().get(name).map(HeaderValue::as_bytes);
        let mut text = format!("{} answered {status}", self.origin);
        if !body.trim_ascii().is_empty() {
            text = format!("{text} ({})", self.clean(body));
        }
        match status {
            StatusCode::PAYLOAD_TOO_LARGE => Outcome::TooLarge(text),
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Outcome::Rejected(text),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                let wish = header(RETRY_AFTER).and_then(|value| std::str::from_utf8(value).ok());
                let busy = status == StatusCode::TOO_MANY_REQUESTS;
                Outcome::Retry {
                    reason: if busy { Reason::Busy } else { Reason::Unavailable },
                    text,
                    after: wish.and_then(|value| retry_after(value, Some(now()))),
                }
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY => {
                Outcome::Retry { reason: Reason::Unavailable, text, after: None }
            }
            _ if status.is_server_error() => {
                Outcome::Retry { reason: Reason::Unavailable, text, after: None }
            }
            _ if status.is_redirection() => {
                let target = header(LOCATION).map_or("an unnamed place".into(), |to| self.clean(to));
                Outcome::Hold(format!(
                    "{text} and points to {target}: set the output's `url` to the final address, for records are \
                     not sent where a redirect says"
                ))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if self.authorization.is_some() => {
                Outcome::Hold(format!(
                    "{text}: check the output's bearer token (`bearer_token_file`) and what it may do"
                ))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Outcome::Hold(format!(
                "{text}: the output has no `bearer_token_file`; does the receiver want a token?"
            )),
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::GONE => {
                Outcome::Hold(format!("{text}: check the path in the output's `url`"))
            }
            _ => Outcome::Hold(format!(
                "{text}: check the output's `url` and whether the receiver takes newline-delimited JSON"
            )),
        }
    }

    /// What it means that there was no whole answer.
    fn failed(&self, error: &Error) -> Outcome {
        let text = error.to_string();
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
            | Kind::NoTrust
            | Kind::Tls
            | Kind::NotHttp
            | Kind::NotAProxy
            | Kind::ProxyAuth
            | Kind::ProxyRefused => return Outcome::Hold(text),
        };
        Outcome::Retry { reason, text, after: None }
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
        let lines = lines.bytes();
        timeout(self.timeout, self.exchange(lines)).await.unwrap_or_else(|_| Outcome::Retry {
            reason: Reason::Timeout,
            text: format!("{} did not answer within {:?}", self.origin, self.timeout),
            after: None,
        })
    }
}

fn bearer(token: &Secret) -> Result<HeaderValue, String> {
    let text = Zeroizing::new(format!("Bearer {}", token.reveal()));
    let mut value = HeaderValue::from_str(&text).map_err(|_| {
        "the bearer token holds a control character (a line break at its end?): it cannot be sent".to_string()
    })?;
    value.set_sensitive(true);
    Ok(value)
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

fn secrets(url: &Uri, bearer_token: Option<&Secret>) -> Vec<Zeroizing<String>> {
    let token = bearer_token.map(Secret::reveal);
    let parts = url.path().split('/').filter(|part| part.len() > SHOWN_PATH_PART);
    token
        .into_iter()
        .chain(url.query())
        .chain(parts)
        .filter(|secret| !secret.is_empty())
        .map(|secret| Zeroizing::new(secret.to_string()))
        .collect()
}

#[allow(clippy::disallowed_methods)] // a `Retry-After` date is wall-clock time
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::JoinHandle;

    const LINES: &[u8] = b"{\"a\":1}\n{\"a\":2}\n";

    /// What the server does with one request after reading it.
    #[derive(Clone, Copy)]
    enum Play {
        Answer(&'static str),
        /// Answers without reading the request's body, and closes.
        AnswerEarly(&'static str),
        /// Closes without a word.
        HangUp,
        /// Says nothing and stays.
        Silence,
    }

    /// A server that plays its part once per connection; returns the requests that it read.
    async fn server(plays: Vec<Play>) -> (Uri, JoinHandle<Vec<Vec<u8>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = format!("http://127.0.0.1:{port}/ingest/0123456789abcdef0123?key=q-secret");
        let playing = tokio::spawn(async move {
            let mut requests = Vec::new();
            for play in plays {
                let (mut stream, _) = listener.accept().await.unwrap();
                if let Play::AnswerEarly(answer) = play {
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    continue;
                }
                requests.push(read_request(&mut stream).await);
                match play {
                    Play::Answer(answer) => stream.write_all(answer.as_bytes()).await.unwrap(),
                    Play::Silence => std::future::pending().await,
                    Play::HangUp | Play::AnswerEarly(_) => {}
                }
            }
            requests
        });
        (url.parse().unwrap(), playing)
    }

    async fn read_request(stream: &mut TcpStream) -> Vec<u8> {
        let mut request = Vec::new();
        loop {
            stream.read_buf(&mut request).await.unwrap();
            let text = String::from_utf8_lossy(&request).to_lowercase();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.split("content-length: ").nth(1).unwrap();
                let length: usize = length.lines().next().unwrap().parse().unwrap();
                if body.len() >= length {
                    return request;
                }
            }
        }
    }

    fn http(url: &Uri, token: Option<&str>) -> Http {
        let token = token.map(|token| Secret::new(token.into()));
        Http::new(url, Duration::from_secs(20), token.as_ref(), Default::default()).unwrap()
    }

    async fn outcome_of(play: Play) -> Outcome {
        let (url, _playing) = server(vec![play]).await;
        http(&url, Some("t-secret")).send(Lines::from(LINES)).await
    }

    async fn outcome(answer: &'static str) -> Outcome {
        outcome_of(Play::Answer(answer)).await
    }

    fn retry(outcome: Outcome) -> (Reason, Option<u64>, String) {
        let Outcome::Retry { reason, text, after } = outcome else { panic!("{outcome:?}") };
        (reason, after.map(|after| after.as_secs()), text)
    }

    #[tokio::test]
    async fn the_request_is_a_post_of_the_lines_as_they_are() {
        let (url, playing) = server(vec![Play::Answer("HTTP/1.1 204 No Content\r\n\r\n")]).await;
        let sent = http(&url, Some("t-secret")).send(Lines::from(LINES)).await;
        assert_eq!(sent, Outcome::Accepted);
        let request = String::from_utf8(playing.await.unwrap().remove(0)).unwrap();
        assert!(
            request.starts_with("POST /ingest/0123456789abcdef0123?key=q-secret HTTP/1.1\r\n"),
            "{request}"
        );
        assert!(request.ends_with(std::str::from_utf8(LINES).unwrap()), "{request}");
        for header in [
            "content-type: application/x-ndjson\r\n",
            "authorization: Bearer t-secret\r\n",
            "content-length: 16\r\n",
        ] {
            assert!(request.contains(header), "{request}");
        }
    }

    #[tokio::test]
    async fn a_2xx_counts_only_with_its_whole_body() {
        let whole = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        assert_eq!(outcome(whole).await, Outcome::Accepted);
        let broken = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok";
        assert_eq!(retry(outcome(broken).await).0, Reason::Broken);
    }

    #[tokio::test]
    async fn statuses_are_told_apart() {
        let too_large = "HTTP/1.1 413 Payload Too Large\r\ncontent-length: 0\r\n\r\n";
        assert!(matches!(outcome(too_large).await, Outcome::TooLarge(_)));
        let bad = "HTTP/1.1 400 Bad Request\r\ncontent-length: 9\r\n\r\nline 2: x";
        let Outcome::Rejected(text) = outcome(bad).await else { panic!() };
        assert!(text.contains("400 Bad Request") && text.contains("line 2: x"), "{text}");
        let bad = "HTTP/1.1 422 Unprocessable Entity\r\ncontent-length: 0\r\n\r\n";
        assert!(matches!(outcome(bad).await, Outcome::Rejected(_)));

        let busy = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 17\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(retry(outcome(busy).await).0, Reason::Busy);
        assert_eq!(retry(outcome(busy).await).1, Some(17));
        let past =
            "HTTP/1.1 503 x\r\nretry-after: Wed, 21 Oct 2015 07:28:00 GMT\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(retry(outcome(past).await).1, Some(0));
        for failed in ["408", "425", "500", "502", "504", "507"] {
            let answer = format!("HTTP/1.1 {failed} x\r\ncontent-length: 0\r\n\r\n").leak();
            assert_eq!(retry(outcome(answer).await).0, Reason::Unavailable, "{failed}");
        }
        for hint in [
            ("401", "bearer_token_file"),
            ("403", "bearer_token_file"),
            ("404", "path"),
            ("405", "path"),
            ("415", "newline-delimited"),
            ("304", "unnamed place"),
        ] {
            let answer = format!("HTTP/1.1 {} x\r\nconnection: close\r\n\r\n", hint.0).leak();
            let Outcome::Hold(text) = outcome(answer).await else { panic!("{hint:?}") };
            assert!(text.contains(hint.1) && text.contains("http://127.0.0.1:"), "{text}");
        }
    }

    #[tokio::test]
    async fn a_redirect_is_named_and_not_followed() {
        let moved = "HTTP/1.1 308 x\r\nlocation: https://new.example/in\r\ncontent-length: 0\r\n\r\n";
        let Outcome::Hold(text) = outcome(moved).await else { panic!() };
        assert!(text.contains("https://new.example/in"), "{text}");
    }

    #[tokio::test]
    async fn secrets_that_the_receiver_repeats_are_hidden() {
        let echo = "HTTP/1.1 401 x\r\nconnection: close\r\n\r\n\
                    no t-secret at /ingest/0123456789abcdef0123?key=q-secret\r\nERROR forged";
        let Outcome::Hold(text) = outcome(echo).await else { panic!() };
        assert!(!text.contains("secret") && !text.contains("0123456789abcdef"), "{text}");
        assert!(text.contains("/ingest/<hidden>") && !text.contains('\n'), "{text}");
    }

    #[tokio::test]
    async fn no_answer_is_tried_again() {
        assert_eq!(retry(outcome_of(Play::HangUp).await).0, Reason::Broken);
        let nobody: Uri = {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap()
        };
        assert_eq!(retry(http(&nobody, None).send(Lines::from(LINES)).await).0, Reason::Connect);
        let (url, _playing) = server(vec![Play::Silence]).await;
        let mut impatient = Http::new(&url, Duration::from_millis(50), None, Default::default()).unwrap();
        assert_eq!(retry(impatient.send(Lines::from(LINES)).await).0, Reason::Timeout);
        assert!(matches!(outcome("220 mail.example ESMTP\r\n").await, Outcome::Hold(_)));
    }

    #[tokio::test]
    async fn a_413_before_the_body_was_read_never_loses_the_records() {
        // whether the answer or the reset is seen first is the network's choice; both lead to smaller requests
        let early = Play::AnswerEarly("HTTP/1.1 413 x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        let (url, _playing) = server(vec![early]).await;
        let outcome = http(&url, None).send(Lines::one(Bytes::from(vec![b'\n'; 8 << 20]))).await;
        assert!(
            matches!(outcome, Outcome::TooLarge(_) | Outcome::Retry { reason: Reason::Broken, .. }),
            "{outcome:?}"
        );
    }

    #[test]
    fn a_token_that_cannot_be_sent_is_said_but_not_shown() {
        let url: Uri = "https://siem.example/".parse().unwrap();
        let token = Secret::new("to\nken".into());
        let text = Http::new(&url, CONNECT, Some(&token), Default::default()).err().unwrap();
        assert!(text.contains("bearer token") && !text.contains("ken\""), "{text}");
    }
}
