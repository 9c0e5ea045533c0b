//! What a failed request means: for the caller what to do next ([`Class`]), for the operator what failed, on
//! what, why, and what to do. A core: status, headers and the beginning of the body go in.
//!
//! Source: S3 API Reference, "Error Responses"; the reports named at the tests.

use std::fmt;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, StatusCode};
use quick_xml::Reader;
use quick_xml::events::Event;

use super::xml::{Elements, Seen, Tag};
use crate::decode::members::{members, string};
use crate::decode::text::unescape;
use crate::net;

/// A request that failed.
#[derive(Debug, Clone)]
pub struct Fault {
    /// What the caller does next.
    pub class: Class,
    /// Stable label for metrics: `denied`, `list-denied`, `kms-denied`, `signature`, `access-key`, `expired`, `archived`,
    /// `account`, `region-disabled`, `customer-key`, `no-queue`, `queue-denied`, `not-sqs`, `over-limit`,
    /// `wrong-region`, `clock`, `no-bucket`, `gone`, `changed`, `slow-down`, `server`, `not-s3`, `bad-answer`, `refused`,
    /// `slow`, `config`, `stopped`, and those of [`net::Kind::label`]; of getting credentials `credentials`,
    /// `no-credentials`, `role-denied`, `hop-limit`.
    pub cause: &'static str,
    /// For the operator: what, on what, why, what to do. One line, never a secret.
    pub text: String,
    /// The words of the server or the network alone, which `text` quotes. May be empty. Bounded, without control
    /// characters.
    pub said: Box<str>,
    /// The server's own wish for the time of the next try.
    pub retry_after: Option<Duration>,
}

/// Something that an operator should know of and mend although requests succeed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// Stable label for metrics: `wrong-region`, `clock`.
    pub cause: &'static str,
    /// What, why, what to do. One line, never a secret.
    pub text: String,
}

/// What the caller does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Class {
    /// The same request may work later.
    Retry,
    /// The object changed, or cannot be continued: begin it anew from its first byte.
    Restart,
    /// Credentials or permissions: an operator has to act. May work later.
    Denied,
    /// The object is not there (any more). Will not work later.
    Gone,
    /// The bucket is in this region.
    WrongRegion(Box<str>),
    /// The signature's time is too far from the server's, which is this.
    ClockSkew(SystemTime),
    /// The configuration (bucket, endpoint, region) or the network's set-up is wrong: an operator has to act.
    Config,
}

impl Fault {
    /// The same request may work a moment later, without anybody's doing.
    pub fn is_transient(&self) -> bool {
        matches!(self.class, Class::Retry | Class::Restart | Class::ClockSkew(_))
    }

    pub(crate) fn new(class: Class, cause: &'static str, text: String) -> Fault {
        Fault { class, cause, text, said: Box::default(), retry_after: None }
    }

    /// A request, or the body of its answer, that failed on its way.
    pub(super) fn of_net(on: &dyn fmt::Display, error: &net::Error) -> Fault {
        let class = match error.kind() {
            net::Kind::UnknownIssuer
            | net::Kind::WrongName
            | net::Kind::Expired
            | net::Kind::NotYetValid
            | net::Kind::Certificate
            | net::Kind::ClientCertificate
            | net::Kind::NoTrust
            | net::Kind::NotHttp
            | net::Kind::NotAProxy
            | net::Kind::ProxyAuth
            | net::Kind::ProxyRefused => Class::Config,
            // A clock that is set right some time after boot heals by itself, as the others may.
            _ => Class::Retry,
        };
        let fault = Fault::new(class, error.kind().label(), format!("{on}: {error}"));
        Fault { said: clip(&error.to_string()), ..fault }
    }

    /// An answer that is not the one asked for. `body` is its beginning.
    pub(super) fn of_answer(on: &On<'_>, status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Fault {
        let document = ErrorDocument::parse(body);
        if document.code.is_empty() && looks_like_html(headers, body) && !status.is_server_error() {
            return not_s3(on, status);
        }
        Fault::of_document(on, status, headers, &document)
    }

    /// An answer whose body was read as an error already.
    pub(super) fn of_document(
        on: &On<'_>,
        status: StatusCode,
        headers: &HeaderMap,
        document: &ErrorDocument,
    ) -> Fault {
        let header = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let date = header("date").and_then(|date| httpdate::parse_http_date(date).ok());
        let (class, cause, why) = classify(on, status, document, header("x-amz-bucket-region"), date);
        let said = document.said(status);
        let mut fault = Fault::new(class, cause, format!("{on}: {why} ({said})"));
        fault.said = said.into();
        fault.retry_after = header("retry-after").and_then(|value| net::backoff::retry_after(value, date));
        fault
    }

    /// The answer has status 200 but not the shape it must have.
    pub(super) fn bad_answer(on: &On<'_>, why: &str) -> Fault {
        let advice =
            "if this lasts, something between here and S3 changes answers, or the endpoint is not S3";
        let why = clip(why);
        Fault {
            said: why.clone(),
            ..Fault::new(Class::Retry, "bad-answer", format!("{on}: {why}: {advice}"))
        }
    }
}

/// A web page where S3's answer should be.
pub(super) fn not_s3(on: &On<'_>, status: StatusCode) -> Fault {
    let text = format!(
        "{on}: {} answers with a web page (HTTP {}), not as S3 does: is it a website endpoint (use the region's REST \
         endpoint), or does a proxy or captive portal stand in between?",
        on.endpoint,
        status.as_u16()
    );
    Fault::new(Class::Config, "not-s3", text)
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Fault {}

/// What a request is about.
#[derive(Debug, Clone, Copy)]
pub(super) struct On<'a> {
    pub(super) operation: Operation<'a>,
    pub(super) bucket: &'a str,
    pub(super) region: &'a str,
    pub(super) endpoint: &'a str,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Operation<'a> {
    List { prefix: &'a str },
    Get { key: &'a str },
}

impl fmt::Display for On<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let On { operation, bucket, .. } = self;
        match operation {
            Operation::List { prefix: "" } => write!(f, "listing bucket {bucket}"),
            Operation::List { prefix } => write!(f, "listing {prefix:?} in bucket {bucket}"),
            Operation::Get { key } => write!(f, "reading {key:?} from bucket {bucket}"),
        }
    }
}

/// The table: class, metric label and advice.
fn classify(
    on: &On<'_>,
    status: StatusCode,
    document: &ErrorDocument,
    region_header: Option<&str>,
    date: Option<SystemTime>,
) -> (Class, &'static str, String) {
    if let Some(row) = of_any_service(status.as_u16(), document, date) {
        return row;
    }
    let On { bucket, operation, .. } = on;
    let kms = document.message.contains("kms") || document.message.contains("KMS");
    match (&*document.code, status.as_u16()) {
        (
            "PermanentRedirect" | "TemporaryRedirect" | "Redirect" | "AuthorizationHeaderMalformed"
            | "IllegalLocationConstraintException" | "IncorrectEndpoint",
            _,
        )
        | ("", 301 | 307 | 308) => wrong_region(on, status, document, region_header),
        ("RegionDisabledException", _) => (
            Class::Denied,
            "region-disabled",
            format!("AWS STS is not active in region {} for this account: activate it there in the IAM console", on.region),
        ),
        ("NoSuchBucket" | "InvalidBucketName" | "NoSuchAccessPoint" | "InvalidAccessPoint", _) => (
            Class::Config,
            "no-bucket",
            format!("there is no bucket {bucket} at {}: check `bucket`, `region` and `endpoint`", on.endpoint),
        ),
        ("InvalidObjectState", _) => {
            (Class::Denied, "archived", "the object is archived (Glacier): restore it to read it".into())
        }
        ("InvalidRequest", 400) if document.message.contains("Server Side Encryption") => (
            Class::Denied,
            "customer-key",
            "it is encrypted with a key that only its writer has (SSE-C), so CloudTrail did not write it: let it be \
             copied with another encryption"
                .into(),
        ),
        (code, _) if code.starts_with("KMS.") || code.starts_with("Kms") => {
            (Class::Denied, "kms-denied", "its KMS key is disabled, deleted or out of reach: check the key".into())
        }
        ("AccessDenied" | "AccessDeniedException", _) | ("", 403) if kms => (
            Class::Denied,
            "kms-denied",
            "the KMS key that encrypts it may not be used: allow kms:Decrypt on that key in the IAM policy and the key's \
             own policy"
                .into(),
        ),
        ("AccessDenied" | "AccessDeniedException", _) | ("", 401 | 403) => denied(on),
        ("NoSuchKey" | "NoSuchVersion", _) => (Class::Gone, "gone", "the object is not there any more".into()),
        ("", 404) if matches!(operation, Operation::Get { .. }) => {
            (Class::Gone, "gone", "the object is not there any more".into())
        }
        ("PreconditionFailed" | "InvalidRange", _) | ("", 412 | 416) => {
            (Class::Restart, "changed", "the object was replaced while it was read; it is read anew".into())
        }
        (_, 500..) if status.as_u16() != 501 => {
            (Class::Retry, "server", "the server failed; nothing to do unless it lasts".into())
        }
        ("" | "MethodNotAllowed" | "NotImplemented", 404 | 405 | 501) => {
            (Class::Config, "not-s3", format!("{} does not serve S3 requests: check `endpoint`", on.endpoint))
        }
        (_, 407) => {
            (Class::Config, "proxy-auth", "a proxy on the way asks for credentials: let this host pass without it".into())
        }
        _ => (Class::Config, "refused", "S3 refuses the request: check the source's configuration".into()),
    }
}

/// Rows that are the same for every service.
pub(super) fn of_any_service(
    status: u16,
    document: &ErrorDocument,
    date: Option<SystemTime>,
) -> Option<(Class, &'static str, String)> {
    Some(match (&*document.code, status) {
        (
            "SlowDown" | "Busy" | "ServiceUnavailable" | "Throttling" | "ThrottlingException" | "ThrottledException"
            | "RequestThrottled" | "RequestThrottledException" | "TooManyRequestsException" | "RequestLimitExceeded"
            | "BandwidthLimitExceeded" | "LimitExceededException" | "EC2ThrottledException" | "OverLimit"
            | "KmsThrottled" | "KMS.ThrottlingException",
            _,
        )
        | (_, 429 | 503) => {
            (Class::Retry, "slow-down", "the service asks to slow down; nothing to do unless it lasts".into())
        }
        (
            "InternalError" | "InternalFailure" | "InternalServerError" | "OperationAborted" | "RequestTimeout"
            | "RequestTimeoutException" | "PriorRequestNotComplete" | "IDPCommunicationError",
            _,
        )
        | (_, 500 | 502 | 504 | 408) => {
            (Class::Retry, "server", "the server failed; nothing to do unless it lasts".into())
        }
        ("RequestTimeTooSkewed" | "RequestExpired", _)
        | ("SignatureDoesNotMatch" | "InvalidSignatureException" | "AccessDenied", _)
            if is_of_the_clock(document) =>
        {
            let why = "this machine's clock differs too much from the server's: set it right (NTP)".into();
            (date.map_or(Class::Denied, Class::ClockSkew), "clock", why)
        }
        (
            "SignatureDoesNotMatch" | "InvalidSignatureException" | "IncompleteSignature"
            | "IncompleteSignatureException",
            _,
        ) => (
            Class::Denied,
            "signature",
            "the signature is not accepted: the secret access key does not belong to the access key id (is it \
             complete?), or a proxy changes requests"
                .into(),
        ),
        ("InvalidAccessKeyId" | "InvalidClientTokenId" | "UnrecognizedClientException", _) => (
            Class::Denied,
            "access-key",
            "the access key id is not known: check `access_key_id` (deleted, mistyped, or of another AWS partition?)"
                .into(),
        ),
        ("ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired" | "InvalidToken", _) => {
            (Class::Denied, "expired", "the session's credentials are expired or not valid: renew them".into())
        }
        ("NotSignedUp" | "AccountProblem" | "AllAccessDisabled" | "OptInRequired" | "SubscriptionRequiredException", _) => (
            Class::Denied,
            "account",
            "AWS has closed this service to the account: see its AWS Health page or ask AWS Support".into(),
        ),
        _ => return None,
    })
}

/// S3 has a code of its own for it; STS and SQS say so in the message.
fn is_of_the_clock(document: &ErrorDocument) -> bool {
    let said = |words| document.message.contains(words);
    matches!(&*document.code, "RequestTimeTooSkewed" | "RequestExpired")
        || said("Signature expired")
        || said("Signature not yet current")
}

fn denied(on: &On<'_>) -> (Class, &'static str, String) {
    let bucket = on.bucket;
    match on.operation {
        Operation::List { .. } => (
            Class::Denied,
            "list-denied",
            format!(
                "listing is not allowed: allow s3:ListBucket on bucket {bucket} in the IAM policy and the bucket policy \
                 (of a bucket where the requester pays, set request_payer = \"requester\")"
            ),
        ),
        Operation::Get { key } => {
            let folder = key.rfind("AWSLogs/").map_or("", |at| &key[..at]);
            let why = format!(
                "reading is not allowed: allow s3:GetObject on {bucket}/{folder}* in the IAM policy and the bucket policy, \
                 and kms:Decrypt if the object is encrypted with a KMS key (without s3:ListBucket S3 says the same of an \
                 object that is gone)"
            );
            (Class::Denied, "denied", why)
        }
    }
}

fn wrong_region(
    on: &On<'_>,
    status: StatusCode,
    document: &ErrorDocument,
    header: Option<&str>,
) -> (Class, &'static str, String) {
    let On { bucket, region, endpoint, .. } = on;
    let expecting = document.message.split_once("expecting '").and_then(|(_, rest)| rest.split('\'').next());
    let named = [header, Some(&*document.region), expecting, region_of_host(&document.endpoint)];
    match named.into_iter().flatten().find(|name| is_region(name)) {
        Some(right) if right != *region => (
            Class::WrongRegion(right.into()),
            "wrong-region",
            format!("bucket {bucket} is in region {right}, not in {region}: set `region = \"{right}\"`"),
        ),
        Some(_) if status == StatusCode::TEMPORARY_REDIRECT => (
            Class::Retry,
            "server",
            format!("bucket {bucket} is so new that its address is not known everywhere yet; nothing to do"),
        ),
        Some(_) => (
            Class::Config,
            "wrong-region",
            format!(
                "bucket {bucket} is in region {region}, but {endpoint} serves another one: check `endpoint`"
            ),
        ),
        None => (
            Class::Config,
            "wrong-region",
            format!(
                "bucket {bucket} is not served by {endpoint} in region {region}: check `region` and `endpoint`"
            ),
        ),
    }
}

/// `bucket.s3-us-west-2.amazonaws.com`, `bucket.s3.us-west-2.amazonaws.com`
fn region_of_host(host: &str) -> Option<&str> {
    let (service, _) = host.split_once(".amazonaws.com")?;
    let label = service.rsplit('.').next()?;
    let region = label.strip_prefix("s3-").unwrap_or(label);
    (region != "s3" && region.contains('-')).then_some(region)
}

fn is_region(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

pub(super) fn looks_like_html(headers: &HeaderMap, body: &[u8]) -> bool {
    let typed = headers.get("content-type").is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    let begin = body.trim_ascii_start();
    let begins = |with: &[u8]| begin.get(..with.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(with));
    typed || begins(b"<!doctype html") || begins(b"<html")
}

/// What an `<Error>` document says. Remote text: clipped, and without control characters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ErrorDocument {
    code: Box<str>,
    message: Box<str>,
    region: Box<str>,
    endpoint: Box<str>,
}

impl ErrorDocument {
    /// Reads as much as is there of a document that may be cut, or none at all.
    pub(super) fn parse(body: &[u8]) -> ErrorDocument {
        let mut document = ErrorDocument::default();
        let mut reader = Reader::from_reader(body);
        let mut elements = Elements::new();
        loop {
            let event = match reader.read_event() {
                Ok(Event::Eof) | Err(_) => return document,
                Ok(event) => event,
            };
            match elements.event(&event) {
                Ok(Seen::Close { parent: Tag::Error, tag, text: Some(text), .. }) => document.set(tag, text),
                Ok(_) => {}
                Err(_) => return document,
            }
        }
    }

    /// Reads what a service says that speaks AWS JSON: `{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"…"}`.
    /// Where the document does not tell, the header `x-amzn-query-error` may: `CODE;Sender`.
    ///
    /// Source: Smithy, "AWS JSON 1.0 protocol", operation error serialization; "AWS Query Compatible".
    pub(super) fn of_json(headers: &HeaderMap, body: &[u8]) -> ErrorDocument {
        let mut document = ErrorDocument::default();
        let mut buffer = Vec::new();
        for (name, value) in members(body).into_iter().flatten().flatten() {
            let Some(raw) = string(value) else { continue };
            let text = unescape(raw, &mut buffer).map(String::from_utf8_lossy).unwrap_or_default();
            match name {
                b"__type" | b"code" | b"Code" => {
                    document.code =
                        clip(text.rsplit('#').next().unwrap_or(&text).split(':').next().unwrap_or(&text));
                }
                b"message" | b"Message" => document.message = clip(&text),
                _ => {}
            }
        }
        let header = headers.get("x-amzn-query-error").and_then(|value| value.to_str().ok());
        if let (true, Some(header)) = (document.code.is_empty(), header) {
            document.code = clip(header.split(';').next().unwrap_or(header));
        }
        document
    }

    pub(super) fn code(&self) -> &str {
        &self.code
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// Status, code and message, for the end of a fault's text.
    pub(super) fn said(&self, status: StatusCode) -> String {
        match (self.code(), self.message()) {
            ("", _) => format!("HTTP {}", status.as_u16()),
            (code, "") => format!("HTTP {} {code}", status.as_u16()),
            (code, message) => format!("HTTP {} {code}: {message}", status.as_u16()),
        }
    }

    pub(super) fn set(&mut self, tag: Tag, text: &str) {
        match tag {
            Tag::Code => self.code = clip(text),
            Tag::Message => self.message = clip(text),
            Tag::Region => self.region = clip(text),
            Tag::Endpoint => self.endpoint = clip(text),
            _ => {}
        }
    }
}

/// Remote text for a log line.
fn clip(text: &str) -> Box<str> {
    const CHARACTERS: usize = 300;
    let clean = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c });
    clean.take(CHARACTERS).collect::<String>().into()
}

#[cfg(test)]
mod tests;
