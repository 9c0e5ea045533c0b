//! From the spool to the receivers: one loop and one cursor per output.
//!
//! ```text
//!  spool ─► backlog ─► encoding ─► batch, lines ─► sender: http, file, stdout
//!             ▲                      │ accepted: the cursor moves
//!             └──────────────────────┤ refused: halved, a bad record goes to the quarantine
//!                                    └ no answer: sent again
//! ```
//!
//! `encoding` (with `format`), `batch`, `lines` and `unconfirmed` are cores. `output` is the loop around them, `backlog` what it asks of the spool,
//! `sender` what it asks of a receiver, `status` what it tells the operator.

pub mod backlog;
pub mod batch;
pub mod encoding;
pub mod file;
pub mod format;
pub mod http;
pub mod lines;
mod output;
pub mod sender;
pub mod status;
pub mod stdout;
pub mod unconfirmed;

use std::sync::Arc;

use tokio::sync::watch;

use crate::config::{Output, OutputKind};
use crate::net::Proxies;
use crate::select::Attributors;
use crate::spool::disk::Disk;
use crate::spool::{Quarantine, Spool};
use backlog::Spooled;
use lines::Lines;
use sender::{Outcome, Sender};
pub use status::OutputStatus;

/// The task of one output; `attributors` says of each source which account is behind its records. It delivers until `stop` turns true (or its sender is gone), lets a request under
/// way end for a few seconds, saves the cursor and ends. Everything is delivered when
/// [`Spool::drained`] says so.
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
    stop: watch::Receiver<bool>,
    status: Arc<OutputStatus>,
) -> Result<impl Future<Output = ()> + Send + 'static, String> {
    let fault = |text: String| format!("output {}: {text}", config.name);
    let receiver = Receiver::new(&config.kind).map_err(fault)?;
    let committed = spool.subscribe();
    let backlog = Spooled::new(&config.name, spool, quarantine).map_err(|error| fault(error.to_string()))?;
    Ok(async move { output::run(&config, attributors, receiver, backlog, committed, stop, status).await })
}

enum Receiver {
    Http(Box<http::Http>),
    File(file::File),
    Stdout(stdout::Stream),
}

impl Receiver {
    fn new(kind: &OutputKind) -> Result<Receiver, String> {
        Ok(match kind {
            OutputKind::Stdout => {
                let stream = stdout::Stream::stdout();
                Receiver::Stdout(stream.map_err(|error| format!("cannot use standard output ({error})"))?)
            }
            OutputKind::File { path, rotate_bytes, rotate_keep } => {
                Receiver::File(file::File::new(path, *rotate_bytes, *rotate_keep))
            }
            OutputKind::Http { url, timeout, bearer_token, ca_file, proxies } => {
                let way = (ca_file.as_deref(), Proxies::clone(proxies));
                let http = http::Http::new(url, *timeout, bearer_token.as_ref(), way)?;
                Receiver::Http(Box::new(http))
            }
        })
    }
}

impl Sender for Receiver {
    async fn send(&mut self, lines: Lines) -> Outcome {
        match self {
            Receiver::Http(http) => http.send(lines).await,
            Receiver::File(file) => file.send(lines).await,
            Receiver::Stdout(stream) => stream.send(lines).await,
        }
    }
}

#[cfg(test)]
mod tests;
