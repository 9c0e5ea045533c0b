//! One request and its answer, against a scripted server.

use super::*;
use crate::config::Secret;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const LINES: &[u8] = b"{\"a\":1}\n{\"a\":2}\n";

/// What the server does with one request after reading it.
#[derive(Clone, Copy)]
enum Play {
    Answer(&'static str),
    /// Answers without reading the request's body, and closes.
    AnswerEarly(&'static str),
    /// Closes without a word.
    HangUp,
    /// Says nothing and stays.
    Silence,
}

/// A server that plays its part once per connection; returns the requests that it read.
async fn server(plays: Vec<Play>) -> (Uri, JoinHandle<Vec<Vec<u8>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}/ingest/0123456789abcdef0123?key=q-secret");
    let playing = tokio::spawn(async move {
        let mut requests = Vec::new();
        for play in plays {
            let (mut stream, _) = listener.accept().await.unwrap();
            if let Play::AnswerEarly(answer) = play {
                stream.write_all(answer.as_bytes()).await.unwrap();
                continue;
            }
            requests.push(read_request(&mut stream).await);
            match play {
                Play::Answer(answer) => stream.write_all(answer.as_bytes()).await.unwrap(),
                Play::Silence => std::future::pending().await,
                Play::HangUp | Play::AnswerEarly(_) => {}
            }
        }
        requests
    });
    (url.parse().unwrap(), playing)
}

async fn read_request(stream: &mut TcpStream) -> Vec<u8> {
    let mut request = Vec::new();
    loop {
        stream.read_buf(&mut request).await.unwrap();
        let text = String::from_utf8_lossy(&request).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.split("content-length: ").nth(1).unwrap();
            let length: usize = length.lines().next().unwrap().parse().unwrap();
            if body.len() >= length {
                return request;
            }
        }
    }
}

fn config(url: &Uri, token: Option<&str>) -> config::http::Http {
    config::http::Http {
        url: url.clone(),
        preset: Preset::Ndjson,
        timeout: Duration::from_secs(20),
        gzip: false,
        auth: token.map(|token| Auth::Bearer(Secret::new(token.into()))),
        headers: Vec::new(),
        idempotency: None,
        trust: Default::default(),
        proxies: Default::default(),
    }
}

fn http(url: &Uri, token: Option<&str>) -> Http {
    Http::new(&config(url, token)).unwrap()
}

async fn outcome_of(play: Play) -> Outcome {
    let (url, _playing) = server(vec![play]).await;
    http(&url, Some("t-secret")).send(Lines::from(LINES)).await
}

async fn outcome(answer: &'static str) -> Outcome {
    outcome_of(Play::Answer(answer)).await
}

fn retry(outcome: Outcome) -> (Reason, Option<u64>, String) {
    let Outcome::Retry { reason, text, after } = outcome else { panic!("{outcome:?}") };
    (reason, after.map(|after| after.as_secs()), text)
}

#[tokio::test]
async fn the_request_is_a_post_of_the_lines_as_they_are() {
    let (url, playing) = server(vec![Play::Answer("HTTP/1.1 204 No Content\r\n\r\n")]).await;
    let sent = http(&url, Some("t-secret")).send(Lines::from(LINES)).await;
    assert_eq!(sent, Outcome::Accepted);
    let request = String::from_utf8(playing.await.unwrap().remove(0)).unwrap();
    assert!(request.starts_with("POST /ingest/0123456789abcdef0123?key=q-secret HTTP/1.1\r\n"), "{request}");
    assert!(request.ends_with(std::str::from_utf8(LINES).unwrap()), "{request}");
    for header in [
        "content-type: application/x-ndjson\r\n",
        "authorization: Bearer t-secret\r\n",
        "content-length: 16\r\n",
    ] {
        assert!(request.contains(header), "{request}");
    }
}

#[tokio::test]
async fn a_2xx_counts_only_with_its_whole_body() {
    let whole = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    assert_eq!(outcome(whole).await, Outcome::Accepted);
    let broken = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok";
    assert_eq!(retry(outcome(broken).await).0, Reason::Broken);
}

#[tokio::test]
async fn statuses_are_told_apart() {
    let too_large = "HTTP/1.1 413 Payload Too Large\r\ncontent-length: 0\r\n\r\n";
    assert!(matches!(outcome(too_large).await, Outcome::TooLarge(_)));
    let bad = "HTTP/1.1 400 Bad Request\r\ncontent-length: 9\r\n\r\nline 2: x";
    let Outcome::Rejected(text) = outcome(bad).await else { panic!() };
    assert!(text.contains("400 Bad Request") && text.contains("line 2: x"), "{text}");
    let bad = "HTTP/1.1 422 Unprocessable Entity\r\ncontent-length: 0\r\n\r\n";
    assert!(matches!(outcome(bad).await, Outcome::Rejected(_)));

    let busy = "HTTP/1.1 429 Too Many Requests\r\nretry-after: 17\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(retry(outcome(busy).await).0, Reason::Busy);
    assert_eq!(retry(outcome(busy).await).1, Some(17));
    let past = "HTTP/1.1 503 x\r\nretry-after: Wed, 21 Oct 2015 07:28:00 GMT\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(retry(outcome(past).await).1, Some(0));
    for failed in ["408", "425", "500", "502", "504", "507"] {
        let answer = format!("HTTP/1.1 {failed} x\r\ncontent-length: 0\r\n\r\n").leak();
        assert_eq!(retry(outcome(answer).await).0, Reason::Unavailable, "{failed}");
    }
    for hint in [
        ("401", "bearer_token_file"),
        ("403", "bearer_token_file"),
        ("404", "path"),
        ("405", "path"),
        ("415", "`preset`"),
        ("304", "unnamed place"),
    ] {
        let answer = format!("HTTP/1.1 {} x\r\nconnection: close\r\n\r\n", hint.0).leak();
        let Outcome::Hold(text) = outcome(answer).await else { panic!("{hint:?}") };
        assert!(text.contains(hint.1) && text.contains("http://127.0.0.1:"), "{text}");
    }
}

#[tokio::test]
async fn a_redirect_is_named_and_not_followed() {
    let moved = "HTTP/1.1 308 x\r\nlocation: https://new.example/in\r\ncontent-length: 0\r\n\r\n";
    let Outcome::Hold(text) = outcome(moved).await else { panic!() };
    assert!(text.contains("https://new.example/in"), "{text}");
}

#[tokio::test]
async fn secrets_that_the_receiver_repeats_are_hidden() {
    let echo = "HTTP/1.1 401 x\r\nconnection: close\r\n\r\n\
                no t-secret at /ingest/0123456789abcdef0123?key=q-secret\r\nERROR forged";
    let Outcome::Hold(text) = outcome(echo).await else { panic!() };
    assert!(!text.contains("secret") && !text.contains("0123456789abcdef"), "{text}");
    assert!(text.contains("/ingest/<hidden>") && !text.contains('\n'), "{text}");
}

#[tokio::test]
async fn user_and_password_are_hidden_as_they_stand_in_a_header() {
    // as `printf audit:p-secret | base64` says
    let echo = "HTTP/1.1 400 x\r\nconnection: close\r\n\r\n\
                your request: authorization: Basic YXVkaXQ6cC1zZWNyZXQ= (audit, p-secret)";
    let (url, _playing) = server(vec![Play::Answer(echo)]).await;
    let auth = Auth::Basic { user: "audit".into(), password: Secret::new("p-secret".into()) };
    let config = config::http::Http { auth: Some(auth), ..config(&url, None) };
    let Outcome::Rejected(text) = Http::new(&config).unwrap().send(Lines::from(LINES)).await else {
        panic!()
    };
    assert!(text.contains("authorization: Basic <hidden> (audit, <hidden>)"), "{text}");
}

#[tokio::test]
async fn no_answer_is_tried_again() {
    assert_eq!(retry(outcome_of(Play::HangUp).await).0, Reason::Broken);
    let nobody: Uri = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap()
    };
    assert_eq!(retry(http(&nobody, None).send(Lines::from(LINES)).await).0, Reason::Connect);
    let (url, _playing) = server(vec![Play::Silence]).await;
    let short = config::http::Http { timeout: Duration::from_millis(50), ..config(&url, None) };
    let mut impatient = Http::new(&short).unwrap();
    assert_eq!(retry(impatient.send(Lines::from(LINES)).await).0, Reason::Timeout);
    assert!(matches!(outcome("220 mail.example ESMTP\r\n").await, Outcome::Hold(_)));
}

#[tokio::test]
async fn a_413_before_the_body_was_read_never_loses_the_records() {
    // whether the answer or the reset is seen first is the network's choice; both lead to smaller requests
    let early = Play::AnswerEarly("HTTP/1.1 413 x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
    let (url, _playing) = server(vec![early]).await;
    let outcome = http(&url, None).send(Lines::one(Bytes::from(vec![b'\n'; 8 << 20]))).await;
    assert!(
        matches!(outcome, Outcome::TooLarge(_) | Outcome::Retry { reason: Reason::Broken, .. }),
        "{outcome:?}"
    );
}

#[test]
fn a_token_that_cannot_be_sent_is_said_but_not_shown() {
    let url: Uri = "https://siem.example/".parse().unwrap();
    let text = Http::new(&config(&url, Some("to\nken"))).err().unwrap();
    assert!(text.contains("bearer token") && !text.contains("ken\""), "{text}");
}
