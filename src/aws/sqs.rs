//! SQS of one source: receive messages, hide them for a while, delete them, and ask how the queue is set up. Requests are AWS JSON, POSTed to the host that the queue's URL names;
//! they carry that URL, so that a queue may belong to another account. Each is signed with the server's time once that is
//! known to differ, and sent once more when its keys turn out to have expired.
//!
//! Source: Amazon SQS API Reference ("Actions", "Common Errors"); Amazon SQS Developer Guide, "Making requests to Amazon
//! SQS using the AWS JSON protocol".

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};

use super::control::{About, Answer, Service};
use super::credentials::{Keys, Provider, Refusal};
use super::fault::{Class, ErrorDocument, Fault, looks_like_html, of_any_service};
use super::sigv4::Scope;
use crate::config::Queue;
use crate::decode::members::{Misshapen, elements, members, string};
use crate::decode::text::unescape;
use crate::{limits, net};

const TARGET: header::HeaderName = header::HeaderName::from_static("x-amz-target");

/// One queue, as one source reaches it. A clone shares connections and the learnt clock offset.
#[derive(Debug, Clone)]
pub struct Sqs(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    queue: Queue,
    service: Service,
    provider: Provider,
}

/// What is asked of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Attributes,
    Receive,
    Delete,
    Hide,
}

impl Action {
    /// Value of `x-amz-target`.
    fn target(self) -> &'static str {
        match self {
            Action::Attributes => "AmazonSQS.GetQueueAttributes",
            Action::Receive => "AmazonSQS.ReceiveMessage",
            Action::Delete => "AmazonSQS.DeleteMessageBatch",
            Action::Hide => "AmazonSQS.ChangeMessageVisibilityBatch",
        }
    }

    /// As policies name it.
    fn permission(self) -> &'static str {
        match self {
            Action::Attributes => "sqs:GetQueueAttributes",
            Action::Receive => "sqs:ReceiveMessage",
            Action::Delete => "sqs:DeleteMessage",
            Action::Hide => "sqs:ChangeMessageVisibility",
        }
    }
}

/// How a queue is set up, and what is in it. What the server does not say is `None`.
///
/// Source: SQS API Reference, "GetQueueAttributes".
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Attributes {
    /// About as many messages wait...
    pub waiting: Option<u64>,
    /// ...are received and not deleted...
    pub in_flight: Option<u64>,
    /// ...or are held back at first.
    pub delayed: Option<u64>,
    /// How long a received message stays hidden.
    pub visibility: Option<Duration>,
    /// How long a message is kept.
    pub retention: Option<Duration>,
    /// How long a new message is held back.
    pub delay: Option<Duration>,
    /// The dead-letter queue's ARN, and after how many receipts a message goes there.
    pub redrive: Option<(Box<str>, u32)>,
    /// Names a KMS key.
    pub kms_key: Option<Box<str>>,
    /// Messages have an order.
    pub fifo: bool,
    /// Whoever sends: the queue's policy. Not empty if there is one.
    pub has_policy: bool,
}

/// A message as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The same whenever it is received.
    pub id: Box<str>,
    /// To delete or to hide it by: of this receipt alone.
    pub receipt: Box<str>,
    /// About how many times it was received, this time included.
    pub receives: u32,
    /// Its text.
    pub body: Vec<u8>,
}

/// Messages in one request. Source: SQS API Reference, "ReceiveMessage", "DeleteMessageBatch".
pub const BATCH: usize = 10;

impl Sqs {
    /// The queue of a source, reached over `client` (made with the source's `ca_file` and proxies).
    pub fn new(queue: &Queue, client: net::Client, provider: Provider) -> Sqs {
        let scope = Scope::new("sqs", &queue.region);
        let service = Service::new(queue.endpoint.clone(), scope, client, limits::SQS_ANSWER_BYTES);
        Sqs(Arc::new(Inner { queue: queue.clone(), service, provider }))
    }

    /// Which queue it is.
    pub fn queue(&self) -> &Queue {
        &self.0.queue
    }

    /// Asks how the queue is set up.
    ///
    /// # Errors
    /// Texts name the queue and the fix.
    pub async fn attributes(&self) -> Result<Attributes, Fault> {
        let body = self.body(",\"AttributeNames\":[\"All\"]");
        let answer = self.0.ask(Action::Attributes, body).await?;
        read_attributes(&answer.body).map_err(|_| self.0.on(Action::Attributes).bad_answer())
    }

    /// Receives up to `most` messages (at most [`BATCH`]), waiting up to `wait` (at most 20 s) for the first, and hides
    /// them for `hidden`.
    ///
    /// Cancelling it may leave messages hidden that nobody knows of; they come again after that time.
    ///
    /// # Errors
    /// Messages may have been received and stay hidden.
    pub async fn receive(
        &self,
        most: usize,
        wait: Duration,
        hidden: Duration,
    ) -> Result<Vec<Message>, Fault> {
        let body = self.body(&format!(
            ",\"MaxNumberOfMessages\":{},\"WaitTimeSeconds\":{},\"VisibilityTimeout\":{},\"AttributeNames\":[\"ApproximateReceiveCount\"]",
            most.clamp(1, BATCH),
            wait.as_secs(),
            hidden.as_secs()
        ));
        let answer = self.0.ask(Action::Receive, body).await?;
        read_messages(&answer.body).map_err(|_| self.0.on(Action::Receive).bad_answer())
    }

    /// Deletes up to [`BATCH`] messages; what became of each. [`Class::Gone`]: its receipt is out of date, so it comes
    /// again unless somebody else deletes it.
    ///
    /// # Errors
    /// Nothing is known of any of them.
    pub async fn delete(&self, receipts: &[Box<str>]) -> Result<Vec<Result<(), Fault>>, Fault> {
        self.batch(Action::Delete, receipts, "").await
    }

    /// Hides up to [`BATCH`] messages for this time from now on; what became of each.
    ///
    /// # Errors
    /// As [`Sqs::delete`].
    pub async fn hide(&self, receipts: &[Box<str>], time: Duration) -> Result<Vec<Result<(), Fault>>, Fault> {
        self.batch(Action::Hide, receipts, &format!(",\"VisibilityTimeout\":{}", time.as_secs())).await
    }

    async fn batch(
        &self,
        action: Action,
        receipts: &[Box<str>],
        more: &str,
    ) -> Result<Vec<Result<(), Fault>>, Fault> {
        let entries: Vec<String> = receipts
            .iter()
            .enumerate()
            .map(|(id, receipt)| format!("{{\"Id\":\"{id}\",\"ReceiptHandle\":\"{receipt}\"{more}}}"))
            .collect();
        let body = self.body(&format!(",\"Entries\":[{}]", entries.join(",")));
        let answer = self.0.ask(action, body).await?;
        let on = self.0.on(action);
        on.outcomes(&answer, receipts.len()).map_err(|_| on.bad_answer())
    }

    /// A request's document: `more` follows the queue's URL.
    fn body(&self, more: &str) -> Bytes {
        // A URL as the configuration takes it has nothing to be escaped.
        format!("{{\"QueueUrl\":\"{}\"{more}}}", self.0.queue.url).into()
    }
}

impl Inner {
    fn on(&self, action: Action) -> On<'_> {
        On { inner: self, action }
    }

    /// Sends a request, once more with newer keys if these have expired or are not known.
    async fn ask(&self, action: Action, body: Bytes) -> Result<Answer, Fault> {
        let keys = self.provider.keys().await?;
        match self.post(action, &body, &keys).await {
            Err(fault) if let Some(why) = Refusal::of(&fault) => {
                self.provider.refused(&keys, why);
                match self.provider.keys().await? {
                    newer if newer == keys => Err(fault), // keys that are not renewed: an operator has to
                    newer => self.post(action, &body, &newer).await,
                }
            }
            answer => answer,
        }
    }

    async fn post(&self, action: Action, body: &Bytes, keys: &Keys) -> Result<Answer, Fault> {
        let headers = [(header::CONTENT_TYPE, "application/x-amz-json-1.0"), (TARGET, action.target())];
        self.service.post(&self.on(action), &headers, body.clone(), keys).await
    }
}

/// What a request is about.
struct On<'a> {
    inner: &'a Inner,
    action: Action,
}

impl fmt::Display for On<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = &self.inner.queue.url;
        match self.action {
            Action::Attributes => write!(f, "asking how queue {url} is set up"),
            Action::Receive => write!(f, "receiving messages from queue {url}"),
            Action::Delete => write!(f, "deleting messages of queue {url}"),
            Action::Hide => write!(f, "changing how long messages of queue {url} stay hidden"),
        }
    }
}

impl About for On<'_> {
    fn refused(&self, answer: &Answer) -> Fault {
        let mut document = ErrorDocument::of_json(&answer.headers, &answer.body);
        if document.code().is_empty() {
            document = ErrorDocument::parse(&answer.body); // what stands in between may speak XML
        }
        let html = document.code().is_empty() && looks_like_html(&answer.headers, &answer.body);
        let row = self.classify(answer.status, answer.date, &document, html);
        answer.fault(self, row, &document.said(answer.status))
    }
}

impl On<'_> {
    /// `{"Successful":[{"Id":"0"}],"Failed":[{"Id":"1","SenderFault":true,"Code":"…","Message":"…"}]}`
    fn outcomes(&self, answer: &Answer, count: usize) -> Result<Vec<Result<(), Fault>>, Misshapen> {
        let unsaid = || Err(self.bad_answer());
        let mut outcomes: Vec<Result<(), Fault>> = (0..count).map(|_| unsaid()).collect();
        for member in members(&answer.body)? {
            let (name, value) = member?;
            let failed = match name {
                b"Successful" => false,
                b"Failed" => true,
                _ => continue,
            };
            for entry in elements(value)? {
                let (mut id, mut sender) = (None, false);
                let entry = entry?;
                for member in members(entry)? {
                    match member? {
                        (b"Id", value) => {
                            id = string(value).and_then(|id| std::str::from_utf8(id).ok()?.parse().ok())
                        }
                        (b"SenderFault", value) => sender = value == b"true",
                        _ => {}
                    }
                }
                let outcome = outcomes.get_mut(id.unwrap_or(count)).ok_or(Misshapen)?;
                *outcome = match failed {
                    false => Ok(()),
                    true => Err(self.failed_entry(answer, entry, sender)),
                };
            }
        }
        Ok(outcomes)
    }

    fn failed_entry(&self, answer: &Answer, entry: &[u8], sender: bool) -> Fault {
        let document = ErrorDocument::of_json(&HeaderMap::new(), entry);
        let status = if sender { StatusCode::BAD_REQUEST } else { StatusCode::INTERNAL_SERVER_ERROR };
        let row = self.classify(status, answer.date, &document, false);
        answer.fault(self, row, &document.said(status))
    }

    fn bad_answer(&self) -> Fault {
        let host = self.inner.service.host();
        let why = format!(
            "the answer of {host} is not that of SQS: does a proxy change it, or does `queue_url` name another server?"
        );
        Fault::new(Class::Retry, "bad-answer", format!("{self}: {why}"))
    }

    /// The table: class, metric label and advice.
    fn classify(
        &self,
        status: StatusCode,
        date: SystemTime,
        document: &ErrorDocument,
        html: bool,
    ) -> (Class, &'static str, String) {
        let Queue { region, account, name, .. } = &self.inner.queue;
        let (host, status, permission) =
            (self.inner.service.host(), status.as_u16(), self.action.permission());
        let code = document.code().strip_prefix("AWS.SimpleQueueService.").unwrap_or(document.code());
        let scoped = document.message().contains("scoped to a valid region");
        match (code, status) {
            (_, ..500) if html => (
                Class::Config,
                "not-sqs",
                format!(
                    "{host} answers with a web page, not as SQS does: check the host of `queue_url`, and whether a proxy or \
                     captive portal stands in between"
                ),
            ),
            ("NonExistentQueue" | "QueueDoesNotExist" | "QueueDeletedRecently" | "InvalidAddress", _) => (
                Class::Config,
                "no-queue",
                format!(
                    "there is no queue {name} of account {account} in region {region}, or these credentials may not know of \
                     it: check `queue_url`; `aws sqs get-queue-url --queue-name {name} --queue-owner-aws-account-id \
                     {account} --region {region}` prints it"
                ),
            ),
            ("OverLimit", _) => (
                Class::Retry,
                "over-limit",
                "too many messages of the queue are received and not deleted (120,000, or 20,000 of a FIFO queue): what \
                 else reads from it, and does that delete?"
                    .into(),
            ),
            ("ReceiptHandleIsInvalid" | "MessageNotInflight", _) => gone(),
            ("InvalidParameterValue" | "InvalidParameterValueException", _)
                if document.message().contains("receipt handle") || document.message().contains("ReceiptHandle") =>
            {
                gone()
            }
            (code, _) if is_of_the_key(code, document.message()) => (
                Class::Denied,
                "kms-denied",
                format!(
                    "the KMS key that encrypts the queue may not be used, or is disabled: allow kms:Decrypt on that key in \
                     the IAM policy and, if it is another account's, in the key's own ({permission})"
                ),
            ),
            _ if scoped => (
                Class::Config,
                "wrong-region",
                format!(
                    "the request was signed for region {region}, but {host} serves another one: write `queue_url` with the \
                     queue's own region in it"
                ),
            ),
            ("AccessDenied" | "AccessDeniedException" | "InvalidSecurity", _) if !says_clock(document) => (
                Class::Denied,
                "queue-denied",
                format!(
                    "it is not allowed: allow {permission} on {} in the IAM policy and, if the queue is another account's, \
                     in the queue's own (`trailspool policy` prints both)",
                    self.inner.queue.arn()
                ),
            ),
            _ => of_any_service(status, document, Some(date)).unwrap_or_else(|| match (code, status) {
                ("", 401 | 403) => (
                    Class::Denied,
                    "queue-denied",
                    format!("{host} refuses the request without saying why: does something stand in between?"),
                ),
                (_, 407) => (
                    Class::Config,
                    "proxy-auth",
                    "a proxy on the way asks for credentials: let this host pass without it".into(),
                ),
                ("" | "UnknownOperationException" | "InvalidAction" | "UnsupportedOperation", _) => (
                    Class::Config,
                    "not-sqs",
                    format!("{host} does not serve SQS by AWS JSON: check `queue_url`"),
                ),
                _ => (Class::Config, "refused", "SQS refuses the request: check `queue_url`".into()),
            }),
        }
    }
}

fn gone() -> (Class, &'static str, String) {
    let why = "the message is not in flight any more: its time was up, or it was deleted";
    (Class::Gone, "gone", why.into())
}

/// The request was taken, but not what encrypts the queue. Throttling is not meant.
fn is_of_the_key(code: &str, message: &str) -> bool {
    let kms = code.strip_prefix("KMS.").or_else(|| code.strip_prefix("Kms"));
    match kms {
        Some(what) => !what.starts_with("Throttl"),
        None => code.starts_with("AccessDenied") && message.contains("kms:"),
    }
}

fn says_clock(document: &ErrorDocument) -> bool {
    let message = document.message();
    message.contains("Signature expired") || message.contains("Signature not yet current")
}

/// `{"Attributes":{"NAME":"VALUE",…}}`; no `Attributes` when none is set.
fn read_attributes(body: &[u8]) -> Result<Attributes, Misshapen> {
    let mut attributes = Attributes::default();
    let mut buffer = Vec::new();
    for member in members(body)? {
        let (b"Attributes", value) = member? else { continue };
        for member in members(value)? {
            let (name, value) = member?;
            let raw = string(value).ok_or(Misshapen)?;
            let text = unescape(raw, &mut buffer).map_err(|_| Misshapen)?;
            attributes.set(name, std::str::from_utf8(text).map_err(|_| Misshapen)?);
        }
    }
    Ok(attributes)
}

impl Attributes {
    fn set(&mut self, name: &[u8], text: &str) {
        let seconds = || text.parse().ok().map(Duration::from_secs);
        match name {
            b"ApproximateNumberOfMessages" => self.waiting = text.parse().ok(),
            b"ApproximateNumberOfMessagesNotVisible" => self.in_flight = text.parse().ok(),
            b"ApproximateNumberOfMessagesDelayed" => self.delayed = text.parse().ok(),
            b"VisibilityTimeout" => self.visibility = seconds(),
            b"MessageRetentionPeriod" => self.retention = seconds(),
            b"DelaySeconds" => self.delay = seconds(),
            b"RedrivePolicy" => self.redrive = redrive(text.as_bytes()),
            b"KmsMasterKeyId" => self.kms_key = (!text.is_empty()).then(|| clipped(text)),
            b"FifoQueue" => self.fifo = text == "true",
            b"Policy" => self.has_policy = !text.is_empty(),
            _ => {}
        }
    }
}

/// `{"Messages":[{"MessageId":…,"ReceiptHandle":…,"Body":…,"Attributes":{"ApproximateReceiveCount":…}}]}`; no `Messages`
/// when there are none.
fn read_messages(body: &[u8]) -> Result<Vec<Message>, Misshapen> {
    let mut messages = Vec::new();
    for member in members(body)? {
        let (b"Messages", value) = member? else { continue };
        if value == b"null" {
            continue;
        }
        for message in elements(value)? {
            if messages.len() == BATCH {
                return Err(Misshapen);
            }
            messages.push(read_message(message?)?);
        }
    }
    Ok(messages)
}

fn read_message(message: &[u8]) -> Result<Message, Misshapen> {
    let (mut id, mut receipt, mut receives, mut body) = (None, None, 1, None);
    let mut buffer = Vec::new();
    for member in members(message)? {
        let (name, value) = member?;
        let mut text = || {
            unescape(string(value).ok_or(Misshapen)?, &mut buffer).map(<[u8]>::to_vec).map_err(|_| Misshapen)
        };
        match name {
            b"MessageId" => id = Some(word(text()?)?),
            b"ReceiptHandle" => receipt = Some(word(text()?)?),
            b"Body" => body = Some(text()?),
            b"Attributes" => {
                for member in members(value)? {
                    if let (b"ApproximateReceiveCount", value) = member? {
                        let count =
                            string(value).and_then(|count| std::str::from_utf8(count).ok()?.parse().ok());
                        receives = count.ok_or(Misshapen)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(Message {
        id: id.ok_or(Misshapen)?,
        receipt: receipt.ok_or(Misshapen)?,
        receives,
        body: body.ok_or(Misshapen)?,
    })
}

/// What goes back into a request, where it needs no escape. Source: SQS Developer Guide, "Queue and message identifiers"
/// (receipt handles have up to 1,024 characters).
fn word(text: Vec<u8>) -> Result<Box<str>, Misshapen> {
    let plain = |byte: &u8| byte.is_ascii_graphic() && !b"\"\\".contains(byte);
    match (1..=2048).contains(&text.len()) && text.iter().all(plain) {
        true => String::from_utf8(text).map(Into::into).map_err(|_| Misshapen),
        false => Err(Misshapen),
    }
}

/// `{"deadLetterTargetArn":"arn:…","maxReceiveCount":"10"}`, the number with quotes or without.
fn redrive(text: &[u8]) -> Option<(Box<str>, u32)> {
    let (mut to, mut after) = (None, None);
    for member in members(text).ok()? {
        let (name, value) = member.ok()?;
        let text = std::str::from_utf8(string(value).unwrap_or(value)).ok()?;
        match name {
            b"deadLetterTargetArn" => to = Some(clipped(text)),
            b"maxReceiveCount" => after = text.parse().ok(),
            _ => {}
        }
    }
    Some((to?, after?))
}

/// Remote text for a finding.
fn clipped(text: &str) -> Box<str> {
    super::control::clip(text).into()
}

#[cfg(test)]
mod tests;
