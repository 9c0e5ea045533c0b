//! One pass through a bucket: accounts, kinds and regions by delimiter listings, then one range listing
//! for each stream of the plan's slices, from the plan's day for the slice to the plan's or the stream's end.
//!
//! ```text
//!  accounts ──► kinds and regions of some accounts at once ──► streams ──► some streams at once ──► queue
//! ```
//!
//! * Nothing here grows with the bucket: each listing holds one page of names (bounded by
//!   [`limits::LIST_PAGE_KEYS`] and [`limits::LIST_PAGE_TEXT`]), [`limits::LISTS_IN_FLIGHT`] bounds how many there are,
//!   and streams are handed on and not gathered.
//! * No LIST connection stays open while the queue is full: a page is read to its end, or stopped, before
//!   its keys are looked up and queued.
//! * A listing that breaks off goes on behind the last entry that came; a stream that cannot be listed leaves its
//!   slice unfinished, a folder leaves all of them, and the walk goes on with the rest where that makes sense.

use std::error::Error;
use std::ops::ControlFlow;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use time::{Date, UtcDateTime};
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};

use super::answers::Answers;
use super::key::{self, Kind, LogKey, NotALog};
use super::ledger::Ledger;
use super::listing::{Listing, Page};
use super::queue::{self, Pass, Queue};
use super::slice::{Slice, SliceSet};
use super::window::{self, PassEnd, Plan, Progress};
use crate::aws::s3::{ListEnd, ListRequest, Listed, S3};
use crate::aws::{Fault, Warning};
use crate::config;
use crate::limits;
use crate::net::Backoff;
use crate::pulse::Pulse;
use crate::record::ObjectId;
use crate::spool::disk::Disk;

/// Requests for one page before it is given up after transient faults.
const TRIES: u32 = 6;
const RETRY_BASE: Duration = Duration::from_millis(500);
const RETRY_CAP: Duration = Duration::from_secs(30);
/// Listings given up in a row, all after transient faults, that end the walk: nothing gets through.
const GIVE_UP_AFTER: u32 = 3;
/// Objects refused in a pass after which a stream has to show by a [`SAMPLE`] that it can be read, until one of its own
/// objects was: else each poll would ask for all objects of a bucket whose key is not shared. Others' refusals are no
/// reason to leave a stream alone: where one account's key is missing, the next one's may be there. Streams that are
/// listed deep are not held to it, since what they show first may be archived.
const REFUSED: u64 = 100;
/// New objects of such a stream that are asked for before the rest.
const SAMPLE: usize = 4;

/// What a walk needs of S3.
pub trait Lister: Send + Sync + 'static {
    /// One page of a listing, in the order of the keys' bytes. `visit` is called for each entry as it comes.
    fn list(
        &self,
        request: &ListRequest<'_>,
        visit: &mut (dyn FnMut(Listed<'_>) -> ControlFlow<()> + Send),
    ) -> impl Future<Output = Result<ListEnd, Fault>> + Send;

    /// The time of the last answer, by its own word.
    fn told(&self) -> Option<UtcDateTime> {
        None
    }

    /// What an operator should mend although listings succeed.
    fn warnings(&self) -> Vec<Warning> {
        Vec::new()
    }
}

impl Lister for S3 {
    async fn list(
        &self,
        request: &ListRequest<'_>,
        visit: &mut (dyn FnMut(Listed<'_>) -> ControlFlow<()> + Send),
    ) -> Result<ListEnd, Fault> {
        S3::list(self, request, visit).await
    }

    fn told(&self) -> Option<UtcDateTime> {
        UtcDateTime::from_unix_timestamp(S3::told(self)?).ok()
    }

    fn warnings(&self) -> Vec<Warning> {
        S3::warnings(self)
    }
}

/// What a walk needs of the ledger. Calls block.
pub trait Known: Clone + Send + Sync + 'static {
    /// Whether the object was collected or quarantined.
    fn contains(&self, source: &str, day: Date, key: &str) -> Result<bool, Box<dyn Error + Send + Sync>>;
    /// Forgets a source's days before `before`: they will not be asked for again.
    fn expire(&self, source: &str, before: Date) -> Result<(), Box<dyn Error + Send + Sync>>;
}

impl<D: Disk> Known for Arc<Ledger<D>> {
    fn contains(&self, source: &str, day: Date, key: &str) -> Result<bool, Box<dyn Error + Send + Sync>> {
        Ok(Ledger::contains(self, source, day, key)?)
    }

    fn expire(&self, source: &str, before: Date) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(Ledger::expire(self, source, before)?)
    }
}

/// What a source selects, and where.
#[derive(Debug)]
pub(super) struct Selection {
    pub(super) name: Arc<str>,
    pub(super) bucket: Arc<str>,
    pub(super) prefix: Box<str>,
    pub(super) accounts: Vec<Box<str>>,
    pub(super) regions: Vec<Box<str>>,
}

impl Selection {
    pub(super) fn of(source: &config::Source) -> Selection {
        Selection {
            name: Arc::from(&*source.name),
            bucket: Arc::from(&*source.bucket),
            prefix: source.prefix.clone(),
            accounts: source.accounts.clone(),
            regions: source.regions.clone(),
        }
    }
}

/// What a walk saw. Counts of one pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// LIST requests.
    pub list_requests: u64,
    /// Listings that were given up.
    pub lists_failed: u64,
    /// Accounts that are selected.
    pub accounts: u64,
    /// Streams (account × kind × region) found.
    pub streams: u64,
    /// Keys listed in the streams.
    pub listed: u64,
    /// Of these: in the ledger, or collected so long ago that it was forgotten.
    pub known: u64,
    /// Of these: stamped before the source's start.
    pub before_start: u64,
    /// Of these: found and queued by somebody else just then.
    pub in_work: u64,
    /// Of these: queued to be fetched.
    pub new: u64,
    /// Of these: not logs, by [`NotALog::index`].
    pub not_logs: [u64; NotALog::ALL.len()],
    /// Entries that the listing could not give.
    pub bad_entries: u64,
}

/// The walk cannot go on. What it did not come to is noted as unfinished.
pub(super) struct Ended;

/// One walk, shared by all its tasks. Cancelling it loses nothing: what was queued stays queued, the rest is listed
/// again.
pub(super) struct Walk<L, K> {
    pub(super) selection: Arc<Selection>,
    pub(super) lister: Arc<L>,
    pub(super) known: K,
    pub(super) queue: Queue,
    pub(super) lane: usize,
    pub(super) progress: Arc<Progress>,
    pub(super) plan: Plan,
    pub(super) pass: Arc<Pass>,
    /// The slices of `plan` that are listed for the first time.
    pub(super) backfill: SliceSet,
    pub(super) notes: Mutex<Notes>,
    pub(super) pulse: Arc<Pulse>,
}

/// What a walk has seen so far.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub(super) seen: Seen,
    pub(super) end: PassEnd,
    /// Listings given up in a row after transient faults.
    given_up: u32,
    /// It cannot go on.
    pub(super) ended: bool,
}

/// Streams on their way from those who find them to those who list them.
type Found = Arc<tokio::sync::Mutex<mpsc::Receiver<String>>>;

impl<L: Lister, K: Known> Walk<L, K> {
    /// Walks the whole bucket. Afterwards the notes hold what came of it.
    pub(super) async fn bucket(self: &Arc<Self>) {
        let at_once = (limits::LISTS_IN_FLIGHT / self.queue.lanes()).max(1);
        let (streams, found) = mpsc::channel(at_once);
        let found = Arc::new(tokio::sync::Mutex::new(found));
        let mut listers = JoinSet::new();
        for _ in 0..at_once {
            listers.spawn(Arc::clone(self).list_streams(Arc::clone(&found)));
        }
        drop(found); // so that nobody finds streams for listers that are gone
        let accounts = self.accounts(&streams, at_once).await;
        drop(streams);
        while let Some(ended) = listers.join_next().await {
            went_on(ended);
        }
        let Ok(accounts) = accounts else { return };
        let (bad, whole) = {
            let notes = self.notes();
            (notes.seen.bad_entries, notes.end.unfinished.is_empty())
        };
        if bad > 0 {
            let bucket = &self.selection.bucket;
            let text = format!(
                "listing bucket {bucket}: {bad} entries cannot be used (no key, too long a key, no size, or from elsewhere) and were \
                 passed over; look for unusual objects under \"{}AWSLogs/\"",
                self.selection.prefix
            );
            self.pass.raise("bad-entry", &text, false);
        } else if whole {
            self.say_if_empty(accounts).await;
        }
    }

    /// Finds the streams of every account, some accounts at once; returns how many accounts there are.
    async fn accounts(
        self: &Arc<Self>,
        streams: &mpsc::Sender<String>,
        at_once: usize,
    ) -> Result<u64, Ended> {
        let mut finders = Finders { tasks: JoinSet::new(), at_once, streams, accounts: 0 };
        let root = format!("{}AWSLogs/", self.selection.prefix);
        let mut folders = Listing::folders(root);
        while self.next(&mut folders, None).await? {
            for name in folders.page.names() {
                if key::is_account(name) {
                    finders.begin(self, &folders.prefix, name).await;
                } else if key::is_org(name) {
                    self.organisation(format!("{}{name}/", folders.prefix), &mut finders).await?;
                }
            }
        }
        while let Some(ended) = finders.tasks.join_next().await {
            went_on(ended);
        }
        Ok(finders.accounts)
    }

    async fn organisation(self: &Arc<Self>, root: String, finders: &mut Finders<'_>) -> Result<(), Ended> {
        let mut folders = Listing::folders(root);
        while self.next(&mut folders, None).await? {
            for name in folders.page.names().filter(|name| key::is_account(name)) {
                finders.begin(self, &folders.prefix, name).await;
            }
        }
        Ok(())
    }

    /// Finds the streams of one account.
    async fn account(self: Arc<Self>, account: String, streams: mpsc::Sender<String>) {
        self.notes().seen.accounts += 1;
        let _ = self.kinds(account, &streams).await; // where it ended, it noted what is missing
    }

    async fn kinds(&self, account: String, streams: &mpsc::Sender<String>) -> Result<(), Ended> {
        let mut folders = Listing::folders(account);
        while self.next(&mut folders, None).await? {
            for name in folders.page.names().filter(|name| Kind::of_folder(name).is_some()) {
                self.regions(format!("{}{name}/", folders.prefix), streams).await?;
            }
        }
        Ok(())
    }

    async fn regions(&self, kind: String, streams: &mpsc::Sender<String>) -> Result<(), Ended> {
        let regions = &self.selection.regions;
        let mut folders = Listing::folders(kind);
        while self.next(&mut folders, None).await? {
            for name in folders.page.names() {
                let selected = regions.is_empty() || regions.iter().any(|wanted| **wanted == *name);
                if selected && key::is_region(name) {
                    // Without listers the walk has ended.
                    streams.send(format!("{}{name}/", folders.prefix)).await.map_err(|_| Ended)?;
                }
            }
        }
        Ok(())
    }

    /// Lists the streams that are found, one after the other, until there are no more.
    async fn list_streams(self: Arc<Self>, found: Found) {
        loop {
            let next = found.lock().await.recv().await;
            let Some(stream) = next else { return };
            if self.stream(stream).await.is_err() {
                return;
            }
        }
    }

    async fn stream(&self, stream: String) -> Result<(), Ended> {
        let slice = Slice::of(&stream);
        self.notes().seen.streams += 1;
        if !self.plan.listed.has(slice) {
            return Ok(());
        }
        let from = self.plan.from(slice);
        let mut backfill = self.backfill.has(slice).then(|| self.pass.status().backfill_stream(from));
        let after = window::start_after(&stream, from);
        let until = self.plan.until.map(|day| window::start_after(&stream, day));
        let mut keys = Listing::keys(stream, after);
        let answers = Arc::default();
        while self.next(&mut keys, Some(slice)).await? {
            let mut at = 0;
            while at < keys.page.len() {
                let most = self.portion(slice, &answers);
                let asked;
                (keys, at, asked) = self.queue_new(keys, (slice, &answers), at, most).await?;
                if most == SAMPLE && asked == most && self.pulse.waiting(answers.are_refusals()).await {
                    self.notes().end.miss(&self.plan, slice, false);
                    return Ok(());
                }
            }
            if let Some(backfill) = &mut backfill {
                backfill.reached(keys.after.as_deref().and_then(window::day_of));
            }
            if until.is_some() && keys.after >= until {
                break;
            }
        }
        Ok(())
    }

    /// How many new objects of a stream may be queued before the next look at what became of them.
    fn portion(&self, slice: Slice, answers: &Answers) -> usize {
        let doubtful = self.pass.denied() >= REFUSED && !answers.any_read() && !self.plan.cold.has(slice);
        if doubtful { SAMPLE } else { limits::LISTED_KEYS }
    }

    /// Looks up the page's keys from `at` on and queues the new ones, so many at most; returns how far it came, and how
    /// many these were.
    async fn queue_new(
        &self,
        mut keys: Listing,
        (slice, answers): (Slice, &Arc<Answers>),
        at: usize,
        most: usize,
    ) -> Result<(Listing, usize, usize), Ended> {
        let sieve = Sieve {
            page: std::mem::take(&mut keys.page),
            stream: std::mem::take(&mut keys.prefix),
            slice,
            answers: Arc::clone(answers),
            at,
            most,
            found: Vec::new(),
            seen: Seen::default(),
            end: PassEnd::default(),
            selection: Arc::clone(&self.selection),
            progress: Arc::clone(&self.progress),
            pass: Arc::clone(&self.pass),
            queue: self.queue.clone(),
        };
        let known = self.known.clone();
        let (sieve, result) = blocking(move || sieve.sift(&known)).await;
        keys.page = sieve.page;
        keys.prefix = sieve.stream;
        self.notes().take_in(&sieve.seen, &sieve.end);
        let asked = sieve.found.len();
        for wanted in sieve.found {
            self.pulse.waiting(self.queue.push(self.lane, wanted)).await;
        }
        match result {
            Ok(()) => Ok((keys, sieve.at, asked)),
            Err(error) => {
                self.pass.raise("ledger", &format!("the ledger cannot be read: {error}"), true);
                Err(self.end(true))
            }
        }
    }

    /// Brings the next page into the listing, of a stream in this slice or of a folder. `false`: it has come to its
    /// end, or was given up.
    async fn next(&self, listing: &mut Listing, slice: Option<Slice>) -> Result<bool, Ended> {
        if self.notes().ended {
            return Err(Ended);
        }
        let result = self.request(listing).await;
        self.pass.status().warn(self.lister.warnings());
        let mut notes = self.notes();
        notes.seen.bad_entries += std::mem::take(&mut listing.page.bad);
        let fault = match result {
            Ok(more) => {
                notes.given_up = 0;
                return Ok(more);
            }
            Err(fault) => fault,
        };
        notes.seen.lists_failed += 1;
        match slice {
            Some(slice) => notes.end.miss(&self.plan, slice, fault.is_transient()),
            None => notes.end.miss_all(&self.plan, fault.is_transient()),
        }
        notes.given_up = if fault.is_transient() { notes.given_up + 1 } else { 0 };
        let nothing_gets_through = notes.given_up >= GIVE_UP_AFTER;
        drop(notes);
        self.pass.raise(fault.cause, &fault.text, fault.is_transient());
        if nothing_gets_through { Err(self.end(true)) } else { Ok(false) }
    }

    /// Ends the walk for all its tasks; whatever none of them came to is unfinished.
    fn end(&self, transient: bool) -> Ended {
        let mut notes = self.notes();
        notes.ended = true;
        notes.end.miss_all(&self.plan, transient);
        Ended
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn request(&self, listing: &mut Listing) -> Result<bool, Fault> {
        listing.page.clear();
        let mut backoff = Backoff::new(RETRY_BASE, RETRY_CAP);
        while !listing.complete {
            self.notes().seen.list_requests += 1;
            self.pass.status().count_request();
            self.pulse.working();
            let (request, page) = listing.split();
            let result = self
                .lister
                .list(&request, &mut |entry| {
                    self.pulse.beat();
                    page.take(&request, entry)
                })
                .await;
            let came = listing.advance()?;
            match result {
                Ok(ListEnd::Complete) => listing.complete = true,
                Ok(ListEnd::More { continuation }) => listing.token = Some(continuation),
                Ok(ListEnd::Stopped) => listing.token = None,
                Err(fault) => {
                    let by_token = listing.token.take().is_some();
                    // A token that was too old, or a page that broke: the last entry still says where to go on.
                    let elsewhere = came || (by_token && listing.after.is_some() && !fault.is_transient());
                    if !elsewhere {
                        if !fault.is_transient() || backoff.tries() + 1 >= TRIES {
                            return Err(fault);
                        }
                        let wait = backoff.next(fastrand::u64(..), fault.retry_after);
                        self.pulse.waiting(tokio::time::sleep(wait)).await;
                    }
                }
            }
            if listing.page.len() > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The usual faults of a configuration show as nothing to collect.
    async fn say_if_empty(&self, found: u64) {
        let Selection { bucket, prefix, accounts, regions, .. } = &*self.selection;
        let (selected, streams) = {
            let notes = self.notes();
            (notes.seen.accounts, notes.seen.streams)
        };
        if found == 0 {
            let beside = self.beside().await;
            let text = format!(
                "bucket {bucket} has no account's folder under \"{prefix}AWSLogs/\"{beside}. Set `key_prefix`, or \
                 the folder behind the bucket's name, to what stands before \"AWSLogs/\"; or the trail has not \
                 delivered to this bucket yet"
            );
            self.pass.raise("empty", &text, false);
        } else if streams == 0 {
            let text = format!(
                "bucket {bucket} has {found} account(s) under \"{prefix}AWSLogs/\", but nothing of CloudTrail is \
                 selected there ({selected} of them selected by `accounts` = {accounts:?}; `regions` = {regions:?})"
            );
            self.pass.raise("nothing-selected", &text, false);
        }
    }

    /// The first folders where `AWSLogs/` should be, for the operator to recognise.
    async fn beside(&self) -> String {
        let mut folders = Listing::folders(self.selection.prefix.to_string());
        match self.request(&mut folders).await {
            Ok(true) => {
                let names: Vec<_> = folders.page.names().take(5).collect();
                format!(" (there are the folders {names:?})")
            }
            Ok(false) => " (nor any other folder)".to_owned(),
            Err(_) => String::new(),
        }
    }
}

/// The tasks that find the streams of accounts.
struct Finders<'a> {
    tasks: JoinSet<()>,
    at_once: usize,
    streams: &'a mpsc::Sender<String>,
    accounts: u64,
}

impl Finders<'_> {
    /// Begins with an account as soon as another one is done, if it is selected.
    async fn begin<L: Lister, K: Known>(&mut self, walk: &Arc<Walk<L, K>>, root: &str, account: &str) {
        self.accounts += 1;
        let accounts = &walk.selection.accounts;
        if !accounts.is_empty() && !accounts.iter().any(|wanted| **wanted == *account) {
            return;
        }
        while self.tasks.len() >= self.at_once {
            if let Some(ended) = self.tasks.join_next().await {
                went_on(ended);
            }
        }
        self.tasks.spawn(Arc::clone(walk).account(format!("{root}{account}/"), self.streams.clone()));
    }
}

impl Notes {
    fn take_in(&mut self, seen: &Seen, end: &PassEnd) {
        self.seen.listed += seen.listed;
        self.seen.known += seen.known;
        self.seen.before_start += seen.before_start;
        self.seen.in_work += seen.in_work;
        self.seen.new += seen.new;
        for (sum, count) in self.seen.not_logs.iter_mut().zip(seen.not_logs) {
            *sum += count;
        }
        self.end.newest = self.end.newest.max(end.newest);
        self.end.unfinished.merge(&end.unfinished);
    }
}

/// A task that panicked panics here.
fn went_on(ended: Result<(), JoinError>) {
    if let Some(panic) = ended.err().and_then(|error| error.try_into_panic().ok()) {
        resume_unwind(panic);
    }
}

/// Runs what blocks on a thread for that. A panic there goes on here; when the runtime ends, this waits for
/// its own end.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(_) => std::future::pending().await,
        },
    }
}

/// Sorts the keys of a page: what is no log, not wanted, known, in work, or new.
struct Sieve {
    page: Page,
    stream: String,
    slice: Slice,
    answers: Arc<Answers>,
    at: usize,
    /// New ones that are looked for.
    most: usize,
    found: Vec<queue::Wanted>,
    seen: Seen,
    end: PassEnd,
    selection: Arc<Selection>,
    progress: Arc<Progress>,
    pass: Arc<Pass>,
    queue: Queue,
}

impl Sieve {
    fn sift<K: Known>(mut self, known: &K) -> (Sieve, Result<(), Box<dyn Error + Send + Sync>>) {
        let result = self.sift_to_bound(known);
        self.pass.status().count_listed(self.seen.listed);
        (self, result)
    }

    fn sift_to_bound<K: Known>(&mut self, known: &K) -> Result<(), Box<dyn Error + Send + Sync>> {
        let mut text = String::new();
        while self.at < self.page.len() && self.found.len() < self.most {
            let (name, size) = self.page.entry(self.at);
            text.clear();
            text.push_str(&self.stream);
            text.push_str(name);
            self.at += 1;
            self.seen.listed += 1;
            // A whole path below the stream's own folders would parse as another stream.
            let log = LogKey::parse(&text)
                .and_then(|key| if key.stream() == self.stream { Ok(key) } else { Err(NotALog::Name) });
            match log {
                Ok(key) => self.look_up(key, size, known)?,
                Err(why) => {
                    self.seen.not_logs[why.index()] += 1;
                    self.pass.status().count_not_a_log(why);
                }
            }
        }
        Ok(())
    }

    fn look_up<K: Known>(
        &mut self,
        key: LogKey,
        size: u64,
        known: &K,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let day = key.day();
        self.end.newest = self.end.newest.max(Some(day));
        match self.progress.wants(&key) {
            window::Wanted::Yes => {}
            window::Wanted::BeforeStart => {
                self.seen.before_start += 1;
                return Ok(());
            }
            window::Wanted::Settled => {
                self.seen.known += 1;
                self.pass.status().collected(key.stamp());
                return Ok(());
            }
        }
        // The ticket comes before the look-up: what another one finishes in between is then in the ledger.
        let Some(ticket) = self.queue.ticket(&self.pass, &key) else {
            self.seen.in_work += 1;
            // How that ends is not reported to this pass.
            self.end.unfinished.note(self.slice, day);
            return Ok(());
        };
        if known.contains(&self.selection.name, day, key.as_str())? {
            self.seen.known += 1;
            // So the lag is known again after a restart, though nothing new has come.
            self.pass.status().collected(key.stamp());
            ticket.release();
        } else {
            self.seen.new += 1;
            let object = ObjectId {
                source: self.selection.name.clone(),
                bucket: self.selection.bucket.clone(),
                key: key.into_text(),
            };
            let ticket = ticket.told_to(&self.answers);
            self.found.push(queue::Wanted { object, size: Some(size), day, ticket });
        }
        Ok(())
    }
}
