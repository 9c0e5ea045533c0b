//! Small requests whose answers hold credentials: read whole, bounded, into memory that is wiped. What the HTTP
//! library itself buffered is out of reach.

use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::Full;
use zeroize::Zeroizing;

use super::fault::{Class, Fault};
use crate::{limits, net};

pub(super) const USER_AGENT: &str = concat!("trailspool/", env!("CARGO_PKG_VERSION"));

/// An answer, read whole.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// At most [`limits::CREDENTIALS_BYTES`].
    pub(super) body: Zeroizing<Vec<u8>>,
    /// The server's time, or ours if it does not say.
    pub(super) date: SystemTime,
}

/// Why there is none.
#[derive(Debug)]
pub(super) enum NoAnswer {
    Net(net::Error),
    TooLong,
    /// The request cannot be made of these parts.
    Unsendable(String),
}

impl Answer {
    /// The body as one word, as the metadata service writes names and tokens.
    pub(super) fn word(&self) -> Option<&str> {
        let text = std::str::from_utf8(&self.body).ok()?.trim();
        (!text.is_empty() && text.bytes().all(|c| c.is_ascii_graphic())).then_some(text)
    }
}

impl NoAnswer {
    pub(super) fn fault(self, on: &dyn fmt::Display) -> Fault {
        match self {
            NoAnswer::Net(error) => Fault::of_net(on, &error),
            NoAnswer::TooLong => Fault::new(
                Class::Retry,
                "bad-answer",
                format!("{on}: the answer is longer than {} bytes", limits::CREDENTIALS_BYTES),
            ),
            NoAnswer::Unsendable(why) => {
                Fault::new(Class::Config, "config", format!("{on}: the request cannot be made ({why})"))
            }
        }
    }
}

/// Sends a request and reads its answer, whatever its status.
pub(super) async fn ask(client: &net::Client, mut request: Request<Full<Bytes>>) -> Result<Answer, NoAnswer> {
    request.headers_mut().insert(header::USER_AGENT, header::HeaderValue::from_static(USER_AGENT));
    let (head, mut from) = client.request(request).await.map_err(NoAnswer::Net)?.into_parts();
    // Room for all that may come: growing would leave copies of a secret behind.
    let mut body = Zeroizing::new(Vec::with_capacity(limits::CREDENTIALS_BYTES));
    while let Some(piece) = from.chunk().await.map_err(NoAnswer::Net)? {
        if body.len() + piece.len() > limits::CREDENTIALS_BYTES {
            return Err(NoAnswer::TooLong);
        }
        body.extend_from_slice(&piece);
    }
    let date = head.headers.get(header::DATE).and_then(|date| date.to_str().ok());
    let date = date.and_then(|date| httpdate::parse_http_date(date).ok());
    Ok(Answer { status: head.status, headers: head.headers, body, date: date.unwrap_or_else(now) })
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
