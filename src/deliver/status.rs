//! How an output is doing: for the status page and the metrics ([`OutputStatus`]), and for the log
//! ([`Reporter`]). A receiver decides how often things go wrong, so what is logged is limited: each kind of
//! trouble once until it passes, and no more than once in [`LOG_EVERY`].

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::sender::Reason;

/// The same trouble is logged again after this time.
pub const LOG_EVERY: Duration = Duration::from_secs(300);

/// What an output does now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Everything in the spool is acknowledged.
    Idle,
    /// Records are on their way.
    Sending,
    /// The last request failed in a way that passes.
    Retrying {
        /// What failed.
        reason: Reason,
        /// The same, for the operator.
        text: String,
        /// When it is tried again.
        until: SystemTime,
    },
    /// Nothing gets through until somebody changes something.
    Holding {
        /// What, and what to do.
        text: String,
        /// When it is tried again all the same.
        until: SystemTime,
    },
}

impl State {
    fn is_trouble(&self) -> bool {
        matches!(self, State::Retrying { .. } | State::Holding { .. })
    }
}

/// A state and when it began. Trouble begins once, however often it is tried again and whatever it is called meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// What the output does.
    pub state: State,
    /// Since when.
    pub since: SystemTime,
}

/// The public face of an output's loop. Counts are since the start of the process.
#[derive(Debug)]
pub struct OutputStatus {
    records: AtomicU64,
    bytes: AtomicU64,
    set_aside: AtomicU64,
    skipped: AtomicU64,
    retries: [AtomicU64; Reason::ALL.len()],
    standing: Mutex<Standing>,
    /// Kept after it has passed.
    last_error: Mutex<Option<(SystemTime, String)>>,
}

impl Default for OutputStatus {
    fn default() -> OutputStatus {
        OutputStatus {
            records: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            set_aside: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            retries: Default::default(),
            standing: Mutex::new(Standing { state: State::Idle, since: now() }),
            last_error: Mutex::default(),
        }
    }
}

impl OutputStatus {
    /// Records that the receiver acknowledged; one that was sent twice counts twice.
    pub fn delivered_records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Bytes of their lines.
    pub fn delivered_bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Records that the receiver refused and that are in the quarantine.
    pub fn set_aside_records(&self) -> u64 {
        self.set_aside.load(Ordering::Relaxed)
    }

    /// Records that were given up because the spool was full (`on_full = "skip"`).
    pub fn skipped_records(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    /// Requests that were not answered well, by reason.
    pub fn retries(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL
            .into_iter()
            .zip(&self.retries)
            .map(|(reason, count)| (reason, count.load(Ordering::Relaxed)))
    }

    /// What the output does now.
    pub fn standing(&self) -> Standing {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What went wrong last, for the operator, and when; kept after it has passed.
    pub fn last_error(&self) -> Option<(SystemTime, String)> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn enter(&self, state: State) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let same = standing.state.is_trouble() && state.is_trouble()
            || std::mem::discriminant(&standing.state) == std::mem::discriminant(&state);
        let since = if same { standing.since } else { now() };
        *standing = Standing { state, since };
    }
}

/// Writes an output's status and log.
pub(super) struct Reporter {
    output: Box<str>,
    status: std::sync::Arc<OutputStatus>,
    /// When each kind of trouble was logged last.
    logged: [Option<Instant>; Reason::ALL.len()],
    /// Trouble was logged and its end was not.
    open: bool,
    set_aside_logged: Option<Instant>,
    set_aside_since: u64,
    skipped_logged: Option<Instant>,
    skipped_since: u64,
    not_saved_logged: Option<Instant>,
}

impl Reporter {
    pub(super) fn new(output: &str, status: std::sync::Arc<OutputStatus>) -> Reporter {
        Reporter {
            output: output.into(),
            status,
            logged: [None; Reason::ALL.len()],
            open: false,
            set_aside_logged: None,
            set_aside_since: 0,
            skipped_logged: None,
            skipped_since: 0,
            not_saved_logged: None,
        }
    }

    /// There is nothing to do.
    pub(super) fn idle(&mut self) {
        self.status.enter(State::Idle);
    }

    /// There is something to do. A trouble that has not passed goes on.
    pub(super) fn begin(&mut self) {
        if self.status.standing().state == State::Idle {
            self.status.enter(State::Sending);
        }
    }

    /// The receiver took records, or a connection did.
    pub(super) fn delivered(&mut self, records: usize, bytes: usize) {
        self.status.records.fetch_add(records as u64, Ordering::Relaxed);
        self.status.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The receiver has records: whatever was wrong has passed.
    pub(super) fn well(&mut self) {
        self.status.enter(State::Sending);
        if std::mem::take(&mut self.open) {
            log::info!("output {}: delivers again", self.output);
        }
    }

    /// Something failed and is tried again after `wait`.
    pub(super) fn trouble(&mut self, reason: Reason, text: String, wait: Duration) {
        self.status.retries[reason as usize].fetch_add(1, Ordering::Relaxed);
        let last = &mut self.logged[reason as usize];
        if due(last) {
            self.open = true;
            log::warn!("output {}: {text}; tried again in {wait:.0?}", self.output);
        }
        *self.status.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some((now(), text.clone()));
        let until = now() + wait;
        self.status.enter(match reason {
            Reason::Held => State::Holding { text, until },
            reason => State::Retrying { reason, text, until },
        });
    }

    /// A record is in the quarantine; `text` names it and says why.
    pub(super) fn set_aside(&mut self, text: &str) {
        self.status.set_aside.fetch_add(1, Ordering::Relaxed);
        self.set_aside_since += 1;
        if due(&mut self.set_aside_logged) {
            let count = std::mem::take(&mut self.set_aside_since);
            log::warn!(
                "output {}: {count} record(s) refused by the receiver and quarantined; {text}",
                self.output
            );
        }
    }

    /// Records were given up.
    pub(super) fn skipped(&mut self, count: u64) {
        self.status.skipped.fetch_add(count, Ordering::Relaxed);
        self.skipped_since += count;
        if due(&mut self.skipped_logged) {
            let count = std::mem::take(&mut self.skipped_since);
            log::warn!(
                "output {}: the spool is full because of it, so it gave up {count} of its oldest record(s); the other \
                 outputs get them all the same",
                self.output
            );
        }
    }

    /// The last request was not answered well.
    pub(super) fn is_in_trouble(&self) -> bool {
        self.status.standing().state.is_trouble()
    }

    /// The cursor could not be made durable.
    pub(super) fn not_saved(&mut self, error: &std::io::Error) {
        if due(&mut self.not_saved_logged) {
            log::warn!(
                "output {}: cannot save how far it has come ({error}): check the disk of the state directory; after a \
                 crash records would be sent again",
                self.output
            );
        }
    }
}

/// Whether something last logged then may be logged again; notes that it is.
fn due(last: &mut Option<Instant>) -> bool {
    let now = Instant::now();
    let due = last.is_none_or(|last| now.duration_since(last) >= LOG_EVERY);
    if due {
        *last = Some(now);
    }
    due
}

#[allow(clippy::disallowed_methods)] // shown to people, decides nothing
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_same_trouble_is_logged_once_in_five_minutes() {
        let mut last = None;
        let mut logged = 0;
        for _ in 0..3600 {
            logged += usize::from(due(&mut last));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(logged, 3600 / 300);
    }

    #[test]
    fn a_trouble_that_goes_on_keeps_its_beginning_whatever_it_is_called() {
        let status = std::sync::Arc::new(OutputStatus::default());
        let mut reporter = Reporter::new("siem", status.clone());
        let wait = Duration::from_secs(1);
        reporter.begin();
        reporter.trouble(Reason::Connect, "refused".into(), wait);
        let first = status.standing();
        reporter.begin();
        reporter.trouble(Reason::Connect, "no route".into(), wait);
        let second = status.standing();
        assert_eq!(first.since, second.since);
        assert!(matches!(second.state, State::Retrying { text, .. } if text == "no route"));
        reporter.trouble(Reason::Held, "401".into(), wait);
        assert!(matches!(status.standing().state, State::Holding { .. }));
        assert_eq!(status.standing().since, first.since);
        assert!(status.retries().eq(Reason::ALL.map(|reason| match reason {
            Reason::Connect => (reason, 2),
            Reason::Held => (reason, 1),
            _ => (reason, 0),
        })));
        reporter.delivered(3, 30);
        assert!(matches!(status.standing().state, State::Holding { .. }));
        reporter.well();
        assert_eq!(status.standing().state, State::Sending);
        assert_ne!(status.standing().since, first.since);
        assert_eq!((status.delivered_records(), status.delivered_bytes()), (3, 30));
    }
}
