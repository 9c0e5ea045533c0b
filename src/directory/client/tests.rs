//! What a directory that lies, stalls or ends in the middle is told to be. Real ones are asked in `tests/interop`.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

/// A directory that answers the requests of one connection with these bytes, one after the other, then says nothing.
async fn scripted(answers: Vec<Vec<u8>>) -> (config::Directory, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        for answer in answers {
            let mut request = [0; 4096];
            assert_ne!(stream.read(&mut request).await.unwrap(), 0);
            stream.write_all(&answer).await.unwrap();
        }
        // until the client is gone
        let _ = stream.read(&mut [0; 1]).await;
    });
    let config = config::Directory {
        host: "127.0.0.1".into(),
        port,
        encryption: Encryption::None,
        server_name: None,
        ca_file: None,
        bind: None,
        base: "dc=corp".into(),
        match_name: vec!["uid".into()],
        match_address: vec!["mail".into()],
        attributes: Arc::new(["mail".into()]),
        timeout: Duration::from_secs(5),
        cache_entries: 1,
        cache_time: Duration::from_secs(1),
    };
    (config, serving)
}

/// A message with a result: the number of the request, the tag of the answer, the code.
fn result(id: u8, tag: u8, code: u8) -> Vec<u8> {
    vec![0x30, 12, 2, 1, id, tag, 7, 10, 1, code, 4, 0, 4, 0]
}

/// A message with an entry without attributes.
fn entry(id: u8) -> Vec<u8> {
    vec![0x30, 9, 2, 1, id, 0x64, 4, 4, 0, 0x30, 0]
}

const ASKED: Asked<'static> = Asked { name: Some("jsmith"), address: None };
const BOUND: u8 = 0x61;
const DONE: u8 = 0x65;
const EXTENDED: u8 = 0x78;

/// Binds and asks.
async fn ask(answers: Vec<Vec<u8>>) -> Result<Found, Fault> {
    let (config, _serving) = scripted(answers).await;
    let mut connection = Connection::open(&dialer(&config).unwrap(), &config).await?;
    connection.bind(&config).await?;
    connection.find(&config, ASKED).await
}

#[tokio::test]
async fn an_account_is_there_or_not_or_more_than_once() {
    let bound = || result(1, BOUND, 0);
    assert_eq!(ask(vec![bound(), result(2, DONE, 0)]).await.unwrap(), Found::None);
    let one = [entry(2), result(2, DONE, 0)].concat();
    assert_eq!(ask(vec![bound(), one]).await.unwrap(), Found::One(vec![None]));
    let two = [entry(2), entry(2), result(2, DONE, 4)].concat();
    assert_eq!(ask(vec![bound(), two]).await.unwrap(), Found::Several);
    assert_eq!(ask(vec![bound(), result(2, DONE, 4)]).await.unwrap(), Found::Several, "others are hidden");
}

#[tokio::test]
async fn each_refusal_has_its_cause() {
    for (code, cause, transient) in [
        (49, "credentials", false),
        (8, "no-tls", false),
        (13, "no-tls", false),
        (51, "refused", true), // busy
    ] {
        let fault = ask(vec![result(1, BOUND, code)]).await.unwrap_err();
        assert_eq!((fault.cause(), fault.is_transient()), (cause, transient), "{fault}");
        assert!(fault.to_string().contains(&format!("result {code}")), "{fault}");
    }
    for (code, cause) in [(32, "no-base"), (50, "denied"), (1, "denied")] {
        let fault = ask(vec![result(1, BOUND, 0), result(2, DONE, code)]).await.unwrap_err();
        assert_eq!((fault.cause(), fault.is_transient()), (cause, false), "{fault}");
    }
}

#[tokio::test]
async fn lies_and_endless_answers_end() {
    let bound = || result(1, BOUND, 0);
    let reference = vec![0x30, 8, 2, 1, 2, 0x73, 3, 4, 1, b'x'];
    for (what, answers) in [
        ("a length of four gigabytes", vec![vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff]]),
        ("another protocol", vec![b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()]),
        ("an answer to somebody else", vec![result(7, BOUND, 0)]),
        ("the answer to something else", vec![result(1, DONE, 0)]),
        ("references without end", vec![bound(), reference.repeat(limits::DIRECTORY_MESSAGES + 1)]),
        ("entries without end", vec![bound(), entry(2).repeat(limits::DIRECTORY_MESSAGES + 1)]),
        ("a long answer to a search", vec![bound(), vec![0x30, 0x83, 0x02, 0, 0]]),
    ] {
        let fault = ask(answers).await.unwrap_err();
        assert_eq!(fault.cause(), "not-ldap", "{what}: {fault}");
    }
}

#[tokio::test]
async fn a_directory_that_ends_the_connection_may_say_why() {
    // a notice of disconnection: nobody asked for it
    let notice = result(0, EXTENDED, 52);
    let fault = ask(vec![result(1, BOUND, 0), notice]).await.unwrap_err();
    assert!(matches!(&fault, Fault::Refused(Step::Search, outcome) if outcome.code == 52), "{fault}");
    assert!(fault.is_transient());
}

#[tokio::test]
async fn a_directory_that_stops_in_the_middle_is_waited_for_so_long_and_no_longer() {
    let (config, _serving) = scripted(vec![result(1, BOUND, 0), vec![0x30]]).await;
    let config = config::Directory { timeout: Duration::from_secs(1), ..config };
    let mut connection = Connection::open(&dialer(&config).unwrap(), &config).await.unwrap();
    connection.bind(&config).await.unwrap();
    let fault = connection.find(&config, ASKED).await.unwrap_err();
    assert!(matches!(fault, Fault::Timeout(Step::Search, _)), "{fault}");
}

#[tokio::test]
async fn what_comes_before_tls_does_not_count_as_said_within() {
    let slipped_in = [result(1, EXTENDED, 0), result(2, BOUND, 0)].concat();
    for (answer, cause) in [(slipped_in, "not-ldap"), (result(1, EXTENDED, 2), "no-start-tls")] {
        let (config, _serving) = scripted(vec![answer]).await;
        let config = config::Directory { encryption: Encryption::StartTls, ..config };
        let fault = Connection::open(&dialer(&config).unwrap(), &config).await.err().expect("no connection");
        assert_eq!(fault.cause(), cause, "{fault}");
    }
}

#[tokio::test]
async fn the_base_is_there_only_when_it_is_shown() {
    let base = |answer: Vec<u8>| async move {
        let (config, _serving) = scripted(vec![answer]).await;
        let mut connection = Connection::open(&dialer(&config).unwrap(), &config).await?;
        connection.find_base(&config).await
    };
    assert!(base([entry(1), result(1, DONE, 0)].concat()).await.is_ok());
    assert_eq!(base(result(1, DONE, 0)).await.unwrap_err().cause(), "denied");
    assert_eq!(base(result(1, DONE, 32)).await.unwrap_err().cause(), "no-base");
}
