//! Receivers that hold requests against the documented contract of an API: Splunk's HTTP Event Collector, Elasticsearch's
//! `_bulk`, Loki's push. Whatever the real ones refuse is refused, and noted as wrong when no sender should send it.
//! Bodies are read with parsers that the agent does not have.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Request, Response};
use serde_json::Value;
use serde_json::value::RawValue;
use tokio_rustls::TlsAcceptor;

use super::http_script::{Reply, Script, Server, serve_with};

pub const TOKEN: &str = "5f6e0a3c-7a7e-4a8d-9c39-the-token";

/// Which API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// POST of newline-delimited JSON with a bearer token.
    Ndjson,
    /// POST of an array.
    JsonArray,
    Hec,
    /// With indexer acknowledgement: what was asked for once too often, or never, is lost.
    HecAck,
    HecRaw,
    Bulk,
    Loki,
}

/// What one record is refused, or not taken at once, for.
#[derive(Debug, Clone, Default)]
pub struct Moods {
    /// Every so many requests are answered 503.
    pub unavailable_every: u64,
    /// Every so many records are not taken at first (Elasticsearch: 429 for the item).
    pub busy_every: u64,
    /// A record with these bytes in it is refused, as the API refuses one.
    pub poison: Option<&'static [u8]>,
    /// Loki: entries before this time, in seconds, are too old.
    pub oldest: Option<i64>,
    /// Splunk: acknowledgements that never turn true: the first so many.
    pub lost_acks: u64,
    /// Its health endpoint says that it is not well.
    pub unwell: bool,
}

#[derive(Debug, Default)]
pub struct Received {
    /// Each record's bytes, and how often it was taken.
    pub records: BTreeMap<Vec<u8>, u64>,
    pub requests: u64,
    /// Requests that no sender should send, and why.
    pub wrong: Vec<String>,
    /// Values of the `Idempotency-Key` header, and the bodies that came with them.
    pub keys: HashMap<String, Vec<Bytes>>,
    /// Elasticsearch: the documents by their ids.
    pub ids: HashMap<String, u64>,
    /// The first document of each id that was sent.
    documents: HashMap<String, String>,
    acks: HashMap<u64, Vec<Vec<u8>>>,
    next_ack: u64,
    seen: u64,
}

pub struct Collector {
    server: Server,
    state: Arc<Mutex<(Moods, Received)>>,
}

impl Collector {
    pub fn start(api: Api, moods: Moods) -> Collector {
        Collector::start_with(None, api, moods)
    }

    /// With TLS if there is any.
    pub fn start_with(tls: Option<TlsAcceptor>, api: Api, moods: Moods) -> Collector {
        let state = Arc::new(Mutex::new((moods, Received::default())));
        let shared = state.clone();
        let server = serve_with(tls, move |request| {
            let shared = shared.clone();
            async move { answer(api, &shared, request).await }
        });
        Collector { server, state }
    }

    /// The same address, as a name that the certificate is for.
    pub fn secure_url(&self) -> String {
        format!("https://localhost:{}", self.server.address.port())
    }

    /// Without a path.
    pub fn url(&self) -> String {
        format!("http://{}", self.server.address)
    }

    pub fn received(&self) -> impl std::ops::Deref<Target = (Moods, Received)> + '_ {
        lock(&self.state)
    }
}

fn lock(state: &Mutex<(Moods, Received)>) -> MutexGuard<'_, (Moods, Received)> {
    state.lock().expect("no panic under the lock")
}

async fn answer(api: Api, state: &Mutex<(Moods, Received)>, request: Request<Incoming>) -> Reply {
    let (head, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return Reply::Reset };
    let body = body.to_bytes();
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
    let mut guard = lock(state);
    let (moods, received) = &mut *guard;
    received.requests += 1;
    let wrong = |received: &mut Received, status: u16, text: String, answer: &str| {
        received.wrong.push(text);
        reply(status, answer)
    };
    let content = match header("content-encoding") {
        "" => body.to_vec(),
        "gzip" => gunzip(&body),
        other => return wrong(received, 415, format!("content-encoding {other}"), ""),
    };
    let wanted_auth = match api {
        Api::Hec | Api::HecAck | Api::HecRaw => format!("Splunk {TOKEN}"),
        Api::Bulk => format!("ApiKey {TOKEN}"),
        Api::Loki => "Basic YXVkaXQ6NWY2ZTBhM2MtN2E3ZS00YThkLTljMzktdGhlLXRva2Vu".to_owned(),
        Api::Ndjson | Api::JsonArray => format!("Bearer {TOKEN}"),
    };
    if head.method == "GET" {
        return health(api, moods, received, &head.uri, header("authorization") == wanted_auth);
    }
    if header("authorization") != wanted_auth {
        let text = format!("authorization {:?}", header("authorization"));
        return wrong(received, 401, text, r#"{"text":"Invalid authorization","code":3}"#);
    }
    let path = head.uri.path();
    let wanted_path = match api {
        Api::Ndjson | Api::JsonArray => path,
        Api::Hec | Api::HecAck => "/services/collector/event",
        Api::HecRaw => "/services/collector/raw",
        Api::Bulk => "/_bulk",
        Api::Loki => "/loki/api/v1/push",
    };
    if path == "/services/collector/ack" && api == Api::HecAck {
        return acks(moods, received, &head.uri, header("x-splunk-request-channel"), &content);
    }
    if path != wanted_path || head.method != "POST" {
        return wrong(received, 404, format!("{} {}", head.method, head.uri), "");
    }
    let kind = match api {
        Api::Ndjson | Api::Bulk => "application/x-ndjson",
        _ => "application/json",
    };
    if header("content-type") != kind {
        return wrong(received, 415, format!("content-type {:?}", header("content-type")), "");
    }
    if moods.unavailable_every > 0 && received.requests.is_multiple_of(moods.unavailable_every) {
        return reply(503, r#"{"text":"Server is busy","code":9}"#);
    }
    let key = header("idempotency-key");
    if !key.is_empty() {
        received.keys.entry(key.to_owned()).or_default().push(content.clone().into());
    }
    match api {
        Api::Ndjson | Api::JsonArray => plain(api, moods, received, &content),
        Api::Hec | Api::HecAck => events(api, moods, received, &content, header("x-splunk-request-channel")),
        Api::HecRaw => raw(received, &head.uri, header("x-splunk-request-channel"), &content),
        Api::Bulk => bulk(moods, received, &content),
        Api::Loki => push(moods, received, &content),
    }
}

/// What each API says of itself. Sources: Splunk, "HTTP Event Collector REST API endpoints", services/collector/health;
/// Elasticsearch, "Get cluster info"; Loki, "HTTP API", GET /ready, here behind a gateway that asks who is there.
fn health(api: Api, moods: &Moods, received: &mut Received, uri: &hyper::Uri, known: bool) -> Reply {
    match (api, uri.path()) {
        (Api::Hec | Api::HecAck | Api::HecRaw, "/services/collector/health") => match (known, moods.unwell) {
            (false, _) => reply(400, r#"{"text":"Invalid token","code":4}"#),
            (true, true) => reply(503, r#"{"text":"HEC is unhealthy, queues are full","code":18}"#),
            (true, false) => reply(200, r#"{"text":"HEC is healthy","code":17}"#),
        },
        (Api::Bulk, "/") if !known => reply(401, r#"{"error":{"type":"security_exception"},"status":401}"#),
        (Api::Bulk, "/") if moods.unwell => reply(503, r#"{"error":{"type":"cluster_block_exception"}}"#),
        (Api::Bulk, "/") => {
            reply(200, r#"{"name":"node-1","version":{"number":"8.15.3","build_flavor":"default"}}"#)
        }
        (Api::Loki, "/ready") if !known => reply(401, "no credentials provided"),
        (Api::Loki, "/ready") if moods.unwell => reply(503, "Ingester not ready: waiting for 15s"),
        (Api::Loki, "/ready") => reply(200, "ready\n"),
        _ => {
            received.wrong.push(format!("GET {uri}"));
            reply(404, "")
        }
    }
}

fn reply(status: u16, body: &str) -> Reply {
    let answer = Response::builder().status(status).body(Script::whole(body.to_owned()));
    Reply::Answer(answer.expect("a valid answer"))
}

fn take(received: &mut Received, records: impl IntoIterator<Item = Vec<u8>>) {
    records.into_iter().for_each(|record| *received.records.entry(record).or_default() += 1);
}

fn is_bad(moods: &Moods, record: &[u8]) -> bool {
    moods.poison.is_some_and(|poison| memchr::memmem::find(record, poison).is_some())
}

fn plain(api: Api, moods: &Moods, received: &mut Received, body: &[u8]) -> Reply {
    let records: Result<Vec<Vec<u8>>, serde_json::Error> = match api {
        Api::JsonArray => serde_json::from_slice::<Vec<Box<RawValue>>>(body)
            .map(|all| all.iter().map(|record| record.get().as_bytes().to_vec()).collect()),
        _ => {
            let lines = body.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
            lines
                .map(|line| serde_json::from_slice::<&RawValue>(line).map(|record| record.get().into()))
                .collect()
        }
    };
    match records {
        Ok(records) if records.iter().any(|record| is_bad(moods, record)) => reply(400, "one is bad"),
        Ok(records) => {
            take(received, records);
            reply(200, "")
        }
        Err(error) => {
            received.wrong.push(format!("{error}"));
            reply(400, "no JSON")
        }
    }
}

/// Events one behind the other; those before a bad one are indexed.
fn events(api: Api, moods: &Moods, received: &mut Received, body: &[u8], channel: &str) -> Reply {
    if api == Api::HecAck && !is_channel(channel) {
        received.wrong.push(format!("channel {channel:?}"));
        return reply(400, r#"{"text":"Data channel is missing","code":10}"#);
    }
    const KEYS: [&str; 7] = ["time", "host", "source", "sourcetype", "index", "event", "fields"];
    let (mut taken, mut number) = (Vec::new(), 0);
    for event in serde_json::Deserializer::from_slice(body).into_iter::<HashMap<String, Box<RawValue>>>() {
        let event = match event {
            Ok(event) if event.keys().all(|key| KEYS.contains(&&**key)) => event,
            other => {
                received.wrong.push(format!("event {number}: {other:?}"));
                return reply(
                    400,
                    &format!(r#"{{"text":"Invalid data format","code":6,"invalid-event-number":{number}}}"#),
                );
            }
        };
        let record = event["event"].get();
        let value: Value = serde_json::from_str(record).expect("raw JSON is JSON");
        let time: f64 = event["time"].get().parse().expect("a number");
        let written = time::PrimitiveDateTime::parse(
            value["eventTime"].as_str().expect("a time"),
            &time::macros::format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z"),
        );
        if time as i64 != written.expect("a time").assume_utc().unix_timestamp() {
            received.wrong.push(format!("time {time} of {record}"));
        }
        if event["sourcetype"].get() != "\"aws:cloudtrail\"" || !event["source"].get().starts_with("\"s3://")
        {
            received.wrong.push(format!("{:?} {:?}", event["sourcetype"], event["source"]));
        }
        if is_bad(moods, record.as_bytes()) {
            // what stands before it is indexed, as Splunk does
            take(received, taken);
            return reply(
                400,
                &format!(r#"{{"text":"Invalid data format","code":6,"invalid-event-number":{number}}}"#),
            );
        }
        taken.push(record.as_bytes().to_vec());
        number += 1;
    }
    if number == 0 {
        received.wrong.push("no data".to_owned());
        return reply(400, r#"{"text":"No data","code":5}"#);
    }
    if api == Api::HecAck {
        let ack = received.next_ack;
        received.next_ack += 1;
        received.acks.insert(ack, taken);
        return reply(200, &format!(r#"{{"text":"Success","code":0,"ackId":{ack}}}"#));
    }
    take(received, taken);
    reply(200, r#"{"text":"Success","code":0}"#)
}

/// An id turns true at the second question, and is forgotten with the answer.
fn acks(moods: &Moods, received: &mut Received, uri: &hyper::Uri, channel: &str, body: &[u8]) -> Reply {
    if !is_channel(channel) || !uri.query().unwrap_or("").contains(&format!("channel={channel}")) {
        received.wrong.push(format!("ack {uri} of channel {channel:?}"));
        return reply(400, r#"{"text":"Data channel is missing","code":10}"#);
    }
    let asked: Value = serde_json::from_slice(body).expect("JSON");
    let mut answers = Vec::new();
    for ack in asked["acks"].as_array().expect("a list").clone() {
        let ack = ack.as_u64().expect("a number");
        received.seen += 1;
        let done = ack >= moods.lost_acks && received.seen.is_multiple_of(2);
        if done && let Some(records) = received.acks.remove(&ack) {
            take(received, records);
        }
        answers.push(format!("\"{ack}\":{done}"));
    }
    reply(200, &format!("{{\"acks\":{{{}}}}}", answers.join(",")))
}

fn is_channel(channel: &str) -> bool {
    channel.len() == 36 && channel.split('-').map(str::len).eq([8, 4, 4, 4, 12])
}

fn raw(received: &mut Received, uri: &hyper::Uri, channel: &str, body: &[u8]) -> Reply {
    if !is_channel(channel) || uri.query() != Some("sourcetype=aws%3Acloudtrail&index=aws") {
        received.wrong.push(format!("{uri} of channel {channel:?}"));
        return reply(400, r#"{"text":"Invalid data channel","code":11}"#);
    }
    let lines = body.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    take(received, lines.map(<[u8]>::to_vec).collect::<Vec<_>>());
    reply(200, r#"{"text":"Success","code":0}"#)
}

fn bulk(moods: &Moods, received: &mut Received, body: &[u8]) -> Reply {
    let text = std::str::from_utf8(body).expect("UTF-8");
    if !text.ends_with('\n') || !text.lines().count().is_multiple_of(2) {
        received.wrong.push("a bulk body must end with a line break, and have two lines an item".to_owned());
        return reply(400, r#"{"error":{"type":"illegal_argument_exception"},"status":400}"#);
    }
    let lines: Vec<&str> = text.lines().collect();
    let (mut items, mut errors) = (Vec::new(), false);
    for pair in lines.chunks(2) {
        let action: HashMap<&str, HashMap<String, String>> =
            serde_json::from_str(pair[0]).expect("an action");
        let Some(create) = action.get("create").filter(|create| create["_index"] == "cloudtrail") else {
            received.wrong.push(pair[0].to_owned());
            return reply(400, "{}");
        };
        let record: &RawValue = serde_json::from_str(pair[1]).expect("a document");
        let value: Value = serde_json::from_str(pair[1]).expect("a document");
        // an id is of one event, and of one document
        let event = value["eventID"].as_str().unwrap_or_default();
        let document = received.documents.entry(create["_id"].clone()).or_insert_with(|| pair[1].to_owned());
        if event.is_empty() || !create["_id"].starts_with(event) || document != pair[1] {
            received.wrong.push(format!("{} names {}", pair[0], pair[1]));
        }
        received.seen += 1;
        let (status, error) = match () {
            () if is_bad(moods, pair[1].as_bytes()) => (400, "document_parsing_exception"),
            () if moods.busy_every > 0 && received.seen.is_multiple_of(moods.busy_every) => {
                (429, "es_rejected_execution_exception")
            }
            () if received.ids.contains_key(&create["_id"]) => (409, "version_conflict_engine_exception"),
            () => (201, ""),
        };
        if status == 201 {
            take(received, [record.get().as_bytes().to_vec()]);
        }
        if status == 201 || status == 409 {
            *received.ids.entry(create["_id"].clone()).or_default() += 1;
        }
        errors |= status != 201;
        let error = match error {
            "" => String::new(),
            error => {
                format!(r#","error":{{"type":"{error}","reason":"because","caused_by":{{"status":7}}}}"#)
            }
        };
        items.push(format!(
            r#"{{"create":{{"_index":"cloudtrail","_id":"{}","status":{status}{error}}}}}"#,
            create["_id"]
        ));
    }
    reply(200, &format!(r#"{{"took":3,"errors":{errors},"items":[{}]}}"#, items.join(",")))
}

fn push(moods: &Moods, received: &mut Received, body: &[u8]) -> Reply {
    #[derive(serde::Deserialize)]
    struct Push {
        streams: Vec<Stream>,
    }
    #[derive(serde::Deserialize)]
    struct Stream {
        stream: HashMap<String, String>,
        values: Vec<(String, String)>,
    }
    let push: Push = match serde_json::from_slice(body) {
        Ok(push) => push,
        Err(error) => {
            received.wrong.push(format!("{error}"));
            return reply(400, "couldn't parse push request");
        }
    };
    let mut refused = Vec::new();
    for stream in push.streams {
        if stream.stream.get("job").map(String::as_str) != Some("cloudtrail") || stream.values.is_empty() {
            received.wrong.push(format!("{:?}", stream.stream));
        }
        for (nanos, line) in stream.values {
            let nanos: i128 = nanos.parse().expect("nanoseconds");
            match moods.oldest {
                Some(oldest) if nanos < i128::from(oldest) * 1_000_000_000 => refused.push(nanos),
                // an entry that is there already is not kept twice
                _ => *received.records.entry(line.into_bytes()).or_insert(1) = 1,
            }
        }
    }
    match (refused.is_empty(), moods.oldest) {
        (false, Some(oldest)) => {
            let oldest = time::UtcDateTime::from_unix_timestamp(oldest).expect("a time");
            let (hour, minute, second) = oldest.time().as_hms();
            let oldest = format!("{}T{hour:02}:{minute:02}:{second:02}Z", oldest.date());
            reply(
                400,
                &format!(
                    "entry for stream '{{job=\"cloudtrail\"}}' has timestamp too old: x, oldest acceptable timestamp is: {oldest}"
                ),
            )
        }
        _ => reply(204, ""),
    }
}

/// One member without optional fields, checked against its CRC and length.
fn gunzip(body: &[u8]) -> Vec<u8> {
    assert_eq!(body[..4], [0x1f, 0x8b, 8, 0], "a gzip header");
    let (deflated, trailer) = body[10..].split_at(body.len() - 18);
    let inflated = miniz_oxide::inflate::decompress_to_vec(deflated).expect("DEFLATE");
    assert_eq!(trailer[..4], crc32fast::hash(&inflated).to_le_bytes());
    assert_eq!(trailer[4..], (inflated.len() as u32).to_le_bytes());
    inflated
}
