//! A receiver of newline-delimited JSON over HTTP that refuses, stalls and breaks off by seeded chance, and
//! remembers every line: whether it was acknowledged or had only been seen before the connection broke.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Request, Response};

use super::http_script::{Reply, Script, Server, serve};

/// Chances of each misbehaviour, 0 to 1, drawn per request, and fixed refusals.
#[derive(Debug, Clone, Default)]
pub struct Moods {
    pub seed: u64,
    /// 503, half of them with Retry-After.
    pub unavailable: f64,
    /// 429.
    pub too_many: f64,
    /// 500.
    pub error: f64,
    /// Reset before the body is read.
    pub reset: f64,
    /// Everything is taken in, then the connection is reset instead of the answer: the sender must send again.
    pub reset_after_reading: f64,
    /// The answer comes late.
    pub slow: f64,
    /// Bodies longer than this get 413.
    pub max_bytes: Option<usize>,
    /// A body with these bytes in it gets 400.
    pub poison: Option<&'static [u8]>,
    /// Everything gets 503.
    pub down: bool,
}

impl Moods {
    /// A bad day: about one request in five fails.
    pub fn rough(seed: u64) -> Moods {
        Moods {
            seed,
            unavailable: 0.05,
            too_many: 0.03,
            error: 0.03,
            reset: 0.03,
            reset_after_reading: 0.05,
            slow: 0.05,
            ..Moods::default()
        }
    }
}

/// What arrived so far.
#[derive(Debug, Clone, Default)]
pub struct Received {
    /// Lines of acknowledged requests, and how often each came in one.
    pub acknowledged: HashMap<Bytes, u64>,
    /// Lines that were read, but whose request was never answered.
    pub unanswered: HashMap<Bytes, u64>,
    pub requests: u64,
    /// Refusals and breaks by kind.
    pub injected: BTreeMap<&'static str, u64>,
    /// Requests that no sender should send.
    pub wrong: Vec<String>,
    /// `Authorization` of the latest request.
    pub authorization: Option<String>,
}

impl Received {
    /// Lines of acknowledged requests, repeated ones as often as they came.
    pub fn lines(&self) -> u64 {
        self.acknowledged.values().sum()
    }
    /// Refusals and breaks of all kinds.
    pub fn faults(&self) -> u64 {
        self.injected.values().sum()
    }
}

/// A running receiver.
pub struct Receiver {
    server: Server,
    shared: Arc<Mutex<State>>,
}

struct State {
    moods: Moods,
    rng: Rng,
    received: Received,
}

impl Receiver {
    /// Starts one on a free port.
    pub fn start(moods: Moods) -> Receiver {
        let rng = Rng::with_seed(moods.seed);
        let shared = Arc::new(Mutex::new(State { moods, rng, received: Received::default() }));
        let state = shared.clone();
        let server = serve(move |request| {
            let state = state.clone();
            async move { answer(&state, request).await }
        });
        Receiver { server, shared }
    }

    /// Where to POST.
    pub fn url(&self) -> String {
        format!("http://{}/ingest?index=cloudtrail", self.server.address)
    }

    /// Changes how it behaves while running.
    pub fn set_moods(&self, moods: Moods) {
        self.lock().moods = moods;
    }

    /// What arrived so far.
    pub fn received(&self) -> Received {
        self.lock().received.clone()
    }

    /// Number of different lines acknowledged so far.
    pub fn distinct(&self) -> usize {
        self.lock().received.acknowledged.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.lock().expect("no panic under the lock")
    }
}

async fn answer(shared: &Mutex<State>, request: Request<Incoming>) -> Reply {
    let lock = || shared.lock().expect("no panic under the lock");
    {
        let mut state = lock();
        state.received.requests += 1;
        let authorization = request.headers().get("authorization").and_then(|v| v.to_str().ok());
        state.received.authorization = authorization.map(str::to_owned);
        if request.method() != http::Method::POST {
            let text = format!("{} {}", request.method(), request.uri());
            state.received.wrong.push(text);
            return plain(StatusCode::METHOD_NOT_ALLOWED, None);
        }
        if state.moods.down {
            return plain(StatusCode::SERVICE_UNAVAILABLE, None);
        }
        let Moods { reset, .. } = state.moods;
        if state.chance("reset", reset) {
            return Reply::Reset;
        }
    }
    // A request that breaks off, because its sender was killed, has not arrived.
    let Ok(body) = request.into_body().collect().await else { return Reply::Reset };
    let body = body.to_bytes();
    let (reply, pause) = lock().judge(&body);
    if let Some(pause) = pause {
        tokio::time::sleep(pause).await;
    }
    reply
}

impl State {
    fn judge(&mut self, body: &Bytes) -> (Reply, Option<Duration>) {
        let moods = self.moods.clone();
        if moods.max_bytes.is_some_and(|bound| body.len() > bound) {
            *self.received.injected.entry("413").or_default() += 1;
            return (plain(StatusCode::PAYLOAD_TOO_LARGE, None), None);
        }
        if moods.poison.is_some_and(|poison| memchr::memmem::find(body, poison).is_some()) {
            *self.received.injected.entry("400").or_default() += 1;
            return (plain(StatusCode::BAD_REQUEST, None), None);
        }
        if self.chance("503", moods.unavailable) {
            let retry_after = self.rng.bool().then_some("0");
            return (plain(StatusCode::SERVICE_UNAVAILABLE, retry_after), None);
        }
        if self.chance("429", moods.too_many) {
            return (plain(StatusCode::TOO_MANY_REQUESTS, Some("0")), None);
        }
        if self.chance("500", moods.error) {
            return (plain(StatusCode::INTERNAL_SERVER_ERROR, None), None);
        }
        let lines = lines(body);
        if lines.is_empty() || !body.ends_with(b"\n") {
            self.received
                .wrong
                .push(format!("a batch of {} bytes that does not end with a line", body.len()));
        }
        if self.chance("reset after reading", moods.reset_after_reading) {
            lines.into_iter().for_each(|line| *self.received.unanswered.entry(line).or_default() += 1);
            return (Reply::Reset, None);
        }
        let pause = self.chance("slow", moods.slow).then_some(Duration::from_millis(30));
        lines.into_iter().for_each(|line| *self.received.acknowledged.entry(line).or_default() += 1);
        (plain(StatusCode::OK, None), pause)
    }

    fn chance(&mut self, kind: &'static str, probability: f64) -> bool {
        let hit = probability > 0.0 && self.rng.f64() < probability;
        if hit {
            *self.received.injected.entry(kind).or_default() += 1;
        }
        hit
    }
}

fn plain(status: StatusCode, retry_after: Option<&'static str>) -> Reply {
    let mut answer = Response::builder().status(status);
    if let Some(seconds) = retry_after {
        answer = answer.header("retry-after", seconds);
    }
    Reply::Answer(answer.body(Script::whole("{}")).expect("a valid answer"))
}

/// The lines of a text, without their line feeds.
pub fn lines(text: &Bytes) -> Vec<Bytes> {
    let mut start = 0;
    let ends = memchr::memchr_iter(b'\n', text).chain((!text.ends_with(b"\n")).then_some(text.len()));
    ends.map(|end| text.slice(std::mem::replace(&mut start, end + 1)..end))
        .filter(|line| !line.is_empty())
        .collect()
}
