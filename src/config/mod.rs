//! The configuration, parsed once into its final types. All faults of a file are reported together, each
//! with its line ([`load`]); whatever passes is usable as it stands, nothing downstream checks it again.
//!
//! `fault` collects what is wrong, `table` walks the TOML, `units`, `bucket`, `endpoint`, `pattern`, `proxy`, `queue`
//! and `files` read single values, `environment` what AWS's tools agree on, `source`, `credentials`, `output`, `http`,
//! `stream` and `directory` put them together.

mod bucket;
mod credentials;
mod directory;
mod endpoint;
mod environment;
mod fault;
mod files;
pub mod http;
mod load;
mod output;
mod pattern;
mod proxy;
mod queue;
mod source;
mod stream;
mod table;
mod units;

pub use fault::{Fault, Faults};
pub(crate) use files::{CREDENTIALS, bounded, readable_by_others};
pub(crate) use load::parse_here;
pub use load::{examine, load, parse};
pub use pattern::{FieldRegexes, Rules};
pub use queue::Queue;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use regex::bytes::RegexSet;
use zeroize::Zeroizing;

use crate::aws::partition::Flavor;
use crate::deliver::syslog::Framing;
use crate::net::{Proxies, Trust};
use crate::spool::Compression;

/// A whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[agent]`
    pub agent: Agent,
    /// `[spool]`
    pub spool: Spool,
    /// `[[source]]`, at least one, names unique.
    pub sources: Vec<Source>,
    /// `[[output]]`, at least one, names unique.
    pub outputs: Vec<Output>,
    /// `[directory]`; `None`: there is none.
    pub directory: Option<Directory>,
    /// What was accepted but deserves a word in the log, one sentence each.
    pub warnings: Vec<String>,
}

/// As much of a configuration as can be used, whatever faults it has. A part of which one value is at fault
/// cannot: what would stand in its place was never meant.
#[derive(Debug)]
pub struct Examined {
    /// `[agent]`
    pub agent: Option<Agent>,
    /// `[spool]`
    pub spool: Option<Spool>,
    /// Each `[[source]]`, or how it is called.
    pub sources: Vec<Result<Source, Box<str>>>,
    /// Each `[[output]]`, or how it is called.
    pub outputs: Vec<Result<Output, Box<str>>>,
    /// The `[directory]`, if there is one, or how it is called.
    pub directory: Option<Result<Directory, Box<str>>>,
    /// As in [`Config`].
    pub warnings: Vec<String>,
    /// All faults; without any every part can be used.
    pub faults: Option<Faults>,
}

/// `[agent]`
#[derive(Debug, Clone)]
pub struct Agent {
    /// Where everything durable lives.
    pub state_dir: PathBuf,
    /// Address of the status server; `None` is off.
    pub status_listen: Option<std::net::SocketAddr>,
    /// What has to be sent to it. Not `None` when other machines can reach the address.
    pub status_token: Option<Secret>,
    /// Least severe level that is logged.
    pub log_level: log::LevelFilter,
    /// GETs in flight, all sources together: 1 to [`crate::limits::FETCHES_IN_FLIGHT_MAX`].
    pub fetches_in_flight: usize,
}

/// `[spool]`
#[derive(Debug, Clone)]
pub struct Spool {
    /// Bytes of segments on disk at which fetching pauses.
    pub max_bytes: u64,
    /// Bytes of set-aside objects and records.
    pub quarantine_max_bytes: u64,
    /// Longest record, bytes; longer ones are quarantined.
    pub max_record_bytes: usize,
    /// Most bytes one object may inflate to; beyond that the object is quarantined. At most half of `max_bytes`.
    pub max_object_bytes: u64,
    /// How records are written to the spool.
    pub compression: Compression,
}

/// `[directory]`
#[derive(Debug, Clone)]
pub struct Directory {
    /// A name, or an address without brackets.
    pub host: Box<str>,
    /// Its port.
    pub port: u16,
    /// How the connection is protected.
    pub encryption: Encryption,
    /// The name in its certificate, where that is not the host.
    pub server_name: Option<Box<str>>,
    /// A file of PEM certificates trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Who asks; `None`: nobody in particular.
    pub bind: Option<Bind>,
    /// The entry below which accounts are looked for.
    pub base: Box<str>,
    /// Attributes that hold an account's short name.
    pub match_name: Vec<Box<str>>,
    /// Attributes that hold an account's name with its domain.
    pub match_address: Vec<Box<str>>,
    /// Attributes that go along with records.
    pub attributes: Arc<[Box<str>]>,
    /// Time for a connection, and for each answer.
    pub timeout: Duration,
    /// Answers kept, at most.
    pub cache_entries: usize,
    /// How long an answer is believed.
    pub cache_time: Duration,
}

/// Who asks a directory.
#[derive(Debug, Clone)]
pub struct Bind {
    /// A distinguished name, or what else the directory takes.
    pub dn: Box<str>,
    /// Not empty.
    pub password: Secret,
}

/// How the connection to a directory is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// Not at all: on this machine alone.
    None,
    /// By TLS, after the directory was asked for it.
    StartTls,
    /// By TLS from the beginning.
    Tls,
}

/// `[[source]]`
#[derive(Debug, Clone)]
pub struct Source {
    /// Unique name: 1 to 64 of `A-Z a-z 0-9 . _ -`, not beginning with a dot.
    pub name: Box<str>,
    /// Bucket name alone.
    pub bucket: Box<str>,
    /// Everything before `AWSLogs/`: the folder after the bucket name, then `key_prefix`. Empty, or ends with `/`.
    pub prefix: Box<str>,
    /// Region of the bucket, e.g. `us-west-2`.
    pub region: Box<str>,
    /// How new objects are found.
    pub method: Method,
    /// The queue that is told of new objects; there is one if the method receives.
    pub queue_url: Option<Queue>,
    /// Delete messages that name objects outside the bucket and prefix.
    pub delete_foreign: bool,
    /// Time between two polls.
    pub refresh: Duration,
    /// How far back the first run goes.
    pub start: Start,
    /// Account ids to collect; empty: all.
    pub accounts: Vec<Box<str>>,
    /// Regions to collect; empty: all.
    pub regions: Vec<Box<str>>,
    /// Turns off the baseline filter.
    pub unfiltered: bool,
    /// Regexes over a record's raw text; a match drops the record.
    pub exclude: RegexSet,
    /// Field rules; the first match wins.
    pub rules: Rules,
    /// Which account name is derived from `userIdentity`.
    pub attribution: Attribution,
    /// For [`Attribution::FullyQualified`] where the identity carries no domain.
    pub default_domain: Box<str>,
    /// Where to send S3 requests.
    pub endpoint: Endpoint,
    /// Which of AWS's endpoints were asked for, with `fips` and `dualstack` or by a pasted URL; the endpoint of S3
    /// is chosen by it already.
    pub flavor: Flavor,
    /// The requester pays for requests and transfer, not the bucket's owner, and every request says so.
    pub request_payer: bool,
    /// A file of PEM certificates trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Which proxy requests go through.
    pub proxies: Proxies,
    /// How requests are signed.
    pub credentials: Credentials,
    /// AWS STS in the source's partition and region, or `sts_endpoint`.
    pub sts: Uri,
}

/// Where S3 requests of a source go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `true`: https.
    pub tls: bool,
    /// Host without bucket, e.g. `s3.us-west-2.amazonaws.com`; an IPv6 address stands in brackets.
    pub host: Box<str>,
    /// Port, when it is not the scheme's own.
    pub port: Option<u16>,
    /// `true`: `/bucket/key`; `false`: `bucket.host/key`.
    pub path_style: bool,
}

/// `method` of a source
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Listings, one after the other.
    Poll,
    /// Messages of a queue alone.
    Sqs,
    /// Messages, and listings for what they leave out.
    SqsSweep,
}

impl Method {
    /// Whether the bucket is listed.
    pub fn lists(self) -> bool {
        self != Method::Sqs
    }

    /// Whether messages are received.
    pub fn receives(self) -> bool {
        self != Method::Poll
    }

    /// Whether listings look after what messages leave out.
    pub fn sweeps(self) -> bool {
        self == Method::SqsSweep
    }
}

/// `start`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Only what is delivered from now on.
    Now,
    /// This long before the first run.
    Ago(Duration),
    /// From the beginning of a day (UTC).
    Date(time::Date),
    /// Everything in the bucket.
    All,
}

/// `[[source.rule]]`
#[derive(Debug, Clone)]
pub struct Rule {
    /// Dotted path into the record, e.g. `userIdentity.type`.
    pub field: Box<str>,
    /// Tested against the field's unescaped text.
    pub regex: Box<str>,
    /// What a match does.
    pub action: Action,
}

/// What a rule does to a record that it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Remove it.
    Drop,
    /// Keep it, whatever later rules say.
    Keep,
}

/// `attribution`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attribution {
    /// `jsmith`
    ShortName,
    /// `jsmith@corp.example.com`
    FullyQualified,
    /// Nothing is derived.
    None,
}

/// `[source.credentials]`
#[derive(Debug, Clone)]
pub enum Credentials {
    /// `method = "iam-user"`
    IamUser {
        /// `AKIA…`
        access_key_id: Box<str>,
        /// The secret access key.
        secret_access_key: Secret,
    },
    /// `method = "ec2-role"`: the role of the EC2 instance that this runs on.
    Ec2Role {
        /// The instance metadata service, without a path.
        metadata: Uri,
    },
    /// `method = "ecs"`: the role of the ECS task or the EKS pod that this runs in.
    Ecs(Container),
    /// `method = "profile"`: a profile of the files that AWS's tools share.
    Profile {
        /// `default`, `audit`, …
        name: Box<str>,
        /// The files, and what profiles may refer to.
        environment: Arc<Environment>,
    },
    /// `method = "default"`: the first of environment, profile, container and instance that has any.
    Default(Arc<Environment>),
    /// `assume_role`, with the credentials of the method.
    AssumeRole {
        /// Who assumes it.
        base: Box<Credentials>,
        /// The role.
        role: Role,
    },
}

/// A role to assume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Role {
    /// `arn:aws:iam::111122223333:role/trail-reader`
    pub arn: Box<str>,
    /// What its trust policy may ask for.
    pub external_id: Option<Box<str>>,
    /// How the session is called in the account's own CloudTrail.
    pub session_name: Box<str>,
    /// How long a session lasts.
    pub duration: Duration,
}

/// What the environment says about credentials, in the variables that AWS's tools agree on. Source: AWS SDKs and
/// Tools Reference Guide, "Settings reference".
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `AWS_ACCESS_KEY_ID` with `AWS_SECRET_ACCESS_KEY` and, if it is set, `AWS_SESSION_TOKEN`.
    pub keys: Option<AccessKey>,
    /// `AWS_PROFILE`
    pub profile: Option<Box<str>>,
    /// `AWS_SHARED_CREDENTIALS_FILE`, or `~/.aws/credentials`; `None` without a home.
    pub credentials_file: Option<PathBuf>,
    /// `AWS_CONFIG_FILE`, or `~/.aws/config`; `None` without a home.
    pub config_file: Option<PathBuf>,
    /// `AWS_CONTAINER_…`
    pub container: Option<Container>,
    /// `AWS_EC2_METADATA_SERVICE_ENDPOINT`, or the usual address; `None`: `AWS_EC2_METADATA_DISABLED`.
    pub metadata: Option<Uri>,
}

/// An access key as the environment holds it.
#[derive(Debug, Clone)]
pub struct AccessKey {
    /// `AKIA…`, or `ASIA…` for temporary ones.
    pub id: Box<str>,
    /// The secret access key.
    pub secret: Secret,
    /// Of temporary ones.
    pub session_token: Option<Secret>,
}

/// Where a container gets its credentials.
#[derive(Debug, Clone)]
pub struct Container {
    /// `AWS_CONTAINER_CREDENTIALS_RELATIVE_URI` on its host, or `AWS_CONTAINER_CREDENTIALS_FULL_URI`.
    pub url: Uri,
    /// What is sent along.
    pub authorization: Authorization,
}

/// The `Authorization` header of a container's requests.
#[derive(Debug, Clone)]
pub enum Authorization {
    /// None is sent.
    None,
    /// `AWS_CONTAINER_AUTHORIZATION_TOKEN`
    Token(Secret),
    /// `AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE`, read anew each time: it is replaced now and then.
    File(PathBuf),
}

/// `[[output]]`
#[derive(Debug, Clone)]
pub struct Output {
    /// Unique name, same alphabet as a source's.
    pub name: Box<str>,
    /// Where to and how.
    pub kind: OutputKind,
    /// What is written for each record.
    pub format: Format,
    /// Most bytes of one batch.
    pub batch_bytes: usize,
    /// Most records of one batch.
    pub batch_records: usize,
    /// How long a batch that is not full waits for more, from its first record on.
    pub batch_wait: Duration,
    /// What happens when the spool is full because of this output.
    pub on_full: OnFull,
    /// Requests on their way at once; `concurrency * batch_bytes` is bounded by [`crate::limits::IN_FLIGHT_BYTES`].
    pub concurrency: usize,
}

/// `kind` of an output, with its own keys.
#[derive(Debug, Clone)]
pub enum OutputKind {
    /// Standard output, flushed before it counts as acknowledged.
    Stdout,
    /// Appended to a file and synced before it counts as acknowledged.
    File(File),
    /// Requests to a receiver behind a URL.
    Http(Box<http::Http>),
    /// Syslog messages, RFC 5424.
    Syslog {
        /// The receiver.
        peer: Peer,
        /// What stands before each record.
        syslog: Syslog,
        /// What stands around each message.
        framing: Framing,
    },
    /// Syslog messages by RELP, which acknowledges each.
    Relp {
        /// The receiver.
        peer: Peer,
        /// What stands before each record.
        syslog: Syslog,
    },
    /// Lines over TCP or TLS.
    Tcp(Peer),
}

/// `kind = "file"`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// The file that is written; rotated ones are `PATH.1`, `PATH.2`, …
    pub path: PathBuf,
    /// Size at which it is rotated, bytes.
    pub rotate_bytes: u64,
    /// Age at which it is rotated, if at all.
    pub rotate_age: Option<Duration>,
    /// Rotated files kept.
    pub rotate_keep: u32,
    /// Rotated files are compressed: `PATH.1.gz`, …
    pub gzip: bool,
}

/// `on_full`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFull {
    /// Fetching pauses until this output has taken something.
    Hold,
    /// This output gives up the oldest records, and counts them.
    Skip,
}

/// A receiver at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// A name, or an address without brackets.
    pub host: Box<str>,
    /// Its port.
    pub port: u16,
    /// How it is reached.
    pub transport: Transport,
    /// The name in its certificate, where that is not the host.
    pub server_name: Option<Box<str>>,
    /// For [`Transport::Tls`].
    pub trust: Trust,
    /// Time for a connection, and for each wait on one.
    pub timeout: Duration,
    /// Records that need a longer message are quarantined.
    pub max_message_bytes: Option<usize>,
}

/// `transport`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Without encryption.
    Tcp,
    /// With TLS.
    Tls,
    /// A datagram for each record.
    Udp,
}

/// The header of syslog messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syslog {
    /// PRI: the facility times 8 and the severity.
    pub priority: u8,
    /// HOSTNAME
    pub hostname: Box<str>,
    /// APP-NAME
    pub app_name: Box<str>,
    /// SD-ID of the structured data; `None`: there is none.
    pub sd_id: Option<Box<str>>,
}

/// `format` of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// The record's bytes and a newline.
    Raw,
    /// `{"source":…,"bucket":…,"key":…,"index":n,"attribution":…,"record":…}` and a newline.
    Envelope,
}

/// A secret: zeroised when dropped, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: String) -> Secret {
        Secret(Zeroizing::new(text))
    }
    /// The secret itself, for signing or sending.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
