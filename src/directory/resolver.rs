//! Looks accounts up, one after the other, beside everything else. A directory that does not answer is left alone for a
//! while; what waits meanwhile goes on waiting, and what finds no room is asked again by a later record.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::cache::{Ask, Bounds, Cache};
use super::client::{self, Connection, Fault, Found, Step};
use super::entry::{Asked, Entry, Lookup};
use super::status::{Result as Ended, Status};
use crate::config;
use crate::limits;
use crate::net::{Backoff, Dialer};

/// First and longest wait after something that passes.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The same after something that somebody has to change, but no wait is shorter than half the longest. Each try of a
/// wrong password counts towards a lock: within half an hour there are three at most.
const HOLD: (Duration, Duration) = (Duration::from_secs(300), Duration::from_secs(1800));
/// A connection without questions is closed after this time: directories do the same.
const IDLE: Duration = Duration::from_secs(60);

/// A directory, as far as it is known.
pub struct Directory {
    config: config::Directory,
    dialer: Dialer,
    cache: Mutex<Cache>,
    /// Something waits to be asked.
    waits: Notify,
    status: Status,
}

impl Directory {
    /// As configured. It does nothing by itself: that does [`Directory::run`].
    ///
    /// # Errors
    /// A text: a file for TLS that is of no use.
    pub fn new(config: config::Directory) -> io::Result<Directory> {
        let bounds = Bounds {
            entries: config.cache_entries,
            bytes: limits::DIRECTORY_CACHE_BYTES,
            fresh: config.cache_time,
        };
        Ok(Directory {
            dialer: client::dialer(&config)?,
            config,
            cache: Mutex::new(Cache::new(bounds)),
            waits: Notify::new(),
            status: Status::default(),
        })
    }

    /// How it is doing.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// `HOST:PORT`
    pub fn place(&self) -> String {
        self.dialer.shown()
    }

    /// Answers that are kept.
    pub fn cached(&self) -> usize {
        self.cache().len()
    }

    /// Answers questions for ever. Dropped at any time, it leaves nothing behind.
    pub async fn run(&self) {
        let mut waits = Waits::new();
        let mut open = None;
        loop {
            self.question(&mut open).await;
            match self.ask(&mut open).await {
                Ok(()) => {
                    self.status.well();
                    waits = Waits::new();
                }
                Err(fault) => {
                    open = None;
                    let wait = waits.after(&fault, fastrand::u64(..));
                    self.status.failed(&fault, wait);
                    sleep(wait).await;
                }
            }
        }
    }

    /// Waits for a question. A connection that is not used meanwhile is closed.
    async fn question(&self, open: &mut Option<Connection>) {
        while !self.cache().has_waiting() {
            match open.take() {
                None => self.waits.notified().await,
                Some(connection) => match timeout(IDLE, self.waits.notified()).await {
                    Ok(()) => *open = Some(connection),
                    Err(_) => connection.close().await,
                },
            }
        }
    }

    /// Asks the next question.
    async fn ask(&self, open: &mut Option<Connection>) -> Result<(), Fault> {
        let Some(key) = self.cache().next_question() else { return Ok(()) };
        // whatever becomes of it, also when this is dropped, it can be asked again
        let mut question = Question { directory: self, key: &key, settled: false };
        let Some(asked) = Asked::of_key(&key) else { return Ok(()) };
        let reused = match open.take() {
            Some(mut connection) => match connection.find(&self.config, asked).await {
                Ok(found) => Some((connection, found)),
                // it was closed while nobody looked, or a moment ago: a new one tells
                Err(Fault::Broken(..) | Fault::Refused(Step::Search, _)) => None,
                Err(fault) => return Err(self.unanswered(&mut question, fault)),
            },
            None => None,
        };
        let (connection, found) = match reused {
            Some(reused) => reused,
            None => {
                let mut connection = match self.connect().await {
                    Ok(connection) => connection,
                    Err(fault) => {
                        question.settled = true;
                        self.cache().put_back(key.clone());
                        return Err(fault);
                    }
                };
                let found = connection.find(&self.config, asked).await;
                (connection, found.map_err(|fault| self.unanswered(&mut question, fault))?)
            }
        };
        *open = Some(connection);
        question.settled = true;
        self.answer(&key, found);
        Ok(())
    }

    async fn connect(&self) -> Result<Connection, Fault> {
        let mut connection = Connection::open(&self.dialer, &self.config).await?;
        connection.bind(&self.config).await?;
        Ok(connection)
    }

    /// A question that cannot be answered is not asked again at once.
    fn unanswered(&self, question: &mut Question<'_>, fault: Fault) -> Fault {
        self.status.add(Ended::Failed);
        if let Fault::Malformed(..) = fault {
            question.settled = true;
            self.cache().answer(question.key, None, Instant::now().into_std());
        }
        fault
    }

    fn answer(&self, key: &str, found: Found) {
        let (entry, ended) = match found {
            Found::One(values) => (Entry::new(self.config.attributes.clone(), &values), Ended::Found),
            Found::None => (None, Ended::Absent),
            Found::Several => (None, Ended::Ambiguous),
        };
        self.status.add(ended);
        self.cache().answer(key, entry.map(Arc::new), Instant::now().into_std());
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lookup for Directory {
    fn find(&self, asked: Asked<'_>) -> Option<Arc<Entry>> {
        let key = asked.key()?;
        let (entry, ask) = self.cache().find(&key, Instant::now().into_std());
        match ask {
            Ask::Queued => self.waits.notify_one(),
            Ask::Dropped => self.status.add(Ended::Dropped),
            Ask::No | Ask::Waits => {}
        }
        entry
    }
}

/// How long the directory is left alone.
struct Waits {
    retry: Backoff,
    hold: Backoff,
}

impl Waits {
    fn new() -> Waits {
        Waits { retry: Backoff::new(RETRY.0, RETRY.1), hold: Backoff::new(HOLD.0, HOLD.1) }
    }

    fn after(&mut self, fault: &Fault, random: u64) -> Duration {
        if fault.is_transient() {
            return self.retry.next(random, None);
        }
        // a password that was wrong twice is not right by itself
        let again = self.hold.tries() > 0 && fault.cause() == "credentials";
        let more = self.hold.next(random, None) / 2;
        HOLD.1 / 2 + if again { HOLD.1 / 2 } else { more }
    }
}

/// A question on its way.
struct Question<'a> {
    directory: &'a Directory,
    key: &'a str,
    settled: bool,
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.directory.cache().give_up(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::Outcome;
    use super::*;

    const WINDOW: Duration = Duration::from_secs(30 * 60);

    fn refused(code: i64) -> Fault {
        Fault::Refused(Step::Bind, Outcome { code, said: String::new() })
    }

    /// When the directory is asked within a day that it refuses every bind.
    fn tries(code: i64, seed: u64) -> Vec<Duration> {
        let mut random = fastrand::Rng::with_seed(seed);
        let (mut waits, mut now, mut tries) = (Waits::new(), Duration::ZERO, Vec::new());
        while now < Duration::from_secs(24 * 3600) {
            tries.push(now);
            now += waits.after(&refused(code), random.u64(..));
        }
        tries
    }

    #[test]
    fn a_wrong_password_is_tried_three_times_in_half_an_hour_at_most() {
        for seed in 0..200 {
            // wrong credentials; no TLS
            for code in [49, 8] {
                let tries = tries(code, seed);
                let most = tries
                    .iter()
                    .map(|&from| tries.iter().filter(|&&at| at >= from && at < from + WINDOW).count());
                assert!(most.max() <= Some(3), "{code}, seed {seed}: {tries:?}");
                assert!(tries.len() >= 24 * 2, "{code}, seed {seed}: it is asked again: {tries:?}");
            }
        }
    }

    #[test]
    fn what_passes_by_itself_is_tried_again_within_a_minute() {
        let mut waits = Waits::new();
        // busy
        assert!((0..10).all(|_| waits.after(&refused(51), u64::MAX) <= RETRY.1));
    }
}
