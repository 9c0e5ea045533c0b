//! The part of S3 that a collector sees (ListObjectsV2, GetObject, HeadObject, HeadBucket), with faults by
//! seeded chance: slow-downs, internal errors, resets, short and slow bodies, listings that end in the middle.
//!
//! Sources: Amazon S3 API Reference, "ListObjectsV2", "GetObject", "Error responses". Signatures are not
//! verified, but every request must be signed with the configured access key for the configured region.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use hyper::body::Incoming;
use hyper::{Request, Response};
use percent_encoding::percent_decode_str;

use super::bucket::{Bucket, Fate, Object};
use super::http_script::{Reply, Script, Server, Step, serve};
use super::s3_listing::{Query, etag, page, xml_escape};

/// The access key that requests must be signed with.
pub const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";
/// The secret that belongs to it.
pub const SECRET_KEY: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
/// Who that is, by STS at the same address.
pub const CALLER: &str = "arn:aws:iam::111122223333:user/trail-reader";
/// The region of the bucket.
pub const REGION: &str = "us-east-1";

/// Chances of each fault, 0 to 1, drawn per request.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    pub seed: u64,
    /// Before every answer.
    pub latency: Duration,
    /// 503 SlowDown, half of them with Retry-After.
    pub slow_down: f64,
    /// 500 InternalError.
    pub internal_error: f64,
    /// The connection is reset before the answer.
    pub reset: f64,
    /// GET: reset in the middle of the body. LIST: in the middle of the XML.
    pub reset_in_body: f64,
    /// GET: fewer bytes than the Content-Length, then the connection ends.
    pub short_body: f64,
    /// GET: the body comes in drops.
    pub slow_body: f64,
    /// LIST: the XML ends in the middle, as a whole answer.
    pub cut_listing: f64,
}

impl Faults {
    /// A bad day: about one request in six fails, in every way.
    pub fn rough(seed: u64) -> Faults {
        Faults {
            seed,
            latency: Duration::ZERO,
            slow_down: 0.03,
            internal_error: 0.02,
            reset: 0.03,
            reset_in_body: 0.04,
            short_body: 0.03,
            slow_body: 0.02,
            cut_listing: 0.04,
        }
    }
}

/// Whom the bucket's policy turns away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Denied {
    #[default]
    Nothing,
    List,
    Get,
    /// GETs, by the key's KMS: S3 says no more than `AccessDenied`, but a HEAD shows how the object is encrypted.
    Kms,
}

/// The KMS key of [`Denied::Kms`].
pub const KMS_KEY: &str = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";

/// How S3 answers requests that are signed for another region than the bucket's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Elsewhere {
    /// 400 `AuthorizationHeaderMalformed`, as the bucket's own endpoint does.
    #[default]
    Malformed,
    /// 301 `PermanentRedirect`, as other regions' endpoints do.
    Redirect,
}

/// What happened so far.
#[derive(Debug, Clone, Default)]
pub struct Stats {
    /// GETs per key, failed ones as well.
    pub gets: HashMap<String, u64>,
    pub lists: u64,
    /// Bytes of bodies of answers to GET, as declared.
    pub body_bytes: u64,
    /// Faults by kind.
    pub injected: BTreeMap<&'static str, u64>,
    /// Requests that were not signed as they must be, and other requests that no collector should send.
    pub refused: Vec<String>,
}

impl Stats {
    /// Faults of all kinds.
    pub fn faults(&self) -> u64 {
        self.injected.values().sum()
    }
    /// Answers to GET, failed ones as well.
    pub fn get_count(&self) -> u64 {
        self.gets.values().sum()
    }
}

/// A running server with one bucket.
pub struct S3Server {
    server: Server,
    shared: Arc<Mutex<State>>,
}

struct State {
    bucket: String,
    objects: BTreeMap<String, Bytes>,
    never: BTreeSet<String>,
    gone: BTreeSet<String>,
    faults: Faults,
    denied: Denied,
    region: String,
    elsewhere: Elsewhere,
    tells_region: bool,
    rng: Rng,
    stats: Stats,
}

impl S3Server {
    /// Serves the objects of a bucket that are there from the start.
    pub fn start(bucket: &Bucket, faults: Faults) -> S3Server {
        let state = State {
            bucket: bucket.name.clone(),
            objects: BTreeMap::new(),
            never: BTreeSet::new(),
            gone: BTreeSet::new(),
            rng: Rng::with_seed(faults.seed),
            faults,
            denied: Denied::Nothing,
            region: REGION.into(),
            elsewhere: Elsewhere::default(),
            tells_region: true,
            stats: Stats::default(),
        };
        let shared = Arc::new(Mutex::new(state));
        let state = shared.clone();
        let server = serve(move |request| {
            let state = state.clone();
            async move { answer(&state, request).await }
        });
        let this = S3Server { server, shared };
        bucket.early().for_each(|object| this.add(object));
        this
    }

    /// `http://127.0.0.1:PORT`
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.server.address)
    }

    /// The port alone.
    pub fn port(&self) -> u16 {
        self.server.address.port()
    }

    /// Puts an object into the bucket.
    pub fn add(&self, object: &Object) {
        let mut state = self.lock();
        state.objects.insert(object.key.clone(), object.body.clone());
        if object.fate == Fate::Ignored {
            state.never.insert(object.key.clone());
        }
    }

    /// Deletes an object between its listing and its fetch: it is listed, but a GET finds nothing.
    pub fn vanish(&self, key: &str) {
        self.lock().gone.insert(key.to_owned());
    }

    /// Changes the faults while running.
    pub fn set_faults(&self, faults: Faults) {
        self.lock().faults = faults;
    }

    /// Changes the bucket's policy while running.
    pub fn deny(&self, denied: Denied) {
        self.lock().denied = denied;
    }

    /// Has the bucket in another region.
    pub fn set_region(&self, region: &str, elsewhere: Elsewhere) {
        let mut state = self.lock();
        (state.region, state.elsewhere) = (region.to_owned(), elsewhere);
    }

    /// No longer names the bucket's region to strangers, as S3-compatible servers do not.
    pub fn hide_region(&self) {
        self.lock().tells_region = false;
    }

    /// Removes all objects.
    pub fn clear(&self) {
        self.lock().objects.clear();
    }

    /// What happened so far.
    pub fn stats(&self) -> Stats {
        self.lock().stats.clone()
    }

    /// Keys that were fetched although they are no logs.
    pub fn wrongly_fetched(&self) -> Vec<String> {
        let state = self.lock();
        state.never.iter().filter(|key| state.stats.gets.contains_key(*key)).cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock().expect("no panic under the lock")
    }
}

async fn answer(shared: &Mutex<State>, request: Request<Incoming>) -> Reply {
    let latency = shared.lock().expect("no panic under the lock").faults.latency;
    if !latency.is_zero() {
        tokio::time::sleep(latency).await;
    }
    shared.lock().expect("no panic under the lock").answer(&request)
}

impl State {
    fn answer(&mut self, request: &Request<Incoming>) -> Reply {
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or(""));
        let Some(path) = percent_decode_str(path).decode_utf8().ok().map(|p| p[1..].to_owned()) else {
            return self.refuse(StatusCode::BAD_REQUEST, "InvalidURI", "Couldn't parse the specified URI.");
        };
        if request.method() == Method::HEAD && !request.headers().contains_key("authorization") {
            return self.stranger();
        }
        if request.method() == Method::POST && path.is_empty() {
            return self.caller_identity(request.headers());
        }
        match signed(request.headers(), "s3", &self.region) {
            Ok(()) => {}
            Err(Unsigned::Elsewhere(_)) if self.elsewhere == Elsewhere::Redirect => return self.redirect(),
            Err(Unsigned::Elsewhere(text)) => {
                let region = self.region.clone();
                self.stats.refused.push(text.clone());
                return error_with(
                    StatusCode::BAD_REQUEST,
                    "AuthorizationHeaderMalformed",
                    &text,
                    "Region",
                    &region,
                );
            }
            Err(Unsigned::Refused(status, code, text)) => return self.refuse(status, code, &text),
        }
        let host = request.headers().get("host").and_then(|h| h.to_str().ok()).unwrap_or("");
        let (bucket, key) = match (path.split_once('/'), path.as_str()) {
            (Some((bucket, key)), _) if bucket == self.bucket => (bucket.to_owned(), key.to_owned()),
            (None, bucket) if bucket == self.bucket => (bucket.to_owned(), String::new()),
            _ if host.strip_prefix(&self.bucket).is_some_and(|rest| rest.starts_with('.')) => {
                (self.bucket.clone(), path)
            }
            _ => (path.split('/').next().unwrap_or("").to_owned(), String::new()),
        };
        if bucket != self.bucket {
            return error(StatusCode::NOT_FOUND, "NoSuchBucket", "The specified bucket does not exist");
        }
        match (request.method(), key.as_str()) {
            (&Method::GET, "") => self.list(query),
            (&Method::HEAD, "") => {
                let answer = Response::builder().header("x-amz-bucket-region", &self.region);
                Reply::Answer(answer.body(Script::whole("")).expect("a valid answer"))
            }
            (&Method::GET, key) => self.get(key, request.headers()),
            (&Method::HEAD, _) if self.denied == Denied::Get => bare(StatusCode::FORBIDDEN),
            (&Method::HEAD, key) => match self.objects.get(key) {
                Some(body) => {
                    let mut answer =
                        Response::builder().header("etag", etag(body)).header("content-length", body.len());
                    if self.denied == Denied::Kms {
                        answer = answer
                            .header("x-amz-server-side-encryption", "aws:kms")
                            .header("x-amz-server-side-encryption-aws-kms-key-id", KMS_KEY);
                    }
                    Reply::Answer(answer.body(Script::steps([])).expect("a valid answer"))
                }
                None => error(StatusCode::NOT_FOUND, "NoSuchKey", ""),
            },
            (method, _) => {
                let text = format!("{method} is not for a collector");
                self.refuse(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", &text)
            }
        }
    }

    /// A HEAD without a signature: forbidden, but S3 names the bucket's region. Source: "HeadBucket".
    fn stranger(&self) -> Reply {
        let mut reply = bare(match self.elsewhere {
            Elsewhere::Redirect => StatusCode::MOVED_PERMANENTLY,
            Elsewhere::Malformed => StatusCode::FORBIDDEN,
        });
        if let (Reply::Answer(answer), true) = (&mut reply, self.tells_region) {
            let region = HeaderValue::from_str(&self.region).expect("a region");
            answer.headers_mut().insert("x-amz-bucket-region", region);
        }
        reply
    }

    /// STS, whose region is always the same here. Source: AWS STS API Reference, "GetCallerIdentity".
    fn caller_identity(&self, headers: &HeaderMap) -> Reply {
        if signed(headers, "sts", REGION).is_err() {
            return error(StatusCode::FORBIDDEN, "InvalidClientTokenId", "The security token is invalid");
        }
        let xml = format!(
            "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>{CALLER}</Arn><UserId>AIDA</UserId><Account>111122223333</Account></GetCallerIdentityResult></GetCallerIdentityResponse>"
        );
        Reply::Answer(Response::builder().body(Script::whole(xml)).expect("a valid answer"))
    }

    fn redirect(&self) -> Reply {
        let text = "The bucket you are attempting to access must be addressed using the specified endpoint. Please \
                    send all future requests to this endpoint.";
        let endpoint = format!("{}.s3.{}.amazonaws.com", self.bucket, self.region);
        error_with(StatusCode::MOVED_PERMANENTLY, "PermanentRedirect", text, "Endpoint", &endpoint)
    }

    fn refuse(&mut self, status: StatusCode, code: &str, text: &str) -> Reply {
        self.stats.refused.push(format!("{code}: {text}"));
        error(status, code, text)
    }

    fn get(&mut self, key: &str, headers: &HeaderMap) -> Reply {
        *self.stats.gets.entry(key.to_owned()).or_default() += 1;
        if matches!(self.denied, Denied::Get | Denied::Kms) {
            return error(StatusCode::FORBIDDEN, "AccessDenied", "Access Denied");
        }
        if let Some(reply) = self.fault_instead_of_answer() {
            return reply;
        }
        let Some(body) = self.objects.get(key).filter(|_| !self.gone.contains(key)).cloned() else {
            return error(StatusCode::NOT_FOUND, "NoSuchKey", "The specified key does not exist.");
        };
        let tag = etag(&body);
        let wanted = headers.get("if-match").map(HeaderValue::as_bytes);
        if wanted.is_some_and(|wanted| wanted != tag.as_bytes() && wanted != b"*") {
            return error(
                StatusCode::PRECONDITION_FAILED,
                "PreconditionFailed",
                "At least one of the pre-conditions you specified did not hold",
            );
        }
        let mut answer = Response::builder()
            .header("etag", &tag)
            .header("accept-ranges", "bytes")
            .header("content-type", "application/json")
            .header("x-amz-request-id", "4442587FB7D0A2F9");
        let total = body.len();
        let body = match headers.get("range").and_then(|r| r.to_str().ok()) {
            None => body,
            Some(range) => {
                let Some((start, end)) = byte_range(range, total) else {
                    return error(
                        StatusCode::RANGE_NOT_SATISFIABLE,
                        "InvalidRange",
                        "The requested range is not satisfiable",
                    );
                };
                answer =
                    answer.status(206).header("content-range", format!("bytes {start}-{}/{total}", end - 1));
                body.slice(start..end)
            }
        };
        self.stats.body_bytes += body.len() as u64;
        let script = self.body_with_faults(&body);
        Reply::Answer(answer.header("content-length", body.len()).body(script).expect("a valid answer"))
    }

    fn body_with_faults(&mut self, body: &Bytes) -> Script {
        // What is cut off is at least one byte, what is sent may be none.
        let part = body.slice(..self.rng.usize(..body.len().max(1)));
        let Faults { reset_in_body, short_body, slow_body, .. } = self.faults;
        if body.is_empty() {
            Script::whole("")
        } else if self.chance("reset in body", reset_in_body) {
            Script::steps([Step::Send(part), Step::Wait(Duration::from_millis(5)), Step::Reset])
        } else if self.chance("short body", short_body) {
            Script::steps([Step::Send(part), Step::Wait(Duration::from_millis(2))])
        } else if self.chance("slow body", slow_body) {
            let drops = body.len().div_ceil(body.len().div_ceil(10));
            Script::steps(
                (0..drops)
                    .flat_map(|i| {
                        let drop = body.len().div_ceil(10);
                        let bytes = body.slice(i * drop..((i + 1) * drop).min(body.len()));
                        [Step::Send(bytes), Step::Wait(Duration::from_millis(4))]
                    })
                    .collect::<Vec<_>>(),
            )
        } else {
            Script::whole(body.clone())
        }
    }

    fn list(&mut self, query: &str) -> Reply {
        self.stats.lists += 1;
        if self.denied == Denied::List {
            return error(StatusCode::FORBIDDEN, "AccessDenied", "Access Denied");
        }
        if let Some(reply) = self.fault_instead_of_answer() {
            return reply;
        }
        let query = Query::parse(query);
        if query.get("list-type") != Some("2") {
            return self.refuse(
                StatusCode::NOT_IMPLEMENTED,
                "NotImplemented",
                "only ListObjectsV2 is known here",
            );
        }
        let Some(xml) = page(&self.bucket, &self.objects, &query) else {
            return self.refuse(
                StatusCode::BAD_REQUEST,
                "InvalidArgument",
                "The continuation token is incorrect",
            );
        };
        let Faults { cut_listing, reset_in_body, .. } = self.faults;
        let answer = Response::builder().header("content-type", "application/xml");
        let (length, script) = if self.chance("cut listing", cut_listing) {
            let cut = xml.slice(..self.rng.usize(..xml.len()));
            (cut.len(), Script::whole(cut))
        } else if self.chance("reset in listing", reset_in_body) {
            let part = xml.slice(..self.rng.usize(..xml.len()));
            (xml.len(), Script::steps([Step::Send(part), Step::Wait(Duration::from_millis(5)), Step::Reset]))
        } else {
            (xml.len(), Script::whole(xml))
        };
        Reply::Answer(answer.header("content-length", length).body(script).expect("a valid answer"))
    }

    fn fault_instead_of_answer(&mut self) -> Option<Reply> {
        let Faults { reset, slow_down, internal_error, .. } = self.faults;
        if self.chance("reset", reset) {
            return Some(Reply::Reset);
        }
        if self.chance("slow down", slow_down) {
            let mut reply =
                error(StatusCode::SERVICE_UNAVAILABLE, "SlowDown", "Please reduce your request rate.");
            if let (Reply::Answer(answer), true) = (&mut reply, self.rng.bool()) {
                answer.headers_mut().insert("retry-after", HeaderValue::from_static("0"));
            }
            return Some(reply);
        }
        if self.chance("internal error", internal_error) {
            let text = "We encountered an internal error. Please try again.";
            return Some(error(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", text));
        }
        None
    }

    fn chance(&mut self, kind: &'static str, probability: f64) -> bool {
        let hit = probability > 0.0 && self.rng.f64() < probability;
        if hit {
            *self.stats.injected.entry(kind).or_default() += 1;
        }
        hit
    }
}

/// What is wrong with a signature.
enum Unsigned {
    /// It is for another region.
    Elsewhere(String),
    Refused(StatusCode, &'static str, String),
}

/// Whether a request to another service is signed as it must be.
pub fn is_signed(headers: &HeaderMap, service: &str, region: &str) -> bool {
    signed(headers, service, region).is_ok()
}

/// Whether the request is signed for this bucket's owner and region, in the form of Signature Version 4.
fn signed(headers: &HeaderMap, service: &str, right: &str) -> Result<(), Unsigned> {
    let text = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok());
    let Some(authorization) = text("authorization") else {
        let text = "the request is not signed".into();
        return Err(Unsigned::Refused(StatusCode::FORBIDDEN, "AccessDenied", text));
    };
    let scope = authorization
        .strip_prefix("AWS4-HMAC-SHA256 ")
        .and_then(|rest| rest.split(',').find_map(|part| part.trim().strip_prefix("Credential=")))
        .map(|credential| credential.split('/').collect::<Vec<_>>());
    let Some([key, date, region, _, "aws4_request"]) = scope.as_deref().filter(|scope| scope[3] == service)
    else {
        let text = format!("not a Signature Version 4: {authorization}");
        return Err(Unsigned::Refused(StatusCode::BAD_REQUEST, "AuthorizationHeaderMalformed", text));
    };
    if *key != ACCESS_KEY {
        let text = "The AWS Access Key Id you provided does not exist in our records.";
        return Err(Unsigned::Refused(StatusCode::FORBIDDEN, "InvalidAccessKeyId", text.into()));
    }
    if *region != right {
        let text = format!(
            "The authorization header is malformed; the region '{region}' is wrong; expecting '{right}'"
        );
        return Err(Unsigned::Elsewhere(text));
    }
    let dated = text("x-amz-date").is_some_and(|at| at.starts_with(date));
    if !dated || (service == "s3" && text("x-amz-content-sha256").is_none()) {
        let text = "x-amz-date of the signature's day and x-amz-content-sha256 must be there";
        return Err(Unsigned::Refused(StatusCode::FORBIDDEN, "AccessDenied", text.into()));
    }
    Ok(())
}

fn error(status: StatusCode, code: &str, text: &str) -> Reply {
    error_with(status, code, text, "Resource", "/")
}

/// An error document with one more element.
fn error_with(status: StatusCode, code: &str, text: &str, element: &str, value: &str) -> Reply {
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{}</Message><{element}>{value}</{element}><RequestId>4442587FB7D0A2F9</RequestId><HostId>aGFsbG8gd2VsdA==</HostId></Error>",
        xml_escape(text)
    );
    let answer = Response::builder()
        .status(status)
        .header("content-type", "application/xml")
        .header("x-amz-request-id", "4442587FB7D0A2F9");
    Reply::Answer(answer.body(Script::whole(xml)).expect("a valid answer"))
}

/// An answer to HEAD that says no.
fn bare(status: StatusCode) -> Reply {
    let answer = Response::builder().status(status).header("x-amz-request-id", "4442587FB7D0A2F9");
    Reply::Answer(answer.body(Script::whole("")).expect("a valid answer"))
}

/// `bytes=A-B`, `bytes=A-`, `bytes=-N` as a half-open range; `None` when nothing of it is there.
fn byte_range(range: &str, total: usize) -> Option<(usize, usize)> {
    let (start, end) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (start, end) = match (start, end) {
        ("", last) => (total.saturating_sub(last.parse().ok()?), total),
        (start, "") => (start.parse().ok()?, total),
        (start, end) => (start.parse().ok()?, end.parse::<usize>().ok()?.saturating_add(1).min(total)),
    };
    (start < end).then_some((start, end))
}
