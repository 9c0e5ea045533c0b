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
/// The same after something that somebody has to change. Each try of a wrong password counts towards a lock.
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
        let (mut retry, mut hold) = (Backoff::new(RETRY.0, RETRY.1), Backoff::new(HOLD.0, HOLD.1));
        let mut open = None;
        loop {
            self.question(&mut open).await;
            match self.ask(&mut open).await {
                Ok(()) => {
                    self.status.well();
                    retry.reset();
                    hold.reset();
                }
                Err(fault) => {
                    open = None;
                    let backoff = if fault.is_transient() { &mut retry } else { &mut hold };
                    let wait = backoff.next(fastrand::u64(..), None);
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
