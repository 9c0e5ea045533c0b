//! Tries again what somebody asked for ([`crate::spool::retry`]).
//!
//! Every [`LOOK`] the quarantine is looked through for requests. An object goes to the fetch workers with a ticket of its
//! own, past the ledger, which knows it already; a refused record is offered to its output. With `--once` there is one
//! look, and the end waits for its outcome.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use log::{info, warn};
use time::{Date, PrimitiveDateTime, UtcDateTime};

use crate::discover::key::LogKey;
use crate::discover::ledger::{self, Ledger};
use crate::discover::queue::{Pass, Queue, Tally, Wanted};
use crate::discover::state::{self, Loaded};
use crate::discover::status::SourceStatus;
use crate::discover::window::{HOT_DAYS, KEPT_DAYS};
use crate::record::ObjectId;
use crate::spool::std_disk::StdDisk;
use crate::spool::{Quarantine, Spool, quarantine::Stored, retry};

/// How often requests are looked for.
pub const LOOK: Duration = Duration::from_secs(10);
/// Longest wait before an object that could not be fetched is tried again.
const LONGEST: Duration = Duration::from_secs(300);
/// Objects that are tried again at a time.
const AT_ONCE: usize = 64;
/// How often `--once` looks whether the outputs are done.
const DONE: Duration = Duration::from_millis(50);

/// What the work needs of the agent.
pub struct Retries {
    /// The state directory.
    pub disk: StdDisk,
    /// What is known.
    pub ledger: Arc<Ledger<StdDisk>>,
    /// What was set aside.
    pub quarantine: Quarantine<StdDisk>,
    /// Wakes the outputs.
    pub spool: Arc<Spool<StdDisk>>,
    /// The way to the fetch workers.
    pub queue: Queue,
    /// The sources in the order of their lanes.
    pub sources: Vec<Arc<SourceStatus>>,
    /// The outputs there are.
    pub outputs: Vec<Box<str>>,
}

/// What an entry that is asked for comes to.
enum Task {
    /// Fetched and collected; `again`: it is in the books already.
    Object { id: String, lane: usize, key: LogKey, object: ObjectId, again: bool },
    /// Offered to its output.
    Record { id: String, output: Box<str> },
    /// It was collected already, before a crash: the entry goes.
    Tidy { id: String },
    /// It cannot be.
    Not { id: String, why: String },
}

impl Retries {
    /// Works until it is dropped, or with `once` until what is asked for now is done.
    pub async fn run(self, once: bool) {
        let this = Arc::new(self);
        let mut wait = LOOK;
        loop {
            let failed = this.clone().look().await;
            if once {
                while this.quarantine.has_offers() {
                    tokio::time::sleep(DONE).await;
                }
                return;
            }
            wait = if failed { (wait * 2).min(LONGEST) } else { LOOK };
            tokio::time::sleep(wait).await;
        }
    }

    /// Takes up what is asked for. Whether some of it has to be tried later.
    async fn look(self: Arc<Self>) -> bool {
        let tasks = match blocking(&self, |this| this.tasks()).await {
            Ok(tasks) => tasks,
            Err(error) => {
                warn!("cannot look for what is to be tried again: {error}");
                return true;
            }
        };
        let mut failed = false;
        let mut objects = Vec::new();
        for task in tasks {
            match task {
                Task::Object { .. } => objects.push(task),
                Task::Record { id, output } => {
                    self.quarantine.offer(&output, id);
                    self.spool.wake();
                }
                Task::Tidy { id } => failed |= self.settle(id, true).await,
                Task::Not { id, why } => {
                    warn!("{id} in the quarantine is not tried again: {why}");
                    failed |= self.settle(id, false).await;
                }
            }
            if objects.len() == AT_ONCE {
                failed |= self.objects(std::mem::take(&mut objects)).await;
            }
        }
        failed | self.objects(objects).await
    }

    /// What each request means. Blocks.
    fn tasks(&self) -> io::Result<Vec<Task>> {
        let ids = retry::requests(&self.disk)?;
        Ok(ids.into_iter().map(|id| self.task(&id).unwrap_or_else(|why| Task::Not { id, why })).collect())
    }

    fn task(&self, id: &str) -> Result<Task, String> {
        let entry = self.quarantine.entry(id).map_err(|error| error.to_string())?;
        match retry::meaning(&entry)? {
            retry::Again::Object => self.object(id, entry),
            retry::Again::Record => {
                let output = entry.output.unwrap_or_default();
                match self.outputs.contains(&output) {
                    true => Ok(Task::Record { id: id.to_owned(), output }),
                    false => Err(format!("output {output:?} is not configured any more")),
                }
            }
        }
    }

    fn object(&self, id: &str, entry: Stored) -> Result<Task, String> {
        let id = id.to_owned();
        let name = &entry.object.source;
        let lane = self.sources.iter().position(|status| status.name() == &**name);
        let lane = lane.ok_or_else(|| format!("source {name:?} is not configured any more"))?;
        let key = LogKey::parse(&entry.object.key).map_err(|_| "its key is no log's".to_owned())?;
        let known =
            |text: &str| self.ledger.contains(name, key.day(), text).map_err(|error| error.to_string());
        if known(&ledger::again(&entry.object.key))? {
            return Ok(Task::Tidy { id });
        }
        let progress = state::load(&self.disk, name).map_err(|error| error.to_string())?;
        let again =
            is_forgotten(&progress, key.day(), UtcDateTime::now().date()) || known(&entry.object.key)?;
        Ok(Task::Object { id, lane, key, object: entry.object, again })
    }

    /// Fetches objects, and waits for what becomes of each. Whether some have to be tried later.
    async fn objects(&self, tasks: Vec<Task>) -> bool {
        let mut failed = false;
        let mut passes = Vec::new();
        for task in tasks {
            let Task::Object { id, lane, key, object, again } = task else { continue };
            let now = UtcDateTime::now();
            let pass = Pass::new(self.sources[lane].clone(), PrimitiveDateTime::new(now.date(), now.time()));
            let Some(ticket) = self.queue.ticket(&pass, &key) else {
                failed = true; // somebody is at it
                continue;
            };
            let ticket = if again { ticket.again() } else { ticket };
            let name = format!("s3://{}/{}", object.bucket, object.key.escape_debug());
            // What was mended has another size than what is in the quarantine.
            self.queue.push(lane, Wanted { object, size: None, day: key.day(), ticket }).await;
            passes.push((id, name, pass));
        }
        for (id, name, pass) in passes {
            failed |= match pass.settled().await {
                Tally { collected: 1, .. } => {
                    info!("{name}: collected after all; {id} leaves the quarantine");
                    self.settle(id, true).await
                }
                Tally { quarantined: 1, .. } => {
                    warn!("{name}: tried again, and set aside again");
                    self.settle(id, false).await
                }
                Tally { gone: 1, .. } => {
                    warn!("{name}: it is not in the bucket any more; {id} stays in the quarantine");
                    self.settle(id, false).await
                }
                _ => true,
            };
        }
        failed
    }

    /// The request is done, and with `leaves` the entry as well. Whether that failed.
    async fn settle(&self, id: String, leaves: bool) -> bool {
        let (quarantine, disk) = (self.quarantine.clone(), self.disk.clone());
        let settled = tokio::task::spawn_blocking(move || {
            let removed = if leaves { quarantine.remove(&id) } else { Ok(()) };
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => retry::settle(&disk, &id),
            }
        });
        match settled.await {
            Ok(Ok(())) => false,
            Ok(Err(error)) => {
                warn!("cannot remove what was tried again from the quarantine: {error}");
                true
            }
            Err(_) => true,
        }
    }
}

/// Whether the ledger has forgotten the day: what was set aside then is in the books all the same.
fn is_forgotten(progress: &Loaded, day: Date, today: Date) -> bool {
    match progress {
        Loaded::Progress(progress) => day < progress.floor,
        // A queue without a sweep keeps no progress, and forgets by the clock.
        Loaded::Absent => day < today.saturating_sub(time::Duration::days(HOT_DAYS + KEPT_DAYS)),
        Loaded::Broken(_) => false,
    }
}

/// One hop to a thread that may block.
async fn blocking<T: Send + 'static>(
    this: &Arc<Retries>,
    step: impl FnOnce(&Retries) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let this = this.clone();
    tokio::task::spawn_blocking(move || step(&this)).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;

    #[test]
    fn what_a_queue_brought_long_ago_is_in_the_books_though_the_ledger_has_forgotten_it() {
        let today = date!(2026 - 11 - 26);
        let forgotten = |day| is_forgotten(&Loaded::Absent, day, today);
        assert!(forgotten(date!(2026 - 10 - 19)));
        assert!(!forgotten(date!(2026 - 10 - 20)), "the ledger still says");
    }
}
