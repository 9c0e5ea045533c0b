//! Syslog messages by RELP: the receiver acknowledges each one, and the cursor moves over no other.
//!
//! A connection begins with `open` and what both sides can do, and ends with `close`. Between them at most
//! [`limits::RELP_WINDOW`] messages are under way without an answer. When a connection breaks, the messages that were
//! answered are the receiver's, and the others are sent again on the next one: some of them twice, none never.
//!
//! An answer of 200 means: taken. Any other code refuses the message ([`Fate::Refused`]). A receiver that closes (`serverclose`)
//! answers nothing any more.

pub mod frame;

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, split};
use tokio::time::{Instant, sleep_until, timeout};

use super::lines::Lines;
use super::sender::{Again, Fate, Items, Outcome, Reason, Refusal, Sender, said};
use super::syslog::Framing;
use super::tcp::{Limit, broken, dialer, failed, timed_out};
use crate::config::Peer;
use crate::limits;
use crate::net::{Dialer, Error, Stream};
use frame::{NotRelp, Number, Said};

/// Bytes of frames that are put together before they are written, unless one is longer.
const STEP: usize = 32 * 1024;
/// What we can do.
const OFFERS: &str =
    concat!("\nrelp_version=0\nrelp_software=trailspool,", env!("CARGO_PKG_VERSION"), "\ncommands=syslog");

/// A receiver that speaks RELP.
pub struct Relp {
    dialer: Dialer,
    timeout: Duration,
    limit: Limit,
    /// Away while messages are under way: one that was given up in the middle is never used again.
    session: Option<Session>,
}

impl Relp {
    /// As configured. Nothing is connected yet.
    ///
    /// # Errors
    /// A text for the operator: a file of certificates that is of no use.
    pub fn new(peer: &Peer) -> Result<Relp, String> {
        let limit = Limit { framing: Framing::None, most: peer.max_message_bytes };
        Ok(Relp { dialer: dialer(peer)?, timeout: peer.timeout, limit, session: None })
    }

    /// A session that still stands, or a new one.
    async fn session(&mut self) -> Result<Session, Outcome> {
        if let Some(mut session) = self.session.take()
            && session.stands()
        {
            return Ok(session);
        }
        match open(&self.dialer, self.timeout).await {
            Ok(session) => Ok(session),
            Err(OpenError::Connect(error)) => Err(failed(&error)),
            Err(OpenError::Broken(again)) => Err(again.into()),
            Err(OpenError::Refused(text)) => Err(Outcome::Hold(text)),
        }
    }
}

/// Why there is no session.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// There is no connection.
    Connect(Error),
    /// It broke, or there was no answer.
    Broken(Again),
    /// What answers is not RELP, or does not want us. A text for the operator.
    Refused(String),
}

/// Connects and opens a session.
pub(crate) async fn open(dialer: &Dialer, limit: Duration) -> Result<Session, OpenError> {
    let shown = dialer.shown();
    let stream = dialer.connect().await.map_err(OpenError::Connect)?;
    let (reader, writer) = split(stream);
    let mut session = Session { reader, writer, input: Input::default(), next: Number::FIRST.plus(1) };
    let opening = async {
        let mut bytes = Vec::new();
        frame::append(Number::FIRST, "open", OFFERS.trim_start().as_bytes(), &mut bytes);
        session.writer.write_all(&bytes).await?;
        session.writer.flush().await?;
        loop {
            match session.input.next() {
                Ok(Some(Heard::Answer(number, 200, _))) if number == Number::FIRST => return Ok(None),
                Ok(Some(Heard::Answer(_, code, text))) => {
                    return Ok(Some(format!("{shown} refuses to speak RELP with us ({code} {text})")));
                }
                Ok(Some(Heard::Closing)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(Some(Heard::Other)) => {}
                Ok(None) => session.input.read(&mut session.reader).await?,
                Err(NotRelp) => {
                    return Ok(Some(format!(
                        "{shown} does not answer in RELP: check the port in the output's `address`, and its `transport`"
                    )));
                }
            }
        }
    };
    match timeout(limit, opening).await {
        Ok(Ok(None)) => Ok(session),
        Ok(Ok(Some(text))) => Err(OpenError::Refused(text)),
        Ok(Err(error)) => Err(OpenError::Broken(broken(&shown, &error))),
        Err(_) => Err(OpenError::Broken(timed_out(&shown, "did not answer RELP's open", limit))),
    }
}

/// An open session.
pub(crate) struct Session {
    reader: ReadHalf<Stream>,
    writer: WriteHalf<Stream>,
    input: Input,
    /// The number of the next frame.
    next: Number,
}

impl Session {
    /// Whether the receiver has not closed while nothing was under way.
    fn stands(&mut self) -> bool {
        let looked = {
            let mut look = std::pin::pin!(self.input.read(&mut self.reader));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            look.as_mut().poll(&mut context)
        };
        match looked {
            std::task::Poll::Pending => true,
            std::task::Poll::Ready(Err(_)) => false,
            std::task::Poll::Ready(Ok(())) => loop {
                match self.input.next() {
                    Ok(None) => return true,
                    Ok(Some(Heard::Other)) => {}
                    _ => return false,
                }
            },
        }
    }

    /// Says `close`, and waits for the answer and the end.
    pub(crate) async fn close(mut self) -> bool {
        let mut bytes = Vec::new();
        frame::append(self.next, "close", b"", &mut bytes);
        let closing = async {
            self.writer.write_all(&bytes).await?;
            self.writer.flush().await?;
            loop {
                match self.input.next() {
                    Ok(Some(Heard::Closing | Heard::Answer(..))) => break,
                    Ok(Some(Heard::Other)) => {}
                    Ok(None) => self.input.read(&mut self.reader).await?,
                    Err(NotRelp) => return Err(io::ErrorKind::InvalidData.into()),
                }
            }
            self.writer.shutdown().await
        };
        closing.await.is_ok()
    }
}

/// Messages under way.
struct Exchange<'a> {
    lines: &'a Lines,
    limit: Limit,
    /// The number of the first frame.
    first: Number,
    /// Of the records that were put into a frame, in order: which.
    sent: Vec<u32>,
    /// The next record.
    next: usize,
    /// Frames without an answer.
    open: usize,
    fates: Vec<Fate>,
    refusals: Vec<(usize, Refusal)>,
}

impl<'a> Exchange<'a> {
    fn new(lines: &'a Lines, limit: Limit, first: Number) -> Exchange<'a> {
        let fates = vec![Fate::Again; lines.count()];
        Exchange { lines, limit, first, sent: Vec::new(), next: 0, open: 0, fates, refusals: Vec::new() }
    }

    /// Puts frames of the next records together.
    fn fill(&mut self, out: &mut Vec<u8>) {
        while self.next < self.lines.count() && self.open < limits::RELP_WINDOW && out.len() < STEP {
            let (at, line) = (self.next, self.lines.get(self.next));
            self.next += 1;
            if let Some(refusal) = self.limit.refuses(line) {
                self.fates[at] = Fate::Unfit;
                self.refusals.push((at, refusal));
                continue;
            }
            frame::append(self.first.plus(self.sent.len()), "syslog", line, out);
            self.sent.push(at as u32); // a batch has at most limits::BATCH_RECORDS_MAX
            self.open += 1;
        }
    }

    /// Whether it was the first answer to one of these.
    fn answered(&mut self, number: Number, code: u16, text: String) -> bool {
        let Some(&at) = self.sent.get(number.since(self.first)) else { return false };
        let fate = &mut self.fates[at as usize];
        if *fate != Fate::Again {
            return false;
        }
        self.open -= 1;
        *fate = if code == 200 { Fate::Accepted } else { Fate::Refused };
        if code != 200 {
            let text = format!("the receiver answered {code} {text}");
            self.refusals.push((at as usize, Refusal { reason: "rejected", text }));
        }
        true
    }

    fn is_done(&self) -> bool {
        self.next == self.lines.count() && self.open == 0
    }

    fn outcome(mut self, again: Option<Again>) -> Outcome {
        self.refusals.sort_by_key(|(at, _)| *at);
        match again {
            None if self.refusals.is_empty() => Outcome::Accepted,
            Some(again) if self.fates.iter().all(|&fate| fate == Fate::Again) => again.into(),
            again => Outcome::Items(Box::new(Items { fates: self.fates, refusals: self.refusals, again })),
        }
    }
}

impl Sender for Relp {
    async fn send(&mut self, lines: Lines) -> Outcome {
        let mut session = match self.session().await {
            Ok(session) => session,
            Err(outcome) => return outcome,
        };
        let shown = self.dialer.shown();
        let mut exchange = Exchange::new(&lines, self.limit, session.next);
        let mut output = Output::default();
        let mut patience = Instant::now() + self.timeout;
        let again = loop {
            if output.is_written() {
                output.begin(|out| exchange.fill(out));
            }
            match session.input.next() {
                Ok(Some(Heard::Answer(number, code, text))) => {
                    if !exchange.answered(number, code, text) {
                        break Some(not_relp(&shown, "answers what it was not sent"));
                    }
                    continue;
                }
                Ok(Some(Heard::Closing)) => {
                    break Some(broken(&shown, &io::ErrorKind::UnexpectedEof.into()));
                }
                Ok(Some(Heard::Other)) => continue,
                Ok(None) => {}
                Err(NotRelp) => break Some(not_relp(&shown, "sends something that is not RELP")),
            }
            if exchange.is_done() && output.is_written() {
                break None;
            }
            let progress = tokio::select! {
                biased;
                read = session.input.read(&mut session.reader) => read,
                wrote = output.write(&mut session.writer), if !output.is_written() => wrote,
                () = sleep_until(patience) => {
                    break Some(timed_out(&shown, "acknowledged nothing", self.timeout));
                }
            };
            match progress {
                Ok(()) => patience = Instant::now() + self.timeout,
                Err(error) => break Some(broken(&shown, &error)),
            }
        };
        if again.is_none() {
            session.next = session.next.plus(exchange.sent.len());
            self.session = Some(session);
        }
        exchange.outcome(again)
    }

    async fn close(&mut self) -> bool {
        match self.session.take() {
            Some(session) => session.close().await,
            None => false,
        }
    }
}

fn not_relp(shown: &str, what: &str) -> Again {
    Again { reason: Reason::Broken, text: format!("{shown} {what}"), after: None }
}

/// Bytes on their way out. Writing may be given up at any await: what was written is known.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    written: usize,
    flushed: bool,
}

impl Output {
    fn is_written(&self) -> bool {
        self.written == self.bytes.len() && (self.flushed || self.bytes.is_empty())
    }

    fn begin(&mut self, fill: impl FnOnce(&mut Vec<u8>)) {
        self.bytes.clear();
        self.bytes.shrink_to(2 * STEP);
        (self.written, self.flushed) = (0, false);
        fill(&mut self.bytes);
    }

    async fn write(&mut self, to: &mut WriteHalf<Stream>) -> io::Result<()> {
        if self.written < self.bytes.len() {
            let count = to.write(&self.bytes[self.written..]).await?;
            if count == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.written += count;
        } else {
            to.flush().await?;
            self.flushed = true;
        }
        Ok(())
    }
}

/// Bytes of the receiver that are not understood yet: less than a frame, and what was read behind it.
struct Input {
    bytes: Box<[u8]>,
    /// Of them, read.
    filled: usize,
    /// Of those, understood.
    done: usize,
}

/// A frame of the receiver's, on its own.
enum Heard {
    Answer(Number, u16, String),
    Closing,
    Other,
}

impl Default for Input {
    fn default() -> Input {
        Input { bytes: vec![0; 2 * limits::RELP_FRAME_BYTES].into(), filled: 0, done: 0 }
    }
}

impl Input {
    /// The next frame, if a whole one is there.
    fn next(&mut self) -> Result<Option<Heard>, NotRelp> {
        let Some((heard, len)) = frame::parse(&self.bytes[self.done..self.filled])? else { return Ok(None) };
        let heard = match heard {
            Said::Answer(number, 200, _) => Heard::Answer(number, 200, String::new()),
            Said::Answer(number, code, text) => Heard::Answer(number, code, said(text)),
            Said::Closing => Heard::Closing,
            Said::Other => Heard::Other,
        };
        self.done += len;
        Ok(Some(heard))
    }

    /// Reads more, when there is no whole frame. Given up at its await, it has read nothing.
    async fn read(&mut self, from: &mut ReadHalf<Stream>) -> io::Result<()> {
        self.bytes.copy_within(self.done..self.filled, 0);
        self.filled -= self.done;
        self.done = 0;
        // a frame is shorter than half of the buffer, so there is room
        match from.read(&mut self.bytes[self.filled..]).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => {
                self.filled += count;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests;
