//! Disks that fail under the real agent: a small tmpfs that is full or has no inodes left, an ext4 that turns read-only,
//! syncs that fail (by strace), a state directory that is removed. Each time the agent says what is wrong, and when the
//! cause is gone every record arrives and the books are those of the bucket.
//!
//! They mount, and so need root, and mkfs.ext4, fsck.ext4 and strace: `cargo test --test faults -- --ignored`. They fail
//! where they cannot do what they are for.

mod common;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::agent::{Finished, Home, Run, Setup, http_output};
use common::bucket::{Bucket, Plan, Truth, expected, truth, yesterday};
use common::receiver::{Moods, Receiver};
use common::s3_server::{Faults, S3Server};

/// A bucket, its server, a receiver, and an agent that is configured for them.
struct Place {
    home: Home,
    bucket: Bucket,
    truth: Truth,
    receiver: Receiver,
    /// Ends with the place.
    _server: S3Server,
    mounts: Vec<PathBuf>,
}

impl Place {
    fn new(seed: u64) -> Place {
        let plan = Plan { objects: 1500, max_records: 12, damaged: 2, ..Plan::small(seed, yesterday()) };
        let bucket = Bucket::generate(&plan);
        let server =
            S3Server::start(&bucket, Faults { latency: Duration::from_millis(40), ..Faults::default() });
        let receiver = Receiver::start(Moods::default());
        let home = Home::new();
        home.configure(&Setup::new(&server, &bucket.name, http_output("siem", &receiver.url())));
        fs::create_dir(home.state_dir()).expect("the state directory");
        let truth = truth(&bucket.objects, &|_| false);
        Place { home, bucket, truth, receiver, _server: server, mounts: Vec::new() }
    }

    fn state(&self) -> PathBuf {
        self.home.state_dir()
    }

    fn mount(&mut self, arguments: &[&str]) {
        let state = self.state();
        command("mount", arguments, &state);
        self.mounts.push(state);
    }

    /// Starts a pass, and waits until a part of it has arrived.
    fn begin(&self) -> Run {
        let mut run = self.home.start(&["--once", "--timeout", "150"]);
        let part = self.truth.kept as usize / 10;
        run.until("a part of the records arrives", |_| self.receiver.distinct() > part);
        run
    }

    /// Everything has arrived, nothing else has, and the books say so.
    fn complete(&self, end: &Finished) {
        let books = end.books();
        assert_eq!(books.faults(&self.truth), Vec::<String>::new(), "the log:\n{}", end.stderr);
        let expected = expected(&self.bucket.objects, &|_| false);
        let received = self.receiver.received();
        let lost = expected.keys().filter(|line| !received.acknowledged.contains_key(*line)).count();
        assert_eq!(lost, 0, "records that never arrived");
        let invented = received.acknowledged.keys().find(|line| !expected.contains_key(*line));
        assert!(invented.is_none(), "{invented:?}");
        println!(
            "{} records, {} of them more than once, after: {}",
            self.truth.kept,
            received.lines().saturating_sub(self.truth.kept),
            end.stderr.lines().find(|line| line.contains("Fetching pauses")).unwrap_or("no pause")
        );
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for place in &self.mounts {
            let _ = Command::new("umount").arg("-l").arg(place).status();
        }
    }
}

/// Runs a program of the system on a path; panics with what it says when that fails.
fn command(program: &str, arguments: &[&str], path: &Path) -> String {
    let done = Command::new(program)
        .args(arguments)
        .arg(path)
        .output()
        .unwrap_or_else(|error| panic!("{program} is needed: {error}"));
    assert!(
        done.status.success(),
        "{program} {arguments:?} {}: {}",
        path.display(),
        String::from_utf8_lossy(&done.stderr)
    );
    String::from_utf8_lossy(&done.stdout).trim().to_owned()
}

/// Needs nothing: two processes, one directory.
#[test]
fn a_second_agent_on_the_same_state_directory_is_refused_and_disturbs_nothing() {
    let place = Place::new(6);
    let mut first = place.begin();
    let second = place.home.once();
    assert_eq!(second.code(), Some(74), "{}", second.stderr);
    assert!(
        second.stderr.contains("another trailspool is at work on this state directory"),
        "{}",
        second.stderr
    );
    assert!(first.ended().is_none(), "{}", first.log());
    place.complete(&first.wait(Duration::from_secs(160)).expect_code(0));
    // The lock goes with its process, also when that is killed.
    let (killed, _) = place.home.start(&[]).kill();
    assert!(killed);
    place.home.once().expect_code(0);
}

#[test]
#[ignore = "needs root"]
fn a_tmpfs_without_room_is_said_and_passes() {
    let mut place = Place::new(1);
    place.mount(&["-t", "tmpfs", "-o", "size=24m", "tmpfs"]);
    let mut run = place.begin();
    let ballast = place.state().join("ballast");
    // Whatever there is.
    let mut filling = File::create(&ballast).expect("a file");
    let filled = std::io::copy(&mut std::io::repeat(1), &mut filling);
    assert!(filled.is_err(), "it is full now");
    drop(filling);
    run.until("it says that there is no room", |run| {
        run.log().contains("make room on the state directory's disk")
    });
    fs::remove_file(ballast).expect("room again");
    let end = run.wait(Duration::from_secs(160)).expect_code(0);
    assert!(end.stderr.contains("can be written again"), "{}", end.stderr);
    place.complete(&end);
}

#[test]
#[ignore = "needs root"]
fn a_tmpfs_without_inodes_is_said_and_passes() {
    let mut place = Place::new(2);
    place.mount(&["-t", "tmpfs", "-o", "size=64m,nr_inodes=60", "tmpfs"]);
    let mut run = place.begin();
    let folder = place.state().join("ballast");
    fs::create_dir(&folder).expect("a folder");
    let made = (0..100).take_while(|n| File::create(folder.join(n.to_string())).is_ok()).count();
    assert!(made < 100, "there are none left");
    run.until("it says that there is no room", |run| run.log().contains("No space left on device"));
    fs::remove_dir_all(folder).expect("inodes again");
    place.complete(&run.wait(Duration::from_secs(160)).expect_code(0));
}

#[test]
#[ignore = "needs root"]
fn an_ext4_that_turns_read_only_is_said_and_goes_on_after_a_repair() {
    let mut place = Place::new(3);
    let image = place.home.path("image");
    File::create(&image).and_then(|file| file.set_len(96 << 20)).expect("an image");
    command("mkfs.ext4", &["-q", "-F"], &image);
    place.mount(&["-o", "loop,errors=remount-ro", image.to_str().expect("a path")]);
    let device = command("findmnt", &["-no", "SOURCE"], &place.state());
    let mut run = place.begin();
    // What an error of the medium makes of it: read-only, until it is unmounted and repaired.
    let trigger = Path::new("/sys/fs/ext4").join(device.trim_start_matches("/dev/")).join("trigger_fs_error");
    fs::write(&trigger, "a test of trailspool").expect("an error in the file system");
    run.until("it says that the disk is read-only", |run| {
        run.log().contains("Fetching pauses") && run.log().contains("Read-only file system")
    });
    run.signal(nix::sys::signal::Signal::SIGTERM);
    let stopped = run.wait(Duration::from_secs(60));
    assert!(!stopped.stderr.contains("panicked"), "{}", stopped.stderr);
    println!(
        "while it was read-only: {}",
        stopped.stderr.lines().find(|l| l.contains("pauses")).unwrap_or("")
    );

    command("umount", &[], &place.state());
    place.mounts.clear();
    // 1: errors were corrected.
    let repaired = Command::new("fsck.ext4").args(["-f", "-y"]).arg(&image).output().expect("fsck.ext4");
    assert!(matches!(repaired.status.code(), Some(0 | 1)), "{repaired:?}");
    place.mount(&["-o", "loop", image.to_str().expect("a path")]);
    let end = place.home.drain();
    place.complete(&end);
}

#[test]
#[ignore = "needs strace"]
fn syncs_that_fail_are_said_and_never_taken_for_good_ones() {
    let place = Place::new(4);
    let mut run = place.begin();
    let mut strace = inject(&run, "fdatasync:error=EIO");
    run.until("it says that a sync failed", |run| {
        run.log().contains("cannot sync spool/") && run.log().contains("Input/output error")
    });
    strace.kill().and_then(|()| strace.wait()).expect("strace ends");
    let end = run.wait(Duration::from_secs(160)).expect_code(0);
    assert!(end.stderr.contains("can be written again"), "{}", end.stderr);
    place.complete(&end);
}

#[test]
#[ignore = "takes the half minute in which the agent looks after its state directory"]
fn a_removed_state_directory_is_said_and_the_agent_starts_anew() {
    let place = Place::new(5);
    let mut run = place.begin();
    fs::remove_dir_all(place.state()).expect("the agent writes little enough between two files");
    run.until("it starts anew", |run| {
        run.log().contains("was removed while the agent was running; it starts anew")
    });
    let end = run.wait(Duration::from_secs(160)).expect_code(0);
    place.complete(&end);
}

/// Makes system calls of the agent and its threads fail from now on.
fn inject(run: &Run, fault: &str) -> Child {
    Command::new("strace")
        .args([
            "-f",
            "-q",
            "-o",
            "/dev/null",
            "-e",
            "trace=fdatasync",
            "-e",
            &format!("inject={fault}"),
            "-p",
        ])
        .arg(run.id().to_string())
        .stderr(Stdio::null())
        .spawn()
        .expect("strace is needed")
}

/// A medium that fails under one file is no damage, and no clean bill either.
#[test]
#[ignore = "needs strace"]
fn a_file_that_cannot_be_read_ends_a_verification_with_74() {
    let place = Place::new(9);
    place.home.edit_config("unfiltered = true", "unfiltered = false");
    place.home.start(&["--once", "--timeout", "100"]).wait(Duration::from_secs(120)).expect_code(0);
    let mut kinds = std::collections::BTreeMap::new();
    for folder in ["spool", "cursors", "ledger", "sources", "marks", "quarantine"] {
        for entry in fs::read_dir(place.state().join(folder)).expect("a folder") {
            let path = entry.expect("an entry").path();
            let kind = path.extension().unwrap_or("checkpoint".as_ref()).to_owned();
            kinds.insert(kind, path);
        }
    }
    assert_eq!(kinds.len(), 7, "{kinds:?}");
    for path in kinds.values() {
        let done = Command::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null", "-e", "inject=pread64:error=EIO", "-P"])
            .arg(path)
            .args([env!("CARGO_BIN_EXE_trailspool"), "spool", "verify", "--config"])
            .arg(place.home.path("trailspool.toml"))
            .output()
            .expect("strace is needed");
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(74), "{}: {said}", path.display());
        let name = path.file_name().expect("a name").to_string_lossy();
        assert!(said.contains(&*name) && said.contains("Input/output error"), "{name}: {said}");
    }
}
