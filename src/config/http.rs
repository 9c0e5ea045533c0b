//! `kind = "http"`: the keys of an HTTP output. A preset says which API the receiver speaks; what another preset alone
//! understands is a fault.

use std::time::Duration;

use http::header::{self, HeaderName, HeaderValue};
use hyper::Uri;
use toml::de::DeValue;

use super::endpoint;
use super::fault::quoted;
use super::files::{secret_credential, secret_file, trust};
use super::load::Env;
use super::proxy::proxies;
use super::table::{Read, Table, choice, flag, integer, string};
use super::units::bounded_text;
use super::{OutputKind, Secret};
use crate::limits;
use crate::net::{Proxies, Trust};

/// `kind = "http"`
#[derive(Debug, Clone)]
pub struct Http {
    /// `http://` or `https://`, with the preset's path when the configuration has none.
    pub url: Uri,
    /// Which API the receiver speaks.
    pub preset: Preset,
    /// Time for one request, connect to the end of the answer.
    pub timeout: Duration,
    /// Bodies are compressed with gzip.
    pub gzip: bool,
    /// The `Authorization` header.
    pub auth: Option<Auth>,
    /// Headers that are sent besides.
    pub headers: Vec<Header>,
    /// The header that names a batch: the same when the same batch is sent again.
    pub idempotency: Option<HeaderName>,
    /// Whom to trust, and what to show.
    pub trust: Trust,
    /// Which proxy requests go through.
    pub proxies: Proxies,
}

/// `preset`
#[derive(Debug, Clone)]
pub enum Preset {
    /// POST of newline-delimited JSON.
    Ndjson,
    /// POST of one JSON array.
    JsonArray,
    /// Splunk's HTTP Event Collector.
    SplunkHec(Hec),
    /// The `_bulk` API of Elasticsearch and OpenSearch.
    ElasticBulk(Bulk),
    /// Grafana Loki's push API.
    Loki(Loki),
}

/// What Splunk is told of every event.
#[derive(Debug, Clone, Default)]
pub struct Hec {
    /// The raw endpoint takes lines and has no room for anything else: the rest stands in the query.
    pub raw: bool,
    /// `aws:cloudtrail`
    pub sourcetype: Box<str>,
    /// `None`: `s3://BUCKET/KEY`, the object that the record stood in.
    pub source: Option<Box<str>>,
    /// `None`: Splunk decides.
    pub host: Option<Box<str>>,
    /// `None`: the token's own.
    pub index: Option<Box<str>>,
    /// How long the indexers' acknowledgement is waited for; `None`: it is not asked for.
    pub ack: Option<Duration>,
    /// A GUID; `None`: one is made up at the start.
    pub channel: Option<Box<str>>,
}

/// What Elasticsearch is told of every document.
#[derive(Debug, Clone, Default)]
pub struct Bulk {
    /// `index` replaces a document of the same id, `create` leaves it alone.
    pub replace: bool,
    /// `None`: the URL names it.
    pub index: Option<Box<str>>,
}

/// What Loki is told of the stream.
#[derive(Debug, Clone, Default)]
pub struct Loki {
    /// Its labels, at least one.
    pub labels: Vec<(Box<str>, Box<str>)>,
}

/// The `Authorization` header.
#[derive(Debug, Clone)]
pub enum Auth {
    /// `Bearer TOKEN`
    Bearer(Secret),
    /// `Splunk TOKEN`
    Splunk(Secret),
    /// `ApiKey KEY`
    ApiKey(Secret),
    /// `Basic …`
    Basic {
        /// Without a colon.
        user: Box<str>,
        /// May be anything.
        password: Secret,
    },
}

/// One of `[[output.header]]`.
#[derive(Debug, Clone)]
pub struct Header {
    /// Its name.
    pub name: HeaderName,
    /// Marked as sensitive when it came from a file or a credential.
    pub value: HeaderValue,
    /// The same, when it is a secret: it is never shown.
    pub secret: Option<Secret>,
}

/// Headers that the output sends by itself.
const OWN: [HeaderName; 9] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::UPGRADE,
    header::EXPECT,
    header::PROXY_AUTHORIZATION,
];

#[derive(Clone, Copy, PartialEq)]
enum Name {
    Ndjson,
    JsonArray,
    SplunkHec,
    ElasticBulk,
    Loki,
}

const NAMES: [(&str, Name); 5] = [
    ("ndjson", Name::Ndjson),
    ("json-array", Name::JsonArray),
    ("splunk-hec", Name::SplunkHec),
    ("elastic-bulk", Name::ElasticBulk),
    ("loki", Name::Loki),
];

impl Name {
    /// The path of a URL without one, and the ends that a written path may have.
    fn paths(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Name::Ndjson | Name::JsonArray => ("/", &[]),
            Name::SplunkHec => (
                "/services/collector/event",
                &["/services/collector/event", "/services/collector", "/services/collector/raw"],
            ),
            Name::ElasticBulk => ("/_bulk", &["/_bulk"]),
            Name::Loki => ("/loki/api/v1/push", &["/api/v1/push"]),
        }
    }
}

/// Reads the keys of `kind = "http"`. `None`: they have faults, and they are noted.
pub(super) fn http(table: &mut Table<'_>, env: Env<'_>) -> Option<OutputKind> {
    let preset = table.or("preset", Some(Name::Ndjson), |value| choice(value, &NAMES).map(Some));
    let name = preset.unwrap_or(Name::Ndjson);
    let url = table.required("url", "url = \"https://HOST/PATH\"", |value| url(value, name));
    let seconds = table.or("timeout_seconds", 30, |value| integer(value, 1, 3600));
    let gzip = table.or("compression", false, |value| choice(value, &[("none", false), ("gzip", true)]));
    let raw = url.as_ref().is_some_and(|url| url.path().ends_with("/services/collector/raw"));
    let preset = match name {
        Name::Ndjson => Some(Preset::Ndjson),
        Name::JsonArray => Some(Preset::JsonArray),
        Name::SplunkHec => hec(table, raw).map(Preset::SplunkHec),
        Name::ElasticBulk => bulk(table).map(Preset::ElasticBulk),
        Name::Loki => labels(table).map(|labels| Preset::Loki(Loki { labels })),
    };
    let credentials_dir = env("CREDENTIALS_DIRECTORY");
    let auth = auth(table, name, credentials_dir.as_deref());
    let headers = headers(table, credentials_dir.as_deref());
    let idempotency = table.get("idempotency_header", |value| match string(value)? {
        "" => Ok(None),
        name => own_header(name).map(Some),
    });
    let trust = trust(table, credentials_dir.as_deref());
    let proxies = proxies(table, env);
    let (url, auth, headers) = (url?, auth?, headers?);
    let secret = auth.is_some() || headers.iter().any(|header| header.secret.is_some());
    if secret && url.scheme_str() == Some("http") && !is_local(url.host().unwrap_or("")) {
        let what = if matches!(auth, Some(Auth::Basic { .. })) { "password" } else { "token" };
        let what = if matches!(auth, Some(Auth::Bearer(_))) { "bearer token" } else { what };
        table
            .report()
            .warn(format!("{} url: the {what} is sent without encryption; use https", table.place()));
    }
    Some(OutputKind::Http(Box::new(Http {
        url,
        preset: preset?,
        timeout: Duration::from_secs(seconds),
        gzip,
        auth,
        headers,
        idempotency: idempotency.flatten(),
        trust: trust?,
        proxies: proxies?,
    })))
}

fn url(value: &DeValue<'_>, preset: Name) -> Read<Uri> {
    let text = string(value)?;
    if text.contains('#') {
        return Err("ends with a fragment (#…), which is never sent: remove it".to_owned());
    }
    let url = endpoint::url(text)?;
    let (default, ends) = preset.paths();
    if url.path() == "/" && default != "/" {
        let query = url.query().map_or(String::new(), |query| format!("?{query}"));
        let mut parts = url.into_parts();
        parts.path_and_query = format!("{default}{query}").parse().ok();
        return Uri::from_parts(parts).map_err(|_| "is not a URL".to_owned());
    }
    match ends.is_empty() || ends.iter().any(|end| url.path().ends_with(end)) {
        true => Ok(url),
        false => Err(format!(
            "has a path that this preset's API does not have: end it with {}, or leave it out",
            ends.join(" or ")
        )),
    }
}

fn hec(table: &mut Table<'_>, raw: bool) -> Option<Hec> {
    let sourcetype = table.or("sourcetype", "aws:cloudtrail".into(), |value| word(value));
    let source = table.get("source", optional);
    let host = table.get("host", optional);
    let index = table.get("index", optional);
    let ack = table.or("ack", false, flag);
    let seconds = table.or("ack_timeout_seconds", 120, |value| integer(value, 1, 3600));
    let channel = table.get("channel", |value| match string(value)? {
        "" => Ok(None),
        text if is_guid(text) => Ok(Some(text.to_ascii_lowercase().into())),
        _ => Err("must be a GUID such as \"18654C83-C0D5-4D0B-A5A8-0B2B7B0F2D11\"".to_owned()),
    });
    if !ack && table.has("ack_timeout_seconds") {
        table.fault("ack_timeout_seconds", "has no meaning without ack = true".to_owned());
    }
    if !ack && !raw && table.has("channel") {
        let text = "has no meaning without ack = true, but for the raw endpoint".to_owned();
        table.fault("channel", text);
    }
    Some(Hec {
        raw,
        sourcetype,
        source: source.flatten(),
        host: host.flatten(),
        index: index.flatten(),
        ack: ack.then(|| Duration::from_secs(seconds)),
        channel: channel.flatten(),
    })
}

fn bulk(table: &mut Table<'_>) -> Option<Bulk> {
    let replace = table.or("action", false, |value| choice(value, &[("create", false), ("index", true)]));
    let index = table.get("index", optional);
    Some(Bulk { replace, index: index.flatten() })
}

/// `labels = { job = "cloudtrail" }`
fn labels(table: &mut Table<'_>) -> Option<Vec<(Box<str>, Box<str>)>> {
    table.required("labels", "labels = { job = \"cloudtrail\" }", |value| {
        let DeValue::Table(entries) = value else {
            return Err("must be a table such as { job = \"cloudtrail\" }".to_owned());
        };
        if entries.is_empty() || entries.len() > limits::LABELS {
            return Err(format!("must have 1 to {} labels", limits::LABELS));
        }
        let mut labels = Vec::new();
        for (name, value) in entries {
            let name: &str = name.get_ref();
            let mut letters = name.bytes();
            let first = |c: u8| c.is_ascii_alphabetic() || c == b'_';
            if !letters.next().is_some_and(first) || !letters.all(|c| first(c) || c.is_ascii_digit()) {
                return Err(format!(
                    "{} is no label's name: write letters, digits and _, not beginning with a digit",
                    quoted(name)
                ));
            }
            labels.push((name.into(), word(value.get_ref())?));
        }
        Ok(labels)
    })
}

/// `Some(None)`: there is none; `None`: faults, noted.
fn auth(table: &mut Table<'_>, preset: Name, dir: Option<&str>) -> Option<Option<Auth>> {
    let user = table.get("username", |value| match word(value)? {
        user if user.contains(':') => Err("has a colon, which a user name of basic auth cannot".to_owned()),
        user => Ok(user),
    });
    let schemes: [(&str, &'static str, &'static str); 4] = [
        ("the bearer token", "bearer_token_file", "bearer_token_credential"),
        ("the password", "password_file", "password_credential"),
        ("Splunk's token", "splunk_token_file", "splunk_token_credential"),
        ("the API key", "api_key_file", "api_key_credential"),
    ];
    let mut found: Vec<(usize, Secret)> = Vec::new();
    let (mut sound, mut written) = (true, Vec::new());
    for (scheme, (_, file, credential)) in schemes.into_iter().enumerate() {
        let known = match scheme {
            2 => preset == Name::SplunkHec,
            3 => preset == Name::ElasticBulk,
            _ => true,
        };
        if !known {
            continue;
        }
        for (key, from) in [(file, true), (credential, false)] {
            let secret = table.get(key, |value| match string(value)? {
                "" => Ok(None),
                text if from => secret_file(text, dir).map(Some),
                text => secret_credential(text, dir).map(Some),
            });
            match secret {
                Some(Some(secret)) => {
                    written.push(key);
                    found.push((scheme, secret));
                }
                Some(None) => {}
                None => sound &= !table.has(key),
            }
        }
    }
    if let [first, second, ..] = written[..] {
        table.fault(second, format!("contradicts {first}: a request has one Authorization header"));
        return None;
    }
    let auth = match (found.pop(), user) {
        (Some((0, secret)), None) => Some(Auth::Bearer(secret)),
        (Some((2, secret)), None) => Some(Auth::Splunk(secret)),
        (Some((1, password)), Some(user)) => Some(Auth::Basic { user, password }),
        (Some((1, _)), None) => {
            if !table.has("username") {
                table.missing("username", "the user name of the password");
            }
            return None;
        }
        (Some((_, secret)), None) => Some(Auth::ApiKey(secret)),
        (Some(_), Some(_)) => {
            table.fault(
                "username",
                format!("contradicts {}: a request has one Authorization header", written[0]),
            );
            return None;
        }
        (None, Some(_)) if sound => {
            table.missing("password_file", "the file with the password of username");
            return None;
        }
        (None, _) if sound && preset == Name::SplunkHec => {
            table.missing("splunk_token_file", "the file with the HTTP Event Collector's token");
            return None;
        }
        (None, _) => None,
    };
    sound.then_some(auth)
}

/// `[[output.header]]`. `None`: they have faults, and they are noted.
fn headers(table: &mut Table<'_>, dir: Option<&str>) -> Option<Vec<Header>> {
    let tables = table.tables("header", "output.header", "[[output]]");
    if tables.len() > limits::HEADERS {
        table.fault("header", format!("at most {} are allowed", limits::HEADERS));
        return None;
    }
    let mut headers: Vec<Header> = Vec::new();
    let mut sound = true;
    for mut table in tables {
        let name = table.required("name", "name = \"X-Scope-OrgID\"", |value| own_header(string(value)?));
        let plain = table.get("value", |value| Ok(Secret::new(string(value)?.to_owned())));
        let file = table.get("value_file", |value| secret_file(string(value)?, dir));
        let credential = table.get("value_credential", |value| secret_credential(string(value)?, dir));
        let keys = ["value", "value_file", "value_credential"];
        let written: Vec<_> = keys.into_iter().filter(|key| table.has(key)).collect();
        match written[..] {
            [] => table.missing("value", "value, value_file or value_credential"),
            [_] => {}
            [first, second, ..] => table.fault(second, format!("contradicts {first}: write one of them")),
        }
        let secret = file.or(credential);
        let text = secret.clone().or(plain);
        let value = text.and_then(|text| match HeaderValue::from_str(text.reveal()) {
            Ok(mut value) => {
                value.set_sensitive(secret.is_some());
                Some(value)
            }
            Err(_) => {
                table.fault(written[0], "cannot stand in a header: it has a control character".to_owned());
                None
            }
        });
        if let Some(name) = &name
            && headers.iter().any(|header| header.name == *name)
        {
            table.fault("name", "is written twice".to_owned());
        }
        table.finish();
        match (name, value, written.len()) {
            (Some(name), Some(value), 1) => headers.push(Header { name, value, secret }),
            _ => sound = false,
        }
    }
    sound.then_some(headers)
}

/// A header that the configuration may set.
fn own_header(text: &str) -> Read<HeaderName> {
    let name = HeaderName::from_bytes(text.as_bytes())
        .map_err(|_| format!("{} is no name of a header", quoted(text)))?;
    match name {
        name if OWN.contains(&name) => Err(format!("{name} is set by the output itself")),
        header::AUTHORIZATION => {
            Err("authorization has keys of its own, such as bearer_token_file and username".to_owned())
        }
        name => Ok(name),
    }
}

fn optional(value: &DeValue<'_>) -> Read<Option<Box<str>>> {
    match string(value)? {
        "" => Ok(None),
        _ => word(value).map(Some),
    }
}

/// A text that the receiver gets as it is: not empty, bounded, without control characters.
fn word(value: &DeValue<'_>) -> Read<Box<str>> {
    bounded_text(string(value)?, limits::LABEL_BYTES)
}

/// `18654c83-c0d5-4d0b-a5a8-0b2b7b0f2d11`
fn is_guid(text: &str) -> bool {
    let lens = [8, 4, 4, 4, 12];
    let parts: Vec<&str> = text.split('-').take(lens.len() + 1).collect();
    parts.len() == lens.len()
        && parts
            .iter()
            .zip(lens)
            .all(|(part, len)| part.len() == len && part.bytes().all(|c| c.is_ascii_hexdigit()))
}

/// This machine, by name or address.
pub(super) fn is_local(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}
