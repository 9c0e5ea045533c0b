//! S3 of one source: ListObjectsV2 and GetObject. [`bucket`] sends the requests; this room makes them, and reads
//! the answers.
//!
//! Bodies are handed on as they are: a `Content-Encoding` is left alone.

mod bucket;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt::Write;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use http::{HeaderMap, Method, StatusCode, header};

use self::bucket::{Ask, Bucket, Target};
use super::credentials::Provider;
use super::fault::{Class, Fault, On, Operation, Warning, not_s3};
use super::listing::{self, PageError};
use super::sigv4::{encode_path, encode_query};
use crate::{config, limits, net};

/// One bucket, as one source reaches it. A clone shares connections and the learnt clock offset.
#[derive(Debug, Clone)]
pub struct S3(Arc<Bucket>);

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
            gets: net::Gate::new(limits::FETCHES_IN_FLIGHT_MAX),
            lists: net::Gate::new(limits::LISTS_IN_FLIGHT),
        }))
    }

    /// One page of a listing. `visit` is called for each entry as it comes. Waits until the bucket takes another listing.
    ///
    /// # Errors
    /// Entries visited before a fault are right, but the page is not whole.
    pub async fn list(
        &self,
        request: &ListRequest<'_>,
        visit: &mut (dyn FnMut(Listed<'_>) -> ControlFlow<()> + Send),
    ) -> Result<ListEnd, Fault> {
        let operation = Operation::List { prefix: request.prefix };
        let _permit = self.0.lists.enter().await;
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

    /// How many objects may be asked for at once. [`S3::get`] tells it how the bucket answers, and leaves it to its
    /// callers to heed it.
    pub fn gets(&self) -> &net::Gate {
        &self.0.gets
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

    /// When the last answer was made, by its `Date`, in seconds since 1970.
    pub fn told(&self) -> Option<i64> {
        self.0.client.clock().told()
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
