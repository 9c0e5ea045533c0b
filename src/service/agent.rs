//! One configuration at work: what is started for it, in which order it stops, and what its books say.
//!
//! Start: disk → ledger → spool (recovery replays the ledger's log) → storekeeper → directory, outputs → fetch workers →
//! polls. Stop, in the path's own order, so that what was fetched is stored and what was stored is counted:
//! polls → workers → storekeeper (last commit, ledger saved) → outputs, which get a moment to deliver what is
//! committed (cursors saved). What they cannot deliver by then waits in the spool for the next start.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use log::{info, warn};
use time::UtcDateTime;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::books::{OutputBooks, SourceBooks};
use super::minder::Stages;
use super::retry::Retries;
use super::storekeeper::{Job, StoreStatus, Storekeeper};
use super::{wedge, workers};
use crate::aws::credentials::Provider;
use crate::aws::s3::S3;
use crate::aws::sqs::Sqs;
use crate::config::{Config, Source};
use crate::deliver;
use crate::directory::{Directory, Lookup};
use crate::discover::key::LogKey;
use crate::discover::ledger::{Entry, Ledger};
use crate::discover::poll::Poller;
use crate::discover::queue::Queue;
use crate::discover::receive::Receiver;
use crate::discover::status::{SourceStatus, Trouble};
use crate::limits;
use crate::net::{self, Backoff};
use crate::select::Attributors;
use crate::select::remembered::Remembered;
use crate::spool::std_disk::StdDisk;
use crate::spool::{self, Cursor, Quarantine, Recovery, Spool, Writer, worker};
use crate::status::{View, text};

/// Time that fetches and requests in flight get when the agent stops.
const GRACE: Duration = Duration::from_secs(10);
/// First and longest wait between two passes of `--once`, as long as one leaves something that may pass.
const ONCE_AGAIN: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// Time that the outputs get to deliver what is committed when the agent stops.
const DRAIN: Duration = Duration::from_secs(5);
/// How often it is looked whether everything is delivered.
const LOOK: Duration = Duration::from_millis(50);

/// The stage that recovery is.
const RECOVERY: &str = "recovery";

/// Why an agent could not start. The texts name the file or the folder, and what to do.
#[derive(Debug)]
pub enum StartError {
    /// The state directory or its disk.
    State(String),
    /// The configuration asks for something that is not there.
    Config(String),
}

/// A running agent.
pub struct Agent {
    config: Arc<Config>,
    spool: Arc<Spool<StdDisk>>,
    ledger: Arc<Ledger<StdDisk>>,
    queue: Queue,
    sources: Vec<Arc<SourceStatus>>,
    view: Rc<View>,
    stop_polls: watch::Sender<bool>,
    stop_store: Arc<AtomicBool>,
    stop_outputs: watch::Sender<bool>,
    /// Everything is collected: no more records come.
    complete: watch::Sender<bool>,
    polls: JoinSet<Option<Trouble>>,
    workers: JoinSet<()>,
    deliveries: JoinSet<()>,
    storekeeper: Option<thread::JoinHandle<()>>,
    /// What the polls of `--once` could not collect, and an operator has to mend.
    left: Vec<Trouble>,
}

/// By the names of the sources.
type Upstream = (Arc<HashMap<Box<str>, S3>>, HashMap<Box<str>, Sqs>);

struct Opened {
    ledger: Arc<Ledger<StdDisk>>,
    quarantine: Quarantine<StdDisk>,
    writer: Writer<StdDisk>,
    spool: Arc<Spool<StdDisk>>,
    remembered: Remembered<StdDisk>,
    recovery: Recovery,
}

impl Agent {
    /// Starts everything, within a `LocalSet`. `once`: each poll ends when a pass has left nothing behind.
    ///
    /// Recovery runs beside the runtime. Cancelled there, it is as if the process had been killed: the next start
    /// does it again.
    pub async fn start(config: Arc<Config>, once: bool, stages: &Stages) -> Result<Agent, StartError> {
        let (disk, opened) = recover(&config, stages).await?;
        let Opened { ledger, quarantine, writer, spool, remembered, recovery } = opened;
        report(&recovery);
        let (jobs, work) = mpsc::channel();
        let store = Arc::new(StoreStatus::default());
        let directory = match &config.directory {
            Some(directory) => Some(Arc::new(
                Directory::new(directory.clone())
                    .map_err(|fault| StartError::Config(format!("directory: {fault}")))?,
            )),
            None => None,
        };
        let queue = Queue::new(config.sources.len(), limits::QUEUED_OBJECTS);
        let sources: Vec<_> = config.sources.iter().map(|s| Arc::new(SourceStatus::new(&s.name))).collect();
        let view = Rc::new(View {
            config: config.clone(),
            spool: spool.clone(),
            ledger: ledger.clone(),
            quarantine: quarantine.clone(),
            queue: queue.clone(),
            sources: sources.clone(),
            outputs: config.outputs.iter().map(|_| Arc::default()).collect(),
            store: store.clone(),
            directory,
            ages: RefCell::default(),
        });
        view.begin();
        let stop_store = Arc::new(AtomicBool::new(false));
        let keeper = Storekeeper::new(
            &config,
            (writer, spool.clone()),
            ledger.clone(),
            quarantine.clone(),
            remembered,
            (stop_store.clone(), store),
        )
        .watched(stages.watch("storekeeper", limits::STALL_DISK));
        let mut agent = Agent {
            queue,
            sources,
            view,
            stop_polls: watch::Sender::new(false),
            stop_store,
            stop_outputs: watch::Sender::new(false),
            complete: watch::Sender::new(false),
            polls: JoinSet::new(),
            workers: JoinSet::new(),
            deliveries: JoinSet::new(),
            storekeeper: None,
            left: Vec::new(),
            spool,
            ledger,
            config,
        };
        agent.start_outputs(&quarantine, stages)?;
        let (buckets, queues) = upstream(&agent.config)?;
        let thread = thread::Builder::new().name("storekeeper".into()).spawn(move || keeper.run(&work));
        agent.storekeeper = Some(thread.map_err(|e| state(&agent.config, &e))?);
        agent.start_workers(&buckets, jobs, stages);
        agent.start_polls(&buckets, &disk, once, stages);
        agent.start_receivers(queues, (&disk, &quarantine), once, stages);
        agent.start_retries(disk, quarantine, once);
        Ok(agent)
    }

    fn start_outputs(&mut self, quarantine: &Quarantine<StdDisk>, stages: &Stages) -> Result<(), StartError> {
        let directory = self.view.directory.clone();
        if let Some(directory) = directory.clone() {
            let mut stop = self.stop_outputs.subscribe();
            self.deliveries.spawn_local(async move {
                tokio::select! {
                    () = directory.run() => {}
                    _ = stop.wait_for(|stop| *stop) => {}
                }
            });
        }
        let directory = directory.map(|directory| directory as Arc<dyn Lookup>);
        let attributors = Arc::new(Attributors::new(&self.config.sources).with_directory(directory));
        for (output, status) in self.config.outputs.iter().zip(&self.view.outputs) {
            let task = deliver::output(
                output.clone(),
                attributors.clone(),
                self.spool.clone(),
                quarantine.clone(),
                (self.stop_outputs.subscribe(), self.complete.subscribe()),
                status.clone(),
                stages.watch(&format!("output {}", output.name), limits::STALL_DISK),
            )
            .map_err(StartError::Config)?;
            self.deliveries.spawn_local(task);
        }
        Ok(())
    }

    /// The storekeeper ends when the last worker has: they hold all there are of its senders.
    fn start_workers(
        &mut self,
        buckets: &Arc<HashMap<Box<str>, S3>>,
        jobs: mpsc::Sender<Job>,
        stages: &Stages,
    ) {
        let workers = self.config.agent.fetches_in_flight;
        for (lane, source) in self.config.sources.iter().enumerate() {
            if let Some(s3) = buckets.get(&source.name) {
                self.queue.pace(lane, s3.gets().clone(), workers);
            }
        }
        for number in 1..=workers {
            let pulse = stages.watch(&format!("fetch {number}"), limits::STALL_NETWORK);
            self.workers.spawn_local(workers::work(self.queue.clone(), buckets.clone(), jobs.clone(), pulse));
        }
    }

    fn start_polls(&mut self, buckets: &HashMap<Box<str>, S3>, disk: &StdDisk, once: bool, stages: &Stages) {
        for (lane, (source, status)) in self.config.sources.iter().zip(&self.sources).enumerate() {
            let Some(s3) = buckets.get(&source.name).filter(|_| source.method.lists()) else { continue };
            let poller = Poller::new(
                source,
                s3.clone(),
                self.ledger.clone(),
                disk.clone(),
                (self.queue.clone(), lane),
                status.clone(),
            )
            .watched(stages.watch(&format!("source {}", source.name), limits::STALL_NETWORK));
            let stop = self.stop_of_polls();
            self.polls.spawn_local(async move {
                match once {
                    true => tokio::select! { left = collect_all(poller) => left, () = stop => None },
                    false => {
                        poller.run(UtcDateTime::now, stop).await;
                        None
                    }
                }
            });
        }
    }

    /// It ends as a poll does.
    fn start_retries(&mut self, disk: StdDisk, quarantine: Quarantine<StdDisk>, once: bool) {
        let retries = Retries {
            disk,
            ledger: self.ledger.clone(),
            quarantine,
            spool: self.spool.clone(),
            queue: self.queue.clone(),
            sources: self.sources.clone(),
            outputs: self.config.outputs.iter().map(|output| output.name.clone()).collect(),
        };
        let stop = self.stop_of_polls();
        self.polls.spawn_local(async move {
            tokio::select! {
                () = retries.run(once) => {}
                () = stop => {}
            }
            None
        });
    }

    fn start_receivers(
        &mut self,
        mut queues: HashMap<Box<str>, Sqs>,
        (disk, quarantine): (&StdDisk, &Quarantine<StdDisk>),
        once: bool,
        stages: &Stages,
    ) {
        for (lane, (source, status)) in self.config.sources.iter().zip(&self.sources).enumerate() {
            let Some(sqs) = queues.remove(&source.name).filter(|_| source.method.receives()) else {
                continue;
            };
            let receiver = Receiver::new(
                source,
                sqs,
                self.ledger.clone(),
                (disk.clone(), quarantine.clone()),
                (self.queue.clone(), lane),
                status.clone(),
                UtcDateTime::now,
            )
            .watched(stages.watch(&format!("queue of source {}", source.name), limits::STALL_NETWORK));
            self.polls.spawn_local(receiver.run(once, self.stop_of_polls()));
        }
    }

    /// Ends when the polls are to.
    fn stop_of_polls(&self) -> impl Future<Output = ()> + 'static {
        let mut stopping = self.stop_polls.subscribe();
        async move {
            // An agent that is gone stops as well as one that says so.
            let _ = stopping.wait_for(|stop| *stop).await;
        }
    }

    /// For `--once`: waits until every poll has nothing left that it can collect, and every output has
    /// acknowledged everything. Returns what an operator has to mend. Cancelling it loses nothing.
    pub async fn finish_once(&mut self) -> &[Trouble] {
        while let Some(ended) = self.polls.join_next().await {
            if let Ok(left) = ended {
                self.left.extend(left);
            }
        }
        self.complete.send_replace(true);
        self.drained().await;
        &self.left
    }

    async fn drained(&self) {
        while !self.config.outputs.iter().all(|output| self.spool.drained(&output.name)) {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Stops in the path's order. What was fetched is stored, what was stored is counted. Cancelling it is a crash:
    /// nothing is lost.
    pub async fn stop(&mut self) {
        self.stop_polls.send_replace(true);
        self.stop_store.store(true, Ordering::Relaxed);
        self.queue.close();
        ended_within(&mut self.polls, GRACE, "polls").await;
        ended_within(&mut self.workers, GRACE, "fetches").await;
        if let Some(storekeeper) = self.storekeeper.take()
            && tokio::task::spawn_blocking(move || storekeeper.join()).await.is_err()
        {
            warn!("the storekeeper could not be waited for");
        }
        // An output that cannot deliver now is no reason to wait longer, and none to complain.
        let _ = tokio::time::timeout(DRAIN, self.drained()).await;
        self.stop_outputs.send_replace(true);
        ended_within(&mut self.deliveries, GRACE, "outputs").await;
    }

    /// The books, a line for each source and each output.
    pub fn books(&self) -> Vec<String> {
        let all = self.ledger.sources();
        let kept = all.iter().map(|source| self.ledger.books(source).counts.kept).sum();
        let sources = self.sources.iter().map(|status| {
            SourceBooks { source: status.name(), books: self.ledger.books(status.name()) }.to_string()
        });
        let outputs = self.config.outputs.iter().filter_map(|output| {
            let cursor = self.spool.cursor(&output.name).ok()?;
            let drained = self.spool.drained(&output.name);
            let Cursor { delivered, rejected, skipped, .. } = cursor;
            let output = &*output.name;
            Some(OutputBooks { output, kept, delivered, rejected, skipped, drained }.to_string())
        });
        sources.chain(outputs).collect()
    }

    /// One line for systemd and for the terminal: what is being done, and what is wrong.
    pub fn summary(&self) -> String {
        text::line(&self.view.snapshot())
    }

    /// What the status server shows of it.
    pub fn view(&self) -> Rc<View> {
        self.view.clone()
    }

    /// The configuration at work.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }
}

/// Passes, one after the other, until all of the history is listed and one leaves nothing behind that may yet pass by
/// itself. What is left then has to be mended by an operator.
async fn collect_all(mut poller: Poller<S3, Arc<Ledger<StdDisk>>, StdDisk>) -> Option<Trouble> {
    let mut again = Backoff::new(ONCE_AGAIN.0, ONCE_AGAIN.1);
    let mut left = None;
    let mut complete = true;
    loop {
        let report = poller.pass(UtcDateTime::now()).await;
        let lasting = report.trouble().filter(|trouble| !trouble.transient && !report.is_complete());
        left = left.or(lasting.cloned());
        // What the poll left is not in the passes for the backfill behind it.
        complete = report.is_complete() && (complete || report.plan.is_some_and(|plan| plan.is_poll()));
        if report.more {
            again.reset();
        } else if complete || lasting.is_some() {
            return left;
        } else {
            tokio::time::sleep(again.next(fastrand::u64(..), None)).await;
        }
    }
}

/// Recovery, as a stage of its own.
async fn recover(config: &Arc<Config>, stages: &Stages) -> Result<(StdDisk, Opened), StartError> {
    let pulse = stages.watch(RECOVERY, limits::STALL_DISK);
    let config = Arc::clone(config);
    let work = move || {
        let _works = worker::works_for(&pulse);
        pulse.working();
        wedge::blocking(RECOVERY);
        let disk = StdDisk::open(&config.agent.state_dir).map_err(|e| state(&config, &e))?;
        let opened = open(&config, &disk).map_err(|e| state(&config, &e))?;
        pulse.idle();
        Ok((disk, opened))
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(StartError::State(format!("recovery did not come to its end: {error}"))),
    }
}

/// Opens everything durable; the ledger, and what duplicates are found by, take from the spool what they had not saved.
fn open(config: &Config, disk: &StdDisk) -> Result<Opened, Box<dyn std::error::Error>> {
    let ledger = Arc::new(Ledger::open(disk.clone())?);
    let quarantine = Quarantine::open(disk.clone(), config.spool.quarantine_max_bytes)?;
    let options = spool::Options {
        max_bytes: config.spool.max_bytes,
        segment_bytes: limits::SEGMENT_BYTES,
        max_record_bytes: config.spool.max_record_bytes,
        compression: config.spool.compression,
        outputs: config.outputs.iter().map(|output| output.name.clone()).collect(),
    };
    let mut replayed = Ok(());
    let (writer, spool, recovery) = spool::open(
        disk.clone(),
        options,
        quarantine.clone(),
        ledger.checkpoint(),
        &mut |object, fate, counts, end| match LogKey::parse(&object.key) {
            Ok(key) if replayed.is_ok() => {
                let entry = Entry { source: &object.source, day: key.day(), key: &object.key, fate, counts };
                replayed = ledger.replay(&entry, end);
            }
            Ok(_) => {}
            Err(_) => {
                warn!("the spool holds {}, which is no log's key: the ledger does not take it", object.key)
            }
        },
    )?;
    replayed?;
    let whole = recovery.damaged == 0 && recovery.notes.is_empty();
    let chance = RandomState::new().hash_one(());
    let remembered =
        Remembered::open(disk.clone(), &config.sources, (&spool, whole), ledger.checkpoint(), chance)?;
    Ok(Opened { ledger, quarantine, writer, spool, remembered, recovery })
}

/// Recovery, for the log: a clean start says nothing.
fn report(recovery: &Recovery) {
    if recovery.cut_bytes > 0 {
        info!(
            "{} bytes of objects that were not whole were cut off the spool; they are fetched again",
            recovery.cut_bytes
        );
    }
    if recovery.damaged > 0 {
        warn!("{} damaged spots in the spool: their bytes go to the quarantine", recovery.damaged);
    }
    for note in &recovery.notes {
        warn!("{note}");
    }
}

/// The bucket of each source, and its queue if it has one. A client for each set of trusted certificates and proxies: each reads the system's store.
fn upstream(config: &Config) -> Result<Upstream, StartError> {
    let mut clients: Vec<(&Source, net::Client)> = Vec::new();
    let (mut buckets, mut queues) = (HashMap::new(), HashMap::new());
    for source in &config.sources {
        let alike = |other: &Source| (&other.ca_file, &other.proxies) == (&source.ca_file, &source.proxies);
        let client = match clients.iter().find(|(other, _)| alike(other)) {
            Some((_, client)) => client.clone(),
            None => {
                let (ca_file, proxies) = (source.ca_file.as_deref(), source.proxies.clone());
                let client = net::Client::new(net::Options { ca_file, proxies, ..Default::default() })
                    .map_err(|e| StartError::Config(format!("source {}: {e}", source.name)))?;
                clients.push((source, client.clone()));
                client
            }
        };
        let provider = Provider::new(source, client.clone());
        if let Some(queue) = &source.queue_url {
            queues.insert(source.name.clone(), Sqs::new(queue, client.clone(), provider.clone()));
        }
        buckets.insert(source.name.clone(), S3::new(source, client, provider));
    }
    Ok((Arc::new(buckets), queues))
}

/// Waits for a group of tasks; what has not ended in time is cut off, which every task of it allows.
async fn ended_within<T: 'static>(tasks: &mut JoinSet<T>, grace: Duration, what: &str) {
    let ended = tokio::time::timeout(grace, async { while tasks.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        warn!("{} {what} did not end within {} s and are cut off", tasks.len(), grace.as_secs());
        tasks.shutdown().await;
    }
}

fn state(config: &Config, fault: &dyn std::fmt::Display) -> StartError {
    StartError::State(format!("state directory {}: {fault}", config.agent.state_dir.display()))
}
