//! One object, from its first to its last byte, over as many GETs as that takes.
//!
//! What holds: the reader gets the bytes of one version of the object (`If-Match`) in order, or is told that it
//! did not; a fetch ends, whatever the server does (tries without progress are counted, and a body that only
//! trickles is no progress); a reader that is slow is waited for and never counts against the server.

use std::time::Duration;

use tokio::time::Instant;

use super::body::{BodyReader, BodyWriter, ReaderGone, Slot};
use crate::aws::s3::S3;
use crate::aws::{Class, Fault};
use crate::net;

/// What a fetch puts up with.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// GETs in a row without progress.
    tries: u32,
    /// Bytes that count as progress, and the least that must come in a `window`.
    progress: u64,
    /// Time waited for the network after which too few bytes are a trickle.
    window: Duration,
    /// First bound of the wait between two tries.
    backoff: Duration,
    /// Longest wait between two tries. A server that asks for a longer one ends the fetch: its reader, and with
    /// it everything behind the reader, would wait as well.
    longest_wait: Duration,
}

const PATIENCE: Patience = Patience {
    tries: 4,
    progress: 16 * 1024,
    window: Duration::from_secs(60),
    backoff: Duration::from_millis(200),
    longest_wait: Duration::from_secs(5),
};

/// Fetches an object. `hand_over` is called once, as soon as the first buffer is full or the body is whole:
/// a small object keeps nobody waiting. `Ok` when the whole body is with the reader, or the reader was dropped.
/// When cancelled, a reader that was handed over is told.
///
/// # Errors
/// What ended it, after several tries where trying can help. A reader that was handed over is told the same;
/// else `hand_over` was not called.
pub async fn fetch(
    s3: &S3,
    key: &str,
    slot: &mut Slot,
    hand_over: impl FnOnce(BodyReader),
) -> Result<(), Fault> {
    fetch_with(s3, key, slot, hand_over, &PATIENCE).await
}

async fn fetch_with(
    s3: &S3,
    key: &str,
    slot: &mut Slot,
    hand_over: impl FnOnce(BodyReader),
    patience: &Patience,
) -> Result<(), Fault> {
    let (writer, reader) = slot.open();
    let handing = Some((hand_over, reader));
    let mut fetch = Fetch { s3, key, patience, writer, handing, reached: 0, len: None, etag: None };
    let mut backoff = net::Backoff::new(patience.backoff, patience.longest_wait);
    let mut tries = 0;
    loop {
        let before = fetch.reached;
        let fault = match fetch.attempt().await {
            Ok(()) | Err(Broken::ReaderGone) => return fetch.end(Ok(())),
            Err(Broken::Fault(fault)) => fault,
        };
        if fetch.reached - before >= patience.progress {
            tries = 0;
            backoff.reset();
        }
        tries += 1;
        let asked_too_much = fault.retry_after.is_some_and(|wait| wait > patience.longest_wait);
        if !fault.is_transient() || tries >= patience.tries || asked_too_much || !fetch.can_go_on(&fault) {
            return fetch.end(Err(fault));
        }
        tokio::time::sleep(backoff.next(fastrand::u64(..), fault.retry_after)).await;
    }
}

/// How far a fetch has come.
struct Fetch<'a, H> {
    s3: &'a S3,
    key: &'a str,
    patience: &'a Patience,
    writer: BodyWriter,
    /// Until the hand-over.
    handing: Option<(H, BodyReader)>,
    /// Bytes written.
    reached: u64,
    len: Option<u64>,
    etag: Option<Box<str>>,
}

enum Broken {
    Fault(Fault),
    ReaderGone,
}

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Broken {
        Broken::Fault(fault)
    }
}

impl From<ReaderGone> for Broken {
    fn from(_: ReaderGone) -> Broken {
        Broken::ReaderGone
    }
}

impl<H: FnOnce(BodyReader)> Fetch<'_, H> {
    /// One GET, from where the last one broke off.
    async fn attempt(&mut self) -> Result<(), Broken> {
        let resume = self.etag.as_deref().filter(|_| self.reached > 0).map(|etag| (self.reached, etag));
        let answer = self.s3.get(self.key, resume).await?;
        if resume.is_none() {
            (self.len, self.etag) = (answer.len, answer.etag);
        } else if answer.len.is_some() && answer.len != self.len {
            return Err(self.fault(Class::Restart, "changed", "its length changed while it was read").into());
        }
        self.pump(answer.body).await?;
        match self.len {
            Some(len) if len != self.reached => {
                let why = format!("{} bytes came of {len}", self.reached);
                Err(self.fault(Class::Retry, "network", &why).into())
            }
            _ => Ok(()),
        }
    }

    async fn pump(&mut self, mut body: net::Body) -> Result<(), Broken> {
        let mut pace = Pace::default();
        loop {
            let asked = Instant::now();
            let chunk = body.chunk().await.map_err(|error| self.s3.body_fault(self.key, &error))?;
            let Some(chunk) = chunk else { return Ok(()) };
            let mut rest = &chunk[..];
            if pace.is_trickle(asked.elapsed(), rest.len() as u64, self.patience) {
                let why =
                    format!("fewer than {} bytes came in {:?}", self.patience.progress, self.patience.window);
                return Err(self.fault(Class::Retry, "slow", &why).into());
            }
            while !rest.is_empty() {
                let taken = self.writer.write(rest).await?;
                rest = &rest[taken..];
                self.reached += taken as u64;
                if self.writer.has_queued() {
                    self.hand_over();
                }
            }
        }
    }

    /// After a fault: whether the next GET can continue, or begin anew because nobody has seen a byte yet.
    fn can_go_on(&mut self, fault: &Fault) -> bool {
        if self.reached == 0 || (self.etag.is_some() && fault.class != Class::Restart) {
            return true;
        }
        let unseen = self.handing.is_some();
        if unseen {
            self.writer.clear();
            (self.reached, self.len, self.etag) = (0, None, None);
        }
        unseen
    }

    fn end(mut self, how: Result<(), Fault>) -> Result<(), Fault> {
        self.writer.end(how.clone());
        if how.is_ok() {
            self.hand_over();
        }
        how
    }

    fn hand_over(&mut self) {
        if let Some((hand_over, reader)) = self.handing.take() {
            hand_over(reader);
        }
    }

    fn fault(&self, class: Class, cause: &'static str, why: &str) -> Fault {
        self.s3.body_given_up(self.key, class, cause, why)
    }
}

/// Bytes against the time waited for them.
#[derive(Debug, Default)]
struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    fn is_trickle(&mut self, waited: Duration, bytes: u64, patience: &Patience) -> bool {
        self.waited += waited;
        self.bytes += bytes;
        if self.waited < patience.window {
            return false;
        }
        let trickle = self.bytes < patience.progress;
        *self = Pace::default();
        trickle
    }
}
