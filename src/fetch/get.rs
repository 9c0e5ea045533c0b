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
    let pulse = slot.pulse();
    let (writer, reader) = slot.open();
    let handing = Some((hand_over, reader));
    let mut fetch = Fetch { s3, key, patience, writer, handing, reached: 0, len: None, etag: None };
    let mut backoff = net::Backoff::new(patience.backoff, patience.longest_wait);
    let mut tries = 0;
    loop {
        pulse.beat();
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
                Err(self.fault(Class::Retry, "closed", &why).into())
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;
    use crate::aws::s3::tests::{TIMEOUTS, at};
    use crate::limits;
    use crate::net::scripted::{Reply, Server};

    const V1: &str = "ETag: \"v1\"\r\n";
    const QUICK: Patience = Patience {
        tries: 3,
        progress: 1000,
        window: Duration::from_secs(60),
        backoff: Duration::from_millis(1),
        longest_wait: Duration::from_millis(5),
    };

    fn body(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at * 31 % 251) as u8).collect()
    }

    /// The rest of an object of version 1.
    fn rest(whole: &[u8], from: usize) -> Reply {
        let range = format!("Content-Range: bytes {from}-{}/{}\r\n{V1}", whole.len() - 1, whole.len());
        Reply::new(206, &range, &whole[from..])
    }

    /// What the reader got, if there was one: the bytes, and how they ended.
    type Read = Option<(Vec<u8>, Result<(), String>)>;

    struct Outcome {
        fetched: Result<(), Fault>,
        read: Read,
        requests: Vec<String>,
    }

    async fn fetch_scripted(script: impl IntoIterator<Item = Reply>, patience: &Patience) -> Outcome {
        let server = Server::start(script).await;
        let (sender, readers) = mpsc::channel::<BodyReader>();
        let reading = thread::spawn(move || {
            let mut reader = readers.recv().ok()?;
            let mut bytes = Vec::new();
            loop {
                match reader.next() {
                    Ok(Some(chunk)) => bytes.extend_from_slice(chunk),
                    Ok(None) => return Some((bytes, Ok(()))),
                    Err(failed) => return Some((bytes, Err(failed.0.cause.into()))),
                }
            }
        });
        let hand_over = |reader| sender.send(reader).unwrap();
        let fetched = fetch_with(&at(server.address), "k", &mut Slot::new(), hand_over, patience).await;
        drop(sender);
        assert!(server.is_through(), "{:?}", server.requests());
        Outcome { fetched, read: reading.join().unwrap(), requests: server.requests() }
    }

    #[tokio::test]
    async fn a_body_comes_whole_whatever_its_size() {
        for len in [0, 1, limits::CHUNK_BYTES - 1, limits::CHUNK_BYTES, 9 * limits::CHUNK_BYTES + 1] {
            let whole = body(len);
            let outcome = fetch_scripted([Reply::new(200, V1, &whole)], &QUICK).await;
            assert!(outcome.fetched.is_ok());
            assert!(outcome.read == Some((whole, Ok(()))), "{len}");
        }
    }

    #[tokio::test]
    async fn a_content_encoding_is_left_alone() {
        let reply = Reply::new(200, "Content-Encoding: gzip\r\n", b"\x1f\x8b\x08 as it is");
        let outcome = fetch_scripted([reply], &QUICK).await;
        assert_eq!(outcome.read.unwrap().0, b"\x1f\x8b\x08 as it is");
    }

    #[tokio::test]
    async fn a_broken_body_goes_on_where_it_broke() {
        let whole = body(5 * limits::CHUNK_BYTES);
        for broken_at in [1, 2000, 3 * limits::CHUNK_BYTES + 17] {
            let begin = Reply::announcing(whole.len(), 200, V1, &whole[..broken_at]);
            for begin in [begin.clone().then_close(), begin.clone().then_hang()] {
                let outcome = fetch_scripted([begin, rest(&whole, broken_at)], &QUICK).await;
                outcome.fetched.unwrap();
                assert!(outcome.read == Some((whole.clone(), Ok(()))), "{broken_at}");
                let head = &outcome.requests[1];
                let range = format!("range: bytes={broken_at}-\r\n");
                assert!(head.contains(&range) && head.contains("if-match: \"v1\"\r\n"), "{head}");
            }
        }
    }

    #[tokio::test]
    async fn a_reset_is_a_break_like_any_other() {
        // A reset may overtake bytes that were sent, so how far it got is up to the kernel: begin anew is allowed too.
        let whole = body(100);
        let begin = Reply::raw(b"").then_reset();
        let outcome = fetch_scripted([begin, Reply::new(200, V1, &whole)], &QUICK).await;
        assert_eq!(outcome.read, Some((whole, Ok(()))));
    }

    #[tokio::test]
    async fn a_body_may_break_often_as_long_as_it_comes_on() {
        let whole = body(20 * QUICK.progress as usize);
        let mut script = Vec::new();
        for at in (0..whole.len()).step_by(QUICK.progress as usize) {
            let piece = &whole[at..at + QUICK.progress as usize];
            let range = format!("Content-Range: bytes {at}-{}/{}\r\n{V1}", whole.len() - 1, whole.len());
            let status = if at == 0 { 200 } else { 206 };
            script.push(Reply::announcing(whole.len() - at, status, &range, piece).then_close());
        }
        let outcome = fetch_scripted(script, &QUICK).await;
        assert!(outcome.read == Some((whole, Ok(()))));
    }

    #[tokio::test]
    async fn tries_without_progress_end() {
        let server_error = Reply::new(500, "", b"");
        let outcome = fetch_scripted(vec![server_error; QUICK.tries as usize], &QUICK).await;
        assert_eq!(outcome.fetched.unwrap_err().cause, "server");
        assert_eq!(outcome.read, None);

        let whole = body(10_000);
        let mut script = vec![Reply::announcing(whole.len(), 200, V1, &whole[..10]).then_close()];
        for at in 10..9 + QUICK.tries as usize {
            let range = format!("Content-Range: bytes {at}-9999/10000\r\n{V1}");
            script.push(Reply::announcing(whole.len() - at, 206, &range, &whole[at..at + 1]).then_close());
        }
        assert_eq!(fetch_scripted(script, &QUICK).await.fetched.unwrap_err().cause, "closed");
    }

    #[tokio::test]
    async fn the_reader_is_told_after_the_bytes_before_the_break() {
        let whole = body(3 * limits::CHUNK_BYTES);
        let reached = limits::CHUNK_BYTES + 100;
        let begin = Reply::announcing(whole.len(), 200, V1, &whole[..reached]).then_close();
        let outcome = fetch_scripted([begin, Reply::new(403, "", b"")], &QUICK).await;
        assert_eq!(outcome.fetched.unwrap_err().class, Class::Denied);
        assert!(outcome.read == Some((whole[..reached].to_vec(), Err("denied".into()))));
    }

    #[tokio::test]
    async fn an_object_that_changed_is_begun_anew_while_nobody_has_seen_it() {
        let (old, new) = (body(5000), vec![7; 400]);
        let begin = Reply::announcing(old.len(), 200, V1, &old[..3000]).then_close();
        let script = [begin, Reply::new(412, "", b""), Reply::new(200, "ETag: \"v2\"\r\n", &new)];
        assert!(fetch_scripted(script, &QUICK).await.read == Some((new, Ok(()))));
    }

    #[tokio::test]
    async fn an_object_that_changed_under_its_reader_fails() {
        let whole = body(3 * limits::CHUNK_BYTES);
        let begin = || Reply::announcing(whole.len(), 200, V1, &whole[..limits::CHUNK_BYTES]).then_close();
        let longer = format!("Content-Range: bytes {}-99/100\r\n", limits::CHUNK_BYTES);
        for changed in [Reply::new(412, "", b""), Reply::new(206, &longer, b"")] {
            let outcome = fetch_scripted([begin(), changed], &QUICK).await;
            let fault = outcome.fetched.unwrap_err();
            assert_eq!((&fault.class, fault.is_transient()), (&Class::Restart, true));
            assert_eq!(outcome.read.unwrap().1, Err("changed".into()));
        }
    }

    #[tokio::test]
    async fn without_an_etag_only_an_unseen_body_is_begun_anew() {
        let whole = body(2 * limits::CHUNK_BYTES);
        let unseen = Reply::announcing(whole.len(), 200, "", &whole[..100]).then_close();
        let outcome = fetch_scripted([unseen, Reply::new(200, "", &whole)], &QUICK).await;
        assert!(outcome.read == Some((whole.clone(), Ok(()))));
        assert!(!outcome.requests[1].contains("range:"), "{}", outcome.requests[1]);

        let seen = Reply::announcing(whole.len(), 200, "", &whole[..limits::CHUNK_BYTES]).then_close();
        let outcome = fetch_scripted([seen], &QUICK).await;
        assert_eq!(outcome.read.unwrap().1, Err("closed".into()));
    }

    #[tokio::test]
    async fn what_will_not_get_better_is_not_tried_again() {
        for (status, cause) in [(403, "denied"), (404, "gone"), (301, "wrong-region")] {
            let outcome = fetch_scripted([Reply::new(status, "", b"")], &QUICK).await;
            assert_eq!((outcome.fetched.unwrap_err().cause, outcome.read), (cause, None));
        }
    }

    #[tokio::test]
    async fn a_server_may_ask_for_a_short_wait_but_not_for_a_long_one() {
        let slow = |wait: &str| Reply::new(503, &format!("Retry-After: {wait}\r\n"), b"");
        let outcome = fetch_scripted([slow("0"), slow("0"), Reply::new(200, V1, b"x")], &QUICK).await;
        assert!(outcome.fetched.is_ok());
        let fault = fetch_scripted([slow("100")], &QUICK).await.fetched.unwrap_err();
        assert_eq!((fault.cause, fault.retry_after), ("slow-down", Some(Duration::from_secs(100))));
    }

    #[tokio::test]
    async fn a_trickle_does_not_hold_a_slot_for_ever() {
        let trickle = Patience { window: Duration::ZERO, ..QUICK };
        let begin = Reply::announcing(10_000, 200, "", &body(10)).then_hang();
        let script = vec![begin; QUICK.tries as usize];
        assert_eq!(fetch_scripted(script, &trickle).await.fetched.unwrap_err().cause, "slow");
    }

    #[tokio::test]
    async fn a_slow_reader_is_no_stall() {
        let whole = body(40 * limits::CHUNK_BYTES);
        let server = Server::start([Reply::new(200, V1, &whole)]).await;
        let (sender, readers) = mpsc::channel::<BodyReader>();
        let reading = thread::spawn(move || {
            let mut reader = readers.recv().unwrap();
            thread::sleep(3 * TIMEOUTS.stall); // this is what is tested: nothing may come of it
            let mut bytes = Vec::new();
            while let Some(chunk) = reader.next().unwrap() {
                bytes.extend_from_slice(chunk);
            }
            bytes
        });
        let hand_over = |reader| sender.send(reader).unwrap();
        fetch(&at(server.address), "k", &mut Slot::new(), hand_over).await.unwrap();
        assert!(reading.join().unwrap() == whole);
        assert_eq!(server.requests().len(), 1);
    }

    #[tokio::test]
    async fn a_reader_that_lets_go_ends_the_fetch() {
        let server = Server::start([Reply::new(200, V1, &body(40 * limits::CHUNK_BYTES))]).await;
        let mut slot = Slot::new();
        fetch(&at(server.address), "k", &mut slot, drop).await.unwrap();
    }
}
