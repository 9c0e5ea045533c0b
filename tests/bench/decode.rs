//! How fast the path from an object's bytes to its selected records is, in MB of JSON a second of CPU time
//! (waiting for a core does not count), and how it stands to the bare inflate of the same bytes.
//! `cargo bench --bench decode`; ratios matter, not absolutes.

use std::convert::Infallible;
use std::hint::black_box;
use std::time::Duration;

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};
use nix::time::{ClockId, clock_gettime};
use regex::bytes::Regex;
use trailspool::config::{self, Source};
use trailspool::decode::field::{self, Path};
use trailspool::decode::{Broken, Decoder, Record, Sink};
use trailspool::limits;
use trailspool::select::duplicates::Window;
use trailspool::select::{Attributor, Selector, Verdict};

const ROUNDS: usize = 9;

fn main() {
    let large: Vec<String> = (0..4).map(|seed| object(seed, 4000)).collect();
    let tiny: Vec<String> = (0..1500).map(|seed| object(seed, 1 + (seed * 7 % 9) as usize)).collect();
    for (name, texts) in [("large objects (4,000 records)", large), ("tiny objects (median 5 records)", tiny)]
    {
        measure(name, &texts);
    }
}

fn measure(name: &str, texts: &[String]) {
    let objects: Vec<Vec<u8>> = texts.iter().map(|text| gzip(text.as_bytes())).collect();
    let bytes: usize = texts.iter().map(String::len).sum();
    let compressed: usize = objects.iter().map(Vec::len).sum();
    println!("{name}: {} objects, {bytes} bytes of JSON, {compressed} compressed", objects.len());

    let mut state = Box::<DecompressorOxide>::default();
    let mut window = vec![0; limits::INFLATE_WINDOW];
    let inflate =
        fastest(bytes, || objects.iter().map(|object| bare_inflate(object, &mut state, &mut window)).sum());
    report("inflate alone (miniz_oxide)", bytes, inflate, inflate);

    let plain: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
    let zipped: Vec<&[u8]> = objects.iter().map(Vec::as_slice).collect();
    let mut decoder = Decoder::new(limits::RECORD_BYTES, u64::MAX);
    let mut records = Vec::new();
    decode(&mut decoder, false, &plain, &mut |record| records.push(record.bytes.to_vec()));
    let in_records = records.iter().map(Vec::len).sum();

    for noting in [false, true] {
        let mut decode_only = |inputs: &[&[u8]]| {
            fastest(in_records, || {
                let mut sum = 0;
                decode(&mut decoder, noting, inputs, &mut |record| sum += record.bytes.len());
                sum
            })
        };
        let also = if noting { ", noting members" } else { "" };
        report(&format!("splitter alone, plain text{also}"), bytes, decode_only(&plain), inflate);
        report(&format!("decoder: gunzip, CRC, splitter{also}"), bytes, decode_only(&zipped), inflate);
    }

    let regex = Regex::new(r#""eventName":"Describe"#).expect("a good pattern");
    let hits = records.iter().filter(|record| regex.is_match(record)).count();
    let seconds = fastest(hits, || records.iter().filter(|record| regex.is_match(record)).count());
    report("regex alone", bytes, seconds, inflate);
    let (one, four) = (look_ups(&["userIdentity.type"]), look_ups(&FOUR_FIELDS));
    for (what, paths) in [("look-up of one early field", &one), ("look-up of four fields", &four)] {
        let found = records.len() * paths.len();
        let seconds = fastest(found, || records.iter().map(|record| present(record, paths)).sum());
        report(what, bytes, seconds, inflate);
    }

    let seconds = fastest(hits + 4 * records.len(), || {
        let mut sum = 0;
        decode(&mut decoder, false, &zipped, &mut |record| {
            sum += usize::from(regex.is_match(record.bytes)) + present(record.bytes, &four);
        });
        sum
    });
    report("decoder, regex and four fields", bytes, seconds, inflate);
    select(&mut decoder, &zipped, &records, bytes, inflate);
}

/// What the selector costs, alone and behind the decoder. The window of duplicates is emptied for each round, since
/// all records of a second one would be duplicates.
fn select(decoder: &mut Decoder, zipped: &[&[u8]], records: &[Vec<u8>], bytes: usize, inflate: f64) {
    let kept = |selector: &mut Selector, window: &mut Window, record: Record<'_>| {
        usize::from(selector.decide(record, window) == Verdict::Keep)
    };
    for (what, unfiltered, rules) in [
        ("no rule", true, 0),
        ("1 rule", true, 1),
        ("10 rules", true, 10),
        ("100 rules", true, 100),
        ("baseline and duplicates", false, 0),
        ("both and 10 rules", false, 10),
        ("both and 100 rules", false, 100),
    ] {
        let mut selector = Selector::new(&source(unfiltered, rules));
        let mut window = Window::new(1);
        let noting = selector.looks_inside();
        let expected = records.iter().map(|record| kept(&mut selector, &mut window, record[..].into())).sum();
        let mut alone = f64::MAX;
        let mut together = f64::MAX;
        for _ in 0..ROUNDS {
            window.end_object(false);
            alone = alone.min(timed(expected, || {
                records.iter().map(|record| kept(&mut selector, &mut window, record[..].into())).sum()
            }));
            window.end_object(false);
            together = together.min(timed(expected, || {
                let mut sum = 0;
                decode(decoder, noting, zipped, &mut |record| {
                    sum += kept(&mut selector, &mut window, record)
                });
                sum
            }));
        }
        report(&format!("selector: {what}"), bytes, alone, inflate);
        report("  behind the decoder", bytes, together, inflate);
        let rate = |seconds: f64| records.len() as f64 / seconds;
        println!(
            "    {:.0} records a CPU-second alone, {:.0} behind the decoder: {:.2} of the bare inflate's",
            rate(alone),
            rate(together),
            inflate / together
        );
    }
    let attributor = Attributor::new(&source(true, 0));
    let found = records.iter().filter(|record| attributor.attribute(record).is_some()).count();
    let seconds =
        fastest(found, || records.iter().filter(|record| attributor.attribute(record).is_some()).count());
    report("attribution", bytes, seconds, inflate);
}

/// A source with so many rules, a third of them each: over few fields, over one field, and `exclude`.
fn source(unfiltered: bool, rules: usize) -> Source {
    let mut text = format!(
        "[[source]]\nname = 's'\nbucket = 'b12'\nregion = 'us-east-1'\nunfiltered = {unfiltered}\nexclude = ["
    );
    for n in (2..rules).step_by(3) {
        text += &format!("'\"eventName\":\"Purge{n}', ");
    }
    text += "]\n[source.credentials]\nmethod = 'default'\n";
    for n in (0..rules).filter(|n| n % 3 != 2) {
        let (field, regex) = match n % 3 {
            0 => ("eventName", format!("^Purge{n}$")),
            _ => (["userIdentity.type", "awsRegion", "sourceIPAddress"][n % 5 % 3], format!("^never-{n}")),
        };
        text += &format!("[[source.rule]]\nfield = '{field}'\nregex = '{regex}'\naction = 'drop'\n");
    }
    text += "[[output]]\nname = 'o'\nkind = 'stdout'\n";
    let config = config::parse(&text, std::path::Path::new("bench.toml"), &|_| None);
    config.unwrap_or_else(|faults| panic!("{faults}")).sources.remove(0)
}

const FOUR_FIELDS: [&str; 4] = ["eventName", "userIdentity.arn", "sourceIPAddress", "recipientAccountId"];

fn look_ups(paths: &[&str]) -> Vec<Path> {
    paths.iter().map(|path| Path::new(path)).collect()
}

fn present(record: &[u8], paths: &[Path]) -> usize {
    paths.iter().filter(|path| matches!(field::find(record, path), field::Field::Text(_))).count()
}

fn decode(decoder: &mut Decoder, noting: bool, inputs: &[&[u8]], each: &mut dyn FnMut(Record<'_>)) {
    for input in inputs {
        decoder.start_noting(noting);
        let mut records = Records { each };
        for chunk in input.chunks(limits::CHUNK_BYTES) {
            decoder.feed(chunk, &mut records).expect("good");
        }
        decoder.finish(&mut records).expect("whole");
    }
}

/// Seconds of the fastest of some rounds, each of which must give the same sum.
fn fastest(expected: usize, mut round: impl FnMut() -> usize) -> f64 {
    (0..ROUNDS).map(|_| timed(expected, &mut round)).fold(f64::MAX, f64::min)
}

/// Seconds of one round.
fn timed(expected: usize, mut round: impl FnMut() -> usize) -> f64 {
    let begin = cpu_time();
    let sum = black_box(round());
    let seconds = (cpu_time() - begin).as_secs_f64();
    assert_eq!(sum, expected);
    seconds
}

fn report(what: &str, bytes: usize, seconds: f64, inflate: f64) {
    println!(
        "  {what:<34} {:>7.0} MB/s   {:>5.2} x inflate",
        bytes as f64 / seconds / 1e6,
        seconds / inflate
    );
}

fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux has this clock").into()
}

struct Records<'a> {
    each: &'a mut dyn FnMut(Record<'_>),
}

impl Sink for Records<'_> {
    type Error = Infallible;

    fn record(&mut self, _: u32, record: Record<'_>) -> Result<(), Infallible> {
        (self.each)(record);
        Ok(())
    }

    fn broken(&mut self, _: u32, why: Broken, _: &[u8], _: bool) -> Result<(), Infallible> {
        panic!("{why}");
    }
}

fn bare_inflate(object: &[u8], state: &mut DecompressorOxide, window: &mut [u8]) -> usize {
    state.init();
    let (mut input, mut at, mut total) = (&object[10..object.len() - 8], 0, 0);
    loop {
        let flags = inflate_flags::TINFL_FLAG_HAS_MORE_INPUT;
        let (status, used, made) = decompress(state, input, window, at, flags);
        input = &input[used..];
        total += made;
        at = (at + made) % window.len();
        match status {
            TINFLStatus::Done => return total,
            TINFLStatus::HasMoreOutput => {}
            other => panic!("{other:?}"),
        }
    }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut object = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0];
    object.extend(miniz_oxide::deflate::compress_to_vec(text, 6));
    object.extend(crc32fast::hash(text).to_le_bytes());
    object.extend((text.len() as u32).to_le_bytes());
    object
}

/// A CloudTrail-like object: about 1,300 bytes a record, with what differs from record to record random.
fn object(seed: u64, records: usize) -> String {
    let mut random = fastrand::Rng::with_seed(seed);
    let records: Vec<String> = (0..records).map(|_| record(&mut random)).collect();
    format!("{{\"Records\":[{}]}}", records.join(","))
}

fn record(random: &mut fastrand::Rng) -> String {
    const CALLS: [(&str, &str, bool); 6] = [
        ("ec2", "DescribeInstances", true),
        ("s3", "GetObject", true),
        ("kms", "Decrypt", true),
        ("sts", "AssumeRole", true),
        ("s3", "PutObject", false),
        ("iam", "CreateUser", false),
    ];
    let (service, event, read_only) = CALLS[random.usize(..CALLS.len())];
    let account = 111_111_111_111u64 + random.u64(0..4);
    let user = random.u32(0..40);
    let hex = |random: &mut fastrand::Rng, n: usize| -> String {
        (0..n).map(|_| format!("{:x}", random.u8(0..16))).collect()
    };
    let (access, request, event_id, object) =
        (hex(random, 16).to_uppercase(), hex(random, 32), hex(random, 32), hex(random, 24));
    let (hour, minute, second) = (random.u8(0..24), random.u8(0..60), random.u8(0..60));
    format!(
        r#"{{"eventVersion":"1.08","userIdentity":{{"type":"AssumedRole","principalId":"AROA{access}:worker-{user}","arn":"arn:aws:sts::{account}:assumed-role/worker/worker-{user}","accountId":"{account}","accessKeyId":"ASIA{access}","sessionContext":{{"sessionIssuer":{{"type":"Role","principalId":"AROA{access}","arn":"arn:aws:iam::{account}:role/worker","accountId":"{account}","userName":"worker"}},"webIdFederationData":{{}},"attributes":{{"creationDate":"2024-05-01T00:00:00Z","mfaAuthenticated":"false"}}}}}},"eventTime":"2024-05-01T{hour:02}:{minute:02}:{second:02}Z","eventSource":"{service}.amazonaws.com","eventName":"{event}","awsRegion":"us-west-2","sourceIPAddress":"10.{}.{}.{}","userAgent":"[aws-sdk-java/1.12.1 Linux/5.10 \"worker\\{user}\"]","requestParameters":{{"bucketName":"data-{user}","key":"in/{object}.json","filter\u003dset":{{"items":[{{"name":"state","value":"running"}}]}}}},"responseElements":null,"requestID":"{request}","eventID":"{event_id}","readOnly":{read_only},"resources":[{{"accountId":"{account}","type":"AWS::S3::Object","ARN":"arn:aws:s3:::data-{user}/in/{object}.json"}}],"eventType":"AwsApiCall","managementEvent":true,"recipientAccountId":"{account}","eventCategory":"Management","tlsDetails":{{"tlsVersion":"TLSv1.3","cipherSuite":"TLS_AES_128_GCM_SHA256","clientProvidedHostHeader":"{service}.us-west-2.amazonaws.com"}}}}"#,
        random.u8(..),
        random.u8(..),
        random.u8(..)
    )
}
