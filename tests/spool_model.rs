//! Random histories of a spool (objects, aborts, commits, outputs, records given up, restarts, power cuts, errors of the
//! disk, a full spool) against a plain list. The seeds are fixed; `SPOOL_SEED=n` runs one of them alone, `SPOOL_RUNS=n` takes n times
//! as many.

#[path = "common/fault_disk.rs"]
mod fault_disk;
#[path = "common/spool_history.rs"]
mod spool_history;

use fault_disk::{Cuts, EIO, ENOSPC, Fault, FaultDisk, Op, Survive};
use spool_history::{Stop, World};
use trailspool::spool::{Compression, Options};

/// What may happen in a history.
#[derive(Clone, Copy, PartialEq)]
struct Weather {
    /// Errors of the disk, besides power cuts and kills.
    faults: bool,
    /// Large records, few objects that end, outputs that hardly come on: the spool is full most of the time.
    jam: bool,
    /// The second output gives up its oldest records when the spool is full because of it.
    skips: bool,
}

fn options(rng: &mut fastrand::Rng) -> Options {
    let max_record_bytes = rng.usize(100..900);
    let segment_bytes = rng.u64(400..4000);
    // The least that is accepted, and some more.
    let limit = segment_bytes.max(40 + 9 + 1540);
    let max_bytes = 4 * limit + rng.u64(..20_000);
    let compression = if rng.bool() { Compression::Lz4 } else { Compression::None };
    let outputs = vec!["siem".into(), "archive".into()];
    Options { max_bytes, segment_bytes, max_record_bytes, compression, outputs }
}

/// One thing that an agent does, or that is done to it.
fn act(world: &mut World, rng: &mut fastrand::Rng, weather: Weather) -> Result<(), Stop> {
    let output = rng.usize(..2);
    let large = |rng: &mut fastrand::Rng| rng.u8(..4) < if weather.jam { 3 } else { 1 };
    match rng.u32(..1015) {
        400..950 if weather.jam && rng.u8(..8) != 0 => world.record(world.options.max_record_bytes / 2),
        0..150 if !world.is_object_open() => {
            let len = rng.usize(..40);
            world.begin(len)
        }
        0..400 => {
            let len = if large(rng) { rng.usize(..=world.options.max_record_bytes) } else { rng.usize(..90) };
            world.record(len)
        }
        400..530 => world.end(rng.u64(..3)),
        530..560 => world.abort(),
        560..650 => world.commit(),
        650..750 => world.read(output, rng.usize(..12)),
        750..820 => {
            let count = rng.usize(..12);
            world.acknowledge(output, count, rng.usize(..=count) / 4);
            Ok(())
        }
        820..860 => world.save(output),
        860..880 => {
            world.resend(output);
            Ok(())
        }
        880..900 => {
            world.checkpoint();
            Ok(())
        }
        900..930 => world.reclaim(),
        930..935 => {
            world.rollback();
            Ok(())
        }
        935..940 => world.drain(),
        940..950 => world.kill(),
        950..960 => {
            let cuts: Vec<u64> = (0..rng.u64(..3)).map(|_| rng.u64(..40)).collect();
            world.crash(survivors(rng), &cuts);
            Ok(())
        }
        960..975 => {
            world.disk.cut_after(rng.u64(..60));
            Ok(())
        }
        1000.. => world.skip().map(drop),
        _ if weather.faults => {
            let ops = [Op::Create, Op::Open, Op::Read, Op::SetLen, Op::Rename, Op::Remove, Op::SyncDir];
            let op = match rng.u8(..3) {
                0 => Op::Write,
                1 => Op::Sync,
                _ => ops[rng.usize(..ops.len())],
            };
            let errno = if op == Op::Write && rng.bool() { ENOSPC } else { EIO };
            world.faulty = true;
            world.disk.fail(Fault {
                op,
                errno,
                path: String::new(),
                skip: rng.u64(..3),
                times: rng.u64(1..3),
            });
            Ok(())
        }
        _ => Ok(()),
    }
}

fn survivors(rng: &mut fastrand::Rng) -> Survive {
    match rng.u8(..6) {
        0 => Survive::Nothing,
        1 => Survive::Everything,
        _ => Survive::Random(rng.u64(..)),
    }
}

/// Runs a history: objects committed, how often the spool was full, and an object too large for it, and records given up.
fn run(seed: u64, actions: usize, weather: Weather) -> [u64; 4] {
    let mut rng = fastrand::Rng::with_seed(seed);
    let options = options(&mut rng);
    let max_bytes = options.max_bytes;
    let mut world = World::new(FaultDisk::new().with_cuts(Cuts::Coarse), options);
    if weather.skips {
        world.let_skip(1);
    }
    world.start().unwrap();
    for _ in 0..actions {
        match act(&mut world, &mut rng, weather) {
            Ok(()) => {}
            Err(Stop::PowerCut) => {
                let cuts: Vec<u64> = (0..rng.u64(..3)).map(|_| rng.u64(..40)).collect();
                world.crash(survivors(&mut rng), &cuts);
                world.faulty = false;
            }
            Err(Stop::Full) => panic!("full, with everything drained"),
        }
        assert!(world.faulty || world.used_on_disk() <= max_bytes, "the bound holds");
    }
    world.disk.heal();
    world.crash(Survive::Nothing, &[]);
    world.go_on().unwrap();
    [world.committed.len() as u64, world.fulls, world.too_large, world.given_up(1)]
}

/// A switch of the test's own.
#[allow(clippy::disallowed_methods)]
fn switch(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn runs(seeds: std::ops::Range<u64>, actions: usize, faults: bool) {
    let only = switch("SPOOL_SEED");
    let seeds = seeds.start..seeds.start + (seeds.end - seeds.start) * switch("SPOOL_RUNS").unwrap_or(1);
    let mut sum = [0; 4];
    for seed in seeds.filter(|seed| only.is_none_or(|only| only == *seed)) {
        let weather = Weather { faults, jam: seed % 4 == 0, skips: seed % 3 == 0 };
        match std::panic::catch_unwind(|| run(seed, actions, weather)) {
            Ok(counts) => sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count),
            Err(panic) => {
                eprintln!("SPOOL_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    let [objects, fulls, too_large, given_up] = sum;
    println!("{objects} objects, full {fulls} times, {too_large} too large, {given_up} records given up");
    let far = objects > 1000 && fulls > 40 && too_large > 10 && given_up > 100;
    assert!(only.is_some() || far, "the histories go somewhere");
}

#[test]
fn histories_with_power_cuts_agree_with_a_list() {
    runs(0..400, 400, false);
}

#[test]
fn histories_with_power_cuts_and_errors_agree_with_a_list() {
    runs(1000..1600, 400, true);
}
