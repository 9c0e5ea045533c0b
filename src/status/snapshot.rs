//! Everything that is shown of an agent, at one moment, as plain values; and what of it counts as unhealthy.

use crate::discover::ledger::Books;

/// Trouble that may pass by itself, and a receiver that is tried again, are unhealthy when they last longer, seconds.
/// An hour is beyond any throttling and most maintenance, and well below what the spool holds.
pub const PATIENCE: i64 = 3600;

/// An agent at one moment. Moments are Unix seconds.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Of the program.
    pub version: &'static str,
    /// When this was gathered.
    pub now: i64,
    /// When the process began.
    pub started: i64,
    /// In the order of the configuration.
    pub sources: Vec<Source>,
    /// In the order of the configuration.
    pub outputs: Vec<Output>,
    /// What is on its way.
    pub spool: Spool,
    /// What was set aside.
    pub quarantine: Quarantine,
    /// The directory, if one is configured.
    pub directory: Option<Directory>,
    /// Stages that stand still, a sentence each.
    pub stalled: Vec<String>,
}

/// A source.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// As configured.
    pub name: Box<str>,
    /// As configured.
    pub bucket: Box<str>,
    /// Everything before `AWSLogs/`.
    pub prefix: Box<str>,
    /// As configured.
    pub region: Box<str>,
    /// Totals over the life of the state directory.
    pub books: Books,
    /// Stamp of the newest object collected; `None`: none yet, or none seen again since the start.
    pub newest: Option<i64>,
    /// Counters since the start of the process: name in the metrics, what it counts, value.
    pub counters: Vec<Counter>,
    /// Records that each rule removed, since the start of the process.
    pub rule_drops: Vec<(Box<str>, u64)>,
    /// How far the first run's past is collected, while it is.
    pub backfill: Option<String>,
    /// What stands in the way.
    pub trouble: Option<Trouble>,
    /// What should be mended but does not stand in the way: cause and text.
    pub warnings: Vec<(&'static str, String)>,
    /// Objects and records collected, for each of the last spans of [`SPAN`](super::history::SPAN), oldest first.
    pub recent: Vec<[u32; 2]>,
}

/// A counter of a source or an output.
#[derive(Debug, Clone)]
pub struct Counter {
    /// `trailspool_…_total`
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// A further label and its value.
    pub label: Option<(&'static str, &'static str)>,
    /// The count.
    pub value: u64,
}

/// What stands in the way of a source.
#[derive(Debug, Clone)]
pub struct Trouble {
    /// Stable label.
    pub cause: &'static str,
    /// What failed, on what, why, what to do.
    pub text: String,
    /// It may pass by itself.
    pub transient: bool,
    /// Since when.
    pub since: i64,
}

/// An output.
#[derive(Debug, Clone, Default)]
pub struct Output {
    /// As configured.
    pub name: Box<str>,
    /// `http`, `file`, …
    pub kind: &'static str,
    /// Records acknowledged, over the life of the state directory.
    pub delivered: u64,
    /// Records refused for good and set aside, over the same time.
    pub rejected: u64,
    /// Records given up because the spool was full (`on_full = "skip"`), over the same time.
    pub skipped: u64,
    /// Records that wait in the spool.
    pub waiting: u64,
    /// Counters since the start of the process.
    pub counters: Vec<Counter>,
    /// Answers that were not good, by reason, since the start of the process.
    pub retries: Vec<(&'static str, u64)>,
    /// What it does.
    pub state: State,
    /// Since when.
    pub since: i64,
    /// What went wrong last, and when; kept after it has passed.
    pub last_error: Option<(i64, String)>,
}

/// What an output does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum State {
    /// Everything is delivered.
    #[default]
    Idle,
    /// Records are on their way.
    Sending,
    /// Something that passes went wrong.
    Retrying {
        /// Stable label.
        reason: &'static str,
        /// For the operator.
        text: String,
    },
    /// Nothing gets through until somebody changes something.
    Holding {
        /// What, and what to do.
        text: String,
    },
}

impl State {
    /// One word.
    pub fn word(&self) -> &'static str {
        match self {
            State::Idle => "idle",
            State::Sending => "sending",
            State::Retrying { .. } => "retrying",
            State::Holding { .. } => "holding",
        }
    }

    /// The text of its trouble.
    pub fn text(&self) -> Option<&str> {
        match self {
            State::Idle | State::Sending => None,
            State::Retrying { text, .. } | State::Holding { text } => Some(text),
        }
    }

    /// The label of its trouble.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            State::Idle | State::Sending => None,
            State::Retrying { reason, .. } => Some(reason),
            State::Holding { .. } => Some("held"),
        }
    }
}

/// The spool.
#[derive(Debug, Clone, Default)]
pub struct Spool {
    /// Bytes of segment files.
    pub used: u64,
    /// `max_bytes`
    pub max: u64,
    /// Age of the oldest record that an output has yet to take, seconds; zero: none waits.
    pub oldest: u64,
    /// Fetching pauses because it is full.
    pub full: bool,
    /// What the disk refuses, and what to do; fetching pauses.
    pub disk_fault: Option<String>,
    /// Objects whose books did not balance, which is a defect, since the start of the process.
    pub unbalanced: u64,
    /// Damaged spots found since the start of the process.
    pub damaged: u64,
    /// Objects that are found and not fetched yet.
    pub queued: u64,
    /// Objects being fetched and stored.
    pub in_work: u64,
}

/// The quarantine.
#[derive(Debug, Clone, Default)]
pub struct Quarantine {
    /// Entries.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// `quarantine_max_bytes`
    pub max: u64,
    /// Entries since the start of the process that were only counted.
    pub only_counted: u64,
}

/// The directory that accounts are looked up in.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    /// `HOST:PORT`
    pub place: String,
    /// Answers that are kept.
    pub cached: u64,
    /// Look-ups since the start of the process, by how they ended.
    pub lookups: Vec<(&'static str, u64)>,
    /// What stands in the way.
    pub trouble: Option<Trouble>,
}

impl Source {
    /// Now minus the stamp of the newest object collected, seconds.
    pub fn lag(&self, now: i64) -> Option<u64> {
        self.newest.map(|newest| u64::try_from(now - newest).unwrap_or(0))
    }

    /// Objects collected and objects set aside.
    pub fn objects(&self) -> u64 {
        self.books.objects_collected + self.books.objects_quarantined
    }
}

impl Snapshot {
    /// What is unhealthy, a sentence each; empty: nothing. These are: a stage that stands still, a disk that refuses
    /// writes, books that do not balance, a source or the directory in trouble that does not pass by itself, an output that
    /// holds, and any kind of passing trouble once it has lasted [`PATIENCE`]. A full spool alone is a state that its outputs explain.
    pub fn faults(&self) -> Vec<String> {
        let mut faults: Vec<String> = self.stalled.clone();
        faults.extend(self.spool.disk_fault.iter().map(|fault| format!("fetching pauses: {fault}")));
        if self.spool.unbalanced > 0 {
            faults.push(
                "the books of an object did not balance, which is a defect of trailspool: see its log"
                    .to_owned(),
            );
        }
        let lasts = |trouble: &&Trouble| !trouble.transient || self.now - trouble.since >= PATIENCE;
        for source in &self.sources {
            if let Some(trouble) = source.trouble.as_ref().filter(lasts) {
                faults.push(format!("source {}: {}", source.name, trouble.text));
            }
        }
        let directory = self.directory.iter().filter_map(|directory| directory.trouble.as_ref());
        faults.extend(directory.filter(lasts).map(|trouble| format!("directory: {}", trouble.text)));
        for output in &self.outputs {
            let lasting = match output.state {
                State::Idle | State::Sending => false,
                State::Retrying { .. } => self.now - output.since >= PATIENCE,
                State::Holding { .. } => true,
            };
            if let (true, Some(text)) = (lasting, output.state.text()) {
                faults.push(format!("output {}: {text}", output.name));
            }
        }
        faults
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An agent with something of everything, and markup wherever text comes from outside.
    pub(crate) fn rich() -> Snapshot {
        let evil = "s3://b/<img src=x onerror=alert(1)>\"'&\n\u{202e}\\ key";
        Snapshot {
            version: "9.9.9",
            now: 1_780_000_000,
            started: 1_779_990_000,
            sources: vec![
                Source {
                    name: "prod".into(),
                    bucket: "acme-cloudtrail".into(),
                    region: "us-west-2".into(),
                    books: Books {
                        objects_collected: 120,
                        objects_quarantined: 3,
                        counts: crate::record::Counts {
                            records: 1000,
                            kept: 900,
                            dropped: 90,
                            duplicate: 8,
                            quarantined: 2,
                        },
                    },
                    newest: Some(1_779_999_700),
                    counters: vec![Counter {
                        name: "trailspool_list_requests_total",
                        help: "LIST requests made.",
                        label: None,
                        value: 42,
                    }],
                    rule_drops: vec![("rule-1".into(), 60), ("exclude-1".into(), 30)],
                    recent: vec![[0, 0], [4, 40], [9, 80], [1, 3]],
                    ..Source::default()
                },
                Source {
                    name: "audit".into(),
                    bucket: "b".into(),
                    prefix: "a/long/prefix/".into(),
                    region: "eu-west-1".into(),
                    trouble: Some(Trouble {
                        cause: "denied",
                        text: evil.to_owned(),
                        transient: false,
                        since: 1_779_999_000,
                    }),
                    warnings: vec![("clock", "the clock is 6 minutes behind".to_owned())],
                    ..Source::default()
                },
            ],
            outputs: vec![Output {
                name: "siem".into(),
                kind: "http",
                delivered: 800,
                rejected: 1,
                waiting: 99,
                retries: vec![("connect", 7), ("busy", 0)],
                state: State::Retrying { reason: "connect", text: evil.to_owned() },
                since: 1_779_999_900,
                last_error: Some((1_779_999_950, evil.to_owned())),
                ..Output::default()
            }],
            spool: Spool { used: 5 << 20, max: 2 << 30, oldest: 61, ..Spool::default() },
            quarantine: Quarantine { entries: 5, bytes: 12_345, max: 64 << 20, only_counted: 0 },
            directory: Some(Directory {
                place: "dc1.corp.example.com:636".to_owned(),
                cached: 17,
                lookups: vec![("found", 12), ("absent", 5), ("failed", 3)],
                trouble: Some(Trouble {
                    cause: "timeout",
                    text: evil.to_owned(),
                    transient: true,
                    since: 1_779_999_950,
                }),
            }),
            stalled: Vec::new(),
        }
    }

    #[test]
    fn what_does_not_pass_by_itself_is_unhealthy_at_once_and_what_passes_after_an_hour() {
        let mut snapshot = rich();
        assert_eq!(snapshot.faults().len(), 1, "{:?}", snapshot.faults());
        assert!(snapshot.faults()[0].starts_with("source audit: "));
        snapshot.now += PATIENCE;
        assert_eq!(
            snapshot.faults().len(),
            3,
            "the output has retried for an hour, and so has the directory"
        );
        assert!(snapshot.faults()[1].starts_with("directory: "));
        snapshot.sources[1].trouble = None;
        snapshot.outputs[0].state = State::Sending;
        snapshot.directory = None;
        assert_eq!(snapshot.faults(), [""; 0]);
        snapshot.spool.full = true;
        assert_eq!(snapshot.faults(), [""; 0], "full is a state");
        snapshot.spool.disk_fault = Some("writing: no space left".to_owned());
        snapshot.stalled.push("storekeeper stands still".to_owned());
        snapshot.outputs[0].state = State::Holding { text: "x".to_owned() };
        assert_eq!(snapshot.faults().len(), 3);
    }

    #[test]
    fn lag_is_never_negative_and_unknown_before_the_first_object() {
        let snapshot = rich();
        assert_eq!(snapshot.sources[0].lag(snapshot.now), Some(300));
        assert_eq!(snapshot.sources[0].lag(0), Some(0));
        assert_eq!(snapshot.sources[1].lag(snapshot.now), None);
    }
}
