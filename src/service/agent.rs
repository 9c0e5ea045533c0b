//! One configuration at work: what is started for it, in which order it stops, and what its books say.
//!
//! Start: disk → ledger → spool (recovery replays the ledger's log) → quarantine → storekeeper → outputs →
//! fetch workers → polls. Stop, in the path's own order, so that what was fetched is stored and what was
//! stored is counted: polls → workers → storekeeper (last commit, ledger saved) → outputs (cursors saved).

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use log::{info, warn};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::books::{OutputBooks, SourceBooks};
use super::storekeeper::{StoreStatus, Storekeeper};
use super::workers::{self, Origin};
use crate::aws::s3::S3;
use crate::config::{Config, Source};
use crate::deliver::{self, OutputStatus};
use crate::discover::key::LogKey;
use crate::discover::ledger::Ledger;
use crate::discover::poll::{self, PassReport};
use crate::discover::queue::Queue;
use crate::discover::status::SourceStatus;
use crate::limits;
use crate::net;
use crate::spool::quarantine::Quarantine;
use crate::spool::std_disk::StdDisk;
use crate::spool::{self, Spool};

/// Time that fetches and requests in flight get when the agent stops.
const GRACE: Duration = Duration::from_secs(10);

/// Why an agent could not start. The texts name the file or the folder, and what to do.
#[derive(Debug)]
pub struct StartError {
    /// What, on what, why, what to do.
    pub text: String,
    /// Whether the configuration is at fault, rather than the disk.
    pub configuration: bool,
}

/// A running agent.
pub struct Agent {
    config: Arc<Config>,
    spool: Arc<Spool<StdDisk>>,
    ledger: Arc<Ledger<StdDisk>>,
    queue: Arc<Queue>,
    sources: Vec<(Box<str>, Arc<SourceStatus>)>,
    outputs: Vec<(Box<str>, Arc<OutputStatus>)>,
    store: Arc<StoreStatus>,
    stop: watch::Sender<bool>,
    stop_store: Arc<AtomicBool>,
    polls: JoinSet<Option<PassReport>>,
    workers: JoinSet<()>,
    deliveries: JoinSet<()>,
    storekeeper: thread::JoinHandle<()>,
}

impl Agent {
    /// Starts everything. `once`: each poll makes one pass and ends with its report.
    pub fn start(config: Arc<Config>, once: bool) -> Result<Agent, StartError> {
        let disk = StdDisk::open(&config.agent.state_dir).map_err(|e| state_dir_fault(&config, &e))?;
        let ledger = Arc::new(Ledger::open(disk.clone()).map_err(start_fault)?);
        let options = spool::Options {
            max_bytes: config.spool.max_bytes,
            segment_bytes: limits::SEGMENT_BYTES,
            max_record_bytes: config.spool.max_record_bytes,
            outputs: config.outputs.iter().map(|o| o.name.clone()).collect(),
        };
        let quarantine =
            Quarantine::open(disk.clone(), config.spool.quarantine_max_bytes).map_err(start_fault)?;
        let (writer, spool, recovery) =
            spool::open(disk.clone(), options, ledger.checkpoint(), &mut |id, fate, counts, position| {
                match LogKey::parse(&id.key) {
                    Ok(key) => ledger.replay(&id, key.day(), fate, counts, position),
                    Err(_) => warn!("the spool holds an object whose key is no log's: {}", id.key),
                }
            })
            .map_err(start_fault)?;
        info!("{recovery}");

        let stop_store = Arc::new(AtomicBool::new(false));
        let store = Arc::new(StoreStatus::default());
        let (jobs, work) = mpsc::channel();
        let keeper = Storekeeper::new(
            &config,
            (writer, spool.clone()),
            ledger.clone(),
            quarantine.clone(),
            stop_store.clone(),
            store.clone(),
        );
        let storekeeper = thread::Builder::new()
            .name("storekeeper".into())
            .spawn(move || keeper.run(&work))
            .map_err(start_fault)?;

        let (stop, stopping) = watch::channel(false);
        let mut deliveries = JoinSet::new();
        let mut outputs = Vec::new();
        for output in &config.outputs {
            let status = Arc::new(OutputStatus::default());
            outputs.push((output.name.clone(), status.clone()));
            deliveries.spawn_local(deliver::run(
                output.clone(),
                spool.clone(),
                quarantine.clone(),
                stopping.clone(),
                status,
            ));
        }

        let queue = Arc::new(Queue::new(config.agent.fetches_in_flight));
        let mut origins = HashMap::new();
        let mut sources = Vec::new();
        let mut polls = JoinSet::new();
        for source in &config.sources {
            let status = Arc::new(SourceStatus::default());
            sources.push((source.name.clone(), status.clone()));
            let s3 = open_source(source)?;
            origins.insert(source.name.clone(), Origin { s3: s3.clone(), status: status.clone() });
            let poll = poll::Poll::new(
                source.clone(),
                s3,
                ledger.clone(),
                disk.clone(),
                queue.clone(),
                status,
            );
            polls.spawn_local(poll.run(once, stopping.clone()));
        }
        let origins = Arc::new(origins);
        let mut workers = JoinSet::new();
        for _ in 0..config.agent.fetches_in_flight {
            workers.spawn_local(workers::work(queue.clone(), origins.clone(), jobs.clone()));
        }
        // The storekeeper ends when the last worker has.
        drop(jobs);
        Ok(Agent {
            config,
            spool,
            ledger,
            queue,
            sources,
            outputs,
            store,
            stop,
            stop_store,
            polls,
            workers,
            deliveries,
            storekeeper,
        })
    }
}

impl Agent {
    /// For `--once`: waits until every poll has made its pass, and until every output has acknowledged
    /// everything. Returns the passes' reports added up. Cancelling it loses nothing: call [`Agent::stop`].
    pub async fn finish_once(&mut self) -> PassReport {
        let mut total = PassReport::default();
        while let Some(ended) = self.polls.join_next().await {
            if let Ok(Some(report)) = ended {
                total.add(&report);
            }
        }
        let mut committed = self.spool.subscribe();
        for (output, status) in &self.outputs {
            while !self.spool.drained(output) {
                tokio::select! {
                    _ = status.moved() => {}
                    changed = committed.changed() => if changed.is_err() { break },
                }
            }
        }
        total
    }

    /// Stops in the path's order. What was fetched is stored, what was stored is counted.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        self.stop_store.store(true, Ordering::Relaxed);
        self.queue.close();
        ended_within(&mut self.polls, GRACE, "polls").await;
        ended_within(&mut self.workers, GRACE, "fetches").await;
        let storekeeper = self.storekeeper;
        if tokio::task::spawn_blocking(move || storekeeper.join()).await.is_err() {
            warn!("the storekeeper could not be waited for");
        }
        ended_within(&mut self.deliveries, GRACE, "outputs").await;
    }

    /// The books, a line for each source and each output.
    pub fn books(&self) -> Vec<String> {
        let books = |name: &str| self.ledger.books(name);
        let kept = self.ledger.kept_by_all();
        let sources = self
            .sources
            .iter()
            .map(|(name, _)| SourceBooks { source: name, books: books(name) }.to_string());
        let outputs = self.outputs.iter().map(|(name, _)| {
            let cursor = self.spool.cursor(name);
            let (delivered, rejected) = (cursor.delivered, cursor.rejected);
            OutputBooks { output: name, kept, delivered, rejected }.to_string()
        });
        sources.chain(outputs).collect()
    }

    /// One line for systemd and for the terminal: what is being done, and what is wrong.
    pub fn summary(&self) -> String {
        let (mut objects, mut records) = (0, 0);
        for (name, _) in &self.sources {
            let books = self.ledger.books(name);
            objects += books.objects_collected + books.objects_quarantined;
            records += books.counts.records;
        }
        let waiting = self.outputs.iter().map(|(name, _)| self.spool.waiting_bytes(name)).max().unwrap_or(0);
        let mut line = format!("{objects} objects, {records} records collected; {waiting} bytes wait for an output");
        if self.store.full.load(Ordering::Relaxed) {
            line.push_str("; the spool is full, fetching pauses");
        }
        if self.store.disk_fault.load(Ordering::Relaxed) {
            line.push_str("; the disk refuses writes");
        }
        let faults = self.sources.iter().filter_map(|(name, status)| Some((name, status.fault()?)));
        for (name, fault) in faults {
            line.push_str(&format!("; source {name}: {fault}"));
        }
        let held = self.outputs.iter().filter_map(|(name, status)| Some((name, status.trouble()?)));
        for (name, trouble) in held {
            line.push_str(&format!("; output {name}: {trouble}"));
        }
        line
    }

    /// The configuration at work.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }
}

/// Waits for a group of tasks; what has not ended in time is cut off, which every task of it allows.
async fn ended_within<T: 'static>(tasks: &mut JoinSet<T>, grace: Duration, what: &str) {
    let ended = tokio::time::timeout(grace, async { while tasks.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        warn!("{} {what} did not end within {} s and are cut off; they are repeated later", tasks.len(), grace.as_secs());
        tasks.shutdown().await;
    }
}

fn open_source(source: &Source) -> Result<S3, StartError> {
    let client = net::Client::new(source.ca_file.as_deref()).map_err(|fault| StartError {
        text: format!("source {}: {fault}", source.name),
        configuration: true,
    })?;
    Ok(S3::new(source, client))
}

fn start_fault(fault: impl std::fmt::Display) -> StartError {
    StartError { text: fault.to_string(), configuration: false }
}

fn state_dir_fault(config: &Config, fault: &io::Error) -> StartError {
    StartError {
        text: format!(
            "state directory {}: {fault}; it must exist or be creatable, and belong to the user that runs trailspool",
            config.agent.state_dir.display()
        ),
        configuration: false,
    }
}
