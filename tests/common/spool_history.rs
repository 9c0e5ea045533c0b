//! Histories of a spool against a plain model: what was committed is a list of objects, an output is a number of
//! records. Every action is done to both, and [`World::crash`] compares what a restart finds.
//!
//! What a restart may find is exact but for three things, and those are listed, not guessed:
//! * behind the committed objects, a beginning of those that had ended without an acknowledged commit, or of those that
//!   a rollback had taken back since the last commit that wrote something ([`World::ghosts`]);
//! * an output's cursor as it was saved, or as a save was writing that did not return `Ok`;
//! * nothing else.
//!
//! An output that may give up records does so as the agent's outputs do ([`Spooled`]). What it gives up is a count more:
//! the records that begin in the segments that it is asked for, and none behind them.

#![allow(dead_code, missing_docs, unreachable_pub)]

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use trailspool::deliver::backlog::{Backlog as _, Spooled};
use trailspool::record::{Counts, ObjectFate, ObjectId};
use trailspool::spool::disk::Disk;
use trailspool::spool::quarantine::{Entry, Kept};
use trailspool::spool::{
    self, Compression, Cursor, Options, Position, Quarantine, Reader, Spool, SpoolError, Writer,
};

use super::fault_disk::{FaultDisk, Survive, is_power_cut};

/// An object with the records that were kept of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    pub id: ObjectId,
    pub records: Vec<(u32, Vec<u8>)>,
    pub fate: ObjectFate,
    pub counts: Counts,
}

/// Why an action was not done.
#[derive(Debug, PartialEq, Eq)]
pub enum Stop {
    /// The power is cut: [`World::crash`].
    PowerCut,
    /// No room, even though everything was drained. Never, but where the file system itself is full.
    Full,
}

/// Steps that no history takes.
const NEVER: u64 = 1 << 60;

pub struct World {
    pub disk: FaultDisk,
    pub options: Options,
    running: Option<Running>,
    /// Behind acknowledged commits, oldest first.
    pub committed: Vec<Object>,
    /// All kept records of `committed`: object, index, bytes.
    flat: Vec<(ObjectId, u32, Vec<u8>)>,
    pending: Vec<Object>,
    /// Taken back by rollbacks, each right behind the committed ones, and perhaps still on the disk.
    ghosts: Vec<Vec<Object>>,
    open: Option<Object>,
    /// The ledger's checkpoint, and how many objects are before it.
    checkpoint: (Position, usize),
    outputs: Vec<Output>,
    /// What was set aside, by key: the raw bytes that may be found, none: nothing. One for certain but after a failure.
    aside: BTreeMap<Box<str>, Vec<Option<Vec<u8>>>>,
    attempts: u64,
    /// A fault was injected since the start: files that could not be removed may be left.
    pub faulty: bool,
    /// How often the spool was full, and an object too large.
    pub fulls: u64,
    pub too_large: u64,
}

struct Running {
    quarantine: Quarantine<FaultDisk>,
    writer: Writer<FaultDisk>,
    spool: Arc<Spool<FaultDisk>>,
    readers: Vec<Reader<FaultDisk>>,
}

/// An output, as numbers of records.
#[derive(Clone)]
struct Output {
    name: Box<str>,
    acknowledged: Count,
    /// What a restart may find: one, but for a save that failed.
    kept: Vec<Count>,
    /// What its reader has passed since, with the cursors.
    ahead: Vec<Cursor>,
    /// It gives up its oldest records when the spool is full because of it.
    may_skip: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    /// Delivered, rejected or skipped.
    done: usize,
    rejected: u64,
    skipped: u64,
}

impl Count {
    fn of(cursor: &Cursor) -> Count {
        let Cursor { delivered, rejected, skipped, .. } = *cursor;
        Count { done: (delivered + rejected + skipped) as usize, rejected, skipped }
    }
}

impl World {
    /// A machine that has never run. [`World::start`] it.
    pub fn new(disk: FaultDisk, options: Options) -> World {
        let output = |name: &str| Output {
            name: name.into(),
            acknowledged: Count::default(),
            kept: vec![Count::default()],
            ahead: Vec::new(),
            may_skip: false,
        };
        World {
            disk,
            outputs: options.outputs.iter().map(|name| output(name)).collect(),
            options,
            running: None,
            committed: Vec::new(),
            flat: Vec::new(),
            pending: Vec::new(),
            ghosts: Vec::new(),
            open: None,
            checkpoint: (Position::default(), 0),
            aside: BTreeMap::new(),
            attempts: 0,
            faulty: false,
            fulls: 0,
            too_large: 0,
        }
    }

    /// The same past on another disk, which a power cut has left: [`World::start`] it.
    pub fn on(&self, disk: FaultDisk) -> World {
        World {
            disk,
            options: self.options.clone(),
            running: None,
            committed: self.committed.clone(),
            flat: self.flat.clone(),
            pending: self.pending.clone(),
            ghosts: self.ghosts.clone(),
            open: None,
            checkpoint: self.checkpoint,
            outputs: self.outputs.clone(),
            aside: self.aside.clone(),
            ..*self
        }
    }

    /// Opens the spool, and checks that it holds what it must.
    pub fn start(&mut self) -> Result<(), Stop> {
        self.running = None;
        let quarantine = match Quarantine::open(self.disk.clone(), 1 << 20) {
            Ok(quarantine) => quarantine,
            Err(error) if is_power_cut(&error) => return Err(Stop::PowerCut),
            Err(error) => panic!("{error}"),
        };
        let mut replayed = Vec::new();
        let mut on_object = |id, fate, counts, end| replayed.push((id, fate, counts, end));
        let (replay_from, before) = self.checkpoint;
        let opened = spool::open(
            self.disk.clone(),
            self.options.clone(),
            quarantine.clone(),
            replay_from,
            &mut on_object,
        );
        let (writer, spool, recovery) = match opened {
            Ok(opened) => opened,
            Err(SpoolError::Disk { error, .. }) if is_power_cut(&error) => return Err(Stop::PowerCut),
            Err(error) => panic!("{error}"),
        };
        assert_eq!((recovery.damaged, &recovery.notes[..]), (0, &[][..]), "nothing was damaged");
        assert_eq!(recovery.committed, spool.committed());
        assert!(replayed.iter().zip(replayed.iter().skip(1)).all(|(a, b)| a.3 < b.3));
        assert!(replayed.first().is_none_or(|first| first.3 > replay_from));
        assert!(
            replayed.last().is_none_or(|last| last.3 == spool.committed()),
            "{:?} {recovery:?}",
            replayed.last()
        );

        self.accept(replayed.into_iter().map(|(id, fate, counts, _)| (id, fate, counts)).collect(), before);
        for output in self.outputs.iter().filter(|output| output.may_skip) {
            spool.let_skip(&output.name);
        }
        self.running = Some(Running {
            readers: self.outputs.iter().map(|output| spool.reader(&output.name).unwrap()).collect(),
            quarantine,
            writer,
            spool,
        });
        self.check_cursors();
        self.check_aside();
        if !self.faulty {
            assert_eq!(self.used_on_disk(), self.spool().used_bytes());
        }
        Ok(())
    }

    /// The objects that the restart told about, against those that were committed, and one way to go on.
    fn accept(&mut self, replayed: Vec<(ObjectId, ObjectFate, Counts)>, before: usize) {
        let named = |object: &Object| (object.id.clone(), object.fate, object.counts);
        let expected: Vec<_> = self.committed[before..].iter().map(named).collect();
        assert!(replayed.len() >= expected.len(), "lost: {:?}", &expected[replayed.len()..]);
        let (old, new) = replayed.split_at(expected.len());
        assert_eq!(old, expected, "the committed objects are told, in order, once");
        self.ghosts.push(std::mem::take(&mut self.pending));
        let goes_on = |ghosts: &&Vec<Object>| {
            new.len() <= ghosts.len() && ghosts.iter().map(named).zip(new).all(|(ghost, new)| ghost == *new)
        };
        let found = self.ghosts.iter().find(goes_on).cloned();
        let found = found.unwrap_or_else(|| {
            panic!(
                "never written so: {new:?}, but {:?}",
                self.ghosts
                    .iter()
                    .map(|g| g.iter().map(|o| o.id.key.clone()).collect::<Vec<_>>())
                    .collect::<Vec<_>>()
            )
        });
        self.commit_model(found.into_iter().take(new.len()).collect());
        self.ghosts.clear();
        self.open = None;
    }

    /// Every output stands where it was saved, and reads exactly what is behind, whole.
    fn check_cursors(&mut self) {
        let Some(Running { spool, .. }) = &self.running else { return };
        for output in &mut self.outputs {
            let cursor = spool.cursor(&output.name).unwrap();
            let found = Count::of(&cursor);
            assert!(output.kept.contains(&found), "{found:?} was not saved: {:?}", output.kept);
            output.kept = vec![found];
            output.acknowledged = found;
            output.ahead.clear();
            let mut at = found.done;
            let mut reader = spool.reader(&output.name).unwrap();
            reader
                .read(&mut |id, index, record, cursor| {
                    let (known_id, known_index, known) = &self.flat[at];
                    assert_eq!((id, index), (known_id, *known_index));
                    assert!(record == known, "{id:?} {index}");
                    at += 1;
                    assert_eq!((Count::of(&cursor).done, cursor.skipped), (at, found.skipped));
                    ControlFlow::Continue(())
                })
                .unwrap();
            assert_eq!(at, self.flat.len(), "nothing is missing");
        }
    }

    /// What was set aside is there with its bytes, and nothing else is.
    fn check_aside(&mut self) {
        let Some(Running { quarantine, .. }) = &self.running else { return };
        let mut found = BTreeMap::new();
        let mut ids = Vec::new();
        quarantine.list(&mut |id, _| ids.push(id.to_owned())).unwrap();
        for id in ids {
            let mut raw = Vec::new();
            let mut take = |part: &[u8]| {
                raw.extend_from_slice(part);
                Ok(())
            };
            let stored = quarantine.read(&id, &mut take).expect("an entry is whole or not there");
            found.insert(stored.object.key, raw);
        }
        for (key, kept) in &mut self.aside {
            let found = found.remove(&**key);
            assert!(kept.contains(&found), "{key}: {found:?} was not set aside so: {kept:?}");
            *kept = vec![found];
        }
        assert!(found.is_empty(), "never set aside: {found:?}");
    }

    /// Sets something aside, or the same again with other bytes.
    pub fn set_aside(&mut self, key: &str, raw: &[u8]) -> Result<(), Stop> {
        let id = ObjectId { source: "prod".into(), bucket: "acme".into(), key: key.into() };
        let entry = Entry { object: &id, index: None, output: None, reason: "not-gzip", detail: "" };
        let kept = self.aside.entry(key.into()).or_insert_with(|| vec![None]);
        kept.push(Some(raw.to_vec()));
        let Some(Running { quarantine, .. }) = &self.running else { return Ok(()) };
        match quarantine.put(&entry, raw) {
            Ok(became) => {
                assert_eq!(became, Kept::Whole);
                *kept = vec![Some(raw.to_vec())];
            }
            Err(error) if is_power_cut(&error) => return Err(Stop::PowerCut),
            Err(_) => self.faulty = true,
        }
        Ok(())
    }

    /// The configuration is changed, and the agent started again with it.
    pub fn compress(&mut self, compression: Compression) -> Result<(), Stop> {
        self.options.compression = compression;
        self.kill()
    }

    /// The power fails (if it has not), comes back, and the spool is opened; `recovery_cuts` are steps after which
    /// that is cut short, one after the other.
    pub fn crash(&mut self, survive: Survive, recovery_cuts: &[u64]) {
        self.running = None;
        self.disk = self.disk.reboot(survive);
        for (n, &steps) in recovery_cuts.iter().enumerate() {
            self.disk.cut_after(steps);
            let again = match (self.start(), survive) {
                (Ok(()), _) => {
                    self.disk.cut_after(NEVER);
                    return;
                }
                (_, Survive::Random(seed)) => Survive::Random(seed ^ (n as u64 + 1) << 32),
                (_, same) => same,
            };
            self.disk = self.disk.reboot(again);
        }
        self.start().unwrap();
    }

    /// The process is killed and started again; the disk goes on.
    pub fn kill(&mut self) -> Result<(), Stop> {
        self.disk.heal();
        self.start()
    }

    /// Begins an object that nobody has seen; `len` is that of its key.
    pub fn begin(&mut self, len: usize) -> Result<(), Stop> {
        assert!(self.open.is_none());
        self.attempts += 1;
        let key = format!("{}/{}", self.attempts, "k".repeat(len));
        let source = if self.attempts.is_multiple_of(3) { "other" } else { "prod" };
        let id = ObjectId { source: source.into(), bucket: "acme".into(), key: key.into() };
        if self.write(&mut |writer| writer.begin(&id))? {
            let (fate, counts) = (ObjectFate::Collected, Counts::default());
            self.open = Some(Object { id, records: Vec::new(), fate, counts });
        }
        Ok(())
    }

    /// Appends a record to the open object.
    pub fn record(&mut self, len: usize) -> Result<(), Stop> {
        let Some(open) = &self.open else { return Ok(()) };
        let index = open.records.last().map_or(0, |(index, _)| index + 1 + len as u32 % 2);
        let seed = self.attempts.wrapping_mul(31).wrapping_add(u64::from(index));
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut record: Vec<u8> = (0..len).map(|_| rng.u8(b' '..=b'~')).collect();
        // Most shrink when they are compressed, some do not.
        if !self.attempts.is_multiple_of(4) {
            (9..len).for_each(|at| record[at] = record[at % 9]);
        }
        if self.write(&mut |writer| writer.record(index, &record))?
            && let Some(open) = &mut self.open
        {
            open.records.push((index, record));
        }
        Ok(())
    }

    /// Ends the open object.
    pub fn end(&mut self, dropped: u64) -> Result<(), Stop> {
        let Some(open) = &self.open else { return Ok(()) };
        let kept = open.records.len() as u64;
        let counts = Counts { records: kept + dropped, kept, dropped, ..Counts::default() };
        let fate = if kept == 0 && dropped == 1 { ObjectFate::Quarantined } else { ObjectFate::Collected };
        if self.write(&mut |writer| writer.end(fate, &counts))?
            && let Some(open) = self.open.take()
        {
            self.pending.push(Object { fate, counts, ..open });
        }
        Ok(())
    }

    /// A whole object.
    pub fn object(&mut self, records: &[usize]) -> Result<(), Stop> {
        self.begin(3)?;
        for &len in records {
            self.record(len)?;
        }
        self.end(1)
    }

    pub fn abort(&mut self) -> Result<(), Stop> {
        self.write(&mut |writer| writer.abort())?;
        self.open = None;
        Ok(())
    }

    pub fn commit(&mut self) -> Result<(), Stop> {
        let mut through = Position::default();
        let done = self.write(&mut |writer| {
            through = writer.commit()?.through;
            Ok(())
        })?;
        if done {
            assert_eq!(self.spool().committed(), through);
            if !self.pending.is_empty() {
                self.ghosts.clear();
            }
            let pending = std::mem::take(&mut self.pending);
            self.commit_model(pending);
            assert_eq!(self.writer().uncommitted(), spool::Uncommitted::default());
        }
        Ok(())
    }

    pub fn rollback(&mut self) {
        self.writer().rollback();
        let pending = std::mem::take(&mut self.pending);
        self.ghosts.push(pending);
        self.open = None;
    }

    /// Has the output read up to `count` records.
    pub fn read(&mut self, output: usize, count: usize) -> Result<(), Stop> {
        let Some(Running { readers, .. }) = &mut self.running else { return Ok(()) };
        let Output { ahead, acknowledged, .. } = &mut self.outputs[output];
        let mut left = count;
        let flat = &self.flat;
        let result = readers[output].read(&mut |id, index, record, cursor| {
            let at = acknowledged.done + ahead.len();
            let (known_id, known_index, known) = flat.get(at).expect("only what is committed is seen");
            if left == 0 {
                return ControlFlow::Break(());
            }
            left -= 1;
            assert_eq!((id, index), (known_id, *known_index));
            assert!(record == known, "{id:?} {index}");
            ahead.push(cursor);
            ControlFlow::Continue(())
        });
        match result {
            Ok(()) if left > 0 => {
                assert_eq!(acknowledged.done + ahead.len(), flat.len(), "nothing is missed")
            }
            Ok(()) => {}
            Err(error) => self.failed(error)?,
        }
        Ok(())
    }

    /// The receiver acknowledges the first `count` of the records that were read, and refuses `rejected` of them.
    pub fn acknowledge(&mut self, output: usize, count: usize, rejected: usize) {
        let Some(Running { spool, .. }) = &self.running else { return };
        let output = &mut self.outputs[output];
        let count = count.min(output.ahead.len());
        let Some(last) = count.checked_sub(1) else { return };
        let Count { skipped, .. } = output.acknowledged;
        let done = output.acknowledged.done + count;
        let rejected = output.acknowledged.rejected + rejected.min(count) as u64;
        let delivered = done as u64 - rejected - skipped;
        let cursor = Cursor { delivered, rejected, skipped, ..output.ahead[last] };
        spool.advance(&output.name, cursor);
        output.acknowledged = Count { done, rejected, skipped };
        output.ahead.drain(..count);
    }

    /// The output sends again from what was acknowledged.
    pub fn resend(&mut self, output: usize) {
        let Some(Running { spool, readers, .. }) = &mut self.running else { return };
        let cursor = spool.cursor(&self.outputs[output].name).unwrap();
        readers[output].seek(cursor);
        self.outputs[output].ahead.clear();
    }

    /// From the next start on the output gives up its oldest records when the spool is full because of it.
    pub fn let_skip(&mut self, output: usize) {
        self.outputs[output].may_skip = true;
    }

    /// Records that the output has given up.
    pub fn given_up(&self, output: usize) -> u64 {
        self.outputs[output].acknowledged.skipped
    }

    /// The spool wants room, and every output that it asks gives up what it is asked for. `false`: none was asked.
    pub fn skip(&mut self) -> Result<bool, Stop> {
        let spool = self.spool();
        let asked = spool.ask_to_skip();
        let wanting: Vec<usize> = (0..self.outputs.len())
            .filter(|&n| spool.wants_skipped(&self.outputs[n].name).is_some())
            .collect();
        let oldest =
            self.outputs.iter().map(|output| spool.cursor(&output.name).unwrap().begin.segment).min();
        if asked {
            assert!(oldest < Some(spool.committed().segment), "what is being written is asked of nobody");
            let hold = self.outputs.iter().find(|output| {
                !output.may_skip && Some(spool.cursor(&output.name).unwrap().begin.segment) == oldest
            });
            assert!(hold.is_none(), "an output that holds needs the segment: nobody's loss makes room");
        }
        assert!(wanting.iter().all(|&output| self.outputs[output].may_skip));
        for &output in &wanting {
            self.give_up(output)?;
        }
        Ok(asked)
    }

    fn give_up(&mut self, output: usize) -> Result<(), Stop> {
        let Some(Running { spool, readers, quarantine, .. }) = &mut self.running else { return Ok(()) };
        let others: Vec<(usize, Cursor)> = (0..self.outputs.len())
            .filter(|&other| other != output)
            .map(|other| (other, spool.cursor(&self.outputs[other].name).unwrap()))
            .collect();
        let Output { name, acknowledged, kept, ahead, .. } = &mut self.outputs[output];
        let through = spool.wants_skipped(name).expect("it is asked");
        let mut wanted = 0;
        // An error here is the disk's, and the output's own reading meets the same trouble.
        let mut looking = spool.reader(name).unwrap();
        looking.seek(spool.cursor(name).unwrap());
        let looked = looking.read(&mut |_, _, _, cursor| {
            if cursor.begin.segment > through {
                return ControlFlow::Break(());
            }
            wanted += 1;
            ControlFlow::Continue(())
        });
        if let Err(error) = looked {
            return self.failed(error);
        }
        let mut backlog = Spooled::new(name, spool.clone(), quarantine.clone()).unwrap();
        let skipped = backlog.skip();
        let cursor = spool.cursor(name).unwrap();
        let (before, after) = (*acknowledged, Count::of(&cursor));
        let all = Count { done: before.done + wanted, skipped: before.skipped + wanted as u64, ..before };
        assert!(
            after == all || (skipped.is_err() && after == before),
            "{after:?}, but {all:?} or {before:?}"
        );
        *acknowledged = after;
        readers[output].seek(cursor);
        ahead.clear();
        kept.push(after);
        if let Ok(count) = &skipped {
            assert_eq!(*count, wanted as u64, "each is counted");
            assert!(cursor.begin.segment > through || cursor.frame >= spool.committed(), "it made room");
            assert_eq!(spool.wants_skipped(name), None);
            *kept = vec![after];
        }
        for (other, cursor) in others {
            assert_eq!(spool.cursor(&self.outputs[other].name).unwrap(), cursor, "the others stand");
        }
        match skipped {
            Ok(_) => Ok(()),
            Err(error) => self.failed(error),
        }
    }

    pub fn save(&mut self, output: usize) -> Result<(), Stop> {
        let spool = self.spool();
        let output = &mut self.outputs[output];
        output.kept.push(output.acknowledged);
        match spool.save(&output.name) {
            Ok(()) => output.kept = vec![output.acknowledged],
            Err(error) if is_power_cut(&error) => return Err(Stop::PowerCut),
            Err(_) => self.faulty = true,
        }
        Ok(())
    }

    /// The ledger writes its checkpoint.
    pub fn checkpoint(&mut self) {
        self.checkpoint = (self.spool().committed(), self.committed.len());
    }

    pub fn reclaim(&mut self) -> Result<(), Stop> {
        for output in &mut self.outputs {
            output.kept.push(output.acknowledged);
        }
        let through = self.checkpoint.0;
        let reclaimed = self.writer().reclaim(through);
        match reclaimed {
            Ok(_) => Ok(()),
            Err(error) => self.failed(error),
        }
    }

    /// Every output acknowledges everything.
    pub fn drain(&mut self) -> Result<(), Stop> {
        for output in 0..self.outputs.len() {
            self.disk.heal();
            self.read(output, usize::MAX)?;
            self.acknowledge(output, usize::MAX, 0);
            assert!(self.spool().drained(&self.outputs[output].name), "drained");
        }
        Ok(())
    }

    /// Every output that holds acknowledges everything, and those that may give up as much as they are asked for.
    fn relieve(&mut self) -> Result<(), Stop> {
        for output in 0..self.outputs.len() {
            if self.outputs[output].may_skip {
                continue;
            }
            self.disk.heal();
            self.read(output, usize::MAX)?;
            self.acknowledge(output, usize::MAX, 0);
        }
        self.disk.heal();
        while self.skip()? {}
        Ok(())
    }

    /// What must work on whatever a restart has found: more objects, drained, everything old given back.
    pub fn go_on(&mut self) -> Result<(), Stop> {
        self.object(&[10, self.options.max_record_bytes, 0])?;
        self.object(&[])?;
        self.commit()?;
        self.drain()?;
        self.checkpoint();
        self.reclaim()?;
        let left = self.disk.list("spool").unwrap().len();
        assert!(left <= 2, "{left} segments are left");
        self.start()
    }

    /// Bytes of the segment files, while there is power.
    pub fn used_on_disk(&self) -> u64 {
        self.disk.list("spool").unwrap_or_default().iter().map(|(_, len)| len).sum()
    }

    pub fn is_object_open(&self) -> bool {
        self.open.is_some()
    }

    fn commit_model(&mut self, objects: Vec<Object>) {
        for object in &objects {
            let records = object.records.iter();
            self.flat.extend(records.map(|(index, record)| (object.id.clone(), *index, record.clone())));
        }
        self.committed.extend(objects);
    }

    fn writer(&mut self) -> &mut Writer<FaultDisk> {
        &mut self.running.as_mut().expect("started").writer
    }

    fn spool(&self) -> Arc<Spool<FaultDisk>> {
        self.running.as_ref().expect("started").spool.clone()
    }

    /// Does something with the writer as the storekeeper would: `true` when it was done. Makes room when it is full,
    /// rolls back after an error, aborts an object that is too large.
    fn write(
        &mut self,
        act: &mut dyn FnMut(&mut Writer<FaultDisk>) -> Result<(), SpoolError>,
    ) -> Result<bool, Stop> {
        for _ in 0..2 {
            match act(self.writer()) {
                Ok(()) => return Ok(true),
                Err(SpoolError::Full) => {
                    self.fulls += 1;
                    let inside = self.open.is_some();
                    self.commit()?;
                    self.relieve()?;
                    self.checkpoint();
                    self.reclaim()?;
                    if inside && self.open.is_none() {
                        // The commit failed, and took the open object back.
                        return Ok(false);
                    }
                }
                Err(SpoolError::TooLarge { .. }) => {
                    self.too_large += 1;
                    self.abort()?;
                    return Ok(false);
                }
                Err(error) => {
                    self.failed(error)?;
                    self.rollback();
                    return Ok(false);
                }
            }
        }
        Err(Stop::Full)
    }

    fn failed(&mut self, error: SpoolError) -> Result<(), Stop> {
        let SpoolError::Disk { error, .. } = error else { panic!("{error}") };
        if is_power_cut(&error) {
            return Err(Stop::PowerCut);
        }
        self.faulty = true;
        Ok(())
    }
}
