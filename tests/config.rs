//! The configuration as an operator meets it: what is accepted, what is refused, and in which words.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use proptest::prelude::*;
use trailspool::config::http::Auth;
use trailspool::config::{
    self, Action, Attribution, Config, Credentials, Faults, Format, Method, OutputKind, Start, Transport,
};
use trailspool::deliver::syslog::Framing;
use trailspool::net::{Proxies, Proxy};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const TOKEN: &str = "siem-token-0123456789";
const FULL: &str = include_str!("fixtures/config/full.toml");

/// A folder with the files that configurations name.
struct Lab(tempfile::TempDir);

impl Lab {
    fn new() -> Lab {
        let lab = Lab(tempfile::tempdir().unwrap());
        lab.file("secret", SECRET, 0o600);
        lab.file("token", &format!("{TOKEN}\n"), 0o600);
        lab.file("open", SECRET, 0o644);
        lab.file("short", "short", 0o600);
        lab.file("lines", &format!("{SECRET}\nmore\n"), 0o600);
        lab.file("ca.pem", "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n", 0o644);
        lab.file("client.pem", "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n", 0o644);
        lab.file("client.key", "-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n", 0o600);
        lab.file("lab", &format!("{SECRET}\n"), 0o400);
        lab
    }

    fn file(&self, name: &str, content: &str, mode: u32) {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn dir(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    fn parse(&self, text: &str) -> Result<Config, Faults> {
        let text = text.replace("@DIR@", self.dir());
        config::parse(&text, Path::new("trailspool.toml"), &|name| {
            (name == "CREDENTIALS_DIRECTORY").then(|| self.dir().to_owned())
        })
    }

    fn faults(&self, text: &str) -> Faults {
        match self.parse(text) {
            Ok(_) => panic!("this has no fault:\n{text}"),
            Err(faults) => faults,
        }
    }
}

/// A small good configuration, its lines counted from 1.
const GOOD: &str = r#"[agent]
log_level = "info"
[spool]
max_bytes = "2GiB"
[[source]]
name = "prod"
bucket = "acme-cloudtrail"
region = "us-west-2"
exclude = ['"eventName":"Describe']
[source.credentials]
method = "iam-user"
access_key_id = "AKIAIOSFODNN7EXAMPLE"
secret_key_file = "@DIR@/secret"
[[source.rule]]
field = "userIdentity.type"
regex = "^AWSService$"
action = "drop"
[[output]]
name = "siem"
kind = "http"
url = "https://siem.example.com/"
"#;

/// What replaces one line of [`GOOD`] (by its number), and what the fault then says at which line.
const BROKEN: &[(usize, &str, usize, &str)] = &[
    // names and shapes of keys and tables
    (2, "log_levle = \"info\"", 2, "[agent] log_levle: unknown key; did you mean log_level?"),
    (2, "colour = 1", 2, "[agent] colour: unknown key; known here: state_dir, "),
    (1, "[agnet]", 1, "agnet: unknown key; did you mean agent?"),
    (2, "\"a\\nb\" = 1", 2, r#"[agent] "a\nb": unknown key"#),
    (
        13,
        "secret_key_file = \"@DIR@/secret\"\nexclude = []",
        14,
        "it belongs to [[source]]: move it above [source.prod.credentials]",
    ),
    (
        5,
        "[source]",
        5,
        "source: must be a list of tables, each headed [[source]] in double brackets, not a table",
    ),
    (1, "agent = 5", 1, "agent: must be a table, not a number"),
    (10, "credentials = \"x\"\n[source.x]", 10, "[source.prod] credentials: must be a table, not a string"),
    // [agent]
    (2, "log_level = \"loud\"", 2, "[agent] log_level: \"loud\" is none of \"error\", \"warn\""),
    (2, "log_level = 3", 2, "[agent] log_level: must be a string in quotes, not a number"),
    (2, "state_dir = \"var/lib\"", 2, "[agent] state_dir: must be an absolute path"),
    (2, "status_listen = \"9464\"", 2, "[agent] status_listen: \"9464\" is not an address with a port"),
    (
        2,
        "status_listen = \"0.0.0.0:9464\"",
        2,
        "other machines, which takes a token: write status_token_file",
    ),
    (2, "status_listen = \"[::]:1\"\nstatus_token_file = \"\"", 2, "[agent] status_listen: can be reached"),
    (2, "status_token_file = \"abcdef\"", 2, "must be the absolute path of a file that holds the secret"),
    (2, "status_token_file = \"@DIR@/open\"", 2, "may be read by others (mode 0644): chmod 600"),
    (2, "status_token_file = \"@DIR@/short\"", 2, "a token of at least 16 letters, digits and signs"),
    (2, "status_token_credential = \"x\"", 2, "the systemd credential cannot be read"),
    (2, "fetches_in_flight = 0", 2, "[agent] fetches_in_flight: must be from 1 to 256, not 0"),
    (2, "fetches_in_flight = \"16\"", 2, "must be a whole number from 1 to 256, not a string"),
    (2, "fetches_in_flight = 99999999999999999999999", 2, "must be from 1 to 256"),
    // [spool]
    (4, "max_bytes = \"2Gib!\"", 4, "[spool] max_bytes: \"2Gib!\" is not a size this can use"),
    (4, "max_bytes = \"1MiB\"", 4, "[spool] max_bytes: must be at least 32 MiB, not 1 MiB"),
    (4, "max_bytes = -1", 4, "[spool] max_bytes: is not a size in bytes"),
    (
        4,
        "max_bytes = \"1GiB\"\nmax_object_bytes = \"1GiB\"",
        5,
        "must be at most half of max_bytes (512 MiB), not 1 GiB",
    ),
    (
        4,
        "max_record_bytes = \"16MiB\"",
        4,
        "[spool] max_record_bytes: must be from 64 KiB to 2 MiB, not 16 MiB",
    ),
    (4, "compression = \"zip\"", 4, "[spool] compression: \"zip\" is none of \"none\", \"lz4\""),
    // [[source]]
    (6, "", 5, "[source 1] name: missing: write name = "),
    (6, "name = \"a/b\"", 6, "[source 1] name: \"a/b\" cannot be a name"),
    (7, "", 5, "[source.prod] bucket: missing: write bucket = \"NAME\""),
    (
        7,
        "bucket = \"Acme\"",
        7,
        "[source.prod] bucket: \"Acme\" is not a bucket name: bucket names have only lower-case",
    ),
    (
        7,
        "bucket = \"acme/AWSLogs/111122223333\"",
        7,
        "write bucket = \"acme\" and accounts = [\"111122223333\"]",
    ),
    (
        7,
        "bucket = \"https://acme.s3.amazonaws.com\"",
        7,
        "[source.prod] bucket: must be a bucket name, not a URL",
    ),
    (
        7,
        "bucket = \"acme\"\nkey_prefix = \"o-1/AWSLogs/o-1\"",
        8,
        "[source.prod] key_prefix: reaches into AWSLogs",
    ),
    (8, "", 5, "[source.prod] region: missing"),
    (
        8,
        "region = \"us-west2\"",
        8,
        "[source.prod] region: \"us-west2\" is not a region; did you mean \"us-west-2\"?",
    ),
    (
        8,
        "region = \"us-west-9\"",
        8,
        "not in this version's table of regions (trailspool regions prints it): did you mean \"us-west-1\"? If it is \
         newer than this version, write endpoint = \"https://s3.us-west-9.amazonaws.com\" as well",
    ),
    (
        8,
        "region = \"s3-fips.eu-west-1.amazonaws.com\"",
        5,
        "[source.prod] fips: S3 has no FIPS endpoint in eu-west-1",
    ),
    (8, "region = \"us-west-2\"\nendpoint = \"127.0.0.1:9000\"", 9, "[source.prod] endpoint: is not a URL"),
    (
        8,
        "region = \"us-west-2\"\nendpoint = \"http://h.example/x\"",
        9,
        "a path or a query has no place here",
    ),
    (
        8,
        "region = \"us-west-2\"\nrefresh_minutes = 0",
        9,
        "[source.prod] refresh_minutes: must be from 1 to 1440, not 0",
    ),
    (
        8,
        "region = \"us-west-2\"\nstart = \"yesterday\"",
        9,
        "[source.prod] start: \"yesterday\" is no such thing",
    ),
    (8, "region = \"us-west-2\"\nstart = 24", 9, "[source.prod] start: must be a string, not a number"),
    (
        8,
        "region = \"us-west-2\"\naccounts = [\"111122223333\", \"12\"]",
        9,
        "accounts entry 2: \"12\" is not an account id",
    ),
    (8, "region = \"us-west-2\"\naccounts = [111122223333]", 9, "accounts entry 1: must be in quotes"),
    (
        8,
        "region = \"us-west-2\"\nregions = [\"moon\"]",
        9,
        "[source.prod] regions entry 1: \"moon\" is not a region",
    ),
    (8, "region = \"us-west-2\"\nregions = \"us-west-2\"", 9, "[source.prod] regions: must be an array"),
    (
        8,
        "region = \"us-west-2\"\nunfiltered = \"yes\"",
        9,
        "unfiltered: must be true or false (without quotes), not a string",
    ),
    (
        8,
        "region = \"us-west-2\"\nattribution = \"long\"",
        9,
        "[source.prod] attribution: \"long\" is none of",
    ),
    (
        8,
        "region = \"us-west-2\"\nmethod = \"queue\"",
        9,
        "[source.prod] method: \"queue\" is none of \"poll\", \"sqs\", \"sqs+sweep\"",
    ),
    (
        8,
        "region = \"us-west-2\"\ndelete_foreign = true",
        9,
        "[source.prod] delete_foreign: goes with method = \"sqs\" or \"sqs+sweep\" only",
    ),
    (
        8,
        "region = \"us-west-2\"\nqueue_url = \"https://q\"",
        9,
        "[source.prod] queue_url: is not the URL of a queue: write https://sqs.REGION.amazonaws.com/ACCOUNT/NAME",
    ),
    (
        7,
        "bucket = \"trail-abc-s3alias\"\nmethod = \"sqs\"\nqueue_url = \"https://sqs.us-west-2.amazonaws.com/111122223333/q\"",
        7,
        "[source.prod] bucket: is an access point's alias, and S3's messages name the bucket itself: write that",
    ),
    (8, "region = \"us-west-2\"\nqueue_url = true", 9, "[source.prod] queue_url: must be a string in quotes"),
    (8, "region = \"us-west-2\"\nqueue_url = \"trail\"", 9, "[source.prod] queue_url: is not a URL"),
    (
        8,
        "region = \"us-west-2\"\nqueue_url = \"https://sqs.us-west-2.amazonaws.com/1111/q\"",
        9,
        "[source.prod] queue_url: is not the URL of a queue",
    ),
    (
        8,
        "region = \"us-west-2\"\nqueue_url = \"arn:aws:sqs:us-west-2:111122223333:q\"",
        9,
        "queue_url: is the queue's ARN: write its URL, \"https://sqs.us-west-2.amazonaws.com/111122223333/q\"",
    ),
    (8, "region = \"us-west-2\"\nproxy = \"socks5://p:1080\"", 9, "[source.prod] proxy: names a SOCKS proxy"),
    (8, "region = \"us-west-2\"\nproxy = true", 9, "[source.prod] proxy: must be a string in quotes"),
    (
        8,
        "region = \"us-west-2\"\nproxy = \"http://p:99999\"",
        9,
        "proxy: is not a proxy's URL; write http://",
    ),
    (8, "region = \"us-west-2\"\nproxy = \"http://p:3128/x\"", 9, "proxy: must end after the proxy's host"),
    (8, "region = \"us-west-2\"\nproxy = \"http://u:p/w@p\"", 9, "must be percent-encoded: / is %2F"),
    (20, "kind = \"http\"\nproxy = \"direct://\"", 21, "[output.siem] proxy: is not a proxy's URL"),
    (
        8,
        "region = \"eu-west-1\"\nfips = true",
        9,
        "[source.prod] fips: S3 has no FIPS endpoint in eu-west-1 that this version knows (there is one in ca-central-1, ",
    ),
    (
        8,
        "region = \"us-iso-east-1\"\ndualstack = true",
        9,
        "[source.prod] dualstack: S3 has no dual-stack endpoint in us-iso-east-1",
    ),
    (
        8,
        "region = \"us-west-2\"\nfips = true\nendpoint = \"https://vpce.example.com\"",
        9,
        "[source.prod] fips: has no effect beside endpoint",
    ),
    (8, "region = \"us-west-2\"\nfips = \"yes\"", 9, "fips: must be true or false"),
    (
        8,
        "region = \"us-west-2\"\nrequest_payer = \"me\"",
        9,
        "[source.prod] request_payer: \"me\" is none of \"\", \"requester\"",
    ),
    (
        8,
        "region = \"us-west-2\"\nca_file = \"/none/ca.pem\"",
        9,
        "[source.prod] ca_file: cannot be read: No such file",
    ),
    (
        8,
        "region = \"us-west-2\"\nca_file = \"@DIR@/secret\"",
        9,
        "[source.prod] ca_file: holds no certificate",
    ),
    // regexes
    (
        9,
        "exclude = ['ok', 'a(b']",
        9,
        "exclude entry 2: not a valid regex: unclosed group, at character 2: \"(b\"",
    ),
    (9, "exclude = [\n  'ok',\n  'a{9,1}',\n]", 11, "exclude entry 2: not a valid regex"),
    (9, "exclude = ['(?:x{900}){900}']", 9, "the regex is too large: compiled it takes more than 256 KiB"),
    (9, "exclude = ['']", 9, "exclude entry 1: matches the empty text, so it would drop every record"),
    (9, "exclude = [1]", 9, "exclude entry 1: must be a string in quotes"),
    (15, "", 14, "[source.prod.rule 1] field: missing"),
    (15, "field = \"a..b\"", 15, "[source.prod.rule 1] field: \"a..b\" is not a path"),
    (16, "regex = '[a'", 16, "[source.prod.rule 1] regex: not a valid regex: unclosed character class"),
    (17, "action = \"delete\"", 17, "[source.prod.rule 1] action: \"delete\" is none of \"drop\", \"keep\""),
    // credentials
    (11, "", 10, "[source.prod.credentials] method: missing: write method = \"iam-user\""),
    (
        11,
        "method = \"iam\"",
        11,
        "[source.prod.credentials] method: \"iam\" is none of \"iam-user\", \"ec2-role\"",
    ),
    (
        11,
        "method = \"iam-user\"\nprofile = \"x\"",
        12,
        "profile: goes with method = \"profile\" only: remove it",
    ),
    (
        11,
        "method = \"iam-user\"\nassume_role = \"arn:aws:iam::1:role/x\"",
        12,
        "\"arn:aws:iam::1:role/x\" is not the ARN of a role",
    ),
    (
        11,
        "method = \"iam-user\"\nassume_role = \"arn:aws:iam::111122223333:user/x\"",
        12,
        "is not the ARN of a role: write one such as",
    ),
    (
        11,
        "method = \"iam-user\"\nassume_role = \"arn:aws-us-gov:iam::111122223333:role/x\"",
        12,
        "is in partition aws-us-gov, but the source's region us-west-2 is in aws",
    ),
    (11, "method = \"iam-user\"\nexternal_id = \"xx\"", 12, "external_id: goes with assume_role only"),
    (
        11,
        "method = \"iam-user\"\nrole_session_name = \"xx\"",
        12,
        "role_session_name: goes with assume_role only",
    ),
    (
        11,
        "method = \"iam-user\"\nassume_role = \"arn:aws:iam::111122223333:role/x\"\nexternal_id = \"a b\"",
        13,
        "external_id: is no external id",
    ),
    (
        11,
        "method = \"iam-user\"\nassume_role = \"arn:aws:iam::111122223333:role/x\"\nrole_session_name = \"a/b\"",
        13,
        "role_session_name: \"a/b\" cannot name a session",
    ),
    (
        11,
        "method = \"iam-user\"\nsts_endpoint = \"https://sts.example.com/x\"",
        12,
        "sts_endpoint: must end after the host and port",
    ),
    (
        12,
        "access_key_id = \"AKIA...\"",
        12,
        "[source.prod.credentials] access_key_id: is not an access key id",
    ),
    (12, "access_key_id = \"ASIAIOSFODNN7EXAMPLE\"", 12, "belongs to temporary credentials"),
    (13, "", 10, "secret_key_file: missing: write secret_key_file = \"/PATH\" or secret_key_credential"),
    (
        13,
        "secret_access_key = \"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\"",
        13,
        "a secret has no place in this file",
    ),
    (13, "secret_key_file = \"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY\"", 13, "not the secret itself"),
    (13, "secret_key_file = \"@DIR@/none\"", 13, "secret_key_file: cannot be read: No such file"),
    (13, "secret_key_file = \"@DIR@/open\"", 13, "may be read by others (mode 0644): chmod 600 '"),
    (13, "secret_key_file = \"@DIR@/lines\"", 13, "one line without spaces"),
    (13, "secret_key_credential = \"none\"", 13, "the systemd credential cannot be read: No such file"),
    (13, "secret_key_credential = \"lab\"\nsecret_key_file = \"@DIR@/secret\"", 13, "write one of the two"),
    // [[output]]
    (20, "", 18, "[output.siem] kind: missing"),
    (20, "kind = \"kafka\"", 20, "[output.siem] kind: \"kafka\" is none of \"stdout\", \"file\", \"http\","),
    (20, "kind = \"file\"\npath = \"/x\"", 22, "[output.siem] url: unknown key"),
    (21, "", 18, "[output.siem] url: missing: write url = \"https://HOST/PATH\""),
    (21, "url = \"https://user:wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY@h/\"", 21, "[output.siem] url: "),
    (
        21,
        "url = \"https://h/\"\nformat = \"cef\"",
        22,
        "[output.siem] format: \"cef\" is none of \"raw\", \"envelope\"",
    ),
    (
        21,
        "url = \"https://h/\"\ntimeout_seconds = 0",
        22,
        "[output.siem] timeout_seconds: must be from 1 to 3600, not 0",
    ),
    (
        21,
        "url = \"https://h/\"\nbatch_bytes = 1",
        22,
        "[output.siem] batch_bytes: must be from 4 KiB to 8 MiB",
    ),
    (
        21,
        "url = \"https://h/\"\nbatch_records = 0",
        22,
        "[output.siem] batch_records: must be from 1 to 100000",
    ),
    (
        21,
        "url = \"https://h/\"\nbearer_token_file = \"@DIR@/open\"",
        22,
        "bearer_token_file: may be read by others",
    ),
    (
        21,
        "url = \"https://h/\"\n[[output]]\nname = \"siem\"\nkind = \"stdout\"",
        23,
        "\"siem\" is the name of an earlier output",
    ),
    (
        20,
        "kind = \"stdout\"\n[[output]]\nname = \"b\"\nkind = \"stdout\"\n[[output]]\nname = \"c\"\nkind = \"http\"",
        23,
        "[output.b] kind: is where an earlier output writes",
    ),
    // the grammar
    (2, "log_level = info", 2, "must stand in quotes (column 13)"),
    (2, "log_level = \"info\"\nlog_level = \"warn\"", 3, "not valid TOML: duplicate key"),
    (2, "state_dir = /var/lib", 2, "must stand in quotes (column 13)"),
    (2, "status_listen = 127.0.0.1:9464", 2, "must stand in quotes"),
    (2, "log_level =", 2, "not valid TOML: a value is missing"),
    (2, "log_level", 2, "not valid TOML: key with no value"),
    (5, "[[source]", 5, "not valid TOML: unclosed array table"),
    (9, "exclude = ['a'", 10, "not valid TOML: "),
    (9, "exclude = [\"\\d\"]", 9, "not valid TOML: missing escaped value"),
];

fn with_line(number: usize, replacement: &str) -> String {
    let mut lines: Vec<&str> = GOOD.lines().collect();
    lines[number - 1] = replacement;
    lines.join("\n")
}

#[test]
fn the_small_configuration_is_good() {
    let config = Lab::new().parse(GOOD).unwrap();
    assert_eq!(config.sources[0].endpoint.host.as_ref(), "s3.us-west-2.amazonaws.com");
    assert!(config.warnings.is_empty());
}

#[test]
fn each_fault_is_told_once_with_its_line_and_its_cure() {
    let lab = Lab::new();
    for (number, replacement, line, text) in BROKEN {
        let faults = lab.faults(&with_line(*number, replacement));
        let shown = faults.to_string();
        let begin = format!("trailspool.toml:{line}: ");
        let hit = shown.lines().any(|fault| fault.starts_with(&begin) && fault.contains(text));
        assert!(hit, "{replacement}\nexpected {begin}…{text}\ngot {shown}");
        assert!(!shown.contains(SECRET), "{shown}");
        assert!(!format!("{faults:?}").contains(SECRET));
        // Where a header is lost, what stood below it is missing as well.
        let header = [1, 5, 10].contains(number) || replacement.contains("exclude = ['a'");
        assert!(faults.faults.len() == 1 || header, "{replacement}: {shown}");
    }
}

/// Lines of an output and the fault they have.
const BROKEN_STREAMS: &[(&str, &str)] = &[
    ("kind = 'syslog'", "[output.siem] address: missing: write address = \"HOST:PORT\""),
    ("kind = 'syslog'\naddress = 'siem'", "address: has no port"),
    ("kind = 'relp'\naddress = 'siem:x'", "address: \"x\" is no port"),
    ("kind = 'tcp'\naddress = 'siem:1'\ntransport = 'udp'", "transport: \"udp\" is none of \"tcp\""),
    ("kind = 'tcp'\naddress = 'siem:1'\nfacility = 'user'", "facility: unknown key"),
    ("kind = 'relp'\naddress = 'siem:1'\nframing = 'lf'", "framing: unknown key"),
    (
        "kind = 'syslog'\naddress = 'siem:1'\ntransport = 'udp'\nframing = 'lf'",
        "framing: has no place in UDP",
    ),
    (
        "kind = 'syslog'\naddress = 'siem:1'\ntransport = 'udp'\nmax_message_bytes = '1MiB'",
        "max_message_bytes: must be",
    ),
    (
        "kind = 'tcp'\naddress = 'siem:1'\nca_file = '@DIR@/ca.pem'",
        "ca_file: is of use with transport = \"tls\" alone",
    ),
    (
        "kind = 'tcp'\naddress = 'siem:1'\ntransport = 'tls'\nserver_name = 'a b'",
        "server_name: \"a b\" is no name",
    ),
    (
        "kind = 'relp'\naddress = 'siem:1'\ntransport = 'tls'\nclient_cert_file = '@DIR@/ca.pem'",
        "client_key_file: missing",
    ),
    (
        "kind = 'relp'\naddress = 'siem:1'\ntransport = 'tls'\nclient_key_file = '@DIR@/client.key'",
        "client_cert_file: missing",
    ),
    (
        "kind = 'relp'\naddress = 'siem:1'\ntransport = 'tls'\nclient_cert_file = '@DIR@/ca.pem'\n\
         client_key_file = '@DIR@/open'",
        "client_key_file: may be read by others (mode 0644): chmod 600 '",
    ),
    (
        "kind = 'relp'\naddress = 'siem:1'\ntransport = 'tls'\nclient_cert_file = '@DIR@/ca.pem'\n\
         client_key_file = '@DIR@/secret'",
        "client_key_file: holds no private key",
    ),
    ("kind = 'syslog'\naddress = 'siem:1'\nsd_id = 'mine'", "sd_id: \"mine\" is no SD-ID"),
    ("kind = 'syslog'\naddress = 'siem:1'\nhostname = 'a b'", "hostname: must be 1 to 255 ASCII"),
    ("kind = 'syslog'\naddress = 'siem:1'\nfacility = 'local8'", "facility: \"local8\" is none of"),
];

#[test]
fn each_fault_of_an_output_over_a_connection_is_told_once_with_its_cure() {
    let lab = Lab::new();
    for (lines, text) in BROKEN_STREAMS {
        let (head, _) = GOOD.split_once("kind = ").unwrap();
        let shown = lab.faults(&format!("{head}{lines}\n")).to_string();
        assert_eq!(shown.lines().count(), 1, "{lines}\n{shown}");
        assert!(shown.contains(text), "{lines}\nexpected {text}\ngot {shown}");
        assert!(!shown.contains(SECRET), "{shown}");
    }
}

#[test]
fn outputs_over_a_connection_have_their_defaults() {
    let (head, _) = GOOD.split_once("kind = ").unwrap();
    let config = Lab::new().parse(&format!("{head}kind = 'syslog'\naddress = 'siem:514'\n")).unwrap();
    let OutputKind::Syslog { peer, syslog, framing } = &config.outputs[0].kind else { panic!("syslog") };
    assert_eq!((&*peer.host, peer.port, peer.transport), ("siem", 514, Transport::Tcp));
    assert_eq!((peer.timeout.as_secs(), peer.max_message_bytes), (30, None));
    assert_eq!(
        (syslog.priority, &*syslog.app_name, syslog.sd_id.as_deref()),
        (134, "trailspool", Some("trailspool@32473"))
    );
    assert_eq!(*framing, Framing::OctetCounting);
    assert!(!syslog.hostname.is_empty());
}

#[test]
fn all_faults_of_a_file_are_told_in_the_order_of_their_lines() {
    let text = r#"[agent]
log_level = "loud"
fetches_in_flight = 1000
[spool]
max_bytes = "tiny"
[[source]]
name = "prod"
bucket = "Acme"
region = "moon"
exclude = ['(', ')']
colour = "red"
[[output]]
name = "siem"
kind = "syslog"
address = "127.0.0.1"
"#;
    let faults = Lab::new().faults(text);
    let lines: Vec<usize> = faults.faults.iter().map(|fault| fault.line).collect();
    assert_eq!(lines, [2, 3, 5, 6, 8, 9, 10, 10, 11, 15], "{faults}");
    assert_eq!(faults.to_string().lines().count(), 10);
    assert!(faults.to_string().lines().all(|line| line.starts_with("trailspool.toml:")));
    assert!(faults.to_string().contains("6: [source.prod] credentials: missing"));
}

#[test]
fn faults_of_the_grammar_and_of_values_are_told_together() {
    let text = with_line(2, "log_level = info")
        .replace("us-west-2", "moon")
        .replace("name = \"siem\"", "nmae = siem");
    let shown = Lab::new().faults(&text).to_string();
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 3, "{shown}");
    assert!(lines[0].starts_with("trailspool.toml:2: not valid TOML"));
    assert!(lines[1].starts_with("trailspool.toml:8: [source.prod] region"));
    assert!(lines[2].starts_with("trailspool.toml:19: not valid TOML"));
}

#[test]
fn an_empty_file_is_told_what_it_needs() {
    let shown = Lab::new().faults("").to_string();
    assert!(shown.contains("source: missing: write at least one [[source]]"), "{shown}");
    assert!(shown.contains("output: missing: write at least one [[output]]"), "{shown}");
}

#[test]
fn a_flood_of_faults_is_counted_not_shown() {
    let text: String = (0..5_000).map(|n| format!("key{n} = {n}\n")).collect();
    let faults = Lab::new().faults(&text);
    assert_eq!(faults.faults.len(), 100);
    assert_eq!(faults.more, 5_002 - 100);
    assert!(faults.to_string().ends_with("trailspool.toml: and 4902 more"));
}

#[test]
fn the_full_example_means_what_it_says() {
    let config = Lab::new().parse(FULL).unwrap_or_else(|faults| panic!("{faults}"));
    let agent = &config.agent;
    assert_eq!(agent.state_dir, Path::new("/var/lib/trailspool"));
    assert_eq!(agent.status_listen, Some("127.0.0.1:9464".parse().unwrap()));
    assert_eq!(agent.status_token.as_ref().map(|token| token.reveal()), Some(TOKEN));
    assert_eq!((agent.log_level, agent.fetches_in_flight), (log::LevelFilter::Info, 16));
    let spool = &config.spool;
    assert_eq!((spool.max_bytes, spool.quarantine_max_bytes), (2 << 30, 64 << 20));
    assert_eq!((spool.max_record_bytes, spool.max_object_bytes), (1 << 20, 1 << 30));
    assert_eq!(spool.compression, trailspool::spool::Compression::Lz4);

    let [prod, lab, cloud] = &config.sources[..] else { panic!("three sources") };
    assert_eq!(
        (prod.name.as_ref(), prod.bucket.as_ref(), prod.prefix.as_ref()),
        ("prod", "acme-cloudtrail", "folder/trail/")
    );
    assert_eq!(
        (prod.region.as_ref(), prod.refresh, prod.start),
        ("us-west-2", Duration::from_secs(3600), Start::Ago(Duration::from_secs(86_400)))
    );
    assert_eq!((prod.method, prod.delete_foreign, lab.method), (Method::SqsSweep, false, Method::Poll));
    let queue = prod.queue_url.as_ref().expect("a queue");
    assert_eq!(queue.arn(), "arn:aws:sqs:us-west-2:111122223333:trail");
    assert_eq!(config.warnings, [""; 0]);
    assert_eq!(prod.accounts, ["111122223333"].map(Box::<str>::from));
    assert_eq!(prod.regions, ["us-west-2", "eu-west-1"].map(Box::<str>::from));
    assert!(!prod.unfiltered && prod.exclude.is_match(br#"{"eventName":"DescribeTags"}"#));
    assert_eq!((prod.attribution, prod.default_domain.as_ref()), (Attribution::ShortName, ""));
    assert_eq!(prod.endpoint.host.as_ref(), "s3.us-west-2.amazonaws.com");
    assert!(
        prod.endpoint.tls
            && prod.endpoint.port.is_none()
            && !prod.endpoint.path_style
            && prod.ca_file.is_none()
    );
    let Credentials::IamUser { access_key_id, secret_access_key } = &prod.credentials else {
        panic!("iam-user")
    };
    assert_eq!((access_key_id.as_ref(), secret_access_key.reveal()), ("AKIAIOSFODNN7EXAMPLE", SECRET));
    assert_eq!(
        (prod.rules.list()[0].field.as_ref(), prod.rules.list()[0].action),
        ("userIdentity.type", Action::Drop)
    );

    let day = time::Date::from_calendar_date(2026, time::Month::January, 31).unwrap();
    assert_eq!(
        (lab.region.as_ref(), lab.start, lab.prefix.as_ref()),
        ("us-gov-east-1", Start::Date(day), "")
    );
    assert_eq!((lab.endpoint.tls, lab.endpoint.port, lab.endpoint.path_style), (false, Some(9000), true));
    let Credentials::IamUser { secret_access_key, .. } = &lab.credentials else { panic!("iam-user") };
    assert_eq!(secret_access_key.reveal(), SECRET);
    assert_eq!(lab.sts.to_string(), "https://sts.us-gov-east-1.amazonaws.com/");

    let Credentials::AssumeRole { base, role } = &cloud.credentials else { panic!("a role") };
    assert!(
        matches!(&**base, Credentials::Ec2Role { metadata } if metadata.host() == Some("169.254.169.254"))
    );
    assert_eq!(role.arn.as_ref(), "arn:aws:iam::111122223333:role/trails/reader");
    assert_eq!((role.external_id.as_deref(), role.session_name.as_ref()), (Some("acme-7"), "collector"));
    assert_eq!(cloud.sts.to_string(), "https://vpce-1.sts.eu-west-1.vpce.amazonaws.com/");

    let [siem, archive, collector, acknowledged, lines, console, ..] = &config.outputs[..] else {
        panic!("six outputs and more")
    };
    let OutputKind::Syslog { peer, syslog, framing } = &collector.kind else { panic!("syslog") };
    assert_eq!((&*peer.host, peer.port, peer.transport), ("siem.example.com", 6514, Transport::Tls));
    assert_eq!((peer.max_message_bytes, *framing), (Some(64 << 10), Framing::OctetCounting));
    assert_eq!(peer.server_name.as_deref(), Some("collector.example.com"));
    assert!(peer.trust.ca_file.is_some() && peer.trust.identity.is_some());
    assert_eq!((syslog.priority, &*syslog.hostname, &*syslog.app_name), (134, "box1", "trailspool"));
    let OutputKind::Relp { peer, .. } = &acknowledged.kind else { panic!("relp") };
    assert_eq!((&*peer.host, peer.port, peer.transport), ("2001:db8::5", 2514, Transport::Tcp));
    let OutputKind::Tcp(peer) = &lines.kind else { panic!("tcp") };
    assert_eq!((peer.port, lines.format), (5170, Format::Envelope));
    let OutputKind::Http(http) = &siem.kind else { panic!("http") };
    assert_eq!(
        (http.url.to_string().as_str(), http.timeout),
        ("https://siem.example.com/ingest?index=aws", Duration::from_secs(30))
    );
    assert!(matches!(&http.auth, Some(Auth::Bearer(token)) if token.reveal() == TOKEN));
    assert!(http.trust.ca_file.is_some() && siem.format == Format::Envelope);
    assert_eq!((siem.batch_bytes, siem.batch_records), (512 << 10, 2000));
    let OutputKind::File(file) = &archive.kind else { panic!("file") };
    assert_eq!(
        (file.path.as_path(), file.rotate_bytes, file.rotate_keep),
        (Path::new("/var/log/trailspool/records.json"), 100 << 20, 5)
    );
    assert_eq!((file.rotate_age, file.gzip), (Some(Duration::from_secs(86_400)), true));
    assert!(matches!(console.kind, OutputKind::Stdout) && console.format == Format::Raw);
}

/// The small configuration with other credentials, in an environment of `variables`.
fn credentials(table: &str, variables: &[(&str, &str)]) -> Result<Credentials, String> {
    let begin = GOOD.find("method = \"iam-user\"").unwrap();
    let end = GOOD.find("[[source.rule]]").unwrap();
    let text = format!("{}{table}\n{}", &GOOD[..begin], &GOOD[end..]);
    let env = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
    let config = config::parse(&text, Path::new("f"), &env).map_err(|faults| faults.to_string())?;
    Ok(config.sources[0].credentials.clone())
}

#[test]
fn each_method_takes_what_it_needs_from_the_environment() {
    let home = ("HOME", "/home/x");
    let got =
        credentials("method = \"ec2-role\"", &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:81")]);
    assert!(matches!(got, Ok(Credentials::Ec2Role { metadata }) if metadata.port_u16() == Some(81)));
    let got = credentials("method = \"ecs\"", &[("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/v2/x")]);
    assert!(matches!(got, Ok(Credentials::Ecs(container)) if container.url == "http://169.254.170.2/v2/x"));
    for (table, variables, profile) in [
        ("method = \"profile\"\nprofile = \"audit\"", vec![home, ("AWS_PROFILE", "other")], "audit"),
        ("method = \"profile\"", vec![home, ("AWS_PROFILE", "other")], "other"),
        ("method = \"profile\"", vec![home], "default"),
    ] {
        let Ok(Credentials::Profile { name, environment }) = credentials(table, &variables) else {
            panic!("{table}")
        };
        assert_eq!(name.as_ref(), profile);
        assert_eq!(environment.credentials_file.as_deref(), Some(Path::new("/home/x/.aws/credentials")));
    }
    let keys = [("AWS_ACCESS_KEY_ID", "AKIAX"), ("AWS_SECRET_ACCESS_KEY", SECRET)];
    let Ok(Credentials::Default(environment)) = credentials("method = \"default\"", &keys) else { panic!() };
    assert!(environment.keys.is_some() && !format!("{environment:?}").contains(SECRET));
    let role = "method = \"default\"\nassume_role = \"arn:aws:iam::111122223333:role/x\"";
    let Ok(Credentials::AssumeRole { base, role }) = credentials(role, &[]) else { panic!() };
    assert!(matches!(*base, Credentials::Default(_)) && role.external_id.is_none());
    assert_eq!((role.session_name.as_ref(), role.duration), ("trailspool", Duration::from_secs(3600)));
}

#[test]
fn what_does_not_fit_a_method_is_told_at_its_line() {
    for (table, variables, line, text) in [
        (
            "method = \"ec2-role\"\naccess_key_id = \"AKIAX\"",
            vec![],
            12,
            "access_key_id: goes with method = \"iam-user\"",
        ),
        ("method = \"ecs\"", vec![], 11, "method: needs what ECS and EKS set"),
        ("method = \"profile\"", vec![], 11, "method: finds no files: set $AWS_SHARED_CREDENTIALS_FILE"),
        (
            "method = \"profile\"\nprofile = \"a]\"",
            vec![("HOME", "/x")],
            12,
            "profile: is not the name of a profile",
        ),
        (
            "method = \"ec2-role\"",
            vec![("AWS_EC2_METADATA_DISABLED", "true")],
            11,
            "$AWS_EC2_METADATA_DISABLED turns off",
        ),
        (
            "method = \"default\"",
            vec![("AWS_ACCESS_KEY_ID", "A")],
            11,
            "method: $AWS_ACCESS_KEY_ID is set but",
        ),
        (
            "method = \"default\"",
            vec![("AWS_CONFIG_FILE", "x")],
            11,
            "method: $AWS_CONFIG_FILE must be an absolute path",
        ),
        (
            "method = \"ecs\"",
            vec![("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://10.0.0.1/")],
            11,
            "method: $AWS_CONTAINER_CREDENTIALS_FULL_URI names a host",
        ),
        ("method = \"default\"\nsecret_key_file = \"/x\"", vec![], 12, "secret_key_file: goes with"),
        (
            "method = \"default\"\nassume_role = \"\"\nexternal_id = \"xx\"",
            vec![],
            13,
            "goes with assume_role",
        ),
        ("method = \"default\"\nassume_rolle = \"\"", vec![], 12, "unknown key; did you mean assume_role?"),
    ] {
        let shown = credentials(table, &variables).unwrap_err();
        assert!(shown.starts_with(&format!("f:{line}: [source.prod.credentials] ")), "{table}: {shown}");
        assert!(shown.contains(text) && shown.lines().count() == 1, "{table}: {shown}");
    }
}

#[test]
fn no_secret_is_ever_printed() {
    let lab = Lab::new();
    let printed = format!("{:?}", lab.parse(FULL).unwrap());
    assert!(printed.contains("AKIAIOSFODNN7EXAMPLE"));
    assert!(!printed.contains(SECRET) && !printed.contains(TOKEN));
    // A secret in the place of any string of the file, which is where people put it by mistake.
    for (number, line) in GOOD.lines().enumerate() {
        let Some((key, _)) = line.split_once(" = ") else { continue };
        if ["secret", "access", "url"].iter().any(|word| key.contains(word)) {
            let faults = lab.faults(&with_line(number + 1, &format!("{key} = \"{SECRET}\"")));
            assert!(!faults.to_string().contains(SECRET), "{faults}");
            assert!(!format!("{faults:?}").contains(SECRET));
        }
    }
}

#[test]
fn the_state_folder_is_the_configured_the_given_or_the_usual_one() {
    let lab = Lab::new();
    let text = GOOD.replace("@DIR@", lab.dir());
    let state_dir = |text: &str, given: Option<&str>| {
        let env = |name: &str| given.filter(|_| name == "STATE_DIRECTORY").map(str::to_owned);
        config::parse(text, Path::new("f"), &env).map(|config| config.agent.state_dir)
    };
    assert_eq!(state_dir(&text, None).unwrap(), Path::new("/var/lib/trailspool"));
    assert_eq!(state_dir(&text, Some("")).unwrap(), Path::new("/var/lib/trailspool"));
    assert_eq!(state_dir(&text, Some("/run/a:/run/b")).unwrap(), Path::new("/run/a"));
    let written = text.replace("[agent]", "[agent]\nstate_dir = \"/srv/x\"");
    assert_eq!(state_dir(&written, Some("/run/a")).unwrap(), Path::new("/srv/x"));
    let shown = state_dir(&text, Some("relative")).unwrap_err().to_string();
    assert!(shown.contains("[agent] state_dir: $STATE_DIRECTORY must be an absolute path"), "{shown}");
}

#[test]
fn what_is_accepted_with_a_word_of_warning() {
    let lab = Lab::new();
    let website = GOOD.replace("\"us-west-2\"", "\"s3-website.us-gov-west-1.amazonaws.com\"");
    let config = lab.parse(&website).unwrap();
    assert_eq!(config.sources[0].endpoint.host.as_ref(), "s3.us-gov-west-1.amazonaws.com");
    assert!(
        config.warnings[0]
            .starts_with("[source.prod] region: a website endpoint cannot answer signed requests")
    );

    let token = GOOD.replace(
        "https://siem.example.com/\"",
        "http://siem.example.com/\"\nbearer_token_file = \"@DIR@/token\"",
    );
    assert!(lab.parse(&token).unwrap().warnings[0].contains("without encryption"));
}

/// `proxy` of source and output, what the environment has, and the proxies that are then used.
#[test]
fn a_proxy_is_written_or_the_environments_or_none() {
    let lab = Lab::new();
    for (written, source, output) in [
        ("", Some("http://env:3128"), Some("http://env:3128")),
        ("proxy = \"\"\n", Some("http://env:3128"), Some("http://env:3128")),
        ("proxy = \"none\"\n", None, None),
        ("proxy = \"http://alice:hunter2@own:8080\"\n", Some("http://own:8080"), Some("http://own:8080")),
    ] {
        let text = GOOD
            .replace("@DIR@", lab.dir())
            .replace("region = ", &format!("{written}region = "))
            .replace("kind = ", &format!("{written}kind = "));
        let env = |name: &str| match name {
            "HTTPS_PROXY" => Some("http://env:3128".to_owned()),
            "NO_PROXY" => Some("intern.example.com".to_owned()),
            _ => None,
        };
        let config = config::parse(&text, Path::new("f"), &env).unwrap();
        let shown =
            |proxies: &Proxies, target: &str| proxies.of(&target.parse().unwrap()).map(Proxy::to_string);
        let of_source = &config.sources[0].proxies;
        let OutputKind::Http(http) = &config.outputs[0].kind else { panic!("http") };
        let of_output = &http.proxies;
        assert_eq!(shown(of_source, "https://s3.us-west-2.amazonaws.com/").as_deref(), source, "{written}");
        assert_eq!(shown(of_output, "https://siem.example.com/").as_deref(), output, "{written}");
        // NO_PROXY goes with the environment's proxies alone.
        let intern = shown(of_source, "https://s3.intern.example.com/");
        assert_eq!(intern.as_deref(), source.filter(|proxy| *proxy != "http://env:3128"), "{written}");
        assert!(!format!("{config:?}").contains("hunter2"));
    }
    let text = GOOD.replace("@DIR@", lab.dir());
    let socks = |name: &str| (name == "ALL_PROXY").then(|| "socks5://u:hunter2@p".to_owned());
    let faults = config::parse(&text, Path::new("f"), &socks).unwrap_err().to_string();
    assert!(faults.contains("[source.prod] proxy: $ALL_PROXY names a SOCKS proxy"), "{faults}");
    assert!(faults.contains("[output.siem] proxy: $ALL_PROXY") && !faults.contains("hunter2"), "{faults}");
}

/// Region and other lines of the source; the host that is then asked.
#[test]
fn regions_flavors_and_endpoints_make_the_host() {
    let lab = Lab::new();
    for (region, lines, host) in [
        ("us-west-2", "fips = true", "s3-fips.us-west-2.amazonaws.com"),
        ("us-west-2", "dualstack = true", "s3.dualstack.us-west-2.amazonaws.com"),
        (
            "US West (GovCloud)",
            "fips = true\ndualstack = true",
            "s3-fips.dualstack.us-gov-west-1.amazonaws.com",
        ),
        ("US West (Oregon)", "", "s3.us-west-2.amazonaws.com"),
        ("https://s3-fips.us-gov-west-1.amazonaws.com", "", "s3-fips.us-gov-west-1.amazonaws.com"),
        ("https://s3-us-west-2.amazonaws.com", "dualstack = true", "s3.dualstack.us-west-2.amazonaws.com"),
        ("s3-website.us-gov-west-1.amazonaws.com", "fips = true", "s3-fips.us-gov-west-1.amazonaws.com"),
        ("us-iso-east-1", "", "s3.us-iso-east-1.c2s.ic.gov"),
        ("eusc-de-east-1", "", "s3.eusc-de-east-1.amazonaws.eu"),
        ("us-west-9", "endpoint = \"https://s3.us-west-9.amazonaws.com\"", "s3.us-west-9.amazonaws.com"),
        ("garage", "endpoint = \"http://127.0.0.1:3900\"", "127.0.0.1"),
    ] {
        let lines = format!("region = \"{region}\"\n{lines}");
        let config = lab.parse(&with_line(8, &lines)).unwrap_or_else(|faults| panic!("{lines}: {faults}"));
        assert_eq!(config.sources[0].endpoint.host.as_ref(), host, "{lines}");
    }
    // STS goes with S3, except where only the doctor would ask it.
    let fips = |region: &str, role: &str| {
        let text = with_line(8, &format!("region = \"{region}\"\nfips = true"));
        lab.parse(&text.replace("method = \"iam-user\"", &format!("method = \"iam-user\"\n{role}")))
    };
    let role = "assume_role = \"arn:aws:iam::111122223333:role/x\"";
    let sts = |config: Config| config.sources[0].sts.to_string();
    assert_eq!(sts(fips("us-west-2", role).unwrap()), "https://sts-fips.us-west-2.amazonaws.com/");
    assert_eq!(sts(fips("ca-central-1", "").unwrap()), "https://sts.ca-central-1.amazonaws.com/");
    let fault = fips("ca-central-1", role).unwrap_err().to_string();
    assert!(fault.contains("sts_endpoint: AWS STS has no FIPS endpoint in ca-central-1"), "{fault}");

    let newer = lab.parse(&with_line(8, "region = \"us-west-2\"\nregions = [\"us-west-9\"]")).unwrap();
    assert!(newer.warnings[0].contains("\"us-west-9\" is not in this version's table of regions"));
    assert_eq!(newer.sources[0].regions, ["us-west-9"].map(Box::<str>::from));
    let payer = lab.parse(&with_line(8, "region = \"us-west-2\"\nrequest_payer = \"requester\"")).unwrap();
    assert!(payer.sources[0].request_payer);
}

#[test]
fn files_that_are_no_configuration_are_told_apart() {
    let lab = Lab::new();
    fs::write(lab.0.path().join("latin1.toml"), b"[agent]\nlog_level = \"\xe9\"\n").unwrap();
    lab.file("long.toml", &"#".repeat((1 << 20) + 1), 0o644);
    for (name, text) in [
        ("none.toml", "cannot be read: No such file or directory (os error 2); write one there"),
        ("latin1.toml", "is not UTF-8 text: see line 2"),
        ("long.toml", "cannot be read: it is longer than 1 MiB"),
        ("", "cannot be read: it is a folder"),
    ] {
        let path = lab.0.path().join(name);
        let shown = config::load(&path).unwrap_err().to_string();
        assert_eq!(shown.lines().count(), 1);
        assert!(shown.starts_with(&format!("{}: ", path.display())) && shown.contains(text), "{shown}");
    }
}

/// What a person copies is what a program parses: JSON documents alone on standard output.
#[test]
fn policies_are_printed_as_json_with_their_headings_apart() {
    let lab = Lab::new();
    lab.file("good.toml", &GOOD.replace("@DIR@", lab.dir()), 0o644);
    let config = lab.0.path().join("good.toml");
    let user = "arn:aws:iam::111122223333:user/reader";
    let policy = |args: &[&str]| {
        let done = trailspool(&[&["policy", "--config", config.to_str().unwrap()], args].concat());
        let text = String::from_utf8(done.stdout).unwrap();
        let documents: Vec<serde_json::Value> =
            serde_json::Deserializer::from_str(&text).into_iter().collect::<Result<_, _>>().unwrap();
        (done.status.code(), documents, String::from_utf8(done.stderr).unwrap())
    };
    let (code, documents, headings) = policy(&["--principal", user]);
    assert_eq!((code, documents.len()), (Some(0), 2));
    assert_eq!(documents[0]["Statement"][0]["Resource"], "arn:aws:s3:::acme-cloudtrail");
    assert!(headings.starts_with("# source prod: IAM policy: attach it to arn:aws:iam::"), "{headings}");

    let (code, documents, _) = policy(&["--only", "bucket", "--principal", user]);
    assert_eq!((code, documents.len()), (Some(0), 1));
    assert_eq!(documents[0]["Statement"][0]["Principal"]["AWS"], user);

    let (code, documents, notes) = policy(&["--only", "bucket"]);
    assert_eq!((code, documents.len()), (Some(64), 0));
    assert!(notes.contains("--principal ARN"), "{notes}");

    let queue = "queue_url = \"https://sqs.us-west-2.amazonaws.com/111122223333/trail\"\nbucket = \"acme-cloudtrail\"";
    let text = GOOD.replace("@DIR@", lab.dir()).replace("bucket = \"acme-cloudtrail\"", queue);
    lab.file("queue.toml", &text, 0o644);
    let with_queue = lab.0.path().join("queue.toml");
    let done = trailspool(&["policy", "--config", with_queue.to_str().unwrap(), "--only", "queue"]);
    let policy_of_queue: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(policy_of_queue["Statement"][0]["Resource"], "arn:aws:sqs:us-west-2:111122223333:trail");

    let role = "arn:aws:iam::444455556666:role/logs";
    let text = GOOD.replace("@DIR@", lab.dir()).replace(
        "method = \"iam-user\"",
        &format!("method = \"iam-user\"\nassume_role = \"{role}\"\nexternal_id = \"ext-1\""),
    );
    lab.file("role.toml", &text, 0o644);
    let with_role = lab.0.path().join("role.toml");
    let done = trailspool(&[
        "policy",
        "--config",
        with_role.to_str().unwrap(),
        "--only",
        "trust",
        "--principal",
        user,
    ]);
    let trust: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(trust["Statement"][0]["Principal"]["AWS"], user);
    assert_eq!(trust["Statement"][0]["Condition"]["StringEquals"]["sts:ExternalId"], "ext-1");

    let (code, _, text) = policy(&["--principal", "arn:aws-cn:iam::111122223333:user/reader"]);
    assert!(code == Some(64) && text.contains("partition aws, but the principal is in aws-cn"), "{text}");
}

#[test]
fn regions_are_printed() {
    for args in [&["regions"][..], &["regions", "--tsv"]] {
        let done = trailspool(args);
        assert_eq!(done.status.code(), Some(0));
        let text = String::from_utf8(done.stdout).unwrap();
        assert!(
            text.lines().any(|line| line.starts_with("us-west-2") && line.contains("US West (Oregon)")),
            "{text}"
        );
    }
}

fn trailspool(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_trailspool")).args(args).output().unwrap()
}

#[test]
fn the_command_ends_with_the_code_of_what_is_wrong() {
    let lab = Lab::new();
    lab.file("bad.toml", "[agent]\nlog_level = \"loud\"\nx = 1\n", 0o644);
    let bad = lab.0.path().join("bad.toml");
    let done = trailspool(&["run", "--config", bad.to_str().unwrap()]);
    let stderr = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(78));
    assert!(done.stdout.is_empty());
    assert!(
        stderr.contains("bad.toml:2: [agent] log_level: ") && stderr.contains("bad.toml:3: [agent] x: "),
        "{stderr}"
    );

    assert_eq!(trailspool(&[]).status.code(), Some(64));
    assert_eq!(trailspool(&["audit"]).status.code(), Some(64));
    let help = trailspool(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8(help.stdout).unwrap().contains("Usage: trailspool"));
    assert!(String::from_utf8(trailspool(&["--version"]).stdout).unwrap().starts_with("trailspool "));
}

/// Text that is neither a configuration nor noise: the full example with a piece removed, doubled or put elsewhere.
fn mangled() -> impl Strategy<Value = String> {
    let at = 0..FULL.len();
    (at.clone(), at.clone(), at, "[\\[\\]{}=\"'\\\\\\n.,#a-z0-9é]{0,4}").prop_map(|(a, b, c, new)| {
        let (a, b) = (a.min(b), a.max(b));
        let piece = FULL.get(a..b).unwrap_or("");
        let c = if FULL.is_char_boundary(c) { c } else { 0 };
        format!("{}{new}{piece}{}", &FULL[..c], &FULL[c..])
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_text_panics_and_every_fault_has_a_line_of_the_file(text in prop_oneof![any::<String>(), mangled()]) {
        if let Err(faults) = config::parse(&text, Path::new("f"), &|_| None) {
            prop_assert!(!faults.faults.is_empty());
            let lines = text.split('\n').count();
            for fault in &faults.faults {
                prop_assert!((1..=lines).contains(&fault.line), "{fault:?}");
            }
            prop_assert_eq!(faults.to_string().lines().count(), faults.faults.len() + usize::from(faults.more > 0));
        }
    }
}

#[test]
fn a_status_server_for_other_machines_needs_a_token_and_one_for_this_machine_does_not() {
    let lab = Lab::new();
    let open = |token: &str| {
        lab.parse(&GOOD.replacen(
            "log_level = \"info\"",
            &format!("status_listen = \"0.0.0.0:9464\"\n{token}"),
            1,
        ))
    };
    assert!(open("").is_err());
    let config = open("status_token_file = \"@DIR@/token\"\n").unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(config.agent.status_token.as_ref().map(|token| token.reveal()), Some(TOKEN));
    assert!(!format!("{config:?}").contains(TOKEN));
    let local = lab.parse(GOOD).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(local.agent.status_token, None);
}

#[test]
fn methods_with_a_queue_need_one_and_sweep_every_hour() {
    let lab = Lab::new();
    let queue = "queue_url = \"https://sqs.us-west-2.amazonaws.com/111122223333/trail\"";
    let with = |lines: &str| {
        lab.parse(
            &GOOD
                .replace("@DIR@", lab.dir())
                .replace("region = \"us-west-2\"", &format!("region = \"us-west-2\"\n{lines}")),
        )
    };
    for (method, expected, minutes) in
        [("poll", Method::Poll, 5), ("sqs", Method::Sqs, 5), ("sqs+sweep", Method::SqsSweep, 60)]
    {
        let config = with(&format!("method = \"{method}\"\n{queue}")).unwrap();
        let source = &config.sources[0];
        assert_eq!((source.method, source.refresh), (expected, Duration::from_secs(60 * minutes)));
        let warned =
            config.warnings.iter().any(|warning| warning.contains("queue_url: nothing is received from it"));
        assert_eq!(warned, method == "poll", "{:?}", config.warnings);
    }
    let config =
        with(&format!("method = \"sqs+sweep\"\nrefresh_minutes = 7\ndelete_foreign = true\n{queue}"))
            .unwrap();
    assert!(config.sources[0].delete_foreign && config.sources[0].refresh == Duration::from_secs(420));
    for lines in ["method = \"sqs\"", "method = \"sqs+sweep\"\nqueue_url = \"\""] {
        let faults = with(lines).unwrap_err().to_string();
        assert!(
            faults.contains("[source.prod] queue_url: missing: write the queue that S3 tells"),
            "{faults}"
        );
    }
}
