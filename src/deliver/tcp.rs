//! Records over TCP or TLS to receivers that acknowledge nothing: syslog (RFC 6587, RFC 5425) and plain lines.
//!
//! That bytes were written only says that the kernel took them. So this sender is *provisional*
//! ([`Sender::is_provisional`]): the loop lets the cursor follow once the connection has stood for a while, and sends
//! again what a broken one carried. Whether it stands is looked up before each batch, and each pause between two.
//!
//! A connection that broke in the middle of a record leaves a torn one with the receiver; the record comes again, whole,
//! on the next connection.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::lines::Lines;
use super::sender::{Again, Fate, Items, Outcome, Reason, Refusal, Sender};
use super::syslog::{Framing, message_len};
use crate::config::{Peer, Transport};
use crate::net::{Dialer, Error, Kind, Stream};

/// Bytes written before the other direction is looked at.
const STEP: usize = 64 * 1024;
/// Bytes that a receiver may still say after the last record.
const LAST_WORDS: usize = 64 * 1024;

/// A receiver over TCP or TLS.
pub struct Tcp {
    dialer: Dialer,
    timeout: Duration,
    limit: Limit,
    /// Away while something is being written: one that was given up in the middle is never used again.
    stream: Option<Stream>,
    /// Why the last one was given up, until that is told or there is another.
    given_up: Option<Again>,
}

/// The longest message, if there is one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    pub(super) framing: Framing,
    pub(super) most: Option<usize>,
}

impl Limit {
    /// Why a record can never be sent, if so.
    pub(super) fn refuses(self, line: &[u8]) -> Option<Refusal> {
        let len = message_len(self.framing, line);
        let most = self.most.filter(|&most| len > most)?;
        let text = format!(
            "its message has {len} bytes, and the output's `max_message_bytes` is {most}: let the receiver take longer \
             ones, and raise it"
        );
        Some(Refusal { reason: "too-large", text })
    }
}

/// What takes a peer's place in the configuration to it.
///
/// # Errors
/// A text for the operator: a file of certificates that is of no use.
pub(crate) fn dialer(peer: &Peer) -> Result<Dialer, String> {
    let tls = (peer.transport == Transport::Tls).then_some((&peer.trust, peer.server_name.as_deref()));
    Dialer::new(&peer.host, peer.port, tls, peer.timeout).map_err(|error| error.to_string())
}

/// What it means that there is no connection.
pub(super) fn failed(error: &Error) -> Outcome {
    let reason = match error.kind() {
        Kind::Dns | Kind::Refused | Kind::Unreachable | Kind::ConnectTimeout => Reason::Connect,
        Kind::Reset | Kind::ClosedEarly | Kind::Other => Reason::Broken,
        // a receiver that is being started anew
        Kind::Tls if error.is_broken_off() => Reason::Broken,
        Kind::ClientCertificate => {
            let advice =
                "check `client_cert_file` and `client_key_file`, and whether the receiver trusts them";
            return Outcome::Hold(format!("{error}: {advice}"));
        }
        // a hold is tried again, too: a wrong clock or a certificate may be put right
        _ => return Outcome::Hold(error.to_string()),
    };
    Outcome::Retry { reason, text: error.to_string(), after: None }
}

/// What it means that a connection broke.
pub(super) fn broken(shown: &str, error: &io::Error) -> Again {
    let text = match error.kind() {
        io::ErrorKind::UnexpectedEof => format!("{shown} closed the connection"),
        io::ErrorKind::TimedOut => format!("{shown} does not take what it is sent, or is gone ({error})"),
        _ => match find_tls(error) {
            Some(tls) => format!(
                "{shown} ended the TLS connection ({tls}): if it wants a client certificate, check \
                 `client_cert_file` and whether the receiver trusts it"
            ),
            None => format!("the connection to {shown} broke ({error})"),
        },
    };
    Again { reason: Reason::Broken, text, after: None }
}

fn find_tls(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

pub(super) fn timed_out(shown: &str, doing: &str, limit: Duration) -> Again {
    Again { reason: Reason::Timeout, text: format!("{shown} {doing} within {limit:?}"), after: None }
}

impl From<Again> for Outcome {
    fn from(Again { reason, text, after }: Again) -> Outcome {
        Outcome::Retry { reason, text, after }
    }
}

impl Tcp {
    /// As configured. Nothing is connected yet.
    ///
    /// # Errors
    /// A text for the operator: a file of certificates that is of no use.
    pub fn new(peer: &Peer, framing: Framing) -> Result<Tcp, String> {
        let limit = Limit { framing, most: peer.max_message_bytes };
        Ok(Tcp { dialer: dialer(peer)?, timeout: peer.timeout, limit, stream: None, given_up: None })
    }

    /// Writes what can be sent; the records that cannot are told.
    async fn write(&mut self, stream: &mut Stream, lines: &Lines) -> Result<Outcome, Again> {
        let mut unfit: Vec<(usize, Refusal)> = Vec::new();
        let mut from = 0;
        for (at, line) in lines.iter().enumerate() {
            if let Some(refusal) = self.limit.refuses(line) {
                self.write_all(stream, lines, from, at).await?;
                unfit.push((at, refusal));
                from = at + 1;
            }
        }
        self.write_all(stream, lines, from, lines.count()).await?;
        self.waits("did not take the last bytes", stream.flush()).await?;
        if unfit.is_empty() {
            return Ok(Outcome::Accepted);
        }
        let mut fates = vec![Fate::Accepted; lines.count()];
        unfit.iter().for_each(|(at, _)| fates[*at] = Fate::Unfit);
        Ok(Outcome::Items(Box::new(Items { fates, refusals: unfit, again: None })))
    }

    async fn write_all(
        &self,
        stream: &mut Stream,
        lines: &Lines,
        from: usize,
        to: usize,
    ) -> Result<(), Again> {
        let bytes = lines.slice(from..to).bytes();
        for part in bytes.chunks(STEP) {
            stream.look().map_err(|error| broken(&self.dialer.shown(), &error))?;
            self.waits("took nothing", stream.write_all(part)).await?;
        }
        Ok(())
    }

    async fn waits(&self, doing: &str, writing: impl Future<Output = io::Result<()>>) -> Result<(), Again> {
        match timeout(self.timeout, writing).await {
            Ok(written) => written.map_err(|error| broken(&self.dialer.shown(), &error)),
            Err(_) => Err(timed_out(&self.dialer.shown(), doing, self.timeout)),
        }
    }
}

impl Sender for Tcp {
    async fn send(&mut self, lines: Lines) -> Outcome {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => match self.dialer.connect().await {
                Ok(stream) => stream,
                Err(error) => return failed(&error),
            },
        };
        match self.write(&mut stream, &lines).await {
            Ok(outcome) => {
                self.stream = Some(stream);
                self.given_up = None;
                outcome
            }
            Err(again) => {
                self.given_up = Some(again.clone());
                again.into()
            }
        }
    }

    fn is_provisional(&self) -> bool {
        true
    }

    fn broken(&mut self) -> Option<Again> {
        // what a connection carried before it was given up may be lost as well
        let Some(stream) = &mut self.stream else { return self.given_up.take() };
        let error = stream.look().err()?;
        self.stream = None;
        Some(broken(&self.dialer.shown(), &error))
    }

    /// Half-closes, and waits for the receiver's end: one that closes in order has read everything before it.
    async fn close(&mut self) -> bool {
        let Some(mut stream) = self.stream.take() else { return false };
        if stream.shutdown().await.is_err() {
            return false;
        }
        let mut buffer = [0; 1024];
        let mut words = 0;
        while words < LAST_WORDS {
            match stream.read(&mut buffer).await {
                Ok(0) => return true,
                Ok(count) => words += count,
                // the end of TCP without that of TLS: many programs just close
                Err(error) => return error.kind() == io::ErrorKind::UnexpectedEof,
            }
        }
        false
    }
}

#[cfg(test)]
#[path = "tcp/tests.rs"]
mod tests;
