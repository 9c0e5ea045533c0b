//! The test bench itself: the generated bucket against the sizes of real ones, the S3 server and the receiver
//! against a plain client. What stands on them is only worth as much as they are.

mod common;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::Bytes;
use common::agent::Books;
use common::bucket::{Bucket, Fate, Plan, truth};
use common::growth::growth;
use common::receiver::{Moods, Receiver, lines};
use common::s3_server::{ACCESS_KEY, Denied, Faults, REGION, S3Server};
use time::macros::date;

fn plan() -> Plan {
    Plan {
        objects: 400,
        damaged: 4,
        late: 10,
        overlong: Some(10_000),
        rewritten: true,
        ..Plan::small(7, date!(2026 - 02 - 03))
    }
}

#[test]
fn the_same_plan_gives_the_same_bucket() {
    let (a, b) = (Bucket::generate(&plan()), Bucket::generate(&plan()));
    assert!(a.objects.iter().zip(&b.objects).all(|(a, b)| a.key == b.key && a.body == b.body));
    let keys: HashSet<&String> = a.objects.iter().map(|o| &o.key).collect();
    assert_eq!(keys.len(), a.objects.len(), "every key is there once");
    let truth = truth(&a.objects, &|_| false);
    assert_eq!((truth.objects, truth.quarantined_objects, truth.quarantined), (400 + 1 + 6, 4, 1));
}

#[test]
fn sizes_are_those_of_real_buckets() {
    let bucket = Bucket::generate(&Plan { objects: 1500, ..plan() });
    let ordinary: Vec<_> = bucket.objects.iter().filter(|o| o.what == "ordinary").collect();
    let percentile = |mut sizes: Vec<usize>, p: usize| {
        sizes.sort_unstable();
        sizes[(sizes.len() - 1) * p / 100]
    };
    let counts: Vec<usize> = ordinary.iter().map(|o| o.records.len()).collect();
    let bytes: Vec<usize> = ordinary.iter().flat_map(|o| o.records.iter().map(Bytes::len)).collect();
    let bodies: Vec<usize> = ordinary.iter().map(|o| o.body.len()).collect();
    let of = |sizes: &Vec<usize>| [50, 90, 99].map(|p| percentile(sizes.clone(), p));
    println!(
        "records per object {:?}, record bytes {:?}, body bytes {:?}",
        of(&counts),
        of(&bytes),
        of(&bodies)
    );
    assert!((4..=6).contains(&of(&counts)[0]) && (38..=55).contains(&of(&counts)[1]));
    assert!((820..=1560).contains(&of(&bytes)[0]) && (1900..=2900).contains(&of(&bytes)[2]));
    assert!((841..=1700).contains(&of(&bodies)[0]));
}

#[test]
fn every_record_is_json_with_an_event_id_of_its_own() {
    let bucket = Bucket::generate(&plan());
    let mut ids = HashSet::new();
    for object in bucket.objects.iter().filter(|o| !o.what.starts_with("duplicate")) {
        for record in &object.records {
            let value: serde_json::Value = serde_json::from_slice(record).expect("JSON");
            let id = value["eventID"].as_str().expect("an eventID");
            assert!(id.len() == 36 && ids.insert(id.to_owned()), "{id} occurs twice");
        }
    }
    let all: Vec<&Bytes> = bucket.objects.iter().flat_map(|o| &o.records).collect();
    for oddity in [
        r"\u003d",
        "E9,",
        "ü",
        "佐藤",
        r#"\\svc"#,
        r#"\""#,
        "\"errorCode\"",
        "AWSService",
        "\"readOnly\":true",
    ] {
        assert!(all.iter().any(|r| String::from_utf8_lossy(r).contains(oddity)), "{oddity} occurs");
    }
}

#[test]
fn bodies_inflate_to_their_records() {
    let bucket = Bucket::generate(&plan());
    for object in bucket.objects.iter().filter(|o| o.what == "ordinary") {
        assert_eq!(object.body[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0]);
        let json = miniz_oxide::inflate::decompress_to_vec(&object.body[10..object.body.len() - 8])
            .expect("DEFLATE");
        let expected = [b"{\"Records\":[", &object.records.join(&b","[..])[..], b"]}"].concat();
        assert!(json == expected, "{}", object.key);
    }
}

/// One request over a connection of its own: status, head and body up to the connection's end.
fn request(port: u16, method: &str, target: &str, headers: &str, body: &str) -> (u16, String, Vec<u8>) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    let date = "20260203";
    let signed = format!(
        "authorization: AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{date}/{REGION}/s3/aws4_request, SignedHeaders=host, Signature=00\r\nx-amz-date: {date}T000000Z\r\nx-amz-content-sha256: UNSIGNED-PAYLOAD\r\n"
    );
    let text = format!(
        "{method} {target} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\ncontent-length: {}\r\n{signed}{headers}\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).expect("the request is sent");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let Some(end) = memchr::memmem::find(&answer, b"\r\n\r\n") else { return (0, String::new(), answer) };
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    (status, head, answer[end + 4..].to_vec())
}

fn tag<'a>(xml: &'a str, name: &str) -> Vec<&'a str> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    xml.split(&open).skip(1).filter_map(|rest| rest.split(&close).next()).collect()
}

#[test]
fn listings_come_in_pages_and_roll_up_prefixes() {
    let bucket = Bucket::generate(&plan());
    let server = S3Server::start(&bucket, Faults::default());
    let list = |query: &str| {
        let (status, _, body) =
            request(server.port(), "GET", &format!("/{}?list-type=2&{query}", bucket.name), "", "");
        assert_eq!(status, 200);
        String::from_utf8(body).expect("UTF-8")
    };
    let mut wanted: Vec<&str> =
        bucket.early().map(|o| o.key.as_str()).filter(|k| k.starts_with("AWSLogs/")).collect();
    wanted.sort_unstable();
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let xml = list(&format!("prefix=AWSLogs%2F&max-keys=7{token}"));
        seen.extend(tag(&xml, "Key").into_iter().map(str::to_owned));
        match tag(&xml, "NextContinuationToken").first() {
            Some(next) => {
                token = format!("&continuation-token={}", next.replace('+', "%2B").replace('=', "%3D"))
            }
            None => break,
        }
    }
    assert_eq!(seen, wanted);

    let xml = list("prefix=AWSLogs/&delimiter=/&max-keys=1");
    assert_eq!(tag(&xml, "IsTruncated"), ["true"]);
    assert_eq!(tag(tag(&xml, "CommonPrefixes")[0], "Prefix").len(), 1);
    let token = tag(&xml, "NextContinuationToken")[0].replace('+', "%2B").replace('=', "%3D");
    let xml = list(&format!("prefix=AWSLogs/&delimiter=/&continuation-token={token}"));
    assert_eq!((tag(&xml, "CommonPrefixes").len(), tag(&xml, "IsTruncated")[0]), (1, "false"));

    let after = wanted[wanted.len() - 3];
    assert_eq!(
        tag(&list(&format!("prefix=AWSLogs/&start-after={after}")), "Key"),
        wanted[wanted.len() - 2..]
    );
}

#[test]
fn keys_are_encoded_as_s3_encodes_them() {
    let bucket = Bucket::generate(&Plan { prefix: "lögs a+b/%41/", objects: 5, duplicates: 0, ..plan() });
    let server = S3Server::start(&bucket, Faults::default());
    let (_, _, xml) = request(
        server.port(),
        "GET",
        &format!("/{}?list-type=2&encoding-type=url&max-keys=1", bucket.name),
        "",
        "",
    );
    let xml = String::from_utf8(xml).expect("UTF-8");
    assert!(tag(&xml, "Key")[0].starts_with("l%C3%B6gs+a%2Bb/%2541/"), "{xml}");
    let object = bucket.early().find(|o| o.key.ends_with(".json.gz")).expect("an object");
    let path = object.key.replace('%', "%25").replace('ö', "%C3%B6").replace(' ', "%20");
    let (status, _, body) = request(server.port(), "GET", &format!("/{}/{path}", bucket.name), "", "");
    assert_eq!((status, body), (200, object.body.to_vec()));
}

#[test]
fn objects_come_whole_in_ranges_or_not() {
    let bucket = Bucket::generate(&plan());
    let server = S3Server::start(&bucket, Faults::default());
    let object = &bucket.objects[50];
    let target = format!("/{}/{}", bucket.name, object.key);
    let (status, head, body) = request(server.port(), "GET", &target, "", "");
    assert_eq!((status, &body[..]), (200, &object.body[..]));
    let etag = head.lines().find_map(|l| l.strip_prefix("etag: ")).expect("an ETag");
    let matching = format!("range: bytes=100-\r\nif-match: {etag}\r\n");
    let (status, head, body) = request(server.port(), "GET", &target, &matching, "");
    assert_eq!((status, &body[..]), (206, &object.body[100..]));
    assert!(head.contains(&format!(
        "content-range: bytes 100-{}/{}",
        object.body.len() - 1,
        object.body.len()
    )));
    assert_eq!(request(server.port(), "GET", &target, "if-match: \"other\"\r\n", "").0, 412);
    assert_eq!(request(server.port(), "GET", &target, "range: bytes=99999999-\r\n", "").0, 416);
    assert_eq!(request(server.port(), "GET", "/acme-cloudtrail/none", "", "").0, 404);
    assert_eq!(request(server.port(), "GET", "/elsewhere/none", "", "").0, 404);
    let at_home = format!("/{}", object.key);
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).expect("a connection");
    let unsigned =
        format!("GET {at_home} HTTP/1.1\r\nhost: acme-cloudtrail.localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(unsigned.as_bytes()).expect("the request is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
    server.deny(Denied::Get);
    assert_eq!(request(server.port(), "GET", &target, "", "").0, 403);
    assert_eq!(server.stats().refused.len(), 1);
}

#[test]
fn each_fault_is_what_it_says() {
    let bucket = Bucket::generate(&plan());
    let object = &bucket.objects[50];
    let target = format!("/{}/{}", bucket.name, object.key);
    let listing = format!("/{}?list-type=2", bucket.name);
    let with = |faults: Faults, target: &str| {
        let server = S3Server::start(&bucket, faults);
        let answer = request(server.port(), "GET", target, "", "");
        assert_eq!(server.stats().faults(), 1);
        answer
    };
    let none = Faults::default;
    assert_eq!(with(Faults { slow_down: 1.0, ..none() }, &target).0, 503);
    assert_eq!(with(Faults { internal_error: 1.0, ..none() }, &target).0, 500);
    assert_eq!(with(Faults { reset: 1.0, ..none() }, &target).0, 0);
    for faults in [Faults { reset_in_body: 1.0, ..none() }, Faults { short_body: 1.0, ..none() }] {
        let (status, head, body) = with(faults, &target);
        assert!(status == 200 && body.len() < object.body.len() && object.body.starts_with(&body), "{head}");
        assert!(head.contains(&format!("content-length: {}", object.body.len())), "{head}");
    }
    assert_eq!(with(Faults { slow_body: 1.0, ..none() }, &target).2, object.body);
    let (status, _, body) = with(Faults { cut_listing: 1.0, ..none() }, &listing);
    assert!(status == 200 && !body.ends_with(b"</ListBucketResult>"));
    let (status, head, body) = with(Faults { reset_in_body: 1.0, ..none() }, &listing);
    let declared = head.lines().find_map(|l| l.strip_prefix("content-length: ")).expect("a length");
    assert!(status == 200 && body.len() < declared.parse().expect("a number"));
}

#[test]
fn the_receiver_tells_acknowledged_lines_from_others() {
    let receiver = Receiver::start(Moods::default());
    let port = receiver.url().split([':', '/']).nth(4).and_then(|p| p.parse().ok()).expect("a port");
    let post = |body: &str| request(port, "POST", "/ingest", "", body).0;
    assert_eq!(post("{\"a\":1}\n{\"b\":2}\n"), 200);
    receiver.set_moods(Moods { reset_after_reading: 1.0, ..Moods::default() });
    assert_eq!(post("{\"c\":1}\n"), 0);
    receiver.set_moods(Moods { max_bytes: Some(10), poison: Some(b"bad"), ..Moods::default() });
    assert_eq!((post("{\"long\":12345}\n"), post("{\"bad\":1}\n"), post("{\"c\":2}\n")), (413, 400, 200));
    receiver.set_moods(Moods { down: true, ..Moods::default() });
    assert_eq!(post("{\"d\":1}\n"), 503);
    let received = receiver.received();
    assert_eq!((received.acknowledged.len(), received.lines(), received.unanswered.len()), (3, 3, 1));
    assert_eq!((received.faults(), received.wrong.len()), (3, 0));
}

#[test]
fn lines_are_what_stands_between_line_feeds() {
    assert_eq!(lines(&Bytes::from_static(b"{\"a\": 1}\n\n[2]\n3")), [&b"{\"a\": 1}"[..], b"[2]", b"3"]);
    assert!(lines(&Bytes::new()).is_empty());
}

#[test]
fn neighbours_are_there_and_stay_apart() {
    let bucket = Bucket::generate(&plan());
    let ignored: Vec<_> = bucket.objects.iter().filter(|o| o.fate == Fate::Ignored).collect();
    assert!(ignored.len() >= 10);
    let server = S3Server::start(&bucket, Faults::default());
    assert!(server.wrongly_fetched().is_empty());
    request(server.port(), "GET", &format!("/{}/{}", bucket.name, ignored[0].key), "", "");
    assert_eq!(server.wrongly_fetched().len(), 1);
}

#[test]
fn books_are_read_from_the_log() {
    let log = "12:00:01 INFO  started\n\
        INFO books: source prod: objects 2000 collected 1999 quarantined 1; records 18000 = kept 17000 + dropped 900 + duplicate 0 + quarantined 100\n\
        books: output siem: kept 17000 = delivered 16999 + rejected 1 + waiting 0\n";
    let books = Books::parse(log).expect("books");
    assert_eq!(books.sources[0].quarantined_objects, 1);
    assert_eq!(books.sources[0].quarantined, 100);
    assert_eq!(books.outputs[0].delivered, 16999);
    assert!(Books::parse("nothing").is_err());
    assert!(Books::parse("books: output siem: kept 1 = delivered 1").is_err());
}

#[test]
fn growth_is_told_from_warming_up_and_from_ups_and_downs() {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut noisy =
        |n: u32| 12_000.0 + if n < 20 { -300.0 * f64::from(20 - n) } else { 0.0 } + rng.f64() * 900.0;
    let even: Vec<f64> = (0..200).map(&mut noisy).collect();
    let found = growth(&even).expect("enough looks");
    assert!((found.last - found.first).abs() < 300.0, "{found:?}");
    let leaking: Vec<f64> = (0..200).map(|n| noisy(n) + 40.0 * f64::from(n)).collect();
    let found = growth(&leaking).expect("enough looks");
    assert!(found.last > found.first + 2048.0 && (30.0..50.0).contains(&found.slope), "{found:?}");
    // A peak is no growth, however high.
    let mut peak = even.clone();
    peak[190] = 500_000.0;
    assert!(growth(&peak).expect("enough looks").last < 13_000.0);
    assert_eq!(growth(&even[..20]), None);
}
