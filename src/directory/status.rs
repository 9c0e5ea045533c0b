//! How the directory is doing: for the status page, the metrics and the log. Each kind of trouble is logged once until
//! it passes, and no more than once in [`LOG_EVERY`].

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::client::Fault;
pub use crate::deliver::status::LOG_EVERY;

/// How a look-up ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Result {
    /// With one entry.
    Found,
    /// Without any.
    Absent,
    /// With more than one, so that none is believed.
    Ambiguous,
    /// Without an answer.
    Failed,
    /// It was not made: too many waited.
    Dropped,
}

impl Result {
    /// Every one, in the order of its discriminant.
    pub const ALL: [Result; 5] =
        [Result::Found, Result::Absent, Result::Ambiguous, Result::Failed, Result::Dropped];

    /// The metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Result::Found => "found",
            Result::Absent => "absent",
            Result::Ambiguous => "ambiguous",
            Result::Failed => "failed",
            Result::Dropped => "dropped",
        }
    }
}

/// What stands in the way.
#[derive(Debug, Clone)]
pub struct Trouble {
    /// Stable label.
    pub cause: &'static str,
    /// What failed, why, what to do.
    pub text: String,
    /// It may pass by itself.
    pub transient: bool,
    /// Since when.
    pub since: SystemTime,
}

/// The public face of the resolver. Counts are since the start of the process.
#[derive(Debug, Default)]
pub struct Status {
    results: [AtomicU64; Result::ALL.len()],
    trouble: Mutex<Option<Trouble>>,
    logged: Mutex<Option<(&'static str, Instant)>>,
}

impl Status {
    /// How often look-ups ended so.
    pub fn count(&self, result: Result) -> u64 {
        self.results[result as usize].load(Relaxed)
    }

    /// What stands in the way now.
    pub fn trouble(&self) -> Option<Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn add(&self, result: Result) {
        self.results[result as usize].fetch_add(1, Relaxed);
    }

    /// The directory answered.
    pub(super) fn well(&self) {
        if self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take().is_some() {
            log::info!("the directory answers again");
        }
    }

    /// The directory did not answer, and is asked again after `wait`.
    pub(super) fn failed(&self, fault: &Fault, wait: Duration) {
        let (cause, text, transient) = (fault.cause(), fault.to_string(), fault.is_transient());
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_none_or(|(last, when)| last != cause || when.elapsed() >= LOG_EVERY) {
            *logged = Some((cause, Instant::now()));
            log::warn!("{text}; records go out without what it knows; it is asked again in {wait:.0?}");
        }
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        // one trouble, whatever it is called meanwhile
        let since = trouble.as_ref().map_or_else(now, |was| was.since);
        *trouble = Some(Trouble { cause, text, transient, since });
    }
}

#[allow(clippy::disallowed_methods)] // shown to people, decides nothing
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::client::Step;
    use crate::directory::message::Malformed;

    #[test]
    fn the_results_stand_in_the_order_of_their_discriminants() {
        for (at, result) in Result::ALL.into_iter().enumerate() {
            assert_eq!(result as usize, at);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_trouble_has_one_beginning_and_ends_with_an_answer() {
        let status = Status::default();
        let fault = Fault::Malformed(Step::Bind, Malformed("x"));
        status.failed(&fault, Duration::ZERO);
        let first = status.trouble().unwrap();
        status.failed(&fault, Duration::ZERO);
        assert_eq!(status.trouble().unwrap().since, first.since);
        assert_eq!(first.cause, "not-ldap");
        status.failed(&Fault::Timeout(Step::Bind, Duration::ZERO), Duration::ZERO);
        let other = status.trouble().unwrap();
        assert_eq!((other.cause, other.since), ("timeout", first.since));
        status.well();
        assert!(status.trouble().is_none());
    }
}
