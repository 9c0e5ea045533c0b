//! The power is cut at every step of a history, and everything, nothing or some of what was not synced survives: each
//! time the spool holds every committed object whole, in order and once, every output goes on where it was saved, and
//! the ledger is told what it needs (invariants 1 to 4). Guards against vector#25639, #25570, #25779 and #17644: a
//! disk buffer that lost, repeated or looped after a crash.

#[path = "common/fault_disk.rs"]
mod fault_disk;
#[path = "common/spool_history.rs"]
mod spool_history;

use fault_disk::{Cuts, EIO, Fault, FaultDisk, Op, Survive};
use spool_history::{Stop, World};
use trailspool::spool::{Compression, Options};

type History = fn(&mut World) -> Result<(), Stop>;

fn options() -> Options {
    Options {
        max_bytes: 16 * 1024,
        segment_bytes: 1024,
        max_record_bytes: 700,
        compression: Compression::None,
        outputs: vec!["siem".into(), "archive".into()],
    }
}

/// Cuts `history` at every step, and goes on from *every* disk that the cut may leave ([`FaultDisk::every_reboot`]), as
/// long as there are not more than `bound` of them; else from `sample` of them by the dice. Returns the disks.
fn cut_into_everything(history: History, options: &Options, bound: usize, sample: u64) -> u64 {
    let world = || World::new(FaultDisk::new().with_cuts(Cuts::Coarse), options.clone());
    let mut whole = world();
    history(&mut whole).unwrap();
    let steps = whole.disk.steps();
    let (mut all, mut diced, mut disks) = (0, 0, 0);
    for fuse in 0..steps {
        let mut world = world();
        world.disk.cut_after(fuse);
        assert_eq!(history(&mut world), Err(Stop::PowerCut), "step {fuse}");
        let found = match world.disk.every_reboot(bound) {
            Some(found) => {
                all += 1;
                found
            }
            None => {
                diced += 1;
                let dice = (0..sample).map(|n| Survive::Random(fuse * sample + n));
                let ends = [Survive::Nothing, Survive::Everything];
                ends.into_iter().chain(dice).map(|survive| world.disk.reboot(survive)).collect()
            }
        };
        for disk in found {
            let mut after = world.on(disk);
            after.start().unwrap();
            after.go_on().unwrap();
            disks += 1;
        }
    }
    println!(
        "{:?}: {steps} cuts, {all} of them into every disk that they can leave (at most {bound} combinations), \
         {diced} into {} by the dice: {disks} disks",
        options.compression,
        sample + 2
    );
    disks
}

/// Cuts `history` at every step, with several fates of what was not synced. Returns the number of cuts.
fn cut_everywhere(history: History, cuts: Cuts, random: u64) -> u64 {
    let world = || World::new(FaultDisk::new().with_cuts(cuts), options());
    let mut whole = world();
    history(&mut whole).unwrap();
    let steps = whole.disk.steps();
    let mut count = 0;
    for fuse in 0..steps {
        let mut rng = fastrand::Rng::with_seed(fuse);
        let survivors = (0..random).map(|n| Survive::Random(fuse * random + n));
        for survive in [Survive::Nothing, Survive::Everything].into_iter().chain(survivors) {
            let mut world = world();
            world.disk.cut_after(fuse);
            assert_eq!(history(&mut world), Err(Stop::PowerCut), "step {fuse}");
            // The start after it is cut, too, now and then more than once.
            let recovery_cuts: Vec<u64> = (0..rng.u64(..3)).map(|_| rng.u64(..60)).collect();
            world.crash(survive, &recovery_cuts);
            world.go_on().unwrap();
            count += 1;
        }
    }
    println!("{steps} steps, {count} power cuts");
    count
}

/// Rotation, an object over several segments, aborts in all three kinds, commits with an object open, cursors, the
/// checkpoint and reclaim.
fn ordinary(world: &mut World) -> Result<(), Stop> {
    world.start()?;
    world.object(&[20, 60, 0])?;
    world.object(&[])?;
    world.commit()?;
    world.read(0, 2)?;
    world.acknowledge(0, 2, 1);
    world.save(0)?;
    // Taken back from the buffer.
    world.begin(1)?;
    world.record(30)?;
    world.abort()?;
    // Over segments, with a commit in the middle.
    world.object(&[100])?;
    world.begin(5)?;
    for len in [300, 200, 400, 10] {
        world.record(len)?;
    }
    world.commit()?;
    for len in [500, 20, 650] {
        world.record(len)?;
    }
    world.end(2)?;
    world.commit()?;
    world.checkpoint();
    // Taken back from the file, and from several.
    world.begin(2)?;
    world.record(500)?;
    world.record(10)?;
    world.commit()?;
    world.abort()?;
    world.object(&[40, 40])?;
    world.begin(2)?;
    for len in [500, 600, 300, 100] {
        world.record(len)?;
    }
    world.abort()?;
    world.object(&[33, 260])?;
    world.commit()?;
    world.read(0, 7)?;
    world.acknowledge(0, 5, 0);
    world.read(1, 100)?;
    world.acknowledge(1, 100, 0);
    world.save(1)?;
    world.resend(0);
    world.read(0, 3)?;
    world.acknowledge(0, 2, 0);
    world.reclaim()?;
    world.drain()?;
    world.save(0)?;
    world.checkpoint();
    world.reclaim()?;
    world.object(&[44])?;
    world.kill()?;
    world.object(&[45, 45])?;
    world.commit()
}

/// A day in the life: rotation, reclaim, three outputs that stand apart, the quarantine, cursors, restarts, and a
/// configuration that turns compression the other way and back.
fn long(world: &mut World) -> Result<(), Stop> {
    let first = world.options.compression;
    let other = match first {
        Compression::None => Compression::Lz4,
        Compression::Lz4 => Compression::None,
    };
    world.start()?;
    for round in 0..3 {
        world.object(&[120, 80, 200])?;
        world.set_aside("broken", &[round; 90])?;
        world.object(&[])?;
        world.commit()?;
        world.read(0, 5)?;
        world.acknowledge(0, 4, 1);
        world.save(0)?;
        world.begin(1)?;
        for len in [400, 300, 250] {
            world.record(len)?;
        }
        world.commit()?;
        world.record(650)?;
        world.end(1)?;
        world.commit()?;
        world.read(1, 100)?;
        world.acknowledge(1, 6, 0);
        world.save(1)?;
        world.set_aside(&format!("refused {round}"), b"{}")?;
        world.begin(2)?;
        world.record(500)?;
        world.abort()?;
        world.object(&[60, 60, 60, 60])?;
        world.commit()?;
        world.checkpoint();
        world.resend(0);
        world.read(0, 9)?;
        world.acknowledge(0, 9, 0);
        world.read(2, 8)?;
        world.acknowledge(2, 8, 2);
        world.reclaim()?;
        match round {
            0 => world.compress(other)?,
            1 => world.kill()?,
            _ => world.compress(first)?,
        }
    }
    world.object(&[333])?;
    world.commit()?;
    world.drain()?;
    world.checkpoint();
    world.reclaim()?;
    world.object(&[44, 45])?;
    world.commit()
}

/// Errors of the disk, and what the spool does about them.
fn troubled(world: &mut World) -> Result<(), Stop> {
    let fail = |world: &World, op, path: &str, skip| {
        world.disk.fail(Fault { op, errno: EIO, path: path.to_owned(), skip, times: 1 });
    };
    world.faulty = true;
    world.start()?;
    world.object(&[50, 50])?;
    world.commit()?;
    // A failed sync: the objects are collected again.
    world.object(&[61, 10])?;
    world.object(&[62])?;
    fail(world, Op::Sync, "spool/", 0);
    world.commit()?;
    world.object(&[61, 11])?;
    world.commit()?;
    world.checkpoint();
    // A failed sync, and the process dies of it: what is read back may be nowhere but in the cache.
    world.object(&[71])?;
    fail(world, Op::Sync, "spool/", 0);
    world.commit()?;
    world.kill()?;
    world.object(&[72])?;
    world.commit()?;
    // A failed write in the middle of an object over two segments; its removal fails as well.
    world.begin(2)?;
    world.record(600)?;
    world.record(200)?;
    fail(world, Op::Remove, "spool/", 0);
    fail(world, Op::Write, "spool/", 1);
    world.record(650)?;
    world.record(650)?;
    world.object(&[81, 400, 400])?;
    world.object(&[82])?;
    world.commit()?;
    // A failed sync of the folder, then of a cursor.
    world.object(&[500, 500, 600])?;
    fail(world, Op::SyncDir, "spool", 0);
    world.commit()?;
    world.object(&[91])?;
    world.commit()?;
    world.read(0, 3)?;
    world.acknowledge(0, 3, 0);
    fail(world, Op::SyncDir, "cursors", 0);
    world.save(0)?;
    world.drain()?;
    world.checkpoint();
    world.reclaim()?;
    world.object(&[95])?;
    world.commit()
}

/// An output that gives up what fills the spool, beside one that holds: when that one needs the oldest segment, too,
/// nobody's loss would make room.
fn skipping(world: &mut World) -> Result<(), Stop> {
    world.let_skip(1);
    world.start()?;
    for round in 0..3 {
        world.object(&[300, 300])?;
        world.object(&[])?;
        world.commit()?;
        world.read(1, 3)?;
        world.acknowledge(1, 1, 0);
        // An object over segments, which may only be given up whole.
        world.begin(4)?;
        for len in [500, 20, 600, 40] {
            world.record(len)?;
        }
        world.end(1)?;
        world.object(&[30, 30, 30])?;
        world.commit()?;
        assert!(round > 0 || !world.skip()?, "the other output needs the same segment");
        world.read(0, 100)?;
        world.acknowledge(0, 100, 1);
        world.skip()?;
        world.checkpoint();
        world.reclaim()?;
        match round {
            0 => world.kill()?,
            1 => while world.skip()? {},
            _ => {}
        }
        // What is left goes out as ever.
        world.read(1, 2)?;
        world.acknowledge(1, 2, 1);
        world.save(round % 2)?;
    }
    while world.skip()? {}
    assert!(world.given_up(1) > 5, "{} records", world.given_up(1));
    world.object(&[70])?;
    world.commit()?;
    world.drain()?;
    world.save(1)?;
    world.checkpoint();
    world.reclaim()
}

#[test]
fn an_output_that_gives_up_records_survives_a_cut_at_every_step_and_the_other_gets_all() {
    assert!(cut_everywhere(skipping, Cuts::Coarse, 6) > 1000);
}

#[test]
fn an_output_that_gives_up_records_survives_every_disk_that_a_cut_can_leave() {
    let disks = cut_into_everything(skipping, &options(), 64, 12);
    assert!(disks > 1000, "{disks}");
}

#[test]
fn an_ordinary_history_survives_a_cut_at_every_step() {
    assert!(cut_everywhere(ordinary, Cuts::Coarse, 6) > 1000);
}

#[test]
fn a_troubled_history_survives_a_cut_at_every_step() {
    assert!(cut_everywhere(troubled, Cuts::Coarse, 6) > 1000);
}

/// How many combinations are tried, and how many are sampled where there are more. `SPOOL_CUTS=n`: n times as many.
fn cut_with_both_compressions(history: History, bound: usize, sample: u64) {
    let times = switch("SPOOL_CUTS").unwrap_or(1);
    let mut disks = 0;
    for compression in [Compression::None, Compression::Lz4] {
        let outputs = ["siem", "archive", "lake"].map(Box::from).to_vec();
        let options = Options { compression, outputs, ..options() };
        disks += cut_into_everything(history, &options, bound * times as usize, sample * times);
    }
    assert!(disks > 5000, "{disks}");
}

#[test]
fn a_long_history_survives_a_cut_at_every_step_into_every_disk_it_can_leave() {
    cut_with_both_compressions(long, 64, 12);
}

#[test]
fn a_troubled_history_survives_a_cut_at_every_step_into_every_disk_it_can_leave() {
    cut_with_both_compressions(troubled, 64, 12);
}

/// A switch of the test's own.
#[allow(clippy::disallowed_methods)]
fn switch(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn a_short_history_survives_a_cut_at_every_byte() {
    fn short(world: &mut World) -> Result<(), Stop> {
        world.start()?;
        world.object(&[20, 3])?;
        world.commit()?;
        world.begin(1)?;
        world.record(280)?;
        world.commit()?;
        world.record(270)?;
        world.record(300)?;
        world.end(0)?;
        world.object(&[])?;
        world.commit()?;
        world.drain()?;
        world.checkpoint();
        world.reclaim()
    }
    assert!(cut_everywhere(short, Cuts::EveryByte, 1) > 1000);
}

/// Two generations of bytes in one place, of the same shape: what survives of both must not make an object that was
/// never written. This is what the chain of checksums is for.
#[test]
fn an_object_that_was_taken_back_is_not_ended_by_the_next_one() {
    for seed in 0..4000 {
        let mut world = World::new(FaultDisk::new(), options());
        world.start().unwrap();
        world.begin(2).unwrap();
        world.record(20).unwrap();
        world.commit().unwrap();
        world.abort().unwrap();
        world.begin(2).unwrap();
        world.record(20).unwrap();
        world.end(0).unwrap();
        world.disk.fail(Fault { op: Op::Sync, errno: EIO, path: String::new(), skip: 0, times: 1 });
        world.commit().unwrap();
        world.crash(Survive::Random(seed), &[]);
    }
}

/// Segments that were taken back and could not be removed are void because a later segment says so: they must be gone
/// before that one is.
#[test]
fn what_was_taken_back_does_not_come_back_when_old_segments_are_removed() {
    let mut world = World::new(FaultDisk::new(), options());
    world.start().unwrap();
    world.object(&[50]).unwrap();
    world.commit().unwrap();
    world.object(&[51]).unwrap();
    for len in [600, 500, 600] {
        world.object(&[len]).unwrap();
    }
    world.disk.fail(Fault { op: Op::Remove, errno: EIO, path: String::new(), skip: 0, times: 1 });
    world.rollback();
    world.faulty = true;
    for len in [600, 500, 400, 300, 600] {
        world.object(&[len]).unwrap();
        world.commit().unwrap();
    }
    world.drain().unwrap();
    world.checkpoint();
    world.reclaim().unwrap();
    world.crash(Survive::Everything, &[]);
    world.go_on().unwrap();
}
