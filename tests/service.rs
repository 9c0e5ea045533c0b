//! The agent as a service manager sees it: what it says over NOTIFY_SOCKET, and when. With the feature `wedge` also
//! that a stage which stands still, and nothing else, ends the petting (invariant 9):
//! `cargo test --features wedge --test service`.

mod common;

use std::collections::VecDeque;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use common::agent::{Home, Run, Setup, file_output, http_output};
use common::bucket::{Bucket, Plan, yesterday};
use common::s3_server::{Faults, S3Server};
use nix::sys::signal::Signal;

/// The manager's end of NOTIFY_SOCKET.
struct Manager {
    socket: UnixDatagram,
    lines: VecDeque<String>,
}

impl Manager {
    /// Listens in the home's folder. The agent hears of a watchdog of 400 ms, so it looks every 200.
    fn start(home: &Home, arguments: &[&str], wedge: Option<&str>) -> (Manager, Run) {
        let path = home.path("notify");
        let _ = std::fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).expect("a socket in a short path");
        socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
        if let Some(stage) = wedge {
            std::fs::write(home.path("wedge"), stage).expect("the switch");
        }
        let environment = [
            ("NOTIFY_SOCKET", path.as_os_str()),
            ("WATCHDOG_USEC", "400000".as_ref()),
            ("TRAILSPOOL_WEDGE", &*home.path("wedge").into_os_string()),
        ]
        .map(|(name, value)| (name, value.to_owned()));
        let environment: Vec<_> =
            environment.iter().map(|(name, value)| (*name, value.as_os_str())).collect();
        let run = home.start_with(arguments, &environment);
        (Manager { socket, lines: VecDeque::new() }, run)
    }

    /// The next variable that the agent sets.
    fn next(&mut self) -> String {
        while self.lines.is_empty() {
            let mut message = [0; 8192];
            let len = self.socket.recv(&mut message).expect("a message within a minute");
            let text = std::str::from_utf8(&message[..len]).expect("text");
            self.lines.extend(text.lines().map(str::to_owned));
        }
        self.lines.pop_front().expect("a line")
    }

    /// All up to the first that begins so, which is the last of them.
    fn until(&mut self, begin: &str) -> Vec<String> {
        let mut seen = Vec::new();
        while seen.last().is_none_or(|line: &String| !line.starts_with(begin)) {
            seen.push(self.next());
        }
        seen
    }
}

fn home(server: &S3Server, bucket: &Bucket) -> Home {
    let home = Home::new();
    home.configure(&Setup::new(server, &bucket.name, file_output("siem", &home.path("out.ndjson"))));
    home
}

#[test]
fn the_manager_hears_of_the_start_the_progress_a_reload_and_the_stop() {
    let bucket = Bucket::generate(&Plan::small(1, yesterday()));
    let server = S3Server::start(&bucket, Faults::default());
    let home = home(&server, &bucket);
    let (mut manager, run) = Manager::start(&home, &[], None);

    let start = manager.until("READY=1");
    assert!(start.iter().any(|line| line.starts_with("STATUS=starting: ")), "{start:?}");
    assert!(!start.contains(&"WATCHDOG=1".to_owned()), "petted before it was ready: {start:?}");
    for _ in 0..3 {
        manager.until("WATCHDOG=1");
    }
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", run.id())).expect("its limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("a limit of cores");
    assert!(core.split_whitespace().skip(4).take(2).eq(["0", "0"]), "{core}");

    run.signal(Signal::SIGHUP);
    manager.until("RELOADING=1");
    assert!(manager.next().starts_with("MONOTONIC_USEC="), "systemd.service(5): both in one message");
    manager.until("READY=1");
    manager.until("STATUS=");
    manager.until("WATCHDOG=1");

    // A faulty configuration: the old one stays, and the reload is over.
    home.edit_config("[[output]]", "[[outputs]]");
    run.signal(Signal::SIGHUP);
    manager.until("RELOADING=1");
    manager.until("READY=1");

    run.signal(Signal::SIGTERM);
    manager.until("STOPPING=1");
    drop(manager); // nobody reads on: a full socket would hold up the agent
    run.wait(Duration::from_secs(60)).expect_code(0);
}

/// A stop that comes while a reload still waits for an output is a stop, and the last one.
#[test]
fn a_stop_during_a_reload_is_obeyed_and_nothing_is_started_anew() {
    let bucket = Bucket::generate(&Plan::small(1, yesterday()));
    let server = S3Server::start(&bucket, Faults::default());
    let home = Home::new();
    // Nobody listens there: what was collected waits, and the agent that stops waits for it.
    home.configure(&Setup::new(&server, &bucket.name, http_output("siem", "http://127.0.0.1:9/")));
    let (mut manager, mut run) = Manager::start(&home, &[], None);
    manager.until("READY=1");
    run.until("something waits for the output", |run| run.log().contains("siem"));

    run.signal(Signal::SIGHUP);
    manager.until("STATUS=stopping what is at work");
    run.signal(Signal::SIGTERM);
    while let line = manager.next()
        && line != "STOPPING=1"
    {
        assert_ne!(line, "READY=1", "it was started anew; its log:\n{}", run.log());
    }
    drop(manager);
    let end = run.wait(Duration::from_secs(60)).expect_code(0);
    assert!(!end.stderr.contains("told twice"), "{}", end.stderr);
}

#[cfg(not(feature = "wedge"))]
#[test]
fn this_build_has_no_switch_that_makes_a_stage_stand_still() {
    let bucket = Bucket::generate(&Plan::small(1, yesterday()));
    let server = S3Server::start(&bucket, Faults::default());
    let home = home(&server, &bucket);
    let (mut manager, run) = Manager::start(&home, &[], Some("storekeeper"));
    manager.until("READY=1");
    for _ in 0..5 {
        manager.until("WATCHDOG=1");
    }
    run.signal(Signal::SIGTERM);
    drop(manager);
    run.wait(Duration::from_secs(60)).expect_code(0);
    assert!(home.path("wedge").exists());
}

#[cfg(feature = "wedge")]
mod wedge {
    use super::*;
    use common::bucket::truth;

    fn nothing(_: &[u8]) -> bool {
        false
    }

    /// The stage that stands still, and what it is called.
    const STAGES: [(&str, &str); 5] = [
        ("run loop", "run loop"),
        ("storekeeper", "storekeeper"),
        ("fetch", "fetch "),
        ("source", "source prod"),
        ("output siem", "output siem"),
    ];

    /// Whatever stands still: it is named, the petting ends, and after the restart everything is there.
    #[test]
    fn a_stage_that_stands_still_is_named_and_no_longer_petted_and_nothing_is_lost() {
        std::thread::scope(|scope| {
            for (stage, name) in STAGES {
                scope.spawn(move || stands_still(stage, name));
            }
        });
    }

    fn stands_still(stage: &str, name: &str) {
        let bucket = Bucket::generate(&Plan::small(1, yesterday()));
        let server = S3Server::start(&bucket, Faults::default());
        let home = home(&server, &bucket);
        // The run loop is asked before anything else is at work, and a start that stands still is another test.
        let early = Some(stage).filter(|stage| *stage != "run loop");
        let (mut manager, run) = Manager::start(&home, &[], early);
        manager.until("READY=1");
        if early.is_none() {
            std::fs::write(home.path("wedge"), stage).expect("the switch");
        }
        manager.until(&format!("STATUS={name}"));
        for _ in 0..5 {
            let between = manager.until("STATUS=");
            assert!(!between.contains(&"WATCHDOG=1".to_owned()), "{stage}: {between:?}");
        }
        let log = run.log();
        assert_eq!(log.matches(" has stood still for ").count(), 1, "{stage}: {log}");
        run.kill();
        let end = home.once().expect_code(0);
        assert_eq!(end.books().faults(&truth(&bucket.objects, &nothing)), Vec::<String>::new(), "{stage}");
    }

    #[test]
    fn a_recovery_that_comes_on_asks_for_time_and_one_that_stands_still_does_not() {
        let bucket = Bucket::generate(&Plan::small(1, yesterday()));
        let server = S3Server::start(&bucket, Faults::default());
        let home = home(&server, &bucket);
        let (mut manager, run) = Manager::start(&home, &[], Some("recovery"));
        manager.until("EXTEND_TIMEOUT_USEC=");
        manager.until("STATUS=recovery stands still");
        for _ in 0..5 {
            let between = manager.until("STATUS=");
            assert!(!between.iter().any(|line| line.starts_with("EXTEND_TIMEOUT_USEC")), "{between:?}");
        }
        run.signal(Signal::SIGTERM);
        drop(manager);
        run.wait(Duration::from_secs(60)).expect_code(0);
    }

    /// A receiver that takes nothing is a state: minutes without an acknowledgement do not restart anybody.
    #[test]
    fn waiting_for_a_receiver_or_for_a_server_is_no_stall() {
        let bucket = Bucket::generate(&Plan::small(1, yesterday()));
        let server =
            S3Server::start(&bucket, Faults { latency: Duration::from_secs(2), ..Faults::default() });
        let home = Home::new();
        // Nobody listens there: every connection is refused, and the output pauses between its tries.
        let siem = http_output("siem", "http://127.0.0.1:9/");
        home.configure(&Setup::new(&server, &bucket.name, siem));
        let (mut manager, run) = Manager::start(&home, &[], None);
        manager.until("READY=1");
        // Twice the longest bound of this build.
        for _ in 0..2 * 10 * 5 {
            let between = manager.until("WATCHDOG=1");
            assert!(!between.iter().any(|line| line.contains("stands still")), "{between:?}");
        }
        run.signal(Signal::SIGTERM);
        drop(manager);
        run.wait(Duration::from_secs(60)).expect_code(0);
    }
}
