//! From the spool to the receivers: one loop and one cursor per output.
//!
//! ```text
//!  spool ─► backlog ─► encoding ─► batch, lines ─► sender: http, syslog, relp, tcp, file, stdout
//!             ▲                      │ accepted: the cursor moves
//!             └──────────────────────┤ refused: halved, a bad record goes to the quarantine
//!                                    └ no answer: sent again
//! ```
//!
//! `encoding` (with `format` and `syslog`), `batch`, `lines` and `unconfirmed` are cores. `output` is the loop around them, `backlog` what it asks of the spool,
//! `sender` what it asks of a receiver, `status` what it tells the operator.

pub mod backlog;
pub mod batch;
pub mod encoding;
pub mod file;
pub mod format;
pub mod gzip;
pub mod http;
pub mod lines;
mod output;
pub mod relp;
pub mod sender;
pub mod status;
pub mod stdout;
pub mod syslog;
pub mod tcp;
pub mod udp;
pub mod unconfirmed;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::config::{OnFull, Output, OutputKind, Transport};
use crate::pulse::Pulse;
use crate::select::Attributors;
use crate::spool::disk::Disk;
use crate::spool::{Quarantine, Spool};
use backlog::Spooled;
use lines::Lines;
use sender::{Outcome, Sender};
pub use status::OutputStatus;

/// The task of one output; `attributors` says of each source which account is behind its records. It delivers until
/// `stop` turns true (or its sender is gone), lets a request under way end for a few seconds, saves the cursor and ends.
/// Once `complete` turns true no batch waits for more records. Everything is delivered when [`Spool::drained`] says so.
///
/// A task that is dropped instead loses nothing, but sends up to a second's worth of records again.
///
/// # Errors
/// A text for the operator, when the output cannot work at all.
pub fn output<D: Disk>(
    config: Output,
    attributors: Arc<Attributors>,
    spool: Arc<Spool<D>>,
    quarantine: Quarantine<D>,
    (stop, complete): (watch::Receiver<bool>, watch::Receiver<bool>),
    status: Arc<OutputStatus>,
    pulse: Arc<Pulse>,
) -> Result<impl Future<Output = ()> + Send + 'static, String> {
    let fault = |text: String| format!("output {}: {text}", config.name);
    let receiver = Receiver::new(&config.kind).map_err(fault)?;
    let (committed, skips) = (spool.subscribe(), spool.subscribe_skips());
    let wakes = output::Wakes { committed, skips, stop, complete };
    if config.on_full == OnFull::Skip {
        spool.let_skip(&config.name);
    }
    let backlog = Spooled::new(&config.name, spool, quarantine).map_err(|error| fault(error.to_string()))?;
    Ok(async move { output::run(&config, attributors, receiver, backlog, wakes, (status, pulse)).await })
}

enum Receiver {
    Http(Box<http::Http>),
    File(file::File),
    Stdout(stdout::Stream),
    Relp(Box<relp::Relp>),
    Tcp(Box<tcp::Tcp>),
    Udp(Box<udp::Udp>),
}

impl Receiver {
    fn new(kind: &OutputKind) -> Result<Receiver, String> {
        Ok(match kind {
            OutputKind::Stdout => {
                let stream = stdout::Stream::stdout();
                Receiver::Stdout(stream.map_err(|error| format!("cannot use standard output ({error})"))?)
            }
            OutputKind::File(file) => Receiver::File(file::File::new(file)),
            OutputKind::Http(http) => Receiver::Http(Box::new(http::Http::new(http)?)),
            OutputKind::Relp { peer, .. } => Receiver::Relp(Box::new(relp::Relp::new(peer)?)),
            OutputKind::Syslog { peer, .. } if peer.transport == Transport::Udp => {
                Receiver::Udp(Box::new(udp::Udp::new(peer)?))
            }
            OutputKind::Syslog { peer, framing, .. } => {
                Receiver::Tcp(Box::new(tcp::Tcp::new(peer, *framing)?))
            }
            OutputKind::Tcp(peer) => Receiver::Tcp(Box::new(tcp::Tcp::new(peer, syslog::Framing::LineFeed)?)),
        })
    }
}

impl Sender for Receiver {
    async fn send(&mut self, lines: Lines) -> Outcome {
        match self {
            Receiver::Http(http) => http.send(lines).await,
            Receiver::File(file) => file.send(lines).await,
            Receiver::Stdout(stream) => stream.send(lines).await,
            Receiver::Relp(relp) => relp.send(lines).await,
            Receiver::Tcp(tcp) => tcp.send(lines).await,
            Receiver::Udp(udp) => udp.send(lines).await,
        }
    }

    fn is_provisional(&self) -> bool {
        match self {
            Receiver::Tcp(tcp) => tcp.is_provisional(),
            _ => false,
        }
    }

    fn broken(&mut self) -> Option<sender::Again> {
        match self {
            Receiver::Tcp(tcp) => tcp.broken(),
            _ => None,
        }
    }

    async fn tend(&mut self) -> Option<Duration> {
        match self {
            Receiver::File(file) => file.tend().await,
            _ => None,
        }
    }

    async fn close(&mut self) -> bool {
        match self {
            Receiver::Relp(relp) => relp.close().await,
            Receiver::Tcp(tcp) => tcp.close().await,
            _ => false,
        }
    }

    fn another(&self) -> Option<Receiver> {
        match self {
            Receiver::Http(http) => http.another().map(|http| Receiver::Http(Box::new(http))),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
