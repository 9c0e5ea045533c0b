//! The keys of HTTP and file outputs: what is accepted, and that what contradicts itself is one clear fault.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use trailspool::config::http::{Auth, Http, Preset};
use trailspool::config::{self, Config, Faults, OnFull, OutputKind};

const HEAD: &str = r#"[[source]]
name = "prod"
bucket = "acme-cloudtrail"
region = "us-west-2"
[source.credentials]
method = "iam-user"
access_key_id = "AKIAIOSFODNN7EXAMPLE"
secret_key_file = "@DIR@/secret"
[[output]]
name = "siem"
"#;

fn parse(output: &str) -> Result<Config, Faults> {
    let dir = tempfile::tempdir().unwrap();
    for name in ["secret", "token"] {
        let path = dir.path().join(name);
        fs::write(&path, format!("{name}-of-the-test\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    let place = dir.path().to_str().unwrap();
    let text = format!("{HEAD}{output}\n").replace("@DIR@", place);
    config::parse(&text, Path::new("f"), &|name| (name == "CREDENTIALS_DIRECTORY").then(|| place.to_owned()))
}

fn http(output: &str) -> Http {
    let config =
        parse(&format!("kind = \"http\"\n{output}")).unwrap_or_else(|faults| panic!("{output}:\n{faults}"));
    let OutputKind::Http(http) = &config.outputs[0].kind else { panic!("http") };
    http.as_ref().clone()
}

#[test]
fn a_url_without_a_path_gets_the_presets_own() {
    let token = "splunk_token_file = \"@DIR@/token\"";
    let labels = "labels = { job = \"trail\" }";
    for (preset, more, written, url) in [
        ("ndjson", "", "https://h", "https://h/"),
        ("json-array", "", "https://h/in?x=1", "https://h/in?x=1"),
        ("splunk-hec", token, "https://h:8088", "https://h:8088/services/collector/event"),
        (
            "splunk-hec",
            token,
            "https://h/gate/services/collector/raw",
            "https://h/gate/services/collector/raw",
        ),
        ("elastic-bulk", "", "https://h:9200/?pipeline=p", "https://h:9200/_bulk?pipeline=p"),
        ("elastic-bulk", "", "https://h:9200/trail/_bulk", "https://h:9200/trail/_bulk"),
        ("loki", labels, "http://127.0.0.1:3100", "http://127.0.0.1:3100/loki/api/v1/push"),
    ] {
        let http = http(&format!("preset = {preset:?}\nurl = {written:?}\n{more}"));
        assert_eq!(http.url.to_string(), url);
    }
}

#[test]
fn secrets_come_from_files_and_credentials_and_are_not_shown() {
    let all = [
        ("", "bearer_token_file = \"@DIR@/token\""),
        ("", "bearer_token_credential = \"token\""),
        ("preset = \"splunk-hec\"", "splunk_token_credential = \"token\""),
        ("preset = \"elastic-bulk\"", "api_key_credential = \"token\""),
        ("", "username = \"u\"\npassword_credential = \"token\""),
    ];
    for (preset, keys) in all {
        let http = http(&format!("url = \"https://h\"\n{preset}\n{keys}"));
        let (Auth::Bearer(secret)
        | Auth::Splunk(secret)
        | Auth::ApiKey(secret)
        | Auth::Basic { password: secret, .. }) = http.auth.as_ref().unwrap();
        assert_eq!(secret.reveal(), "token-of-the-test");
        assert!(!format!("{http:?}").contains("token-of-the-test"));
    }
    let header = "[[output.header]]\nname = \"X-Key\"\nvalue_credential = \"token\"";
    let http = http(&format!("url = \"https://h\"\n{header}"));
    assert_eq!(http.headers[0].value, "token-of-the-test");
    assert!(!format!("{http:?}").contains("token-of-the-test"), "{http:?}");
}

#[test]
fn flow_has_defaults_that_change_nothing() {
    let config = parse("kind = \"http\"\nurl = \"https://h\"").unwrap();
    let output = &config.outputs[0];
    assert_eq!((output.concurrency, output.batch_wait, output.on_full), (1, Duration::ZERO, OnFull::Hold));
    let OutputKind::Http(http) = &output.kind else { panic!("http") };
    assert!(matches!(http.preset, Preset::Ndjson) && !http.gzip && http.idempotency.is_none());
    let config = parse("kind = \"file\"\npath = \"/a\"").unwrap();
    let OutputKind::File(file) = &config.outputs[0].kind else { panic!("file") };
    assert_eq!((file.rotate_age, file.gzip), (None, false));
}

#[test]
fn a_secret_without_encryption_is_warned_of() {
    for (url, auth, warned) in [
        ("http://h.example", "username = \"u\"\npassword_file = \"@DIR@/token\"", true),
        ("http://127.0.0.1", "username = \"u\"\npassword_file = \"@DIR@/token\"", false),
        ("http://h.example", "", false),
    ] {
        let config = parse(&format!("kind = \"http\"\nurl = {url:?}\n{auth}")).unwrap();
        assert_eq!(
            config.warnings.iter().any(|text| text.contains("without encryption")),
            warned,
            "{url} {auth}"
        );
    }
}

/// Lines of an output, and how its one fault begins.
const BAD: &[(&str, &str)] = &[
    ("preset = \"splunk\"", "preset: \"splunk\" is none of"),
    (
        "url = \"https://h/x\"\npreset = \"elastic-bulk\"",
        "url: has a path that this preset's API does not have",
    ),
    (
        "url = \"https://h/collector\"\npreset = \"splunk-hec\"\nsplunk_token_file = \"@DIR@/token\"",
        "url: has a path that this preset's API does not have",
    ),
    ("preset = \"splunk-hec\"", "splunk_token_file: missing"),
    ("preset = \"loki\"", "labels: missing"),
    ("preset = \"loki\"\nlabels = {}", "labels: must have 1 to 15 labels"),
    ("preset = \"loki\"\nlabels = { 1a = \"x\" }", "labels: \"1a\" is no label's name"),
    ("splunk_token_file = \"@DIR@/token\"", "splunk_token_file: unknown key"),
    ("labels = { job = \"x\" }", "labels: unknown key"),
    ("ack = true", "ack: unknown key"),
    (
        "preset = \"splunk-hec\"\nsplunk_token_file = \"@DIR@/token\"\nack_timeout_seconds = 9",
        "ack_timeout_seconds: has no meaning without ack = true",
    ),
    (
        "preset = \"splunk-hec\"\nsplunk_token_file = \"@DIR@/token\"\nack = true\nchannel = \"x\"",
        "channel: must be a GUID",
    ),
    ("bearer_token_file = \"@DIR@/token\"\nusername = \"u\"", "username: contradicts bearer_token_file"),
    (
        "bearer_token_file = \"@DIR@/token\"\nbearer_token_credential = \"token\"",
        "bearer_token_credential: contradicts bearer_token_file",
    ),
    ("username = \"u\"", "password_file: missing"),
    ("password_file = \"@DIR@/token\"", "username: missing"),
    ("username = \"a:b\"\npassword_file = \"@DIR@/token\"", "username: has a colon"),
    (
        "idempotency_header = \"content-length\"",
        "idempotency_header: content-length is set by the output itself",
    ),
    ("[[output.header]]\nname = \"Authorization\"\nvalue = \"x\"", "name: authorization has keys of its own"),
    ("[[output.header]]\nname = \"X-A\"", "value: missing"),
    ("[[output.header]]\nname = \"X-A\"\nvalue = \"a\\nb\"", "value: cannot stand in a header"),
    ("compression = \"lz4\"", "compression: \"lz4\" is none of"),
    ("concurrency = 0", "concurrency: must be from 1 to 64"),
    ("concurrency = 8\nbatch_bytes = \"8MiB\"", "concurrency: times batch_bytes is 64 MiB: at most 32 MiB"),
    ("on_full = \"drop\"", "on_full: \"drop\" is none of"),
    ("batch_seconds = 4000", "batch_seconds: must be from 0 to 3600"),
];

#[test]
fn what_contradicts_itself_is_one_clear_fault() {
    for (keys, begin) in BAD {
        let url = if keys.contains("url =") { "" } else { "url = \"https://h\"\n" };
        let faults =
            parse(&format!("kind = \"http\"\n{url}{keys}")).err().unwrap_or_else(|| panic!("{keys}"));
        let shown = faults.to_string();
        assert!(shown.contains(begin), "{keys}:\n{shown}");
        assert_eq!(faults.faults.len(), 1, "{keys}:\n{shown}");
        assert!(!shown.contains("token-of-the-test"), "{shown}");
    }
    for (keys, begin) in [
        ("rotate_age = \"10\"", "rotate_age: \"10\" is no period"),
        ("rotate_age = \"0m\"", "rotate_age: must be at least"),
        ("rotate_compress = \"xz\"", "rotate_compress: \"xz\" is none of"),
        ("concurrency = 2", "concurrency: unknown key"),
    ] {
        let faults = parse(&format!("kind = \"file\"\npath = \"/a\"\n{keys}")).err().unwrap();
        assert!(faults.to_string().contains(begin), "{keys}:\n{faults}");
    }
}
