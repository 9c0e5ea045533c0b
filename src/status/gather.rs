//! Where a snapshot comes from: the parts of one running agent, each asked under its own short lock. What was kept
//! and what was delivered are read one after the other, so while records flow they may differ by what moves between.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use time::PrimitiveDateTime;
use tokio::sync::watch;

use super::ages::Ages;
use super::snapshot::{
    Counter, Directory as Asked, Output, Quarantine as Aside, Snapshot, Source, Spool as Spooled, State,
    Trouble,
};
use crate::config::{self, Config, OutputKind};
use crate::deliver::status::{OutputStatus, State as Doing};
use crate::directory::Directory;
use crate::directory::status::Result as Ended;
use crate::discover::key::NotALog;
use crate::discover::ledger::Ledger;
use crate::discover::queue::Queue;
use crate::discover::status::{SourceStatus, Told};
use crate::limits;
use crate::service::storekeeper::StoreStatus;
use crate::spool::position::Position;
use crate::spool::std_disk::StdDisk;
use crate::spool::{Quarantine, Spool};

/// The parts of an agent that are shown.
pub struct View {
    pub(crate) config: Arc<Config>,
    pub(crate) spool: Arc<Spool<StdDisk>>,
    pub(crate) ledger: Arc<Ledger<StdDisk>>,
    pub(crate) quarantine: Quarantine<StdDisk>,
    pub(crate) queue: Queue,
    pub(crate) sources: Vec<Arc<SourceStatus>>,
    pub(crate) outputs: Vec<Arc<OutputStatus>>,
    pub(crate) store: Arc<StoreStatus>,
    pub(crate) directory: Option<Arc<Directory>>,
    pub(crate) ages: RefCell<Ages>,
}

impl View {
    /// Everything that is shown, but for what only the process knows ([`Board`](super::Board)).
    pub fn snapshot(&self) -> Snapshot {
        let now = now();
        // First what was delivered, then what was kept: so nothing is delivered that was not kept.
        let cursors: Vec<_> = self
            .config
            .outputs
            .iter()
            .map(|output| self.spool.cursor(&output.name).unwrap_or_default())
            .collect();
        let kept: u64 = self.ledger.sources().iter().map(|name| self.ledger.books(name).counts.kept).sum();
        let outputs = self.config.outputs.iter().zip(&self.outputs).zip(cursors);
        let quarantine = self.quarantine.totals();
        Snapshot {
            version: env!("CARGO_PKG_VERSION"),
            now,
            started: now,
            sources: self
                .config
                .sources
                .iter()
                .zip(&self.sources)
                .map(|(s, status)| self.source(s, status))
                .collect(),
            outputs: outputs
                .map(|((output, status), cursor)| {
                    let seen = cursor.delivered + cursor.rejected + cursor.skipped;
                    // An output that came later never saw all that was kept; what it has seen is all there was for it.
                    let waiting =
                        if self.spool.drained(&output.name) { 0 } else { kept.saturating_sub(seen) };
                    Output {
                        waiting,
                        rejected: cursor.rejected,
                        skipped: cursor.skipped,
                        ..show(output, status, cursor.delivered)
                    }
                })
                .collect(),
            spool: Spooled {
                used: self.spool.used_bytes(),
                max: self.config.spool.max_bytes,
                oldest: self.oldest(now),
                full: self.store.full.load(Relaxed),
                disk_fault: self.store.fault().map(cut),
                unbalanced: self.store.unbalanced.load(Relaxed),
                damaged: self.spool.damaged(),
                queued: self.queue.len() as u64,
                in_work: self.queue.in_work() as u64,
            },
            quarantine: Aside {
                entries: quarantine.entries,
                bytes: quarantine.bytes,
                max: self.config.spool.quarantine_max_bytes,
                only_counted: quarantine.only_counted,
            },
            directory: self.directory.as_deref().map(directory),
            stalled: Vec::new(),
        }
    }

    /// Wakes with every commit.
    pub(super) fn commits(&self) -> watch::Receiver<Position> {
        self.spool.subscribe()
    }

    /// Notes that something was committed now.
    pub(super) fn committed(&self) {
        self.ages.borrow_mut().committed(self.spool.committed(), now());
    }

    /// What the spool holds at the start is as old as the newest byte of the oldest segment that an output needs.
    /// Reads the disk.
    pub(crate) fn begin(&self) {
        let outputs = &self.config.outputs;
        if outputs.iter().all(|output| self.spool.drained(&output.name)) {
            return;
        }
        let path =
            self.config.agent.state_dir.join(crate::spool::segment_path(self.spool.needed_by_outputs()));
        let written =
            std::fs::metadata(path).and_then(|meta| meta.modified()).map(unix).unwrap_or_else(|_| now());
        self.ages.borrow_mut().committed(self.spool.committed(), written);
    }

    fn oldest(&self, now: i64) -> u64 {
        let names = self.config.outputs.iter().map(|output| &output.name);
        if names.clone().all(|name| self.spool.drained(name)) {
            return 0;
        }
        let reached = names.filter_map(|name| self.spool.cursor(name).ok()).map(|cursor| cursor.frame).min();
        let oldest = self.ages.borrow_mut().oldest(reached.unwrap_or_default());
        oldest.map_or(0, |moment| u64::try_from(now - moment).unwrap_or(0))
    }

    fn source(&self, source: &config::Source, status: &SourceStatus) -> Source {
        let trouble = status.trouble().map(|trouble| Trouble {
            cause: trouble.cause,
            text: cut(trouble.text),
            transient: trouble.transient,
            since: stamp(trouble.since),
        });
        Source {
            name: source.name.clone(),
            bucket: source.bucket.clone(),
            prefix: source.prefix.clone(),
            region: source.region.clone(),
            books: self.ledger.books(&source.name),
            newest: status.newest_collected().map(stamp),
            counters: counters(source, status),
            rule_drops: self.store.drops.of(&source.name),
            backfill: status.backfill().map(|backfill| backfill.to_string()),
            trouble,
            warnings: status
                .warnings()
                .into_iter()
                .map(|warning| (warning.cause, cut(warning.text)))
                .collect(),
            recent: Vec::new(),
        }
    }
}

fn directory(directory: &Directory) -> Asked {
    let status = directory.status();
    Asked {
        place: directory.place(),
        cached: directory.cached() as u64,
        lookups: Ended::ALL.into_iter().map(|ended| (ended.label(), status.count(ended))).collect(),
        trouble: status.trouble().map(|trouble| Trouble {
            cause: trouble.cause,
            text: cut(trouble.text),
            transient: trouble.transient,
            since: unix(trouble.since),
        }),
    }
}

fn counters(source: &config::Source, status: &SourceStatus) -> Vec<Counter> {
    let plain = |name, help, value| Counter { name, help, label: None, value };
    let mut counters = vec![
        plain("trailspool_list_requests_total", "LIST requests made.", status.list_requests()),
        plain("trailspool_listed_keys_total", "Keys listed, known ones included.", status.listed()),
        plain("trailspool_passes_total", "Passes of discovery that ended.", status.passes()),
        plain("trailspool_objects_found_total", "Objects queued to be fetched.", status.queued()),
    ];
    counters.extend(NotALog::ALL.into_iter().map(|why| Counter {
        name: "trailspool_not_logs_total",
        help: "Keys listed that are no logs, by kind.",
        label: Some(("kind", why.label())),
        value: status.not_logs(why),
    }));
    if source.method != config::Method::Poll {
        let help = "Objects that the sweep found before any message named them.";
        counters.push(plain("trailspool_found_by_sweep_total", help, status.found_by_sweep()));
        counters.extend(Told::ALL.into_iter().map(|what| Counter {
            name: "trailspool_queue_total",
            help: "Messages of the queue, and objects named by them, by what happened.",
            label: Some(("event", what.label())),
            value: status.told(what),
        }));
    }
    counters
}

fn show(output: &config::Output, status: &OutputStatus, delivered: u64) -> Output {
    let standing = status.standing();
    Output {
        name: output.name.clone(),
        kind: kind(&output.kind),
        delivered,
        rejected: 0,
        skipped: 0,
        waiting: 0,
        counters: vec![
            Counter {
                name: "trailspool_sent_records_total",
                help: "Records acknowledged since the start; what was sent twice counts twice.",
                label: None,
                value: status.delivered_records(),
            },
            Counter {
                name: "trailspool_sent_bytes_total",
                help: "Bytes of their lines.",
                label: None,
                value: status.delivered_bytes(),
            },
        ],
        retries: status.retries().map(|(reason, count)| (reason.label(), count)).collect(),
        state: match standing.state {
            Doing::Idle => State::Idle,
            Doing::Sending => State::Sending,
            Doing::Retrying { reason, text, .. } => {
                State::Retrying { reason: reason.label(), text: cut(text) }
            }
            Doing::Holding { text, .. } => State::Holding { text: cut(text) },
        },
        since: unix(standing.since),
        last_error: status.last_error().map(|(moment, text)| (unix(moment), cut(text))),
    }
}

fn kind(kind: &OutputKind) -> &'static str {
    match kind {
        OutputKind::Stdout => "stdout",
        OutputKind::File { .. } => "file",
        OutputKind::Http { .. } => "http",
        OutputKind::Syslog { .. } => "syslog",
        OutputKind::Relp { .. } => "relp",
        OutputKind::Tcp(_) => "tcp",
    }
}

/// A text that came from elsewhere, bounded.
fn cut(mut text: String) -> String {
    if text.len() > limits::STATUS_TEXT_BYTES {
        text.truncate(text.floor_char_boundary(limits::STATUS_TEXT_BYTES));
        text.push('…');
    }
    text
}

fn stamp(moment: PrimitiveDateTime) -> i64 {
    moment.assume_utc().unix_timestamp()
}

fn unix(moment: SystemTime) -> i64 {
    moment
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |span| i64::try_from(span.as_secs()).unwrap_or(i64::MAX))
}

#[allow(clippy::disallowed_methods)] // shown to people and monitors, decides nothing
pub(super) fn now() -> i64 {
    unix(SystemTime::now())
}
