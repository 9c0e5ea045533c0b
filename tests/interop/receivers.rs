//! Delivery to real receivers that this project did not write: rsyslog (TCP, TLS, RELP, RELP over TLS) and syslog-ng (TCP,
//! TLS, plain lines). Each gets ten thousand generated records from the real agent, and is killed with SIGKILL and started
//! again in the middle. The doctor finds nothing to say of any. Afterwards every record stands in the receiver's file byte for byte, with its own time and place;
//! how many came twice is printed.
//!
//! `TRAILSPOOL_TEST_RECEIVERS` names a folder into which the packages were unpacked; `receivers.sh` beside this does that
//! and runs it. Without it the test says so and passes.
#![allow(
    clippy::disallowed_methods,
    reason = "a test's configuration is its environment, and it has a clock of its own"
)]

#[path = "../common/mod.rs"]
mod common;

use std::collections::HashMap;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::agent::{Home, Setup};
use common::bucket::{Bucket, Plan, yesterday};
use common::s3_server::{Faults, S3Server};

const RECORDS: usize = 10_000;
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    /// Of the receiver's configuration; `@…@` are places.
    receiver: fn(&Place) -> String,
    program: Program,
    /// Lines of the output.
    output: &'static str,
    tls: bool,
    /// Whether lines have MSGID, SD-ID and TIMESTAMP before the record.
    syslog: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Program {
    Rsyslog,
    SyslogNg,
}

const CASES: [Case; 7] = [
    Case {
        name: "rsyslog-tcp",
        receiver: |place| rsyslog(place, "module(load=\"imtcp\")", "type=\"imtcp\""),
        program: Program::Rsyslog,
        output: "kind = 'syslog'",
        tls: false,
        syslog: true,
    },
    Case {
        name: "rsyslog-tls",
        receiver: |place| {
            let module = "module(load=\"imtcp\" streamDriver.name=\"ossl\" streamDriver.mode=\"1\" \
                          streamDriver.authMode=\"x509/certvalid\")";
            rsyslog(place, module, "type=\"imtcp\"")
        },
        program: Program::Rsyslog,
        output: "kind = 'syslog'",
        tls: true,
        syslog: true,
    },
    Case {
        name: "rsyslog-relp",
        receiver: |place| rsyslog(place, "module(load=\"imrelp\")", "type=\"imrelp\" maxDataSize=\"1m\""),
        program: Program::Rsyslog,
        output: "kind = 'relp'",
        tls: false,
        syslog: true,
    },
    Case {
        name: "rsyslog-relp-tls",
        receiver: |place| {
            let tls = place
                .paths("tls.caCert=\"@ca.pem@\" tls.myCert=\"@server.pem@\" tls.myPrivKey=\"@server.key@\"");
            let input =
                format!("type=\"imrelp\" maxDataSize=\"1m\" tls=\"on\" tls.authMode=\"certvalid\" {tls}");
            rsyslog(place, "module(load=\"imrelp\" tls.tlsLib=\"openssl\")", &input)
        },
        program: Program::Rsyslog,
        output: "kind = 'relp'",
        tls: true,
        syslog: true,
    },
    Case {
        name: "syslog-ng-tcp",
        receiver: |place| syslog_ng(place, "syslog(ip('127.0.0.1') port(@port@) transport('tcp'))"),
        program: Program::SyslogNg,
        output: "kind = 'syslog'",
        tls: false,
        syslog: true,
    },
    Case {
        name: "syslog-ng-tls",
        receiver: |place| {
            syslog_ng(
                place,
                "syslog(ip('127.0.0.1') port(@port@) transport('tls') tls(key-file('@server.key@') \
                 cert-file('@server.pem@') ca-file('@ca.pem@') peer-verify(required-trusted)))",
            )
        },
        program: Program::SyslogNg,
        output: "kind = 'syslog'",
        tls: true,
        syslog: true,
    },
    Case {
        name: "syslog-ng-lines",
        receiver: |place| {
            syslog_ng(place, "network(ip('127.0.0.1') port(@port@) transport('tcp') flags(no-parse))")
        },
        program: Program::SyslogNg,
        output: "kind = 'tcp'",
        tls: false,
        syslog: false,
    },
];

fn rsyslog(place: &Place, module: &str, input: &str) -> String {
    // The queue is direct, so that rsyslog acknowledges what it has written: its own queue in memory would lose what it
    // acknowledged when it is killed.
    place.paths(&format!(
        r#"global(workDirectory="@work@" maxMessageSize="1m" parser.escapeControlCharactersOnReceive="off"
    defaultNetstreamDriverCAFile="@ca.pem@" defaultNetstreamDriverCertFile="@server.pem@"
    defaultNetstreamDriverKeyFile="@server.key@")
main_queue(queue.type="Direct")
{module}
input({input} port="@port@")
template(name="line" type="string" string="%msgid%|%structured-data%|%timereported:::date-rfc3339%|%msg%\n")
action(type="omfile" file="@file@" template="line")
"#
    ))
}

fn syslog_ng(place: &Place, source: &str) -> String {
    let line = if place.case.syslog { "$MSGID|$SDATA|$S_ISODATE|$MSG\\n" } else { "$MSG\\n" };
    place.paths(&format!(
        "@version: 3.38\noptions {{ log-msg-size(1048576); stats-freq(0); keep-timestamp(yes); time-zone('UTC'); }};\n\
         source s {{ {source}; }};\n\
         destination d {{ file('@file@' template(\"{line}\") flush-lines(1)); }};\n\
         log {{ source(s); destination(d); flags(flow-control); }};\n"
    ))
}

/// Where a case works.
struct Place {
    case: Case,
    root: PathBuf,
    dir: PathBuf,
    certificates: PathBuf,
    port: u16,
}

impl Place {
    fn paths(&self, text: &str) -> String {
        let shown = |path: PathBuf| path.to_str().unwrap().to_owned();
        let mut text = text
            .replace("@port@", &self.port.to_string())
            .replace("@file@", &shown(self.dir.join("received")))
            .replace("@work@", &shown(self.dir.clone()));
        for name in ["ca.pem", "server.pem", "server.key", "client.pem", "client.key"] {
            text = text.replace(&format!("@{name}@"), &shown(self.certificates.join(name)));
        }
        text
    }

    /// Starts the receiver, and waits until it listens.
    fn start(&self) -> Receiver {
        let (usr, dir) = (self.root.join("usr"), &self.dir);
        let libraries = usr.join("lib/x86_64-linux-gnu");
        let mut command = match self.case.program {
            Program::Rsyslog => {
                let mut command = Command::new(usr.join("sbin/rsyslogd"));
                command.args(["-n", "-f"]).arg(dir.join("conf")).arg("-i").arg(dir.join("pid"));
                command.arg("-M").arg(libraries.join("rsyslog"));
                command
            }
            Program::SyslogNg => {
                let mut command = Command::new(usr.join("sbin/syslog-ng"));
                command.args(["-F", "--no-caps"]).arg("-f").arg(dir.join("conf"));
                command.arg("-R").arg(dir.join("persist")).arg("-p").arg(dir.join("pid"));
                command.arg("-c").arg(dir.join("ctl"));
                command.arg(format!("--module-path={}", usr.join("lib/syslog-ng/3.38").display()));
                command
            }
        };
        let search = [usr.join("lib/syslog-ng"), libraries, self.root.join("lib/x86_64-linux-gnu")];
        command.env("LD_LIBRARY_PATH", std::env::join_paths(search).unwrap());
        let log = fs::File::options().create(true).append(true).open(dir.join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let _ = fs::remove_file(dir.join("pid"));
        let mut child = command.spawn().expect("the receiver");
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = child.try_wait().unwrap();
            assert!(
                ended.is_none() && begun.elapsed() < PATIENCE,
                "{}: no start\n{}",
                self.case.name,
                self.log()
            );
            thread::sleep(Duration::from_millis(50));
        }
        Receiver(child)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    fn received(&self) -> Vec<u8> {
        fs::read(self.dir.join("received")).unwrap_or_default()
    }
}

/// Killed when dropped, whatever happens.
struct Receiver(Child);

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A CA, and a certificate for either side.
fn certificates(dir: &Path) {
    let openssl = |arguments: &[&str]| {
        let done = Command::new("openssl").args(arguments).current_dir(dir).output().expect("openssl");
        assert!(done.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    let new_key = ["req", "-newkey", "rsa:2048", "-nodes"];
    let ca = ["-x509", "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=interop CA"];
    openssl(&[&new_key[..], &ca].concat());
    fs::write(dir.join("ext"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").unwrap();
    for name in ["server", "client"] {
        let [key, request, pem] = ["key", "csr", "pem"].map(|extension| format!("{name}.{extension}"));
        openssl(
            &[&new_key[..], &["-keyout", &key, "-out", &request, "-subj", &format!("/CN={name}.test")]]
                .concat(),
        );
        openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            "ext",
            "-out",
            &pem,
        ]);
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(dir.join(key), fs::Permissions::from_mode(0o600)).unwrap();
    }
}

/// The records of the bucket, each with the key of its object and its place there.
fn expected(bucket: &Bucket) -> HashMap<Vec<u8>, Vec<(String, usize)>> {
    let mut all: HashMap<Vec<u8>, Vec<(String, usize)>> = HashMap::new();
    for object in &bucket.objects {
        for (index, record) in object.records.iter().enumerate() {
            all.entry(record.to_vec()).or_default().push((object.key.clone(), index));
        }
    }
    all
}

/// A port that nothing listens at, and that the kernel gives to nobody by itself while the receiver is away.
fn free_port() -> u16 {
    let ports = std::iter::repeat_with(|| fastrand::u16(20_000..32_000));
    ports.take(1000).find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok()).expect("a free port")
}

/// How one case went.
struct Report {
    name: &'static str,
    records: usize,
    again: usize,
    before_kill: usize,
    took: Duration,
    peak_kib: u64,
}

fn run(place: &Place, bucket: &Bucket) -> Report {
    let case = place.case;
    fs::write(place.dir.join("conf"), (case.receiver)(place)).unwrap();
    let mut output = format!(
        "[[output]]\nname = 'siem'\n{}\naddress = 'localhost:{}'\nbatch_records = 250\n",
        case.output, place.port
    );
    if case.tls {
        output += &place.paths(
            "transport = 'tls'\nca_file = '@ca.pem@'\nclient_cert_file = '@client.pem@'\nclient_key_file = '@client.key@'\n",
        );
    }
    let server = S3Server::start(bucket, Faults { latency: Duration::from_millis(100), ..Faults::default() });
    let home = Home::new();
    home.configure(&Setup::new(&server, &bucket.name, output));

    let receiver = place.start();
    let begun = Instant::now();
    let checked = home.check(&["--json"]);
    let checked = String::from_utf8_lossy(&checked.stdout).into_owned();
    let of_output = checked.lines().filter(|line| line.contains("\"output\"")).collect::<Vec<_>>();
    assert!(
        !of_output.is_empty() && of_output.iter().all(|line| line.contains("\"ok\"")),
        "{}: {checked}",
        case.name
    );

    let agent = home.start(&["--once", "--timeout", "100"]);
    let lines = || memchr::memchr_iter(b'\n', &place.received()).count();
    while lines() < RECORDS / 4 {
        assert!(
            begun.elapsed() < PATIENCE,
            "{}: {} lines\n{}\n{}",
            case.name,
            lines(),
            place.log(),
            agent.log()
        );
        thread::sleep(Duration::from_millis(5));
    }
    drop(receiver);
    let before_kill = lines();
    thread::sleep(Duration::from_millis(500));
    // a line that the kill cut stands alone
    if !place.received().ends_with(b"\n") {
        use std::io::Write as _;
        let file = fs::File::options().append(true).open(place.dir.join("received"));
        file.unwrap().write_all(b"\n").unwrap();
    }
    let receiver = place.start();
    let end = agent.wait(Duration::from_secs(120)).expect_code(0);
    let took = begun.elapsed();
    let expected = expected(bucket);
    let whole = || {
        let text = place.received();
        let mut found: HashMap<Vec<u8>, usize> = HashMap::new();
        let mut strange = 0;
        for line in text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            match record_of(case, line, &expected) {
                Some(record) => *found.entry(record.to_vec()).or_default() += 1,
                None => strange += 1,
            }
        }
        (found, strange)
    };
    // The end of the agent confirms what receivers have read; a moment may pass until it stands in the file.
    let waiting = Instant::now();
    let (found, strange) = loop {
        let (found, strange) = whole();
        if found.len() == expected.len() || waiting.elapsed() > Duration::from_secs(10) {
            break (found, strange);
        }
        thread::sleep(Duration::from_millis(100));
    };
    drop(receiver);
    let missing = expected.keys().filter(|record| !found.contains_key(*record)).count();
    assert_eq!(missing, 0, "{}: records are missing\n{}\n{}", case.name, place.log(), end.stderr);
    for (record, places) in &expected {
        assert!(
            found[record] >= places.len(),
            "{}: a record that stands in two objects came once",
            case.name
        );
    }
    assert!(strange <= 2, "{}: {strange} lines are no whole records", case.name);
    let records = expected.values().map(Vec::len).sum();
    let again = found.values().sum::<usize>() - records;
    Report { name: case.name, records, again, before_kill, took, peak_kib: end.peak_kib }
}

/// The record of a line, if it is a whole one with its own time and place.
fn record_of<'a>(
    case: Case,
    line: &'a [u8],
    expected: &HashMap<Vec<u8>, Vec<(String, usize)>>,
) -> Option<&'a [u8]> {
    if !case.syslog {
        return expected.contains_key(line).then_some(line);
    }
    let mut parts = line.splitn(4, |&byte| byte == b'|');
    let (id, data, time, record) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let places = expected.get(record)?;
    let event: serde_json::Value = serde_json::from_slice(record).ok()?;
    let event_time = event["eventTime"].as_str()?.strip_suffix('Z')?;
    let (data, time) = (std::str::from_utf8(data).ok()?, std::str::from_utf8(time).ok()?);
    let placed = places.iter().any(|(key, index)| {
        data.contains(&format!("key=\"{key}\"")) && data.contains(&format!("index=\"{index}\""))
    });
    let good = id == b"CloudTrail"
        && data.starts_with("[trailspool@32473 ")
        && time.starts_with(event_time)
        && placed;
    assert!(good, "{}: {}", case.name, String::from_utf8_lossy(line));
    Some(record)
}

#[test]
fn real_receivers_get_every_record_although_they_are_killed() {
    let Ok(root) = std::env::var("TRAILSPOOL_TEST_RECEIVERS") else {
        eprintln!("skipped: TRAILSPOOL_TEST_RECEIVERS names no folder with rsyslog and syslog-ng");
        return;
    };
    let dir = tempfile::Builder::new().prefix("trailspool-receivers-").tempdir().unwrap();
    certificates(dir.path());
    let mut objects = 400;
    let bucket = loop {
        let bucket = Bucket::generate(&Plan {
            objects,
            duplicates: 0,
            neighbours: false,
            max_records: 200,
            ..Plan::small(7, yesterday())
        });
        if bucket.objects.iter().map(|object| object.records.len()).sum::<usize>() >= RECORDS {
            break bucket;
        }
        objects += 100;
    };
    let places: Vec<Place> = CASES
        .into_iter()
        .map(|case| {
            let own = dir.path().join(case.name);
            fs::create_dir(&own).unwrap();
            let port = free_port();
            Place { case, root: root.clone().into(), dir: own, certificates: dir.path().into(), port }
        })
        .collect();
    // All at once: most of the time is spent waiting.
    let reports: Vec<Report> = thread::scope(|scope| {
        let running: Vec<_> = places.iter().map(|place| scope.spawn(|| run(place, &bucket))).collect();
        running.into_iter().map(|case| case.join().expect("a case that holds")).collect()
    });
    for Report { name, records, again, before_kill, took, peak_kib } in reports {
        println!(
            "{name}: {records} records, killed after {before_kill} lines, {again} records twice, {took:.1?}, peak memory \
             {peak_kib} KiB"
        );
    }
}
