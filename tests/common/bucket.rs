//! A bucket as years of real trails leave it, generated from a seed, with the truth about it: for every
//! object its records in order and what must become of it.
//!
//! Sizes follow real objects: records per object p50 5, p90 45, p99 139, at most 884; record bytes p50
//! 820–1,560; bodies one gzip member with AWS's header, `{"Records":[…]}` without white space. Around
//! them lies what real buckets hold besides: late and duplicate objects, broken and rewritten ones,
//! digests, and the logs of other services.

use std::collections::BTreeMap;
use std::fmt::Write;

use bytes::Bytes;
use fastrand::Rng;
use time::{Date, Duration};

use super::records::Scene;

/// What to generate. The same plan gives the same bucket.
#[derive(Clone)]
pub struct Plan {
    pub seed: u64,
    pub bucket: &'static str,
    /// Everything before `AWSLogs/`; empty or ending with `/`.
    pub prefix: &'static str,
    /// Level between `AWSLogs/` and the account; empty, or such as `o-abc123/`.
    pub organisation: &'static str,
    pub accounts: usize,
    pub regions: usize,
    pub days: usize,
    /// The newest day of any label.
    pub last_day: Date,
    /// Log objects, the duplicates, late and damaged ones among them.
    pub objects: usize,
    /// Cuts the long tail of records per object.
    pub max_records: usize,
    /// Objects that hold the same events as another one, half of them under another label.
    pub duplicates: usize,
    /// Objects with an old label that appear only after the first pass.
    pub late: usize,
    /// Objects that cannot be read to the end; the kinds of [`Damage`] in turn.
    pub damaged: usize,
    /// One object with a record longer than this in the middle.
    pub overlong: Option<usize>,
    /// Adds multi-member, pretty-printed, line-wise and empty objects.
    pub rewritten: bool,
    /// Adds digests and the logs of other services, which must never be fetched.
    pub neighbours: bool,
}

impl Plan {
    /// A small bucket of everything, whose newest label is of `last_day`.
    pub fn small(seed: u64, last_day: Date) -> Plan {
        Plan {
            seed,
            bucket: "acme-cloudtrail",
            prefix: "",
            organisation: "",
            accounts: 2,
            regions: 2,
            days: 2,
            last_day,
            objects: 40,
            max_records: 884,
            duplicates: 4,
            late: 0,
            damaged: 0,
            overlong: None,
            rewritten: false,
            neighbours: true,
        }
    }
}

/// A generated bucket.
pub struct Bucket {
    pub name: String,
    /// As in [`Plan::prefix`].
    pub prefix: String,
    pub objects: Vec<Object>,
}

/// One object and the truth about it.
#[derive(Clone)]
pub struct Object {
    pub key: String,
    pub body: Bytes,
    /// Every record, in order, byte for byte; the overlong ones as well. Empty for a damaged object.
    pub records: Vec<Bytes>,
    /// Which of the records are too long.
    pub overlong: Vec<usize>,
    pub fate: Fate,
    /// It appears only after the first pass.
    pub late: bool,
    /// Why it is in the bucket, for people.
    pub what: &'static str,
}

/// What must become of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// Its records go through the rules into the spool.
    Collected,
    /// It is set aside whole.
    Quarantined,
    /// It is no log object: never fetched.
    Ignored,
}

/// How an object is broken.
#[derive(Debug, Clone, Copy)]
pub enum Damage {
    /// One byte of the trailer's CRC-32 is wrong.
    Crc,
    /// The upload ended in the middle.
    Cut,
    /// Not DEFLATE after the header.
    Garbage,
    /// Whole gzip, but the JSON in it ends inside a record.
    Json,
}

const DAMAGES: [Damage; 4] = [Damage::Crc, Damage::Cut, Damage::Garbage, Damage::Json];

/// The books as they must be, from the truth of each object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Truth {
    pub objects: u64,
    pub collected: u64,
    pub quarantined_objects: u64,
    pub records: u64,
    pub kept: u64,
    pub dropped: u64,
    pub duplicate: u64,
    pub quarantined: u64,
}

impl Bucket {
    /// Generates the bucket of a plan.
    pub fn generate(plan: &Plan) -> Bucket {
        let mut rng = Rng::with_seed(plan.seed);
        let accounts: Vec<String> =
            (0..plan.accounts).map(|_| rng.u64(100_000_000_000..=999_999_999_999).to_string()).collect();
        let mut objects = Vec::with_capacity(plan.objects + 16);
        let fresh = plan.objects - plan.duplicates;
        for i in 0..fresh {
            let account = &accounts[i % accounts.len()];
            let region = REGIONS[i / accounts.len() % plan.regions];
            let label = Label::random(&mut rng, plan, account, region);
            let count = records_per_object(&mut rng).min(plan.max_records);
            let scene = Scene::new(&mut rng, account, region, label.day, label.minute);
            let records: Vec<String> = (0..count).map(|_| scene.record(&mut rng)).collect();
            objects.push(label.object(&mut rng, plan, &records, "ordinary"));
        }
        // Late and damaged ones are taken from the front, the copies are made from the rest.
        for (i, object) in objects.iter_mut().take(plan.damaged).enumerate() {
            object.damage(DAMAGES[i % DAMAGES.len()]);
        }
        for object in objects.iter_mut().skip(plan.damaged).take(plan.late) {
            object.late = true;
            object.what = "late: an old label that appears after newer ones";
        }
        let whole = plan.damaged + plan.late..fresh;
        for i in 0..plan.duplicates {
            let original = rng.usize(whole.clone());
            let copy = copy_of(&mut rng, &objects[original], i % 2 == 1);
            objects.push(copy);
        }
        let mut add = |object: Object| objects.push(object);
        let (account, region) = (&accounts[0], REGIONS[0]);
        if let Some(bound) = plan.overlong {
            add(overlong(&mut rng, plan, account, region, bound));
        }
        if plan.rewritten {
            rewritten(&mut rng, plan, account, region).into_iter().for_each(&mut add);
        }
        if plan.neighbours {
            neighbours(&mut rng, plan, account, region).into_iter().for_each(&mut add);
        }
        Bucket { name: plan.bucket.into(), prefix: plan.prefix.into(), objects }
    }

    /// The objects that stand in the bucket from the start.
    pub fn early(&self) -> impl Iterator<Item = &Object> {
        self.objects.iter().filter(|o| !o.late)
    }

    /// The objects that appear later.
    pub fn late(&self) -> impl Iterator<Item = &Object> {
        self.objects.iter().filter(|o| o.late)
    }
}

/// The books that the given objects must lead to, when `dropped` tells which records the rules remove.
pub fn truth<'a>(objects: impl IntoIterator<Item = &'a Object>, dropped: &dyn Fn(&[u8]) -> bool) -> Truth {
    let mut truth = Truth::default();
    for object in objects.into_iter().filter(|o| o.fate != Fate::Ignored) {
        truth.objects += 1;
        match object.fate {
            Fate::Quarantined => truth.quarantined_objects += 1,
            _ => truth.collected += 1,
        }
        let drops = object.readable().filter(|r| dropped(r)).count() as u64;
        truth.records += object.records.len() as u64;
        truth.quarantined += object.overlong.len() as u64;
        truth.dropped += drops;
        truth.kept += object.readable().count() as u64 - drops;
    }
    truth
}

/// Whether the baseline filter removes a record, told from its documentation and with another reader.
pub fn is_noise(record: &[u8]) -> bool {
    const KEPT: [&str; 4] = ["AssumeRole", "Decrypt", "GetCallerIdentity", "GetSecretValue"];
    let record: serde_json::Value = serde_json::from_slice(record).expect("JSON");
    record["readOnly"] == true
        && record["errorCode"].is_null()
        && record["eventCategory"] == "Management"
        && record["userIdentity"]["type"] != "Root"
        && !KEPT.iter().any(|name| record["eventName"] == *name)
}

/// The books of a filtered source, and the lines that must arrive, each once; `dropped` tells what the rules remove
/// besides.
pub fn filtered<'a>(
    objects: impl IntoIterator<Item = &'a Object>,
    dropped: &dyn Fn(&[u8]) -> bool,
) -> (Truth, BTreeMap<Bytes, u64>) {
    let objects: Vec<&Object> = objects.into_iter().collect();
    let removed = |record: &[u8]| dropped(record) || is_noise(record);
    let mut truth = truth(objects.iter().copied(), &removed);
    let mut kept: BTreeMap<Bytes, u64> = BTreeMap::new();
    let logs = objects.iter().filter(|o| o.fate != Fate::Ignored);
    for record in logs.flat_map(|o| o.readable()).filter(|record| !removed(record)) {
        *kept.entry(record.clone()).or_default() += 1;
    }
    truth.duplicate = truth.kept - kept.len() as u64;
    truth.kept = kept.len() as u64;
    (truth, kept.keys().map(|record| (line_of(record), 1)).collect())
}

/// A record as it is forwarded in the raw format: byte for byte, but a line break, which only rewritten
/// objects have inside a record, is a space.
pub fn line_of(record: &[u8]) -> Bytes {
    record.iter().map(|&byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }).collect()
}

/// How often each line must arrive at least, when `dropped` tells which records the rules remove.
pub fn expected<'a>(
    objects: impl IntoIterator<Item = &'a Object>,
    dropped: &dyn Fn(&[u8]) -> bool,
) -> BTreeMap<Bytes, u64> {
    let mut expected = BTreeMap::new();
    for record in objects.into_iter().flat_map(|o| o.readable()).filter(|r| !dropped(r)) {
        *expected.entry(line_of(record)).or_default() += 1;
    }
    expected
}

impl Object {
    /// The records that are not too long, in order.
    pub fn readable(&self) -> impl Iterator<Item = &Bytes> {
        self.records.iter().enumerate().filter(|(i, _)| !self.overlong.contains(i)).map(|(_, r)| r)
    }

    /// An object of the given records under the given key, as AWS writes it.
    pub fn native(key: String, records: &[impl AsRef<str>], what: &'static str) -> Object {
        let mut json = String::from("{\"Records\":[");
        let mut ranges = Vec::with_capacity(records.len());
        for (i, record) in records.iter().enumerate() {
            if i > 0 {
                json.push(',');
            }
            let start = json.len();
            json.push_str(record.as_ref());
            ranges.push(start..json.len());
        }
        json.push_str("]}");
        let json = Bytes::from(json);
        Object {
            key,
            body: gzip(&json).into(),
            records: ranges.into_iter().map(|r| json.slice(r)).collect(),
            overlong: Vec::new(),
            fate: Fate::Collected,
            late: false,
            what,
        }
    }

    /// An object that is no log.
    fn neighbour(key: String, what: &'static str) -> Object {
        let body = gzip(b"{\"neighbour\":true}").into();
        Object {
            key,
            body,
            records: Vec::new(),
            overlong: Vec::new(),
            fate: Fate::Ignored,
            late: false,
            what,
        }
    }

    /// Breaks the object.
    pub fn damage(&mut self, damage: Damage) {
        let mut body = self.body.to_vec();
        let len = body.len();
        match damage {
            Damage::Crc => body[len - 7] ^= 0x40,
            Damage::Cut => body.truncate(len * 2 / 3),
            Damage::Garbage => {
                body.truncate(10);
                body.extend(std::iter::repeat_n(0xff, 200));
            }
            Damage::Json => {
                let mut json = b"{\"Records\":[".to_vec();
                json.extend_from_slice(&self.records[0][..self.records[0].len() / 2]);
                body = gzip(&json);
            }
        }
        self.body = body.into();
        self.records.clear();
        self.fate = Fate::Quarantined;
        self.what = match damage {
            Damage::Crc => "damaged: wrong CRC-32",
            Damage::Cut => "damaged: cut in the middle",
            Damage::Garbage => "damaged: not DEFLATE",
            Damage::Json => "damaged: the JSON ends inside a record",
        };
    }
}

/// A day whose objects every pass lists, whenever the test runs.
#[allow(clippy::disallowed_methods, reason = "the agent under test has the real clock, too")]
pub fn yesterday() -> Date {
    let since =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock after 1970");
    (time::OffsetDateTime::UNIX_EPOCH + since).date() - Duration::DAY
}

/// One gzip member as AWS frames it: no name, no time, unknown system.
pub fn gzip(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0];
    out.extend(miniz_oxide::deflate::compress_to_vec(data, 6));
    out.extend(crc32fast::hash(data).to_le_bytes());
    out.extend((data.len() as u32).to_le_bytes());
    out
}

const REGIONS: [&str; 6] =
    ["us-east-1", "eu-central-1", "ap-southeast-2", "us-gov-west-1", "sa-east-1", "us-west-2"];

/// The parts of a key that say when and where.
struct Label {
    account: String,
    region: &'static str,
    kind: &'static str,
    day: Date,
    minute: u32,
}

impl Label {
    fn random(rng: &mut Rng, plan: &Plan, account: &str, region: &'static str) -> Label {
        let kind = match rng.u32(0..20) {
            0 => "CloudTrail-Insight",
            1 => "CloudTrail-NetworkActivity",
            _ => "CloudTrail",
        };
        let day = plan.last_day - Duration::days(rng.i64(0..plan.days as i64));
        Label { account: account.into(), region, kind, day, minute: rng.u32(0..288) * 5 }
    }

    fn object(&self, rng: &mut Rng, plan: &Plan, records: &[String], what: &'static str) -> Object {
        Object::native(self.key(rng, plan, self.kind, "json.gz"), records, what)
    }

    fn key(&self, rng: &mut Rng, plan: &Plan, kind: &str, ending: &str) -> String {
        let Label { account, region, day, minute, .. } = self;
        let (y, m, d) = (day.year(), u8::from(day.month()), day.day());
        let mut key = format!(
            "{}AWSLogs/{}{account}/{kind}/{region}/{y:04}/{m:02}/{d:02}/{account}_{kind}_{region}_{y:04}{m:02}{d:02}T{:02}{:02}Z_",
            plan.prefix,
            plan.organisation,
            minute / 60,
            minute % 60
        );
        suffix(rng, &mut key);
        let _ = write!(key, ".{ending}");
        key
    }
}

fn suffix(rng: &mut Rng, key: &mut String) {
    (0..16).for_each(|_| key.push(rng.alphanumeric()));
}

/// From the distribution of real objects, by the inverse of its distribution function.
fn records_per_object(rng: &mut Rng) -> usize {
    const POINTS: [(f64, f64); 6] =
        [(0.0, 1.0), (0.25, 2.0), (0.5, 5.0), (0.9, 45.0), (0.99, 139.0), (1.0, 884.0)];
    let p = rng.f64();
    let i = POINTS.windows(2).position(|w| p < w[1].0).unwrap_or(POINTS.len() - 2);
    let ((p0, n0), (p1, n1)) = (POINTS[i], POINTS[i + 1]);
    (n0 * (n1 / n0).powf((p - p0) / (p1 - p0))).round() as usize
}

/// The same events again, as a second trail writes them: another suffix, and for half of them the next label.
fn copy_of(rng: &mut Rng, object: &Object, next_label: bool) -> Object {
    let mut copy = object.clone();
    let stem = copy.key.len() - "0123456789abcdef.json.gz".len();
    copy.key.truncate(stem);
    if next_label {
        // …T1820Z_ becomes …T1825Z_; at the end of an hour it goes five minutes back instead.
        let minute: u32 = copy.key[stem - 4..stem - 2].parse().expect("two digits");
        let other = if minute == 55 { 50 } else { minute + 5 };
        copy.key.replace_range(stem - 4..stem - 2, &format!("{other:02}"));
    }
    suffix(rng, &mut copy.key);
    copy.key.push_str(".json.gz");
    copy.what = "duplicate: the same events as another object";
    copy
}

fn overlong(rng: &mut Rng, plan: &Plan, account: &str, region: &'static str, bound: usize) -> Object {
    let label = Label::random(rng, plan, account, region);
    let scene = Scene::new(rng, account, region, label.day, label.minute);
    let mut records: Vec<String> = (0..3).map(|_| scene.record(rng)).collect();
    let padding = "x".repeat(bound);
    records[1] = records[1].replacen('{', &format!("{{\"padding\":\"{padding}\","), 1);
    let mut object = label.object(rng, plan, &records, "one record is longer than the bound");
    object.overlong = vec![1];
    object
}

/// Objects that other tools merged or reformatted.
fn rewritten(rng: &mut Rng, plan: &Plan, account: &str, region: &'static str) -> Vec<Object> {
    let mut objects = Vec::new();
    let base = |rng: &mut Rng, what: &'static str, count: usize| {
        let label = Label::random(rng, plan, account, region);
        let scene = Scene::new(rng, account, region, label.day, label.minute);
        let records: Vec<String> = (0..count).map(|_| scene.record(rng)).collect();
        label.object(rng, plan, &records, what)
    };
    let json_of = |object: &Object| {
        let mut json = b"{\"Records\":[".to_vec();
        json.extend(object.records.join(&b","[..]));
        json.extend(b"]}");
        json
    };

    objects.push(base(rng, "no records", 0));

    let mut cut_anywhere = base(rng, "several gzip members, cut inside a record", 9);
    let json = json_of(&cut_anywhere);
    let third = json.len() / 3;
    cut_anywhere.body = [&json[..third], &json[third..2 * third], &json[2 * third..]]
        .iter()
        .flat_map(|part| gzip(part))
        .collect::<Vec<u8>>()
        .into();
    objects.push(cut_anywhere);

    let mut concatenated = base(rng, "several gzip members, each with its own Records", 4);
    let more = base(rng, "", 3);
    concatenated.body = [gzip(&json_of(&concatenated)), gzip(&json_of(&more))].concat().into();
    concatenated.records.extend(more.records);
    objects.push(concatenated);

    let mut pretty = base(rng, "pretty-printed, with a byte order mark and a newline at the end", 3);
    pretty.records = pretty
        .records
        .iter()
        .map(|r| {
            Bytes::from(
                String::from_utf8_lossy(r)
                    .replacen('{', "{\n      ", 1)
                    .replace(",\"event", ",\n      \"event"),
            )
        })
        .collect();
    let mut json = "\u{feff}{\n  \"Records\" : [\n    ".as_bytes().to_vec();
    json.extend(pretty.records.join(&b",\n    "[..]));
    json.extend(b"\n  ]\n}\n");
    pretty.body = gzip(&json).into();
    objects.push(pretty);

    let mut lines = base(rng, "one record a line", 5);
    let mut json = lines.records.join(&b"\n"[..]);
    json.push(b'\n');
    lines.body = gzip(&json).into();
    objects.push(lines);

    let mut plain = base(rng, "not compressed", 2);
    plain.body = json_of(&plain).into();
    objects.push(plain);
    objects
}

/// What lies beside the logs and must never be fetched.
fn neighbours(rng: &mut Rng, plan: &Plan, account: &str, region: &'static str) -> Vec<Object> {
    let label = Label::random(rng, plan, account, region);
    let mut found = Vec::new();
    for (kind, what) in [("CloudTrail-Digest", "digest"), ("CloudTrail-Aggregated", "aggregated events")] {
        for _ in 0..3 {
            found.push(Object::neighbour(label.key(rng, plan, kind, "json.gz"), what));
        }
    }
    for (kind, ending, what) in [
        ("Config", "json.gz", "configuration history"),
        ("vpcflowlogs", "log.gz", "flow log"),
        ("elasticloadbalancing", "log.gz", "load-balancer log"),
        ("GuardDuty", "jsonl.gz", "GuardDuty findings"),
    ] {
        found.push(Object::neighbour(label.key(rng, plan, kind, ending), what));
    }
    let logs = format!("{}AWSLogs/{}{account}/", plan.prefix, plan.organisation);
    found.push(Object::neighbour(format!("{logs}CloudTrail/"), "folder marker"));
    found.push(Object::neighbour(format!("{logs}CloudTrail/{region}/README.txt"), "somebody's note"));
    found.push(Object::neighbour(
        format!("{}access-logs/2026-02-03-10-11-12-ABCDEF", plan.prefix),
        "access log",
    ));
    found
}
