//! Accounts resolved in a directory that this project did not write, OpenLDAP's slapd: over ldaps://, with StartTLS, and
//! plainly on loopback; with accounts that it does not have or has twice, a name made to be read as a filter, a slapd
//! that is killed in the middle, one that hangs, a wrong password. Whatever the directory does, records arrive. The
//! doctor names each fault.
//!
//! `TRAILSPOOL_TEST_SLAPD` names a folder into which the package was unpacked; `slapd.sh` beside this does that and runs
//! it. Without it the tests say so and pass.
#![allow(
    clippy::disallowed_methods,
    reason = "a test's configuration is its environment, and it has a clock of its own"
)]

#[path = "../common/mod.rs"]
mod common;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::agent::{Home, Run, Setup, file_output};
use common::bucket::{Bucket, Object, Plan, yesterday};
use common::s3_server::{Faults, S3Server};
use common::sqs_server::{SqsFaults, SqsServer};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);
const BASE: &str = "dc=corp,dc=example,dc=com";
const BIND_DN: &str = "cn=trailspool,dc=corp,dc=example,dc=com";
const PASSWORD: &str = "a-password-that-nobody-may-see";

/// What Active Directory has and OpenLDAP has not.
const SCHEMA: &str = "\
attributetype ( 1.2.840.113556.1.4.221 NAME 'sAMAccountName' EQUALITY caseIgnoreMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
attributetype ( 1.2.840.113556.1.4.656 NAME 'userPrincipalName' EQUALITY caseIgnoreMatch
  SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 SINGLE-VALUE )
objectclass ( 1.3.6.1.4.1.32473.1 NAME 'adAccount' SUP top AUXILIARY
  MAY ( sAMAccountName $ userPrincipalName ) )
";

/// The people: common name, account, mail addresses.
const PEOPLE: [(&str, &str, &[&str]); 5] = [
    ("John Smith", "jsmith", &["john.smith@example.com", "js@example.com"]),
    ("Late Comer", "late", &["late@example.com"]),
    ("Third One", "third", &[]),
    ("Twin One", "twin", &["one@example.com"]),
    ("Twin Two", "twin", &["two@example.com"]),
];

/// slapd's folder and ports. The process comes and goes.
struct Slapd {
    dir: tempfile::TempDir,
    root: PathBuf,
    plain: u16,
    tls: u16,
}

/// Killed when dropped.
struct Running(Child);

impl Slapd {
    /// `None`: there is no slapd, which is said.
    fn new(certificates: bool) -> Option<Slapd> {
        let Ok(root) = std::env::var("TRAILSPOOL_TEST_SLAPD") else {
            eprintln!("skipped: TRAILSPOOL_TEST_SLAPD names no folder with slapd");
            return None;
        };
        let dir = tempfile::Builder::new().prefix("trailspool-slapd-").tempdir().unwrap();
        let slapd = Slapd { dir, root: root.into(), plain: free_port(), tls: free_port() };
        let at = |name: &str| slapd.dir.path().join(name).display().to_string();
        let unpacked = |name: &str| slapd.root.join(name).display().to_string();
        let tls = match certificates {
            true => format!(
                "TLSCACertificateFile {}\nTLSCertificateFile {}\nTLSCertificateKeyFile {}\n",
                fixture("ca.pem"),
                fixture("server.pem"),
                fixture("server.key")
            ),
            false => String::new(),
        };
        fs::write(at("schema"), SCHEMA).unwrap();
        fs::create_dir(at("data")).unwrap();
        let [core, cosine, person] = ["core", "cosine", "inetorgperson"]
            .map(|name| unpacked(&format!("etc/ldap/schema/{name}.schema")));
        let config = format!(
            "include {core}\ninclude {cosine}\ninclude {person}\ninclude {}\nmodulepath {}\nmoduleload back_mdb\n\
             pidfile {}\n{tls}database mdb\nsuffix {BASE}\ndirectory {}\n\
             access to attrs=userPassword by anonymous auth by * none\n\
             access to * by dn.exact=\"{BIND_DN}\" read by * none\n",
            at("schema"),
            unpacked("usr/lib/ldap"),
            at("pid"),
            at("data")
        );
        fs::write(at("slapd.conf"), config).unwrap();
        fs::write(at("people.ldif"), people()).unwrap();
        let add =
            slapd.command().args(["-T", "add", "-f", &at("slapd.conf"), "-l", &at("people.ldif")]).output();
        let add = add.expect("slapd");
        assert!(add.status.success(), "{}", String::from_utf8_lossy(&add.stderr));
        Some(slapd)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.root.join("usr/sbin/slapd"));
        let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|name| self.root.join(name));
        command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries).unwrap());
        command.stdin(Stdio::null());
        command
    }

    /// Starts it, and waits until it listens.
    fn start(&self, with_tls: bool) -> Running {
        let at = |name: &str| self.dir.path().join(name);
        let mut urls = format!("ldap://127.0.0.1:{}/", self.plain);
        if with_tls {
            urls += &format!(" ldaps://127.0.0.1:{}/", self.tls);
        }
        let log = fs::File::options().create(true).append(true).open(at("log")).unwrap();
        let mut command = self.command();
        command.args(["-d", "0", "-h", &urls, "-f"]).arg(at("slapd.conf"));
        let mut running = Running(command.stdout(Stdio::null()).stderr(log).spawn().expect("slapd"));
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.plain)).is_err() {
            let ended = running.0.try_wait().unwrap();
            let log = fs::read_to_string(at("log")).unwrap_or_default();
            assert!(ended.is_none() && begun.elapsed() < PATIENCE, "slapd does not start: {ended:?}\n{log}");
            thread::sleep(Duration::from_millis(20));
        }
        running
    }

    fn ldaps(&self) -> String {
        format!("url = 'ldaps://localhost:{}'\nca_file = '{}'\n", self.tls, fixture("ca.pem"))
    }

    fn start_tls(&self) -> String {
        format!(
            "url = 'ldap://localhost:{}'\nstart_tls = true\nca_file = '{}'\n",
            self.plain,
            fixture("ca.pem")
        )
    }

    fn plain(&self) -> String {
        format!("url = 'ldap://127.0.0.1:{}'\n", self.plain)
    }
}

impl Running {
    fn signal(&self, signal: Signal) {
        nix::sys::signal::kill(Pid::from_raw(self.0.id() as i32), signal).expect("a signal to a child");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn people() -> String {
    let mut ldif = format!(
        "dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\ndc: corp\no: Corp\n\n\
         dn: {BIND_DN}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\ncn: trailspool\n\
         userPassword: {PASSWORD}\n"
    );
    for (name, account, mails) in PEOPLE {
        ldif += &format!(
            "\ndn: cn={name},{BASE}\nobjectClass: inetOrgPerson\nobjectClass: adAccount\ncn: {name}\nsn: {name}\n\
             sAMAccountName: {account}\nuserPrincipalName: {account}@corp.example.com\n"
        );
        ldif.extend(mails.iter().map(|mail| format!("mail: {mail}\n")));
    }
    ldif
}

fn fixture(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/tls").join(name).display().to_string()
}

/// A port that nothing listens at, and that the kernel gives to nobody by itself while slapd is away.
fn free_port() -> u16 {
    let ports = std::iter::repeat_with(|| fastrand::u16(20_000..32_000));
    ports.take(1000).find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok()).expect("a free port")
}

/// A bucket, its queue, and an agent that asks the directory and writes envelopes into a file.
struct Bench {
    server: S3Server,
    queue: SqsServer,
    bucket: String,
    home: Home,
}

impl Bench {
    /// `directory`: lines that say how it is reached.
    fn new(directory: &str, password: &str) -> Bench {
        let bucket = Bucket::generate(&Plan::small(1, yesterday()));
        let (server, queue) =
            (S3Server::start(&bucket, Faults::default()), SqsServer::start(SqsFaults::default()));
        let home = Home::new();
        fs::write(home.path("password"), password).unwrap();
        fs::set_permissions(home.path("password"), fs::Permissions::from_mode(0o600)).unwrap();
        let output = file_output("file", &home.path("out.ndjson")) + "format = 'envelope'\n";
        let directory = format!(
            "{output}\n[directory]\n{directory}base = '{BASE}'\nbind_dn = '{BIND_DN}'\npassword_file = {:?}\n\
             timeout_seconds = 1\n",
            home.path("password")
        );
        home.configure(&Setup {
            source: format!("unfiltered = true\nmethod = 'sqs'\nqueue_url = {:?}\n", queue.url()),
            ..Setup::new(&server, &bucket.name, directory)
        });
        home.edit_config("status_listen = \"\"", "status_listen = \"127.0.0.1:0\"");
        Bench { server, queue, bucket: bucket.name, home }
    }

    /// One more object, with a record for each of these users, and a message that names it.
    fn collect(&self, number: u32, users: &[&str]) {
        let record = |(n, user): (usize, &&str)| {
            json!({
                "eventVersion": "1.08", "eventID": format!("{number}-{n}"), "eventName": "GetObject",
                "userIdentity": {"type": "IAMUser", "userName": user, "accountId": "111122223333"},
            })
            .to_string()
        };
        let records: Vec<String> = users.iter().enumerate().map(record).collect();
        let day = yesterday();
        let (year, month, day) = (day.year(), u8::from(day.month()), day.day());
        let key = format!(
            "AWSLogs/111122223333/CloudTrail/us-east-1/{year}/{month:02}/{day:02}/\
             111122223333_CloudTrail_us-east-1_{year}{month:02}{day:02}T1200Z_{number:016}.json.gz"
        );
        let object = Object::native(key.clone(), &records, "of people");
        self.server.add(&object);
        self.queue.send(json!({"s3Bucket": self.bucket, "s3ObjectKey": [key]}).to_string());
    }

    /// The lines of an object's records, in order; each has come once.
    fn lines(&self, number: u32) -> Vec<Value> {
        let text = fs::read_to_string(self.home.path("out.ndjson")).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let all = whole.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let prefix = format!("{number}-");
        all.filter(|line| line["record"]["eventID"].as_str().is_some_and(|id| id.starts_with(&prefix)))
            .collect()
    }

    /// What goes along with each record of an object, once all of them have arrived.
    fn arrived(&self, run: &mut Run, number: u32, users: &[&str]) -> Vec<Value> {
        run.until("the records have arrived", |_| self.lines(number).len() == users.len());
        let lines = self.lines(number).into_iter();
        let of = |(line, user): (Value, &&str)| {
            assert_eq!(line["attribution"]["account"], **user, "what is derived stays: {line}");
            line["attribution"]["directory"].clone()
        };
        lines.zip(users).map(of).collect()
    }
}

/// The address of the status server.
fn address(run: &mut Run) -> SocketAddr {
    let said = |run: &Run| {
        let log = run.log();
        let line = log.lines().find_map(|line| line.split_once("status page: http://"))?.1.to_owned();
        line.strip_suffix('/')?.parse().ok()
    };
    run.until("its status page is there", |run| said(run).is_some());
    said(run).expect("an address")
}

fn get(at: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(at).expect("a connection to the status server");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// Waits until the metrics have these series.
fn until_metrics(run: &mut Run, at: SocketAddr, what: &str, series: &[&str]) {
    run.until(what, |_| {
        let page = get(at, "/metrics");
        series.iter().all(|series| page.lines().any(|line| line == *series))
    });
}

fn lookups(result: &str, count: u32) -> String {
    format!("trailspool_directory_lookups_total{{result=\"{result}\"}} {count}")
}

fn jsmith() -> Value {
    json!({
        "sAMAccountName": "jsmith", "userPrincipalName": "jsmith@corp.example.com", "mail": "john.smith@example.com",
    })
}

fn plainly(account: &str) -> Value {
    let mut entry =
        json!({"sAMAccountName": account, "userPrincipalName": format!("{account}@corp.example.com")});
    if let Some((_, _, [mail, ..])) = PEOPLE.iter().find(|(_, name, _)| *name == account) {
        entry["mail"] = json!(mail);
    }
    entry
}

#[test]
fn what_the_directory_knows_goes_along_and_nothing_waits_for_it() {
    let Some(slapd) = Slapd::new(true) else { return };
    let running = slapd.start(true);
    let bench = Bench::new(&slapd.ldaps(), PASSWORD);
    let mut run = bench.home.start(&[]);
    let at = address(&mut run);

    // A name that would match everybody if it were read as a part of a filter, and one that would match by a star.
    let users = ["jsmith", "nobody", "twin", "*)(sAMAccountName=*", "j*"];
    bench.collect(1, &users);
    assert_eq!(bench.arrived(&mut run, 1, &users), vec![Value::Null; users.len()], "none is known yet");
    let known = [lookups("found", 1), lookups("absent", 3), lookups("ambiguous", 1), lookups("failed", 0)];
    until_metrics(&mut run, at, "all are looked up", &known.each_ref().map(|series| &**series));
    bench.collect(2, &users);
    let mut want = vec![Value::Null; users.len()];
    want[0] = jsmith();
    assert_eq!(bench.arrived(&mut run, 2, &users), want);

    // Killed: what is known stays known, and what is not arrives without.
    drop(running);
    let users = ["jsmith", "late"];
    bench.collect(3, &users);
    assert_eq!(bench.arrived(&mut run, 3, &users), [jsmith(), Value::Null]);
    let refused = "trailspool_directory_error{cause=\"conn-refused\"} 1";
    until_metrics(&mut run, at, "the directory is missed", &[refused]);
    let running = slapd.start(true);
    until_metrics(&mut run, at, "it is found again", &[&lookups("found", 2)]);
    assert!(!get(at, "/metrics").contains("trailspool_directory_error{"), "the trouble has passed");
    bench.collect(4, &users);
    assert_eq!(bench.arrived(&mut run, 4, &users), [jsmith(), plainly("late")]);

    // It takes connections and says nothing.
    running.signal(Signal::SIGSTOP);
    let users = ["third", "jsmith", "late"];
    bench.collect(5, &users);
    assert_eq!(bench.arrived(&mut run, 5, &users), [Value::Null, jsmith(), plainly("late")]);
    until_metrics(&mut run, at, "it does not answer", &["trailspool_directory_error{cause=\"timeout\"} 1"]);
    bench.collect(6, &users);
    assert_eq!(bench.arrived(&mut run, 6, &users), [Value::Null, jsmith(), plainly("late")]);
    running.signal(Signal::SIGCONT);
    // A question that was not answered in time is asked again with the next record.
    let mut number = 7;
    loop {
        bench.collect(number, &["third"]);
        let known = bench.arrived(&mut run, number, &["third"]);
        if known == [plainly("third")] {
            break;
        }
        assert_eq!(known, [Value::Null]);
        number += 1;
        until_metrics(&mut run, at, "it answers again", &[&lookups("found", 3)]);
    }

    run.signal(Signal::SIGTERM);
    let end = run.wait(PATIENCE).expect_code(0);
    assert!(!end.stderr.contains(PASSWORD), "a secret is in the log");
    let warnings = end.stderr.lines().filter(|line| line.contains("records go out without")).count();
    assert!((2..=6).contains(&warnings), "each trouble once or so:\n{}", end.stderr);
    println!("ldaps: {number} objects, peak memory {} KiB", end.peak_kib);
}

#[test]
fn tls_may_begin_by_start_tls_and_loopback_needs_none() {
    let Some(slapd) = Slapd::new(true) else { return };
    let _running = slapd.start(true);
    for directory in [slapd.start_tls(), slapd.plain()] {
        let bench = Bench::new(&directory, PASSWORD);
        let mut run = bench.home.start(&[]);
        let at = address(&mut run);
        bench.collect(1, &["jsmith"]);
        until_metrics(&mut run, at, "it is looked up", &[&lookups("found", 1)]);
        bench.collect(2, &["jsmith"]);
        assert_eq!(bench.arrived(&mut run, 2, &["jsmith"]), [jsmith()], "{directory}");
    }
}

#[test]
fn a_wrong_password_is_an_unhealthy_state_and_records_arrive() {
    let Some(slapd) = Slapd::new(true) else { return };
    let _running = slapd.start(true);
    let bench = Bench::new(&slapd.ldaps(), "not-the-password");
    let mut run = bench.home.start(&[]);
    let at = address(&mut run);
    bench.collect(1, &["jsmith"]);
    until_metrics(&mut run, at, "it is refused", &["trailspool_directory_error{cause=\"credentials\"} 1"]);
    assert_eq!(bench.arrived(&mut run, 1, &["jsmith"]), [Value::Null]);
    assert!(get(at, "/healthz").starts_with("HTTP/1.1 503"));
    let status = get(at, "/status.json");
    assert!(
        status.contains("wrong name or password (result 49)") && !status.contains("not-the-password"),
        "{status}"
    );
}

/// The one finding of the directory that is not as it should be: probe and exit code, why and fix.
fn fault(bench: &Bench, code: i32) -> (String, String) {
    let end = bench.home.check(&["--json"]);
    let report: Value = serde_json::from_slice(&end.stdout).expect("JSON");
    let findings = report["findings"].as_array().expect("findings").iter();
    let bad: Vec<&Value> = findings.filter(|f| f["part"] == "directory" && f["level"] == "fail").collect();
    assert!(!String::from_utf8_lossy(&end.stdout).contains(PASSWORD));
    let [fault] = bad[..] else { panic!("{bad:?}\n{}", String::from_utf8_lossy(&end.stdout)) };
    assert_eq!(end.code(), Some(code), "{fault}");
    let text = |key: &str| fault[key].as_str().expect("a text").to_owned();
    (text("probe"), format!("{} / {} / {}", text("what"), text("why"), text("fix")))
}

#[test]
fn the_doctor_names_each_fault_of_a_directory_and_its_cure() {
    let Some(slapd) = Slapd::new(true) else { return };
    let running = slapd.start(true);
    for directory in [slapd.ldaps(), slapd.start_tls(), slapd.plain()] {
        let bench = Bench::new(&directory, PASSWORD);
        let end = bench.home.check(&["--json"]);
        let said = String::from_utf8_lossy(&end.stdout).into_owned();
        let of_directory: Vec<_> = said.lines().filter(|line| line.contains("\"directory\"")).collect();
        assert_eq!(of_directory.len(), 5, "{said}");
        assert!(of_directory.iter().all(|line| line.contains("\"level\":\"ok\"")), "{said}");
    }
    let is = |(probe, text): (String, String), expected: &str, words: &[&str]| {
        assert_eq!(probe, expected, "{text}");
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    };
    is(fault(&Bench::new(&slapd.ldaps(), "wrong"), 77), "bind", &["result 49", "`bind_dn` and the password"]);
    let bench = Bench::new(&slapd.ldaps(), PASSWORD);
    bench.home.edit_config(BASE, "dc=nowhere");
    bench.home.edit_config("cn=trailspool,dc=nowhere", BIND_DN);
    is(fault(&bench, 78), "base", &["result 32", "check `base`"]);
    let untrusted = slapd.ldaps().replace("/ca.pem", "/acme-ca.pem");
    is(fault(&Bench::new(&untrusted, PASSWORD), 78), "tls", &["ca_file"]);
    let no_tls_there =
        format!("url = 'ldaps://localhost:{}'\nca_file = '{}'\n", slapd.plain, fixture("ca.pem"));
    is(fault(&Bench::new(&no_tls_there, PASSWORD), 69), "tls", &["TLS"]);
    let tls_there = format!("url = 'ldap://127.0.0.1:{}'\n", slapd.tls);
    let (probe, text) = fault(&Bench::new(&tls_there, PASSWORD), 69);
    assert_eq!(probe, "bind", "{text}");

    running.signal(Signal::SIGSTOP);
    is(fault(&Bench::new(&slapd.plain(), PASSWORD), 69), "bind", &["did not answer the bind within 1 s"]);
    running.signal(Signal::SIGCONT);
    drop(running);
    is(fault(&Bench::new(&slapd.ldaps(), PASSWORD), 69), "tcp", &["`url` of [directory]"]);

    let without = Slapd::new(false).expect("it was there before");
    let _running = without.start(false);
    is(fault(&Bench::new(&without.start_tls(), PASSWORD), 78), "tls", &["StartTLS", "a certificate"]);
}
