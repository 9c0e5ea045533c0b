//! Answers that no S3 should give, each by a server that gives nothing else. The real agent says one clear
//! sentence, goes on asking or ends with the right code, and loses nothing: once the server is well again, the same
//! state directory collects everything. Faults of configuration files are in `tests/config.rs`.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use common::agent::{Finished, Home, Setup, file_output};
use common::bucket::{Bucket, Plan, truth, yesterday};
use common::receiver::lines;
use common::s3_server::{Faults, S3Server};
use nix::sys::signal::Signal;

/// Which requests are answered badly.
#[derive(Debug, Clone, Copy, PartialEq)]
enum To {
    List,
    Get,
}

/// How the agent takes it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Takes {
    /// Tries again for as long as it is let.
    Transient,
    /// `--once` ends with this code.
    Ends(i32),
}

use Takes::{Ends, Transient};
use To::{Get, List};

/// One bad answer, and what is then said.
struct Case {
    to: To,
    answer: Answer,
    takes: Takes,
    words: &'static str,
}

#[derive(Clone)]
enum Answer {
    /// These bytes; then the connection ends.
    Bytes(Arc<[u8]>),
    /// A head, and a piece over and over for as long as it is read.
    Endless(Arc<[u8]>, Arc<[u8]>),
}

/// A status with its headers and a body that has the announced length.
fn whole(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Answer {
    let body = body.as_ref();
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
    Answer::Bytes([head.as_bytes(), body].concat().into())
}

fn raw(bytes: impl AsRef<[u8]>) -> Answer {
    Answer::Bytes(bytes.as_ref().into())
}

fn error(code: &str, rest: &str) -> String {
    format!("<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code>{rest}</Error>")
}

fn listing(inside: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
         <EncodingType>url</EncodingType>{inside}</ListBucketResult>"
    )
}

fn entry(key: &str, size: &str) -> String {
    format!("<IsTruncated>false</IsTruncated><Contents><Key>{key}</Key><Size>{size}</Size></Contents>")
}

const PAGE: &str = "<!DOCTYPE html><html><head><title>Sign in</title></head><body>Welcome</body></html>";
const HTML: &str = "Content-Type: text/html\r\n";
const LOL: &str = "<?xml version=\"1.0\"?><!DOCTYPE lolz [<!ENTITY a \"lol\"><!ENTITY b \"&a;&a;&a;&a;&a;&a;\">]>\
                   <ListBucketResult><Contents><Key>&b;</Key><Size>1</Size></Contents></ListBucketResult>";

#[rustfmt::skip]
fn cases() -> Vec<Case> {
    let case = |to, answer, takes, words| Case { to, answer, takes, words };
    let many = "X-Bomb: x\r\n".repeat(5000);
    let long = format!("X-Bomb: {}\r\n", "x".repeat(100_000));
    let utf16: Vec<u8> = listing("").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let kms = "<Message>not authorized to perform: kms:Decrypt</Message>";
    let west = "<Region>eu-west-1</Region>";
    vec![
        // web pages
        case(List, whole("200 OK", HTML, PAGE), Ends(78), "answers with a web page (HTTP 200)"),
        case(List, whole("200 OK", "", PAGE), Ends(78), "answers with a web page"),
        case(List, whole("200 OK", "Content-Type: application/xml\r\n", PAGE), Ends(78), "answers with a web page"),
        case(List, whole("302 Found", "Location: http://portal.example/\r\nContent-Type: text/html\r\n", PAGE), Ends(78), "web page (HTTP 302)"),
        case(List, whole("403 Forbidden", HTML, PAGE), Ends(78), "web page (HTTP 403)"),
        case(List, whole("404 Not Found", HTML, PAGE), Ends(78), "web page (HTTP 404)"),
        case(List, whole("502 Bad Gateway", HTML, PAGE), Transient, "the server failed"),
        // redirects
        case(List, whole("302 Found", "", ""), Ends(78), "HTTP 302"),
        case(List, whole("301 Moved Permanently", "", ""), Ends(78), "check `region` and `endpoint`"),
        case(List, whole("301 Moved Permanently", "x-amz-bucket-region: eu-west-1\r\n", ""), Ends(78), "serves another one: check `endpoint`"),
        case(List, whole("400 Bad Request", "", error("AuthorizationHeaderMalformed", west)), Ends(78), "serves another one: check `endpoint`"),
        case(List, whole("307 Temporary Redirect", "Location: /\r\n", ""), Ends(78), "check `region` and `endpoint`"),
        // XML that is none, or not whole
        case(List, whole("200 OK", "", ""), Transient, "empty or cut off"),
        case(List, raw("HTTP/1.1 204 No Content\r\n\r\n"), Ends(78), "HTTP 204"),
        case(List, whole("200 OK", "", "{\"Contents\":[]}"), Transient, "not"),
        case(List, whole("200 OK", "", "<a/>"), Transient, "is XML, but no listing"),
        case(List, whole("200 OK", "", &listing(&entry("AWSLogs/1/x", "5"))[..150]), Transient, "not well-formed"),
        case(List, whole("200 OK", "", "<ListBucketResult><IsTruncated>true</IsTruncated>"), Transient, "empty or cut off"),
        case(List, whole("200 OK", "", "<ListBucketResult></Wrong>"), Transient, "not well-formed"),
        case(List, whole("200 OK", "", utf16), Transient, "not"),
        case(List, whole("200 OK", "Content-Encoding: gzip\r\n", b"\x1f\x8b\x08\0\0\0\0\0\0\x03"), Transient, "not"),
        case(List, whole("200 OK", "", "<a>".repeat(1000)), Transient, "listing"),
        case(List, whole("200 OK", "", LOL), Ends(0), "passed over"),
        case(List, Answer::Endless(raw_bytes("HTTP/1.1 200 OK\r\n\r\n<ListBucketResult>"), raw_bytes("<Owner><ID>x</ID></Owner>".repeat(400))), Transient, "longer than a listing can be"),
        case(List, Answer::Endless(raw_bytes("HTTP/1.1 200 OK\r\n\r\n<ListBucketResult><Name>"), raw_bytes("x".repeat(10_000))), Transient, "longer than a listing can be"),
        // listings that cannot be
        case(List, whole("200 OK", "", listing(&entry("AWSLogs/111122223333/x", "-5"))), Ends(0), "passed over"),
        case(List, whole("200 OK", "", listing(&entry("AWSLogs/111122223333/x", "99999999999999999999999"))), Ends(0), "passed over"),
        case(List, whole("200 OK", "", listing(&entry(&format!("AWSLogs/{}", "x".repeat(2000)), "5"))), Ends(0), "passed over"),
        case(List, whole("200 OK", "", listing("<IsTruncated>false</IsTruncated><Contents><Size>5</Size></Contents>")), Ends(0), "passed over"),
        case(List, whole("200 OK", "", listing(&entry("elsewhere/x", "5"))), Ends(0), "passed over"),
        case(List, whole("200 OK", "", listing("<IsTruncated>true</IsTruncated>")), Transient, "more is promised, but not how"),
        case(List, whole("200 OK", "", listing("<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken>")), Ends(78), "empty pages without end"),
        case(List, whole("200 OK", "", listing("<IsTruncated>true</IsTruncated><NextContinuationToken>t</NextContinuationToken><CommonPrefixes><Prefix>AWSLogs/o-a/</Prefix></CommonPrefixes>")), Ends(78), "not list in the order of the keys"),
        case(List, whole("200 OK", "", error("InternalError", "")), Transient, "the server failed"),
        // refusals
        case(List, whole("403 Forbidden", "", error("AccessDenied", "")), Ends(77), "allow s3:ListBucket on bucket acme-cloudtrail"),
        case(List, whole("403 Forbidden", "", error("InvalidAccessKeyId", "")), Ends(77), "check `access_key_id`"),
        case(List, whole("403 Forbidden", "", error("SignatureDoesNotMatch", "")), Ends(77), "secret access key"),
        case(List, whole("400 Bad Request", "", error("ExpiredToken", "")), Ends(77), "renew them"),
        case(List, whole("403 Forbidden", "", error("RequestTimeTooSkewed", "")), Ends(77), "set it right (NTP)"),
        case(List, whole("404 Not Found", "", error("NoSuchBucket", "")), Ends(78), "there is no bucket acme-cloudtrail"),
        case(List, whole("405 Method Not Allowed", "", ""), Ends(78), "does not serve S3 requests"),
        case(List, whole("407 Proxy Authentication Required", HTML, ""), Ends(78), "web page (HTTP 407)"),
        case(List, whole("418 I'm a teapot", "", ""), Ends(78), "S3 refuses the request"),
        case(List, whole("503 Slow Down", "", error("SlowDown", "")), Transient, "slow down"),
        // HTTP that is none
        case(List, raw("SSH-2.0-OpenSSH_9.6\r\n\r\n"), Ends(78), "does not answer in HTTP/1.1"),
        case(List, raw("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"), Ends(78), "does not answer in HTTP/1.1"),
        case(List, raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 7\r\n\r\nxxxxxxx"), Ends(78), "does not answer in HTTP/1.1"),
        case(List, raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n<a/>\r\n"), Transient, "127.0.0.1"),
        case(List, raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n12\r\n<ListBucketResult>"), Transient, "before its answer was whole"),
        case(List, raw("HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n<ListBucketResult>"), Transient, "before its answer was whole"),
        case(List, whole("200 OK", &many, ""), Ends(78), "does not answer in HTTP/1.1"),
        case(List, whole("200 OK", &long, ""), Ends(78), "does not answer in HTTP/1.1"),
        case(List, raw(""), Transient, "before its answer was whole"),
        // objects
        case(Get, whole("200 OK", HTML, PAGE), Ends(78), "answers with a web page"),
        case(Get, whole("200 OK", "Content-Type: binary/octet-stream\r\n", PAGE), Transient, "are listed"),
        case(Get, whole("200 OK", "", ""), Transient, "0 bytes came where"),
        case(Get, whole("200 OK", "", "{}"), Transient, "2 bytes came where"),
        case(Get, whole("200 OK", "", "{\"Records\":[]}"), Transient, "14 bytes came where"),
        case(Get, whole("200 OK", "", b"\x1f\x8b\x08\0\0\0\0\0\0\x03"), Transient, "10 bytes came where"),
        case(Get, raw("HTTP/1.1 204 No Content\r\n\r\n"), Ends(78), "HTTP 204"),
        case(Get, whole("206 Partial Content", "Content-Range: bytes 0-4/5\r\n", "hello"), Ends(78), "HTTP 206"),
        case(Get, whole("302 Found", "", ""), Ends(78), "HTTP 302"),
        case(Get, raw("HTTP/1.1 200 OK\r\nETag: \"x\"\r\nContent-Length: 900\r\n\r\n\x1f"), Transient, "does not continue"),
        case(Get, raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), Transient, "127.0.0.1"),
        case(Get, whole("403 Forbidden", "", error("AccessDenied", "")), Ends(77), "allow s3:GetObject"),
        case(Get, whole("403 Forbidden", "", error("AccessDenied", kms)), Ends(77), "allow kms:Decrypt"),
        case(Get, whole("403 Forbidden", "", error("InvalidObjectState", "")), Ends(77), "archived"),
        case(Get, whole("500 Internal Server Error", "", ""), Transient, "the server failed"),
        case(Get, whole("503 Slow Down", "Retry-After: 86400\r\n", error("SlowDown", "")), Transient, "slow down"),
    ]
}

fn raw_bytes(bytes: impl AsRef<[u8]>) -> Arc<[u8]> {
    bytes.as_ref().into()
}

/// Between the agent and a good server: answers some requests itself while it is ill.
struct Front {
    address: SocketAddr,
    ill: Arc<AtomicBool>,
}

impl Front {
    fn start(behind: u16, to: To, answer: Answer) -> Front {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("its address");
        let ill = Arc::new(AtomicBool::new(true));
        let is_ill = ill.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, is_ill) = (answer.clone(), is_ill.clone());
                // The agent may go away at any point.
                thread::spawn(move || stream.and_then(|stream| serve(stream, behind, to, &answer, &is_ill)));
            }
        });
        Front { address, ill }
    }

    fn heal(&self) {
        self.ill.store(false, Ordering::Relaxed);
    }
}

/// One request of one connection.
fn serve(
    mut stream: TcpStream,
    behind: u16,
    to: To,
    answer: &Answer,
    ill: &AtomicBool,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let asked = String::from_utf8_lossy(&head).into_owned();
    let is = if asked.contains("list-type=2") { List } else { Get };
    if is == to && ill.load(Ordering::Relaxed) {
        return match answer {
            Answer::Bytes(bytes) => stream.write_all(bytes),
            Answer::Endless(head, piece) => {
                stream.write_all(head)?;
                loop {
                    stream.write_all(piece)?;
                }
            }
        };
    }
    let mut server = TcpStream::connect(("127.0.0.1", behind))?;
    server.write_all(&head[..head.len() - 2])?;
    server.write_all(b"connection: close\r\n\r\n")?;
    std::io::copy(&mut server, &mut stream).map(drop)
}

/// What the agent complained of.
fn complaints(log: &str) -> Vec<&str> {
    log.lines().filter(|line| line.contains("Z warning: ") || line.contains("Z error: ")).collect()
}

/// Runs the agent against the bad answer: its log, with one complaint.
fn while_ill(home: &Home, takes: Takes) -> Finished {
    match takes {
        Ends(code) => home.once().expect_code(code),
        Transient => {
            let mut run = home.start(&["--once"]);
            run.until("it complains", |run| !complaints(&run.log()).is_empty());
            run.signal(Signal::SIGTERM);
            run.wait(Duration::from_secs(60)).expect_code(0)
        }
    }
}

/// What went wrong with a case, in words.
fn check(case: &Case) -> Result<(), String> {
    let bucket = Bucket::generate(&Plan {
        accounts: 1,
        regions: 1,
        days: 1,
        objects: 3,
        duplicates: 0,
        max_records: 20,
        ..Plan::small(1, yesterday())
    });
    let server = S3Server::start(&bucket, Faults::default());
    let front = Front::start(server.port(), case.to, case.answer.clone());
    let home = Home::new();
    let out = home.path("out.ndjson");
    let mut setup = Setup::new(&server, &bucket.name, file_output("file", &out));
    setup.endpoint = format!("http://{}", front.address);
    home.configure(&setup);

    let end = while_ill(&home, case.takes);
    let complaints = complaints(&end.stderr);
    let [complaint] = complaints[..] else {
        return Err(format!("one complaint should be made, not {}:\n{}", complaints.len(), end.stderr));
    };
    if !complaint.contains(case.words) || !complaint.contains("source prod: ") {
        return Err(format!("it should say {:?}, not {complaint}", case.words));
    }
    if complaint.len() > 1000 || complaint.chars().any(char::is_control) {
        return Err(format!("nobody can read this: {complaint}"));
    }
    front.heal();
    let end = home.once();
    let truth = truth(&bucket.objects, &|_| false);
    let faults = end.books().faults(&truth);
    let written = lines(&std::fs::read(&out).unwrap_or_default().into()).len() as u64;
    match end.code() == Some(0)
        && faults.is_empty()
        && written == truth.kept
        && truth.quarantined_objects == 0
    {
        true => Ok(()),
        false => Err(format!("{written} of {} records came; {faults:?}; {}", truth.kept, end.stderr)),
    }
}

#[test]
fn each_bad_answer_gives_one_clear_complaint_and_loses_nothing() {
    let cases = cases();
    assert!(cases.len() >= 30);
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = std::panic::catch_unwind(|| check(case));
                    let why = match outcome {
                        Ok(Ok(())) => continue,
                        Ok(Err(why)) => why,
                        Err(_) => "see the panic above".to_owned(),
                    };
                    let shown = match &case.answer {
                        Answer::Bytes(bytes) | Answer::Endless(bytes, _) => &bytes[..bytes.len().min(300)],
                    };
                    let shown = String::from_utf8_lossy(shown);
                    failures.lock().expect("no panic").push(format!("{:?} {shown:?}: {why}", case.to));
                }
            });
        }
    });
    let failures = failures.into_inner().expect("no panic");
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), cases.len(), failures.join("\n\n"));
}
