//! Records that AWS wrote, of many services and years and in the forms that other tools gave them, through
//! the whole program and compared with another reader (serde_json) byte for byte. The data set is not part
//! of this repository: without it the test says so and passes.

mod common;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use common::agent::{Home, Setup, file_output};
use common::bucket::{Bucket, Fate, Object, gzip, line_of, truth, yesterday};
use common::receiver::lines;
use common::s3_server::{Faults, S3Server};
use serde_json::value::RawValue;
use trailspool::config;
use trailspool::select::Attributor;

#[test]
fn real_records_arrive_byte_for_byte() {
    let Some((archive, objects)) = objects() else { return };
    let bucket = Bucket { name: "real".into(), prefix: String::new(), objects };
    let server = S3Server::start(&bucket, Faults::default());
    let home = Home::new();
    let out = home.path("out.ndjson");
    home.configure(&Setup::new(&server, &bucket.name, file_output("file", &out)));
    let truth = truth(&bucket.objects, &|_| false);
    println!("{} objects, {} records of {}", truth.objects, truth.kept, archive.display());
    assert!(truth.kept > 3000 && truth.quarantined_objects <= 1, "the data set was read: {truth:?}");
    let end = home.once().expect_code(0);
    assert_eq!(end.books().faults(&truth), Vec::<String>::new());
    let (mut wanted, mut arrived) = (BTreeMap::<Bytes, u64>::new(), BTreeMap::<Bytes, u64>::new());
    let records = bucket.objects.iter().flat_map(|o| &o.records);
    records.for_each(|record| *wanted.entry(line_of(record)).or_default() += 1);
    let written = lines(&std::fs::read(&out).expect("the output").into());
    written.into_iter().for_each(|line| *arrived.entry(line).or_default() += 1);
    let lost = wanted.iter().filter(|&(line, times)| arrived.get(line) != Some(times)).count();
    assert_eq!(lost, 0, "records that did not arrive as often as they stand in the bucket");
    assert!(arrived.keys().all(|line| wanted.contains_key(line)), "nothing was invented");
}

/// Against a plain reading of the same records: names that stand in them, and nobody where none does.
#[test]
fn real_identities_have_their_accounts() {
    let Some((archive, objects)) = objects() else { return };
    let text = "[[source]]\nname = 's'\nbucket = 'b12'\nregion = 'us-east-1'\n[source.credentials]\nmethod = 'default'\n\
                [[output]]\nname = 'o'\nkind = 'stdout'\n";
    let config = config::parse(text, Path::new("trailspool.toml"), &|_| None).expect("a configuration");
    let attributor = Attributor::new(&config.sources[0]);
    let mut accounts = BTreeMap::<(&str, String), u32>::new();
    for record in objects.iter().flat_map(|object| &object.records) {
        let value: serde_json::Value = serde_json::from_slice(record).expect("JSON");
        let identity = &value["userIdentity"];
        let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let Some(found) = attributor.attribute(record) else {
            let hidden = text(&identity["userName"]) == "HIDDEN_DUE_TO_SECURITY_REASONS";
            let named = ["userName", "arn", "invokedBy"].iter().any(|key| !text(&identity[key]).is_empty());
            assert!(hidden || !named, "nobody is found in {identity}");
            continue;
        };
        let kind = text(&identity["type"]);
        assert_eq!(found.kind().label(), if kind.is_empty() { "Unknown" } else { &kind }, "{identity}");
        let (name, user_name) = (found.name(), text(&identity["userName"]));
        match &*kind {
            "IAMUser" if !user_name.is_empty() => assert!(user_name.starts_with(name), "{identity}"),
            "AWSService" => assert_eq!(name, text(&identity["invokedBy"])),
            "Root" => assert_eq!(name, "root"),
            // a person's name, a role's, or another account's: it stands there
            _ => assert!(identity.to_string().contains(name), "{name}: {identity}"),
        }
        *accounts.entry((found.kind().label(), found.account().to_owned())).or_default() += 1;
    }
    let attributed: u32 = accounts.values().sum();
    println!("{attributed} records of {} accounts in {}", accounts.len(), archive.display());
    assert!(attributed > 3000 && accounts.contains_key(&("IAMUser", "bert-jan".to_owned())));
}

/// The data set: where it is, and its files as objects.
fn objects() -> Option<(PathBuf, Vec<Object>)> {
    let Some(archive) = archive() else {
        println!("skipped: no data set; TRAILSPOOL_DATA names its folder, with cloudtrail.tar.gz in it");
        return None;
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let unpacked = Command::new("tar").arg("-xzf").arg(&archive).arg("-C").arg(folder.path()).status();
    assert!(unpacked.is_ok_and(|status| status.success()), "tar unpacks {}", archive.display());
    let mut paths = Vec::new();
    files_below(folder.path(), &mut paths);
    paths.sort();
    let objects: Vec<Object> = paths.iter().enumerate().filter_map(|(i, path)| object(i, path)).collect();
    assert!(objects.len() > 50, "the data set has its files");
    Some((archive, objects))
}

#[allow(clippy::disallowed_methods, reason = "where a person keeps the data set")]
fn archive() -> Option<PathBuf> {
    let folder = std::env::var_os("TRAILSPOOL_DATA").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    folder.into_iter().chain([beside]).map(|f| f.join("cloudtrail.tar.gz")).find(|file| file.is_file())
}

fn files_below(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files_below(&path, found) } else { found.push(path) }
    }
}

/// A file of the data set as an object: under its own key if that is one, else under a made-up one. `None`
/// for a file that holds no records (licences, descriptions).
fn object(number: usize, path: &Path) -> Option<Object> {
    let name = path.to_string_lossy();
    let content = std::fs::read(path).expect("a file");
    let (body, text) = match (name.ends_with(".json.gz"), name.ends_with(".json")) {
        (true, _) => (content.clone(), inflate(&content)),
        (_, true) => (gzip(&content), content),
        _ => return None,
    };
    let day = yesterday();
    let (y, m, d) = (day.year(), u8::from(day.month()), day.day());
    let key = match name.find("AWSLogs/") {
        Some(at) => name[at..].to_owned(),
        None => format!(
            "AWSLogs/111111111111/CloudTrail/eu-central-1/{y}/{m:02}/{d:02}/111111111111_CloudTrail_eu-central-1_{y}{m:02}{d:02}T1200Z_{number:016}.json.gz"
        ),
    };
    // One file of the data set lacks a comma between two records: where the next one begins is unclear.
    let (records, fate) = match records(&text) {
        Ok(records) => (records, Fate::Collected),
        Err(error) => {
            println!("to be set aside: {name}: {error}");
            (Vec::new(), Fate::Quarantined)
        }
    };
    Some(Object { key, body: body.into(), records, overlong: Vec::new(), fate, late: false, what: "real" })
}

/// All members, by the system's gzip.
fn inflate(content: &[u8]) -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), content).expect("its content");
    let output =
        Command::new("gzip").arg("-dc").stdin(file.reopen().expect("the file")).output().expect("gzip runs");
    assert!(output.status.success(), "gzip: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The bytes of each record of a text: of `{"Records":[…]}`, of an array, or of one object a line.
fn records(text: &[u8]) -> serde_json::Result<Vec<Bytes>> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut records = Vec::new();
    let mut add = |raw: &RawValue| records.push(Bytes::copy_from_slice(raw.get().as_bytes()));
    for value in serde_json::Deserializer::from_slice(text).into_iter::<&RawValue>() {
        let value = value?;
        if value.get().starts_with('[') {
            serde_json::from_str::<Vec<&RawValue>>(value.get())?.into_iter().for_each(&mut add);
            continue;
        }
        let fields: HashMap<String, &RawValue> = serde_json::from_str(value.get())?;
        match fields.get("Records").filter(|records| records.get().starts_with('[')) {
            Some(list) => serde_json::from_str::<Vec<&RawValue>>(list.get())?.into_iter().for_each(&mut add),
            None => add(value),
        }
    }
    Ok(records)
}
