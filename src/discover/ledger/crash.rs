//! The ledger against a naive model: a power cut at every step, errors at every operation, random histories,
//! and reports of what went wrong for others.

use std::collections::BTreeMap;

use time::{Date, Month};

use super::*;
use crate::fault_disk::{Cuts, EIO, ENOSPC, Fault, FaultDisk, Names, Op, Survive};
use crate::spool::disk::Synced;

const SOURCES: [&str; 2] = ["prod", "prod.eu"];

fn day(number: u8) -> Date {
    Date::from_calendar_date(2026, Month::January, number).unwrap()
}

/// An object in the log of a spool that never loses one. The log's positions are the objects' numbers.
#[derive(Debug, Clone)]
struct Object {
    source: &'static str,
    day: u8,
    key: String,
    fate: ObjectFate,
    kept: u64,
}

impl Object {
    fn entry(&self) -> Entry<'_> {
        let counts = Counts { records: self.kept + 1, kept: self.kept, dropped: 1, ..Counts::default() };
        Entry { source: self.source, day: day(self.day), key: &self.key, fate: self.fate, counts }
    }
}

#[derive(Debug, Clone)]
enum Do {
    Insert(Vec<Object>),
    Save,
    Expire(&'static str, u8),
    Forget(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Known {
    Yes,
    No,
    /// A power cut came while it was being dropped.
    Perhaps,
}

/// What must be so.
#[derive(Clone, Default)]
struct Model {
    log: Vec<Object>,
    known: BTreeMap<(&'static str, String), (Known, u8)>,
    books: BTreeMap<&'static str, Books>,
    /// A source that a power cut perhaps kept from being forgotten.
    doubt: Option<&'static str>,
}

impl Model {
    fn commit(&mut self, objects: &[Object]) -> Committed {
        for object in objects {
            self.known.insert((object.source, object.key.clone()), (Known::Yes, object.day));
            self.books.entry(object.source).or_default().add(&object.entry());
            self.log.push(object.clone());
        }
        Committed::new(position(self.log.len()), Synced::after_ok_sync())
    }

    fn drop_entries(&mut self, source: &str, before: u8, state: Known) {
        for ((of, _), (known, day)) in &mut self.known {
            if *of == source && *day < before && *known != Known::No {
                *known = state;
            }
        }
    }
}

fn position(objects: usize) -> Position {
    Position { segment: 0, offset: objects as u64 }
}

struct World {
    disk: FaultDisk,
    ledger: Ledger<FaultDisk>,
    model: Model,
    memory_entries: usize,
}

impl World {
    fn new(disk: FaultDisk, memory_entries: usize) -> World {
        let ledger = Ledger::open_bounded(disk.clone(), memory_entries).unwrap();
        World { disk, ledger, model: Model::default(), memory_entries }
    }

    /// Does it, trying again after errors; stops when the power is cut.
    fn run(&mut self, what: &Do) {
        let committed = match what {
            Do::Insert(objects) => Some(self.model.commit(objects)),
            Do::Expire(source, before) => {
                self.model.drop_entries(source, *before, Known::Perhaps);
                None
            }
            Do::Forget(source) => {
                self.model.drop_entries(source, u8::MAX, Known::Perhaps);
                self.model.doubt = Some(source);
                None
            }
            Do::Save => None,
        };
        for attempt in 0.. {
            assert!(attempt < 100, "{what:?} never ends");
            let done = match what {
                Do::Insert(objects) => {
                    let entries: Vec<_> = objects.iter().map(Object::entry).collect();
                    self.ledger.insert(committed.as_ref().unwrap(), &entries)
                }
                Do::Save => {
                    self.ledger.save().map(|through| assert_eq!(through, position(self.model.log.len())))
                }
                Do::Expire(source, before) => self.ledger.expire(source, day(*before)),
                Do::Forget(source) => self.ledger.forget(source),
            };
            match done {
                Ok(()) => break,
                Err(LedgerError::Disk { .. }) if self.disk.is_cut() => return,
                Err(LedgerError::Disk { .. }) => continue,
                Err(error) => panic!("{what:?}: {error}"),
            }
        }
        match what {
            Do::Expire(source, before) => self.model.drop_entries(source, *before, Known::No),
            Do::Forget(source) => {
                self.model.drop_entries(source, u8::MAX, Known::No);
                self.model.books.remove(source);
                self.model.doubt = None;
            }
            Do::Insert(_) | Do::Save => {}
        }
    }

    /// The world after a power cut: the ledger opened and what is behind its checkpoint replayed.
    fn reboot(&self, survive: Survive) -> World {
        let disk = self.disk.reboot(survive);
        let ledger = Ledger::open_bounded(disk.clone(), self.memory_entries).unwrap();
        let mut model = self.model.clone();
        let durable = ledger.checkpoint().offset as usize;
        for (at, object) in model.log.iter().enumerate() {
            // The spool may replay too much; it must not count twice.
            if at + 1 > durable.saturating_sub(3) {
                ledger.replay(&object.entry(), position(at + 1)).unwrap();
            }
            if at + 1 > durable {
                let known = model.known.get_mut(&(object.source, object.key.clone())).unwrap();
                known.0 = Known::Yes;
            }
        }
        if let Some(source) = model.doubt.take()
            && ledger.books(source) == Books::default()
        {
            model.books.remove(source);
        }
        World { disk, ledger, model, memory_entries: self.memory_entries }
    }

    fn verify(&self) {
        for ((source, key), (known, on)) in &self.model.known {
            let found = self.ledger.contains(source, day(*on), key).unwrap();
            assert!(*known == Known::Perhaps || found == (*known == Known::Yes), "{source} {key}: {known:?}");
        }
        for source in SOURCES {
            assert!(!self.ledger.contains(source, day(1), "never").unwrap());
            assert_eq!(self.ledger.books(source), self.model.books.get(source).copied().unwrap_or_default());
        }
    }
}

/// Both sources, three days; enough saves that days are merged twice; an expiry, and a source forgotten and
/// begun again.
fn history() -> Vec<Do> {
    let mut history = Vec::new();
    for round in 0..18_u8 {
        let object = |source, day, name: &str| Object {
            source,
            day,
            key: format!("{name}{round}"),
            fate: if round % 5 == 0 { ObjectFate::Quarantined } else { ObjectFate::Collected },
            kept: round.into(),
        };
        let mut objects = vec![object(SOURCES[0], 1, "a"), object(SOURCES[0], 1, "b")];
        if round % 3 == 0 {
            objects.push(object(SOURCES[0], 2 + round / 9, "c"));
            objects.push(object(SOURCES[1], 1, "a"));
        }
        history.push(Do::Insert(objects));
        if round != 7 {
            history.push(Do::Save);
        }
        match round {
            10 => history.push(Do::Forget(SOURCES[1])),
            12 => history.push(Do::Expire(SOURCES[0], 2)),
            _ => {}
        }
    }
    history
}

#[test]
fn a_power_cut_at_every_step_loses_and_invents_nothing() {
    let history = history();
    let mut whole = World::new(FaultDisk::new().with_cuts(Cuts::Coarse), 100);
    history.iter().for_each(|what| whole.run(what));
    whole.verify();
    let steps = whole.disk.steps();
    assert!(steps > 500, "{steps}");
    for fuse in 0..steps {
        let disk = FaultDisk::new().with_cuts(Cuts::Coarse).with_names(Names::AnyOrder);
        // The first folder of all, for the history begins with an open ledger.
        disk.create_dir(DIR).unwrap();
        disk.cut_after(fuse);
        let Ok(ledger) = Ledger::open_bounded(disk.clone(), 100) else { continue };
        let mut world = World { disk, ledger, model: Model::default(), memory_entries: 100 };
        let mut rest = history.iter();
        for what in rest.by_ref() {
            world.run(what);
            if world.disk.is_cut() {
                break;
            }
        }
        for survive in [Survive::Nothing, Survive::Everything, Survive::Random(!fuse)] {
            world.reboot(survive).verify();
        }
        let mut after = world.reboot(Survive::Random(fuse));
        rest.for_each(|what| after.run(what));
        after.verify();
        after.reboot(Survive::Nothing).verify();
    }
}

#[test]
fn an_error_of_any_operation_loses_and_invents_nothing() {
    let history = history();
    for (op, errno) in [
        (Op::Create, EIO),
        (Op::Open, EIO),
        (Op::Read, EIO),
        (Op::Write, ENOSPC),
        (Op::Sync, EIO),
        (Op::Rename, EIO),
        (Op::Remove, EIO),
        (Op::SyncDir, EIO),
        (Op::List, EIO),
    ] {
        for skip in (0..60).step_by(3) {
            let mut world = World::new(FaultDisk::new(), 100);
            world.disk.fail(Fault { op, errno, path: String::new(), skip, times: 2 });
            history.iter().for_each(|what| world.run(what));
            world.disk.heal();
            world.verify();
            world.reboot(Survive::Nothing).verify();
            world.reboot(Survive::Random(skip)).verify();
        }
    }
}

#[test]
fn random_histories_agree_with_the_model() {
    for seed in 0..60 {
        let mut dice = fastrand::Rng::with_seed(seed);
        let mut world = World::new(FaultDisk::new(), dice.usize(1..30));
        for round in 0..80 {
            let source = SOURCES[dice.usize(..2)];
            let what = match dice.u8(..20) {
                0..9 => {
                    let count = dice.usize(..8);
                    let object = |at| Object {
                        source: SOURCES[dice.usize(..2)],
                        day: dice.u8(1..6),
                        key: format!("{round}-{at}"),
                        fate: ObjectFate::Collected,
                        kept: dice.u64(..5),
                    };
                    Do::Insert((0..count).map(object).collect())
                }
                // Something that expired comes again.
                9 => {
                    let gone = world.model.known.iter().find(|(_, (known, _))| *known == Known::No);
                    let again = gone.map(|((source, key), (_, day))| Object {
                        source,
                        day: *day,
                        key: key.clone(),
                        fate: ObjectFate::Collected,
                        kept: 1,
                    });
                    Do::Insert(again.into_iter().collect())
                }
                10..16 => Do::Save,
                16 => Do::Expire(source, dice.u8(1..5)),
                17 if dice.bool() => Do::Forget(source),
                _ => {
                    world.disk.cut_after(dice.u64(..60));
                    Do::Save
                }
            };
            world.run(&what);
            if world.disk.is_cut() {
                world = world.reboot(Survive::Random(dice.u64(..)));
            }
            world.verify();
        }
    }
}

#[test]
fn a_full_disk_is_filled_no_further_by_trying_again() {
    let mut world = World::new(FaultDisk::new(), 4);
    let objects = |from: u8| -> Vec<Object> {
        let object = |number: u8| Object {
            source: SOURCES[number as usize % 2],
            day: 1 + number % 3,
            key: number.to_string(),
            fate: ObjectFate::Collected,
            kept: 1,
        };
        (from..from + 4).map(object).collect()
    };
    world.run(&Do::Insert(objects(0)));
    let committed = world.model.commit(&objects(4));
    let new = objects(4);
    let entries: Vec<_> = new.iter().map(Object::entry).collect();
    let taken = (0..1000).any(|room| {
        world.disk.set_capacity(Some(room));
        let done = world.ledger.insert(&committed, &entries).is_ok();
        if !done {
            assert_eq!(world.ledger.checkpoint(), Position::default());
            let known =
                |object: &Object| world.ledger.contains(object.source, day(object.day), &object.key).unwrap();
            assert!(objects(0).iter().all(known) && !new.iter().any(known), "none of them is taken");
            assert_eq!(world.ledger.books(SOURCES[0]).objects_collected, 2);
        }
        done
    });
    assert!(taken);
    world.disk.set_capacity(None);
    world.run(&Do::Save);
    world.verify();
    let runs = world.disk.list(DIR).unwrap().len() - 1;
    assert!(runs <= 12, "{runs} runs: each try but the last took its own back");
}

#[test]
fn look_ups_beside_saves_and_merges_are_never_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let disk = crate::spool::std_disk::StdDisk::open(folder.path()).unwrap();
    let ledger = Ledger::open_bounded(disk, 16).unwrap();
    let key = |number: u64| format!("key {number}");
    let counts = Counts::default();
    let inserted = std::sync::atomic::AtomicU64::new(0);
    let order = std::sync::atomic::Ordering::SeqCst;
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut dice = fastrand::Rng::with_seed(1);
                loop {
                    let count = inserted.load(order);
                    if count == 2000 {
                        break;
                    }
                    if count > 0 {
                        assert!(ledger.contains("s", day(1), &key(dice.u64(..count))).unwrap());
                    }
                    assert!(!ledger.contains("s", day(1), "never").unwrap());
                }
            });
        }
        for number in 0..2000 {
            let committed = Committed::new(position(number as usize + 1), Synced::after_ok_sync());
            let key = key(number);
            let entry = Entry { source: "s", day: day(1), key: &key, fate: ObjectFate::Collected, counts };
            ledger.insert(&committed, &[entry]).unwrap();
            inserted.store(number + 1, order);
        }
    });
    assert!(ledger.disk.list(DIR).unwrap().len() <= limits::LEDGER_RUNS + 1);
    // A handle of a removed run would keep its room on the disk taken.
    let open =
        std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|fd| fd.unwrap().path().read_link().ok());
    let inside = folder.path().to_str().unwrap();
    let deleted: Vec<_> = open
        .filter(|path| {
            path.to_str().is_some_and(|path| path.starts_with(inside) && path.ends_with("(deleted)"))
        })
        .collect();
    assert!(deleted.is_empty(), "{deleted:?}");
}

/// elastic/beats#39116: 1 GB of state for a million objects. Here at most 48 bytes each, in the middle of a
/// merge as well; and old days go.
#[test]
fn an_object_takes_at_most_48_bytes_and_expires() {
    let disk = FaultDisk::new();
    let ledger = Ledger::open_bounded(disk.clone(), 512).unwrap();
    let mut most = 0;
    for batch in 0..100_u64 {
        let keys: Vec<String> = (0..200).map(|number| format!("{batch}/{number}")).collect();
        let object = |(at, key)| Object {
            source: "s",
            day: 1 + (at % 3) as u8,
            key,
            fate: ObjectFate::Collected,
            kept: 1,
        };
        let objects: Vec<Object> = keys.into_iter().enumerate().map(object).collect();
        let entries: Vec<_> = objects.iter().map(Object::entry).collect();
        let committed = Committed::new(position(200 * (batch as usize + 1)), Synced::after_ok_sync());
        ledger.insert(&committed, &entries).unwrap();
        if batch >= 50 {
            most = most.max(disk.used() / (batch * 200));
        }
    }
    ledger.save().unwrap();
    assert!(disk.used() <= 48 * 20_000 && most <= 48, "{} bytes, at most {most} an object", disk.used());
    let written = disk.written() / 20_000;
    assert!(written <= 160, "{written} bytes written for each object in 40 saves");
    ledger.expire("s", day(4)).unwrap();
    assert_eq!(disk.list(DIR).unwrap().len(), 1, "the checkpoint alone");
    assert_eq!(ledger.books("s").objects_collected, 20_000);
}

/// elastic/beats#52721: two inputs wiped each other's state and everything was collected again.
#[test]
fn sources_share_nothing_and_a_removed_one_is_kept_until_it_is_forgotten() {
    let disk = FaultDisk::new();
    let mut world = World::new(disk.clone(), 100);
    let object = |source, key: &str| Object {
        source,
        day: 1,
        key: key.to_owned(),
        fate: ObjectFate::Collected,
        kept: 1,
    };
    world.run(&Do::Insert(vec![
        object("a", "same"),
        object("a", "only a's"),
        object("b", "same"),
        object("a.b", "same"),
    ]));
    for _ in 0..2 {
        assert!(!world.ledger.contains("b", day(1), "only a's").unwrap());
        world.run(&Do::Save);
    }
    // The next runs know of `b` alone: the ledger is not told which sources are configured, so it cannot wipe
    // any.
    let mut world = world.reboot(Survive::Nothing);
    world.run(&Do::Insert(vec![object("b", "new")]));
    world.run(&Do::Save);
    world.run(&Do::Expire("b", 2));
    let world = world.reboot(Survive::Nothing);
    assert!(world.ledger.contains("a", day(1), "same").unwrap());
    assert!(world.ledger.contains("a.b", day(1), "same").unwrap());
    assert!(!world.ledger.contains("b", day(1), "same").unwrap());
    assert_eq!(world.ledger.sources(), ["a", "a.b", "b"].map(Box::<str>::from));
    world.ledger.forget("a").unwrap();
    assert!(!world.ledger.contains("a", day(1), "same").unwrap());
    assert_eq!(world.ledger.books("a"), Books::default());
    assert!(world.ledger.contains("a.b", day(1), "same").unwrap());
    let names: Vec<String> = world.disk.list(DIR).unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), 2, "{names:?}");
}

/// elastic/beats#39065: an object that failed once was skipped as old later. Here nothing but its own entry
/// makes it known.
#[test]
fn an_object_that_failed_is_not_known_whatever_is_collected_around_it() {
    let mut world = World::new(FaultDisk::new(), 100);
    let object = |day, key: &str| Object {
        source: "s",
        day,
        key: key.to_owned(),
        fate: ObjectFate::Collected,
        kept: 1,
    };
    world.run(&Do::Insert(vec![object(2, "T1815Z_a"), object(2, "T1825Z_a"), object(3, "T0000Z_a")]));
    for _ in 0..2 {
        assert!(!world.ledger.contains("s", day(2), "T1820Z_failed").unwrap());
        assert!(!world.ledger.contains("s", day(1), "T2355Z_late").unwrap());
        world.run(&Do::Save);
    }
}

#[test]
fn a_damaged_run_is_named_and_stops_only_its_own_day() {
    let mut world = World::new(FaultDisk::new(), 100);
    let object = |day, key: &str| Object {
        source: "s",
        day,
        key: key.to_owned(),
        fate: ObjectFate::Collected,
        kept: 1,
    };
    world.run(&Do::Insert(vec![object(1, "a"), object(2, "a")]));
    world.run(&Do::Save);
    let bad = "ledger/s.20260101.0000000000000000.run";
    world.disk.flip(bad, run::HEADER + 3, 0x10);
    let world = world.reboot(Survive::Nothing);
    let error = world.ledger.contains("s", day(1), "a").unwrap_err().to_string();
    assert!(error.contains(bad) && error.contains("remove the file"), "{error}");
    assert!(world.ledger.contains("s", day(2), "a").unwrap());
    // Saves go on, and so does the day, as far as it can be known.
    let mut world = world;
    for number in 0..30 {
        world.run(&Do::Insert(vec![object(1, &number.to_string())]));
        world.run(&Do::Save);
    }
    assert!(world.ledger.contains("s", day(1), "7").unwrap());
    // The remedy: the file is removed, and only its objects are no longer known.
    world.disk.remove(bad).unwrap();
    let world = world.reboot(Survive::Everything);
    assert!(!world.ledger.contains("s", day(1), "a").unwrap());
    assert!(world.ledger.contains("s", day(1), "7").unwrap());
    assert_eq!(world.ledger.books("s").objects_collected, 32);
}

#[test]
fn a_damaged_checkpoint_is_named_and_its_remedy_collects_nothing_twice() {
    let mut world = World::new(FaultDisk::new(), 100);
    let object =
        |key: &str| Object { source: "s", day: 1, key: key.to_owned(), fate: ObjectFate::Collected, kept: 1 };
    world.run(&Do::Insert(vec![object("a")]));
    world.run(&Do::Save);
    world.disk.flip("ledger/checkpoint", 20, 1);
    let error = Ledger::open(world.disk.clone()).err().unwrap().to_string();
    assert!(error.contains("ledger/checkpoint") && error.contains("remove the file"), "{error}");
    world.disk.remove("ledger/checkpoint").unwrap();
    let ledger = Ledger::open(world.disk.clone()).unwrap();
    assert!(ledger.contains("s", day(1), "a").unwrap());
    assert_eq!(ledger.checkpoint(), Position::default());
}

#[test]
fn names_that_are_no_names_of_files_and_too_many_sources_are_refused() {
    let ledger = Ledger::open(FaultDisk::new()).unwrap();
    let committed = Committed::new(position(1), Synced::after_ok_sync());
    let insert = |source: &str| {
        let entry =
            Entry { source, day: day(1), key: "k", fate: ObjectFate::Collected, counts: Counts::default() };
        ledger.insert(&committed, &[entry])
    };
    for name in ["", ".", "..", ".a", "a/b", "a b", "é", "a\0", &"x".repeat(65)] {
        assert!(matches!(insert(name), Err(LedgerError::Source { .. })), "{name:?}");
    }
    for number in 0..limits::LEDGER_SOURCES {
        insert(&format!("{number:0>64}")).unwrap();
    }
    assert!(matches!(insert("one-more"), Err(LedgerError::Source { .. })));
    insert(&format!("{:0>64}", 7)).unwrap();
    ledger.save().unwrap();
    assert_eq!(Ledger::open(ledger.disk.clone()).unwrap().sources().len(), limits::LEDGER_SOURCES);
}

#[test]
fn a_save_without_news_writes_nothing() {
    let mut world = World::new(FaultDisk::new(), 100);
    world.run(&Do::Save);
    assert_eq!(world.disk.written(), 0);
    world.run(&Do::Insert(history_objects()));
    world.run(&Do::Save);
    let written = world.disk.written();
    world.run(&Do::Save);
    assert_eq!(world.disk.written(), written);
}

fn history_objects() -> Vec<Object> {
    vec![Object { source: "s", day: 1, key: "k".to_owned(), fate: ObjectFate::Collected, kept: 1 }]
}

/// A process killed between a rename and its sync leaves names that are there and not durable. The spool gives up its
/// log for the checkpoint that is read at the start, so a power cut must not take that one back.
#[test]
fn what_is_read_at_the_start_is_durable_from_then_on() {
    for skip in 0..6 {
        let disk = FaultDisk::new();
        let ledger = Ledger::open(disk.clone()).unwrap();
        let counts = Counts { records: 1, kept: 1, ..Counts::default() };
        let entry = Entry { source: "prod", day: day(1), key: "k", fate: ObjectFate::Collected, counts };
        let through = Position { segment: 1, offset: 100 };
        ledger.insert(&Committed::new(through, Synced::after_ok_sync()), &[entry]).unwrap();
        disk.fail(Fault { op: Op::SyncDir, errno: EIO, path: String::new(), skip, times: 100 });
        let _ = ledger.save();
        disk.heal();
        let read = Ledger::open(disk.clone()).unwrap();
        let rebooted = Ledger::open(disk.preview(Survive::Nothing)).unwrap();
        assert_eq!(rebooted.checkpoint(), read.checkpoint(), "after {skip} syncs");
        assert_eq!(
            rebooted.contains("prod", day(1), "k").unwrap(),
            read.contains("prod", day(1), "k").unwrap()
        );
    }
}
