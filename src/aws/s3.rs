//! S3 of one source: ListObjectsV2 and GetObject. Each request is signed anew with the time of the server, as
//! far as it is known: a server that finds our clock wrong is asked once more with its own date. A bucket that is
//! in another region than the configured one is asked for there from then on.
//!
//! Bodies are handed on as they are: a `Content-Encoding` is left alone.

use std::fmt::Write;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::Full;

use super::control::{USER_AGENT, now};
use super::credentials::{Keys, Provider};
use super::fault::{Class, Fault, On, Operation, Warning, not_s3};
use super::listing::{self, PageError};
use super::partition;
use super::sigv4::{Scope, encode_path, encode_query};
use crate::net::clock::seconds_from;
use crate::{config, limits, net};

/// One bucket, as one source reaches it. A clone shares connections and the learnt clock offset.
#[derive(Debug, Clone)]
pub struct S3(Arc<Bucket>);

#[derive(Debug)]
struct Bucket {
    source: Box<str>,
    name: Box<str>,
    /// As configured.
    region: Box<str>,
    endpoint: config::Endpoint,
    flavor: partition::Flavor,
    target: Mutex<Arc<Target>>,
    provider: Provider,
    request_payer: bool,
    client: net::Client,
    /// Seconds that the server's clock is ahead of ours.
    clock_ahead: AtomicI64,
    /// Listings are asked for as plain text: the server does not say in time that it URL-encodes.
    plain_listings: AtomicBool,
}

/// Where requests go.
#[derive(Debug)]
struct Target {
    region: Box<str>,
    /// What they are signed for.
    scope: Scope,
    /// Host and port.
    endpoint: Box<str>,
    /// Scheme and authority, and with path style the bucket: what a key is put behind, with a `/`.
    base: Box<str>,
}

/// A request without a body.
struct Ask<'a> {
    method: Method,
    operation: Operation<'a>,
    /// Behind the bucket's URL, with a query if it has one.
    path: &'a str,
    headers: &'a HeaderMap,
}

/// What to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct ListRequest<'a> {
    /// Only keys that begin so. Raw, not URL-encoded, as everywhere.
    pub prefix: &'a str,
    /// Group by `/` after the prefix.
    pub delimiter: bool,
    /// Only keys after this one.
    pub start_after: Option<&'a str>,
    /// Where the page before ended.
    pub continuation: Option<&'a str>,
    /// Entries on the page; `None`: the server's 1,000.
    pub max_keys: Option<u16>,
}

/// One entry of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed<'a> {
    /// An object.
    Key {
        /// At most [`crate::limits::KEY_BYTES`] bytes.
        key: &'a str,
        /// Bytes.
        size: u64,
    },
    /// A common prefix, up to and with the `/`.
    Prefix(&'a str),
    /// An entry that cannot be used, and why. To be counted and reported.
    Bad(&'static str),
}

/// How a page ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListEnd {
    /// Nothing comes after it.
    Complete,
    /// The next page begins here.
    More {
        /// For [`ListRequest::continuation`].
        continuation: Box<str>,
    },
    /// The callback stopped it.
    Stopped,
}

/// An object on its way.
#[derive(Debug)]
pub struct GetBody {
    /// Length of the whole object in bytes, where the server said it.
    pub len: Option<u64>,
    /// For resuming; without one a broken body cannot be resumed.
    pub etag: Option<Box<str>>,
    /// The bytes, from the offset asked for.
    pub body: net::Body,
}

impl S3 {
    /// The bucket of a source, reached over `client` (made with the source's `ca_file`). A bucket with dots in
    /// its name has no certificate of its own, and an IP address has no sub-domains: both get path style.
    pub fn new(source: &config::Source, client: net::Client, provider: Provider) -> S3 {
        let target = Target::new(&source.endpoint, &source.bucket, &source.region);
        S3(Arc::new(Bucket {
            source: source.name.clone(),
            name: source.bucket.clone(),
            region: source.region.clone(),
            endpoint: source.endpoint.clone(),
            flavor: source.flavor,
            target: Mutex::new(Arc::new(target)),
            provider,
            request_payer: source.request_payer,
            client,
            clock_ahead: AtomicI64::new(0),
            plain_listings: AtomicBool::new(false),
        }))
    }

    /// One page of a listing. `visit` is called for each entry as it comes.
    ///
    /// # Errors
    /// Entries visited before a fault are right, but the page is not whole.
    pub async fn list(
        &self,
        request: &ListRequest<'_>,
        visit: &mut (dyn FnMut(Listed<'_>) -> ControlFlow<()> + Send),
    ) -> Result<ListEnd, Fault> {
        let operation = Operation::List { prefix: request.prefix };
        loop {
            let asked = !self.0.plain_listings.load(Ordering::Relaxed);
            let path = list_query(request, asked);
            let ask = Ask { method: Method::GET, operation, path: &path, headers: &HeaderMap::new() };
            let (target, answer) = self.0.ask(&ask).await?;
            let on = self.0.on(&target, operation);
            let (head, body) = answer.into_parts();
            if head.status != StatusCode::OK {
                return Err(error_answer(&on, &head, body).await);
            }
            let mut visited = false;
            let mut seen = |listed: Listed<'_>| {
                visited = true;
                visit(listed)
            };
            match listing::read(body, asked, &mut seen).await {
                Err(PageError::Ambiguous) if asked => {
                    self.0.plain_listings.store(true, Ordering::Relaxed);
                    // The caller knows how far it came; from there it goes on in plain text.
                    if visited {
                        return Err(Fault::bad_answer(&on, AMBIGUOUS));
                    }
                }
                end => return end.map_err(|error| page_fault(&on, &head, error)),
            }
        }
    }

    /// Begins to read an object; `resume`: from this byte, if its ETag is still this one.
    ///
    /// # Errors
    /// [`Class::Restart`] when a resumed object is another one now, or cannot be resumed.
    pub async fn get(&self, key: &str, resume: Option<(u64, &str)>) -> Result<GetBody, Fault> {
        let operation = Operation::Get { key };
        let mut headers = HeaderMap::new();
        if let Some((offset, etag)) = resume {
            let unfit = |_| cannot_resume(&self.0.on(&self.0.target(), operation));
            headers.insert(header::RANGE, format!("bytes={offset}-").parse().map_err(unfit)?);
            headers.insert(header::IF_MATCH, etag.parse().map_err(unfit)?);
        }
        let path = format!("/{}", encode_path(key));
        let ask = Ask { method: Method::GET, operation, path: &path, headers: &headers };
        let (target, answer) = self.0.ask(&ask).await?;
        let on = self.0.on(&target, operation);
        let (head, body) = answer.into_parts();
        match (head.status, resume) {
            (StatusCode::OK, None) if is_web_page(&head.headers) => Err(not_s3(&on, head.status)),
            (StatusCode::OK, None) => Ok(GetBody { len: body.remaining(), etag: etag(&head.headers), body }),
            (StatusCode::PARTIAL_CONTENT, Some((offset, version))) => {
                let etag = etag(&head.headers);
                if etag.as_deref().is_some_and(|etag| etag != version) {
                    return Err(changed(&on)); // there are servers that ignore If-Match
                }
                match content_range(&head.headers) {
                    Some((first, len)) if first == offset => Ok(GetBody { len, etag, body }),
                    _ => Err(cannot_resume(&on)),
                }
            }
            (StatusCode::OK, Some(_)) => Err(cannot_resume(&on)),
            _ => Err(error_answer(&on, &head, body).await),
        }
    }

    /// Asks for an object's head. A HEAD's answer has no body: a refusal is its status alone.
    ///
    /// # Errors
    /// As [`S3::get`].
    pub async fn head(&self, key: &str) -> Result<HeaderMap, Fault> {
        let operation = Operation::Get { key };
        let path = format!("/{}", encode_path(key));
        let ask = Ask { method: Method::HEAD, operation, path: &path, headers: &HeaderMap::new() };
        let (target, answer) = self.0.ask(&ask).await?;
        let on = self.0.on(&target, operation);
        let (head, body) = answer.into_parts();
        match head.status {
            StatusCode::OK => Ok(head.headers),
            _ => Err(error_answer(&on, &head, body).await),
        }
    }

    /// Scheme and authority of the requests, and with path style the bucket: `https://acme.s3.us-west-2.amazonaws.com`.
    pub fn base_url(&self) -> Box<str> {
        self.0.target().base.clone()
    }

    /// Host and port of the requests, without the bucket.
    pub fn endpoint(&self) -> Box<str> {
        self.0.target().endpoint.clone()
    }

    /// The region that requests are signed for: the source's, unless the bucket turned out to be in another.
    pub fn region(&self) -> Box<str> {
        self.0.target().region.clone()
    }

    /// For a fault in the body that [`S3::get`] began to read.
    pub(crate) fn body_fault(&self, key: &str, error: &net::Error) -> Fault {
        Fault::of_net(&self.0.on(&self.0.target(), Operation::Get { key }), error)
    }

    /// A body that has to be given up for another reason.
    pub(crate) fn body_given_up(&self, key: &str, class: Class, cause: &'static str, why: &str) -> Fault {
        let target = self.0.target();
        Fault::new(class, cause, format!("{}: {why}", self.0.on(&target, Operation::Get { key })))
    }

    /// What an operator should mend although requests succeed.
    pub fn warnings(&self) -> Vec<Warning> {
        let Bucket { source, name, region, client, .. } = &*self.0;
        let mut warnings = Vec::new();
        let right = &self.0.target().region;
        if right != region {
            let text = format!(
                "bucket {name} is in region {right}, not in {region}: it is collected from there, but write \
                 `region = \"{right}\"` in [[source]] {source}"
            );
            warnings.push(Warning { cause: "wrong-region", text });
        }
        if let Some(skew) = client.clock().skew() {
            let text =
                format!("{skew}: set it right (NTP); requests are signed with the server's time until then");
            warnings.push(Warning { cause: "clock", text });
        }
        warnings
    }
}

impl Target {
    fn new(endpoint: &config::Endpoint, bucket: &str, region: &str) -> Target {
        let config::Endpoint { tls, host, port, path_style } = endpoint;
        let scheme = if *tls { "https" } else { "http" };
        let endpoint = match port {
            Some(port) => format!("{host}:{port}"),
            None => host.to_string(),
        };
        let is_address = host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok();
        let base = if *path_style || is_address || (*tls && bucket.contains('.')) {
            format!("{scheme}://{endpoint}/{}", encode_path(bucket))
        } else {
            format!("{scheme}://{bucket}.{endpoint}")
        };
        let scope = Scope::new("s3", region);
        Target { region: region.into(), scope, endpoint: endpoint.into(), base: base.into() }
    }
}

impl Bucket {
    fn on<'a>(&'a self, target: &'a Target, operation: Operation<'a>) -> On<'a> {
        On { operation, bucket: &self.name, region: &target.region, endpoint: &target.endpoint }
    }

    fn target(&self) -> Arc<Target> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The bucket in another region: at AWS's own endpoint there, if it is reached by one in the configured region,
    /// and else at the same place. `None`: AWS has no such endpoint there.
    fn in_region(&self, region: &str) -> Option<Arc<Target>> {
        let host = |region| partition::find(region)?.s3(self.flavor);
        let mut endpoint = self.endpoint.clone();
        if host(&self.region).as_deref() == Some(&*endpoint.host) {
            endpoint.host = host(region)?.into();
        }
        Some(Arc::new(Target::new(&endpoint, &self.name, region)))
    }

    /// The bucket is asked for there from here on.
    fn settle(&self, target: &Arc<Target>) {
        *self.target.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(target);
    }

    /// Sends a request for what stands behind the bucket's URL. It is sent once more with the server's date if our
    /// clock turns out wrong, once more to the bucket's own region if that turns out to be another, and once more with
    /// newer keys if these have expired.
    async fn ask(&self, ask: &Ask<'_>) -> Result<(Arc<Target>, Response<net::Body>), Fault> {
        let mut target = self.target();
        let mut ahead = self.clock_ahead.load(Ordering::Relaxed);
        let mut keys = self.provider.keys().await?;
        let (mut corrected, mut followed, mut renewed) = (false, false, false);
        loop {
            let on = self.on(&target, ask.operation);
            let answer = self.send(&target, ask, &keys, ahead).await?;
            if !matches!(answer.status().as_u16(), 301 | 307 | 308 | 400 | 403) {
                if followed {
                    self.settle(&target);
                }
                return Ok((target, answer));
            }
            let (head, body) = answer.into_parts();
            let fault = error_answer(&on, &head, body).await;
            if followed && fault.cause != "wrong-region" {
                self.settle(&target); // the right place, whatever else is wrong there
            }
            match &fault.class {
                Class::ClockSkew(theirs) if !corrected => {
                    corrected = true;
                    ahead = seconds_from(now(), *theirs);
                    self.clock_ahead.store(ahead, Ordering::Relaxed);
                }
                Class::WrongRegion(right) if !followed => {
                    followed = true;
                    target = self.in_region(right).ok_or(fault)?;
                }
                Class::Denied if fault.cause == "expired" && !renewed => {
                    renewed = true;
                    self.provider.expired(&keys);
                    let newer = self.provider.keys().await?;
                    if newer == keys {
                        return Err(fault); // keys that are not renewed: an operator has to
                    }
                    keys = newer;
                }
                _ => return Err(fault),
            }
        }
    }

    async fn send(
        &self,
        target: &Target,
        ask: &Ask<'_>,
        keys: &Keys,
        ahead: i64,
    ) -> Result<Response<net::Body>, Fault> {
        let Ask { method, operation, path, headers } = ask;
        let on = &self.on(target, *operation);
        let unsendable = |why: &dyn std::fmt::Display| {
            let advice = "check `bucket`, `endpoint`, `region` and the credentials";
            Fault::new(Class::Config, "config", format!("{on}: the request cannot be made ({why}): {advice}"))
        };
        let mut request = Request::get(format!("{}{path}", target.base))
            .body(Full::<Bytes>::default())
            .map_err(|error| unsendable(&error))?;
        request.method_mut().clone_from(method);
        let authority = request.uri().authority().map_or("", |authority| authority.as_str());
        let host = authority.parse().map_err(|error| unsendable(&error))?;
        request.headers_mut().extend((*headers).clone());
        request.headers_mut().insert(header::HOST, host);
        request.headers_mut().insert(header::USER_AGENT, header::HeaderValue::from_static(USER_AGENT));
        if self.request_payer {
            request
                .headers_mut()
                .insert("x-amz-request-payer", header::HeaderValue::from_static("requester"));
        }
        let at = shift(now(), ahead);
        target.scope.sign(&mut request, b"", keys, at).map_err(|error| unsendable(&error))?;
        self.client.request(request).await.map_err(|error| Fault::of_net(on, &error))
    }
}

fn list_query(request: &ListRequest<'_>, url_encoded: bool) -> String {
    let ListRequest { prefix, delimiter, start_after, continuation, max_keys } = request;
    let mut query = format!("/?list-type=2&prefix={}", encode_query(prefix));
    let mut add = |name: &str, value: &str| {
        let _ = write!(query, "&{name}={}", encode_query(value)); // a String takes anything
    };
    if url_encoded {
        add("encoding-type", "url");
    }
    if *delimiter {
        add("delimiter", "/");
    }
    if let Some(key) = start_after {
        add("start-after", key);
    }
    if let Some(token) = continuation {
        add("continuation-token", token);
    }
    if let Some(keys) = max_keys {
        add("max-keys", &keys.to_string());
    }
    query
}

/// A key that may be URL-encoded or not.
const AMBIGUOUS: &str =
    "the server does not say in time whether its keys are URL-encoded; the listing goes on in plain text";

fn page_fault(on: &On<'_>, head: &http::response::Parts, error: PageError) -> Fault {
    let why = match error {
        PageError::Net(error) => return Fault::of_net(on, &error),
        PageError::Error(document) => return Fault::of_document(on, head.status, &head.headers, &document),
        PageError::Html => return not_s3(on, head.status),
        PageError::NotAListing => "the answer is XML, but no listing",
        PageError::NotXml(why) => {
            return Fault::bad_answer(on, &format!("the answer is not well-formed XML ({why})"));
        }
        PageError::Cut => "the answer is empty or cut off",
        PageError::TooLong => "the answer is longer than a listing can be",
        PageError::NoContinuation => "more is promised, but not how to ask for it",
        PageError::Ambiguous => "it is said only after the keys that they are URL-encoded",
    };
    Fault::bad_answer(on, why)
}

async fn error_answer(on: &On<'_>, head: &http::response::Parts, body: net::Body) -> Fault {
    // A body that breaks off says less, but the status stands.
    let body = body.read_at_most(limits::ERROR_BODY_BYTES).await.unwrap_or_default();
    Fault::of_answer(on, head.status, &head.headers, &body)
}

fn cannot_resume(on: &On<'_>) -> Fault {
    let why = "the server does not continue an object from the byte where it broke off; it is read anew";
    Fault::new(Class::Restart, "bad-answer", format!("{on}: {why}"))
}

fn changed(on: &On<'_>) -> Fault {
    let why = "the object was replaced while it was read; it is read anew";
    Fault::new(Class::Restart, "changed", format!("{on}: {why}"))
}

fn etag(headers: &HeaderMap) -> Option<Box<str>> {
    headers.get(header::ETAG)?.to_str().ok().map(Box::from)
}

/// First byte and length of the whole: `bytes 5-9/10`.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let range = headers.get(header::CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
    let (range, len) = range.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    Some((first.trim().parse().ok()?, len.trim().parse().ok()))
}

/// A portal's page where an object should be: S3 always names its request.
fn is_web_page(headers: &HeaderMap) -> bool {
    let html =
        headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    html && !headers.contains_key("x-amz-request-id")
}

pub(super) fn shift(time: SystemTime, seconds: i64) -> SystemTime {
    let by = Duration::from_secs(seconds.unsigned_abs());
    let shifted = if seconds < 0 { time.checked_sub(by) } else { time.checked_add(by) };
    shifted.unwrap_or(time)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::config::{Attribution, Credentials, Endpoint, Secret, Source, Start};
    use crate::net::scripted::{Reply, Server};
    use crate::net::{Client, Options, Proxies, Proxy, Timeouts};

    pub(crate) const TIMEOUTS: Timeouts = Timeouts {
        connect: Duration::from_secs(5),
        first_byte: Duration::from_secs(5),
        stall: Duration::from_millis(200),
    };

    fn source(endpoint: Endpoint, bucket: &str) -> Source {
        Source {
            name: "prod".into(),
            bucket: bucket.into(),
            prefix: "".into(),
            region: "us-east-1".into(),
            queue_url: None,
            refresh: Duration::from_secs(60),
            start: Start::All,
            accounts: vec![],
            regions: vec![],
            unfiltered: false,
            exclude: vec![],
            rules: vec![],
            attribution: Attribution::None,
            default_domain: "".into(),
            endpoint,
            flavor: Default::default(),
            request_payer: false,
            ca_file: None,
            proxies: Default::default(),
            credentials: Credentials::IamUser {
                access_key_id: "AKIAIOSFODNN7EXAMPLE".into(),
                secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".into()),
            },
            sts: "https://sts.us-east-1.amazonaws.com".parse().unwrap(),
        }
    }

    fn endpoint(tls: bool, host: &str, port: Option<u16>, path_style: bool) -> Endpoint {
        Endpoint { tls, host: host.into(), port, path_style }
    }

    /// The bucket `acme` at a scripted server.
    pub(crate) fn at(address: SocketAddr) -> S3 {
        let endpoint = endpoint(false, "127.0.0.1", Some(address.port()), true);
        of(&source(endpoint, "acme"))
    }

    fn of(source: &Source) -> S3 {
        through(source, Proxies::default())
    }

    fn through(source: &Source, proxies: Proxies) -> S3 {
        let client = Client::new(Options { timeouts: TIMEOUTS, proxies, ..Default::default() }).unwrap();
        S3::new(source, client.clone(), Provider::new(source, client))
    }

    async fn list(s3: &S3) -> Result<(Vec<String>, ListEnd), Fault> {
        let mut keys = Vec::new();
        let end = s3
            .list(&ListRequest { prefix: "AWSLogs/", ..Default::default() }, &mut |listed| {
                keys.push(format!("{listed:?}"));
                ControlFlow::Continue(())
            })
            .await?;
        Ok((keys, end))
    }

    #[test]
    fn a_bucket_is_a_sub_domain_unless_that_cannot_work() {
        for (endpoint, bucket, base) in [
            (
                endpoint(true, "s3.us-east-1.amazonaws.com", None, false),
                "acme",
                "https://acme.s3.us-east-1.amazonaws.com",
            ),
            (
                endpoint(true, "s3.us-east-1.amazonaws.com", None, true),
                "acme",
                "https://s3.us-east-1.amazonaws.com/acme",
            ),
            (
                endpoint(true, "s3.us-east-1.amazonaws.com", None, false),
                "a.b",
                "https://s3.us-east-1.amazonaws.com/a.b",
            ),
            (endpoint(false, "minio", Some(9000), false), "a.b", "http://a.b.minio:9000"),
            (endpoint(false, "127.0.0.1", Some(9000), false), "acme", "http://127.0.0.1:9000/acme"),
            (endpoint(false, "[::1]", Some(9000), false), "acme", "http://[::1]:9000/acme"),
        ] {
            assert_eq!(&*of(&source(endpoint, bucket)).0.target().base, base);
        }
    }

    #[tokio::test]
    async fn a_listing_asks_for_what_it_should() {
        let page = b"<ListBucketResult><Contents><Key>k</Key><Size>7</Size></Contents></ListBucketResult>";
        let server = Server::start([Reply::new(200, "", page)]).await;
        let request = ListRequest {
            prefix: "a b/",
            delimiter: true,
            start_after: Some("a b/c+d"),
            continuation: Some("x=/+"),
            max_keys: Some(5),
        };
        let mut keys = 0;
        let end = at(server.address)
            .list(&request, &mut |listed| {
                assert_eq!(listed, Listed::Key { key: "k", size: 7 });
                keys += 1;
                ControlFlow::Continue(())
            })
            .await;
        assert_eq!((end.unwrap(), keys), (ListEnd::Complete, 1));
        let head = &server.requests()[0];
        let target = "GET /acme/?list-type=2&prefix=a%20b%2F&encoding-type=url&delimiter=%2F&start-after=a%20b%2Fc%2Bd\
                      &continuation-token=x%3D%2F%2B&max-keys=5 HTTP/1.1\r\n";
        assert!(head.starts_with(target), "{head}");
        let host = format!("host: 127.0.0.1:{}\r\n", server.address.port());
        for header in [
            &*host,
            "user-agent: trailspool/",
            "x-amz-date: ",
            "authorization: AWS4-HMAC-SHA256 Credential=AKIA",
        ] {
            assert!(head.contains(header), "{header} in {head}");
        }
        assert!(!head.contains("accept-encoding"), "{head}");
    }

    #[tokio::test]
    async fn a_key_is_sent_as_it_is_signed() {
        let server = Server::start([Reply::new(200, "ETag: \"e\"\r\n", b"x")]).await;
        at(server.address).get("/a//b c+%ä/./..", None).await.unwrap();
        let head = &server.requests()[0];
        assert!(head.starts_with("GET /acme//a//b%20c%2B%25%C3%A4/./.. HTTP/1.1\r\n"), "{head}");
    }

    /// Source: S3 User Guide, "Downloading objects from Requester Pays buckets".
    #[tokio::test]
    async fn a_requester_that_pays_says_so_in_every_signed_request() {
        let empty = Reply::new(200, "", b"<ListBucketResult/>");
        let server = Server::start([empty.clone(), Reply::new(200, "", b"x"), empty]).await;
        let endpoint = endpoint(false, "127.0.0.1", Some(server.address.port()), true);
        let source = Source { request_payer: true, ..source(endpoint, "acme") };
        let s3 = of(&source);
        list(&s3).await.unwrap();
        s3.get("k", None).await.unwrap();
        list(&at(server.address)).await.unwrap();
        let requests = server.requests();
        for head in &requests[..2] {
            assert!(head.contains("x-amz-request-payer: requester\r\n"), "{head}");
            assert!(head.contains(";x-amz-request-payer,"), "signed: {head}");
        }
        assert!(!requests[2].contains("request-payer"), "{}", requests[2]);
    }

    #[tokio::test]
    async fn a_wrong_clock_is_corrected_by_the_servers_date_at_once_and_for_good() {
        let skewed = Reply::new(
            403,
            "Date: Wed, 21 Oct 2015 07:28:00 GMT\r\n",
            b"<Error><Code>RequestTimeTooSkewed</Code></Error>",
        );
        let empty = Reply::new(200, "", b"<ListBucketResult/>");
        let server = Server::start([skewed, empty.clone(), empty]).await;
        let s3 = at(server.address);
        assert_eq!(list(&s3).await.unwrap().1, ListEnd::Complete);
        assert_eq!(list(&s3.clone()).await.unwrap().1, ListEnd::Complete);
        let requests = server.requests();
        assert!(!requests[0].contains("x-amz-date: 20151021T07"), "{}", requests[0]);
        assert!(requests[1].contains("x-amz-date: 20151021T072"), "{}", requests[1]);
        assert!(requests[2].contains("x-amz-date: 20151021T07"), "{}", requests[2]);
    }

    #[tokio::test]
    async fn a_clock_that_cannot_be_corrected_ends_after_one_more_try() {
        let skewed = Reply::new(
            403,
            "Date: Wed, 21 Oct 2015 07:28:00 GMT\r\n",
            b"<Error><Code>RequestTimeTooSkewed</Code></Error>",
        );
        let server = Server::start([skewed.clone(), skewed]).await;
        assert_eq!(list(&at(server.address)).await.unwrap_err().cause, "clock");
        assert!(server.is_through());
    }

    /// The bucket `acme` at AWS's endpoint in us-east-1, where a scripted proxy answers for all hosts.
    fn at_aws(proxy: SocketAddr) -> S3 {
        let endpoint = endpoint(false, "s3.us-east-1.amazonaws.com", None, false);
        let proxy = Proxy::new(format!("http://{proxy}").parse().unwrap(), None).unwrap();
        through(&source(endpoint, "acme"), Proxies::all(proxy))
    }

    /// Graylog2/graylog-plugin-aws#3, durch/rust-s3#18: a 301 was not understood.
    #[tokio::test]
    async fn a_bucket_in_another_region_is_followed_there_and_stays_followed() {
        let redirect = |endpoint: &str| {
            format!("<Error><Code>PermanentRedirect</Code><Endpoint>{endpoint}</Endpoint></Error>")
        };
        let malformed = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>eu-west-1</Region></Error>";
        let header = "x-amz-bucket-region: eu-west-1\r\n";
        for wrong in [
            Reply::new(301, header, b""),
            Reply::new(301, "", redirect("acme.s3-eu-west-1.amazonaws.com").as_bytes()),
            Reply::new(301, "", redirect("acme.s3.eu-west-1.amazonaws.com").as_bytes()),
            Reply::new(307, header, b"<Error><Code>TemporaryRedirect</Code></Error>"),
            Reply::new(400, "", malformed.as_bytes()),
        ] {
            let empty = Reply::new(200, "", b"<ListBucketResult/>");
            let server = Server::start([wrong.clone(), empty, Reply::new(200, "", b"x")]).await;
            let s3 = at_aws(server.address);
            assert_eq!(s3.warnings(), []);
            list(&s3).await.unwrap();
            s3.clone().get("k", None).await.unwrap();
            let heads = server.requests();
            for (head, region) in heads.iter().zip(["us-east-1", "eu-west-1", "eu-west-1"]) {
                let host = format!("acme.s3.{region}.amazonaws.com");
                assert!(head.starts_with(&format!("GET http://{host}/")), "{wrong:?}: {head}");
                assert!(head.contains(&format!("host: {host}\r\n")), "{head}");
                assert!(head.contains(&format!("/{region}/s3/aws4_request")), "{head}");
            }
            let [Warning { cause: "wrong-region", text }] = &s3.warnings()[..] else { panic!() };
            assert!(text.contains("write `region = \"eu-west-1\"` in [[source]] prod"), "{text}");
        }
    }

    #[tokio::test]
    async fn with_an_endpoint_of_its_own_only_the_signature_follows() {
        let wrong = "<Error><Code>AuthorizationHeaderMalformed</Code><Region>garage</Region></Error>";
        let empty = Reply::new(200, "", b"<ListBucketResult/>");
        let server = Server::start([Reply::new(400, "", wrong.as_bytes()), empty]).await;
        let s3 = at(server.address);
        list(&s3).await.unwrap();
        assert!(server.requests()[1].contains("/garage/s3/aws4_request"), "{}", server.requests()[1]);
        assert_eq!(s3.warnings().len(), 1);
    }

    #[tokio::test]
    async fn a_region_without_such_an_endpoint_is_not_followed() {
        let nowhere = Reply::new(301, "x-amz-bucket-region: xx-nowhere-1\r\n", b"");
        let server = Server::start([nowhere]).await;
        let fault = list(&at_aws(server.address)).await.unwrap_err();
        assert_eq!(fault.class, Class::WrongRegion("xx-nowhere-1".into()));
        assert!(server.is_through());
    }

    #[tokio::test]
    async fn redirects_in_a_circle_end() {
        let to = |region: &str| Reply::new(301, &format!("x-amz-bucket-region: {region}\r\n"), b"");
        let server =
            Server::start([to("eu-west-1"), to("us-east-1"), to("eu-west-1"), to("us-east-1")]).await;
        let s3 = at_aws(server.address);
        for _ in 0..2 {
            assert_eq!(list(&s3).await.unwrap_err().cause, "wrong-region");
        }
        assert!(server.is_through());
    }

    #[tokio::test]
    async fn a_large_skew_is_warned_of_while_answers_are_good() {
        let date = |ahead: u64| {
            let date = httpdate::fmt_http_date(now() + Duration::from_secs(ahead));
            Reply::new(200, &format!("Date: {date}\r\n"), b"<ListBucketResult/>")
        };
        let server = Server::start([date(400), date(0)]).await;
        let s3 = at(server.address);
        list(&s3).await.unwrap();
        let [Warning { cause: "clock", text }] = &s3.warnings()[..] else { panic!() };
        assert!(text.contains("6 minutes behind") && text.contains("NTP"), "{text}");
        list(&s3).await.unwrap();
        assert_eq!(s3.warnings(), [], "somebody set it right");
    }

    fn role_keys(id: &str) -> Reply {
        let keys = format!(r#"{{"AccessKeyId":"{id}","SecretAccessKey":"s","Token":"token-of-{id}"}}"#);
        Reply::new(200, "", keys.as_bytes())
    }

    /// The bucket at a scripted server, with the keys of an instance's role from another.
    fn with_role(s3: &Server, metadata: &Server) -> S3 {
        let endpoint = endpoint(false, "127.0.0.1", Some(s3.address.port()), true);
        let metadata = format!("http://{}", metadata.address).parse().unwrap();
        of(&Source { credentials: Credentials::Ec2Role { metadata }, ..source(endpoint, "acme") })
    }

    const EXPIRED: &[u8] =
        b"<Error><Code>ExpiredToken</Code><Message>The provided token has expired.</Message></Error>";

    #[tokio::test]
    async fn expired_keys_are_renewed_and_the_request_sent_once_more() {
        let (t, r) = (Reply::new(200, "", b"t"), Reply::new(200, "", b"r"));
        let metadata = Server::start([
            t.clone(),
            r.clone(),
            role_keys("ASIAOLD"),
            t.clone(),
            r.clone(),
            role_keys("ASIANEW"),
        ])
        .await;
        let empty = Reply::new(200, "", b"<ListBucketResult/>");
        let server = Server::start([Reply::new(400, "", EXPIRED), empty.clone(), empty]).await;
        let s3 = with_role(&server, &metadata);
        assert_eq!(list(&s3).await.unwrap().1, ListEnd::Complete);
        assert_eq!(list(&s3).await.unwrap().1, ListEnd::Complete);
        let requests = server.requests();
        for (request, id) in requests.iter().zip(["ASIAOLD", "ASIANEW", "ASIANEW"]) {
            assert!(request.contains(&format!("Credential={id}/")), "{request}");
            assert!(request.contains(&format!("x-amz-security-token: token-of-{id}\r\n")), "{request}");
        }
        assert!(metadata.is_through() && server.is_through());
    }

    #[tokio::test]
    async fn keys_that_stay_expired_end_after_one_renewal() {
        let (t, r) = (Reply::new(200, "", b"t"), Reply::new(200, "", b"r"));
        let keys = |id| [t.clone(), r.clone(), role_keys(id)];
        for (second, requests, words) in
            [("ASIAOLD", 1, "there is no newer one"), ("ASIANEW", 2, "ExpiredToken")]
        {
            let metadata = Server::start([keys("ASIAOLD"), keys(second)].concat()).await;
            let server = Server::start([Reply::new(400, "", EXPIRED), Reply::new(400, "", EXPIRED)]).await;
            let fault = list(&with_role(&server, &metadata)).await.unwrap_err();
            assert_eq!((&fault.class, fault.cause), (&Class::Denied, "expired"), "{fault}");
            assert!(fault.text.contains(words), "{fault}");
            assert_eq!(server.requests().len(), requests);
        }
        // An IAM user's keys are not renewed by anybody but the operator.
        let server = Server::start([Reply::new(400, "", EXPIRED)]).await;
        assert_eq!(list(&at(server.address)).await.unwrap_err().cause, "expired");
        assert_eq!(server.requests().len(), 1);
    }

    #[tokio::test]
    async fn what_a_listing_cannot_be_is_a_fault() {
        for (reply, class, cause) in [
            (Reply::new(200, "", b""), Class::Retry, "bad-answer"),
            (Reply::new(200, "", b"<ListBucketResult><Contents><Key>"), Class::Retry, "bad-answer"),
            (Reply::new(200, "", b"<Error><Code>InternalError</Code></Error>"), Class::Retry, "server"),
            (
                Reply::new(200, "Content-Type: text/html\r\n", b"<!DOCTYPE html><html><body>"),
                Class::Config,
                "not-s3",
            ),
            (Reply::announcing(1000, 200, "", b"<ListBucketResult>").then_close(), Class::Retry, "closed"),
            (Reply::announcing(1000, 200, "", b"<ListBucketResult>").then_hang(), Class::Retry, "timeout"),
            (
                Reply::announcing(1000, 403, "", b"<Error><Code>AccessDenied</Code>").then_close(),
                Class::Denied,
                "list-denied",
            ),
        ] {
            let server = Server::start([reply.clone()]).await;
            let fault = list(&at(server.address)).await.unwrap_err();
            assert_eq!((&fault.class, fault.cause), (&class, cause), "{reply:?}: {fault}");
        }
    }

    #[tokio::test]
    async fn only_the_same_version_is_continued_and_only_where_asked() {
        let range = "Content-Range: bytes 5-9/10\r\nETag: \"v1\"\r\n";
        for (reply, class) in [
            (Reply::new(206, range, b"56789"), None),
            (Reply::new(206, "Content-Range: bytes 5-9/10\r\n", b"56789"), None),
            (
                Reply::new(206, "Content-Range: bytes 5-9/10\r\nETag: \"v2\"\r\n", b"56789"),
                Some(Class::Restart),
            ),
            (Reply::new(206, "Content-Range: bytes 0-9/10\r\n", b"0123456789"), Some(Class::Restart)),
            (Reply::new(206, "", b"56789"), Some(Class::Restart)),
            (Reply::new(200, "ETag: \"v1\"\r\n", b"0123456789"), Some(Class::Restart)),
            (Reply::new(412, "", b""), Some(Class::Restart)),
        ] {
            let server = Server::start([reply.clone()]).await;
            match (at(server.address).get("k", Some((5, "\"v1\""))).await, class) {
                (Ok(body), None) => assert_eq!(body.len, Some(10)),
                (Err(fault), Some(class)) => assert_eq!(fault.class, class, "{reply:?}"),
                (got, _) => panic!("{reply:?}: {got:?}"),
            }
            let head = &server.requests()[0];
            assert!(head.contains("range: bytes=5-\r\n") && head.contains("if-match: \"v1\"\r\n"), "{head}");
            assert!(head.contains("SignedHeaders=host;if-match;range;"), "{head}");
        }
    }

    #[tokio::test]
    async fn a_portals_page_is_no_object() {
        let server = Server::start([Reply::new(200, "Content-Type: text/html\r\n", b"<p>Sign in")]).await;
        assert_eq!(at(server.address).get("k", None).await.unwrap_err().cause, "not-s3");
    }
}
