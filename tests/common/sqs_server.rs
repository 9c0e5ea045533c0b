//! The part of SQS that a collector sees (ReceiveMessage, DeleteMessageBatch, ChangeMessageVisibilityBatch,
//! GetQueueAttributes by AWS JSON), with one queue and faults by seeded chance: refused requests, entries of a batch that
//! fail, receipts that are out of date, messages that come twice.
//!
//! Sources: Amazon SQS API Reference, those actions; Developer Guide, "At-least-once delivery". Signatures are not
//! verified, but every request must be signed with the configured access key for the configured region.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use http::StatusCode;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::{Request, Response};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::http_script::{Reply, Script, Server, serve};
use super::s3_server::{REGION, is_signed};

/// Chances of each fault, 0 to 1.
#[derive(Debug, Clone, Default)]
pub struct SqsFaults {
    pub seed: u64,
    /// Any request: 503.
    pub unavailable: f64,
    /// Any request: the connection is reset.
    pub reset: f64,
    /// An entry of a batch fails for the moment.
    pub entry: f64,
    /// A received message stays visible: it comes again although it is in work.
    pub twice: f64,
}

impl SqsFaults {
    /// A bad day.
    pub fn rough(seed: u64) -> SqsFaults {
        SqsFaults { seed, unavailable: 0.05, reset: 0.05, entry: 0.2, twice: 0.2 }
    }
}

/// What happened so far.
#[derive(Debug, Clone, Default)]
pub struct SqsStats {
    /// Requests by action, failed ones as well.
    pub requests: BTreeMap<String, u64>,
    /// Messages received, each time it was.
    pub received: u64,
    /// Messages whose hiding time was set, by body, with the seconds.
    pub visibilities: Vec<(String, u64)>,
    /// Bodies that were deleted, in order.
    pub deleted: Vec<String>,
    /// Requests that were not as they must be.
    pub refused: Vec<String>,
}

/// A running server with one queue.
pub struct SqsServer {
    server: Server,
    shared: Arc<Mutex<State>>,
}

struct Message {
    body: String,
    visible_at: Instant,
    receipt: Option<String>,
    receives: u64,
}

struct State {
    messages: BTreeMap<u64, Message>,
    next: u64,
    attributes: Value,
    deny: Option<(&'static str, &'static str)>,
    faults: SqsFaults,
    rng: Rng,
    stats: SqsStats,
}

/// The queue's name.
pub const QUEUE: &str = "trail-queue";
/// Its account, which is not the bucket's.
pub const QUEUE_ACCOUNT: &str = "444455556666";

impl SqsServer {
    /// Serves an empty queue.
    pub fn start(faults: SqsFaults) -> SqsServer {
        let state = State {
            messages: BTreeMap::new(),
            next: 0,
            attributes: json!({
                "VisibilityTimeout": "120", "MessageRetentionPeriod": "1209600", "DelaySeconds": "0",
                "Policy": "{\"Version\":\"2012-10-17\"}",
            }),
            deny: None,
            rng: Rng::with_seed(faults.seed),
            faults,
            stats: SqsStats::default(),
        };
        let shared = Arc::new(Mutex::new(state));
        let state = shared.clone();
        let server = serve(move |request| {
            let state = state.clone();
            async move { answer(&state, request).await }
        });
        SqsServer { server, shared }
    }

    /// `queue_url`
    pub fn url(&self) -> String {
        format!("http://{}/{QUEUE_ACCOUNT}/{QUEUE}", self.server.address)
    }

    /// Puts a message into the queue.
    pub fn send(&self, body: impl Into<String>) {
        let mut state = self.lock();
        let id = state.next;
        state.next += 1;
        let message = Message { body: body.into(), visible_at: Instant::now(), receipt: None, receives: 0 };
        state.messages.insert(id, message);
    }

    /// Every request is refused: error code and message.
    pub fn deny(&self, code: &'static str, message: &'static str) {
        self.lock().deny = Some((code, message));
    }

    /// Requests are answered again.
    pub fn allow(&self) {
        self.lock().deny = None;
    }

    /// Sets an attribute of the queue.
    pub fn set(&self, attribute: &str, value: &str) {
        self.lock().attributes[attribute] = value.into();
    }

    /// Every receipt given so far is out of date, and the messages are there again.
    pub fn expire_receipts(&self) {
        for message in self.lock().messages.values_mut() {
            message.receipt = None;
            message.visible_at = Instant::now();
        }
    }

    /// Every message was received this many times already.
    pub fn received_before(&self, receives: u64) {
        self.lock().messages.values_mut().for_each(|message| message.receives = receives);
    }

    /// Messages that are not deleted.
    pub fn left(&self) -> usize {
        self.lock().messages.len()
    }

    /// Messages that could be received now.
    pub fn visible(&self) -> usize {
        let now = Instant::now();
        self.lock().messages.values().filter(|message| message.visible_at <= now).count()
    }

    pub fn set_faults(&self, faults: SqsFaults) {
        let mut state = self.lock();
        state.rng = Rng::with_seed(faults.seed);
        state.faults = faults;
    }

    pub fn stats(&self) -> SqsStats {
        self.lock().stats.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock().expect("no panic under the lock")
    }
}

async fn answer(shared: &Mutex<State>, request: Request<Incoming>) -> Reply {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let target = head.headers.get("x-amz-target").and_then(|value| value.to_str().ok()).unwrap_or("");
    let action = target.strip_prefix("AmazonSQS.").unwrap_or("").to_owned();
    let lock = || shared.lock().expect("no panic under the lock");
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    {
        let mut state = lock();
        *state.stats.requests.entry(action.clone()).or_default() += 1;
        let right =
            asked["QueueUrl"].as_str().is_some_and(|url| url.ends_with(&format!("/{QUEUE_ACCOUNT}/{QUEUE}")));
        let typed =
            head.headers.get("content-type").is_some_and(|value| value == "application/x-amz-json-1.0");
        if head.method != "POST"
            || head.uri.path() != "/"
            || !typed
            || !is_signed(&head.headers, "sqs", REGION)
        {
            state.stats.refused.push(format!("{} {} {:?}", head.method, head.uri, head.headers));
            return refuse("AccessDeniedException", "the request is not as it must be");
        }
        if !right {
            return refuse("QueueDoesNotExist", "The specified queue does not exist.");
        }
        if let Some((code, message)) = state.deny {
            return refuse(code, message);
        }
        if state.chance(|faults| faults.unavailable) {
            return reply(
                StatusCode::SERVICE_UNAVAILABLE,
                &json!({"__type": "com.amazonaws.sqs#ServiceUnavailable"}),
            );
        }
        if state.chance(|faults| faults.reset) {
            return Reply::Reset;
        }
    }
    match action.as_str() {
        "GetQueueAttributes" => reply(StatusCode::OK, &json!({"Attributes": lock().attributes()})),
        "ReceiveMessage" => {
            // A long poll of the real SQS has 20 s; here a short one, so that tests are.
            let patience = if asked["WaitTimeSeconds"].as_u64().unwrap_or(0) > 0 { 300 } else { 0 };
            let until = Instant::now() + Duration::from_millis(patience);
            loop {
                let messages = lock().receive(&asked);
                if !messages.is_empty() || Instant::now() >= until {
                    let answer = if messages.is_empty() { json!({}) } else { json!({"Messages": messages}) };
                    return reply(StatusCode::OK, &answer);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        "DeleteMessageBatch" => lock().batch(&asked, State::delete),
        "ChangeMessageVisibilityBatch" => lock().batch(&asked, State::hide),
        _ => {
            lock().stats.refused.push(format!("action {action:?}"));
            refuse("UnknownOperationException", "")
        }
    }
}

impl State {
    fn chance(&mut self, of: impl Fn(&SqsFaults) -> f64) -> bool {
        let chance = of(&self.faults);
        chance > 0.0 && self.rng.f64() < chance
    }

    fn attributes(&self) -> Value {
        let now = Instant::now();
        let waiting = self.messages.values().filter(|message| message.visible_at <= now).count();
        let mut attributes = self.attributes.clone();
        attributes["ApproximateNumberOfMessages"] = waiting.to_string().into();
        attributes["ApproximateNumberOfMessagesNotVisible"] =
            (self.messages.len() - waiting).to_string().into();
        attributes["ApproximateNumberOfMessagesDelayed"] = "0".into();
        attributes
    }

    fn receive(&mut self, asked: &Value) -> Vec<Value> {
        let now = Instant::now();
        let most = asked["MaxNumberOfMessages"].as_u64().unwrap_or(1) as usize;
        let hidden = Duration::from_secs(asked["VisibilityTimeout"].as_u64().unwrap_or(30));
        let ids: Vec<u64> = self
            .messages
            .iter()
            .filter(|(_, message)| message.visible_at <= now)
            .map(|(id, _)| *id)
            .take(most)
            .collect();
        ids.into_iter()
            .map(|id| {
                let twice = self.chance(|faults| faults.twice);
                let receipt = format!("{id}-{}", self.rng.u64(..));
                let message = self.messages.get_mut(&id).expect("a message");
                message.receives += 1;
                message.receipt = Some(receipt.clone());
                if !twice {
                    message.visible_at = now + hidden;
                }
                let (body, receives) = (message.body.clone(), message.receives.to_string());
                self.stats.received += 1;
                json!({
                    "MessageId": format!("message-{id}"), "ReceiptHandle": receipt, "Body": body, "MD5OfBody": "0",
                    "Attributes": {"ApproximateReceiveCount": receives},
                })
            })
            .collect()
    }

    fn batch(&mut self, asked: &Value, each: fn(&mut State, u64, &Value)) -> Reply {
        let (mut successful, mut failed) = (Vec::new(), Vec::new());
        for entry in asked["Entries"].as_array().into_iter().flatten() {
            let receipt = entry["ReceiptHandle"].as_str().unwrap_or("");
            // A receipt stands for the message until another one is given.
            let found =
                self.messages.iter().find(|(_, m)| m.receipt.as_deref() == Some(receipt)).map(|(id, _)| *id);
            match found {
                _ if self.chance(|faults| faults.entry) => {
                    failed.push(json!({"Id": entry["Id"], "SenderFault": false, "Code": "InternalError"}));
                }
                Some(id) => {
                    each(self, id, entry);
                    successful.push(json!({"Id": entry["Id"]}));
                }
                None => failed
                    .push(json!({"Id": entry["Id"], "SenderFault": true, "Code": "ReceiptHandleIsInvalid"})),
            }
        }
        reply(StatusCode::OK, &json!({"Successful": successful, "Failed": failed}))
    }

    fn delete(&mut self, id: u64, _: &Value) {
        let message = self.messages.remove(&id).expect("a message");
        self.stats.deleted.push(message.body);
    }

    fn hide(&mut self, id: u64, entry: &Value) {
        let seconds = entry["VisibilityTimeout"].as_u64().expect("a number");
        let message = self.messages.get_mut(&id).expect("a message");
        message.visible_at = Instant::now() + Duration::from_secs(seconds);
        self.stats.visibilities.push((message.body.clone(), seconds));
    }
}

fn refuse(code: &str, message: &str) -> Reply {
    reply(
        StatusCode::BAD_REQUEST,
        &json!({"__type": format!("com.amazonaws.sqs#{code}"), "message": message}),
    )
}

fn reply(status: StatusCode, body: &Value) -> Reply {
    let answer = Response::builder().status(status).header("content-type", "application/x-amz-json-1.0");
    Reply::Answer(answer.body(Script::whole(Bytes::from(body.to_string()))).expect("a valid answer"))
}
