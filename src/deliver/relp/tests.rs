//! The sender against a receiver that is told what to do.

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;
use crate::config::{Peer, Transport};

/// What the receiver does with a message.
#[derive(Debug, Clone, Copy)]
enum Play {
    Take,
    Refuse,
    /// Takes it, and closes before it says so.
    Vanish,
    /// Says `serverclose`, and closes.
    Close,
    /// Says nothing any more.
    Silence,
    Babble,
}

struct Receiver {
    relp: Relp,
    /// What each connection read.
    playing: JoinHandle<Vec<Vec<String>>>,
}

/// A receiver with one script for each connection; messages beyond a script are taken.
async fn receiver(scripts: Vec<Vec<Play>>) -> Receiver {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = Peer {
        host: "127.0.0.1".into(),
        port: listener.local_addr().unwrap().port(),
        transport: Transport::Tcp,
        server_name: None,
        trust: Default::default(),
        timeout: Duration::from_secs(20),
        max_message_bytes: Some(40),
    };
    let playing = tokio::spawn(async move {
        let mut all = Vec::new();
        for script in scripts {
            let (stream, _) = listener.accept().await.unwrap();
            all.push(play(stream, script).await);
        }
        all
    });
    Receiver { relp: Relp::new(&peer).unwrap(), playing }
}

/// A frame, read the plain way.
async fn frame(stream: &mut TcpStream) -> Option<(String, String, Vec<u8>)> {
    let mut words = Vec::new();
    let mut last = b' ';
    for _ in 0..3 {
        let mut word = String::new();
        loop {
            last = stream.read_u8().await.ok()?;
            if last == b' ' || last == b'\n' {
                break;
            }
            word.push(last.into());
        }
        words.push(word);
    }
    let mut data = vec![0; words[2].parse().unwrap()];
    if last == b' ' {
        stream.read_exact(&mut data).await.ok()?;
        assert_eq!(stream.read_u8().await.ok()?, b'\n');
    }
    let command = words.remove(1);
    Some((words.remove(0), command, data))
}

async fn play(mut stream: TcpStream, script: Vec<Play>) -> Vec<String> {
    let mut script = script.into_iter();
    let mut messages = Vec::new();
    while let Some((number, command, data)) = frame(&mut stream).await {
        let mut say = async |text: String| {
            let _ = stream.write_all(text.as_bytes()).await;
        };
        match &*command {
            "open" => {
                let text = String::from_utf8(data).unwrap();
                assert!(
                    text.starts_with("relp_version=0\n") && text.ends_with("\ncommands=syslog"),
                    "{text}"
                );
                say(format!("{number} rsp 38 200 OK\nrelp_version=0\ncommands=syslog\n\n")).await;
                continue;
            }
            "close" => {
                say(format!("{number} rsp 0\n0 serverclose 0\n")).await;
                break;
            }
            _ => assert_eq!(command, "syslog"),
        }
        messages.push(String::from_utf8(data).unwrap());
        match script.next().unwrap_or(Play::Take) {
            Play::Take => say(format!("{number} rsp 6 200 OK\n")).await,
            Play::Refuse => say(format!("{number} rsp 9 500 no\u{7}!!\n")).await,
            Play::Vanish => break,
            Play::Close => {
                say("0 serverclose 0\n".into()).await;
                break;
            }
            Play::Silence => std::future::pending().await,
            Play::Babble => say("HTTP/1.1 400 Bad Request\r\n\r\n".into()).await,
        }
    }
    // with bytes unread the end would be a reset, and that may overtake an answer
    let _ = stream.shutdown().await;
    let _ = stream.read_to_end(&mut Vec::new()).await;
    messages
}

fn lines(texts: &[&str]) -> Lines {
    let mut buffer = super::super::lines::Buffer::default();
    texts.iter().for_each(|text| buffer.push(None, |out| out.extend_from_slice(text.as_bytes())));
    buffer.take()
}

#[tokio::test]
async fn messages_are_the_receivers_once_it_says_so_and_the_session_is_kept() {
    let Receiver { mut relp, playing } = receiver(vec![vec![]]).await;
    assert_eq!(relp.send(lines(&["<1>1 one", "two\nlines"])).await, Outcome::Accepted);
    assert_eq!(relp.send(lines(&["three"])).await, Outcome::Accepted);
    assert!(relp.close().await);
    assert_eq!(playing.await.unwrap(), [["<1>1 one", "two\nlines", "three"]]);
}

#[tokio::test]
async fn more_messages_than_the_window_go_through_it() {
    let Receiver { mut relp, playing } = receiver(vec![vec![]]).await;
    let texts: Vec<String> = (0..3 * limits::RELP_WINDOW).map(|n| format!("message {n}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    assert_eq!(relp.send(lines(&texts)).await, Outcome::Accepted);
    relp.close().await;
    assert_eq!(playing.await.unwrap(), [texts]);
}

#[tokio::test]
async fn what_was_acknowledged_before_the_connection_broke_is_kept_and_the_rest_is_sent_again() {
    for end in [Play::Vanish, Play::Close, Play::Babble] {
        let script = vec![Play::Take, Play::Take, end];
        let Receiver { mut relp, playing } = receiver(vec![script, vec![]]).await;
        let outcome = relp.send(lines(&["1", "2", "3", "4"])).await;
        let Outcome::Items(items) = outcome else { panic!("{outcome:?}") };
        assert_eq!(items.fates, [Fate::Accepted, Fate::Accepted, Fate::Again, Fate::Again], "{end:?}");
        assert_eq!(items.again.unwrap().reason, Reason::Broken);
        assert_eq!(relp.send(lines(&["3", "4"])).await, Outcome::Accepted);
        relp.close().await;
        assert_eq!(playing.await.unwrap()[1], ["3", "4"]);
    }
}

#[tokio::test]
async fn a_refused_message_and_one_that_is_too_long_are_told_apart_from_the_others() {
    let script = vec![Play::Take, Play::Refuse, Play::Take];
    let Receiver { mut relp, playing } = receiver(vec![script]).await;
    let long = "x".repeat(41);
    let Outcome::Items(items) = relp.send(lines(&["1", &long, "2", "3"])).await else { panic!() };
    assert_eq!(items.fates, [Fate::Accepted, Fate::Unfit, Fate::Refused, Fate::Accepted]);
    assert_eq!(items.again, None);
    let [(1, long), (2, refused)] = &items.refusals[..] else { panic!("{:?}", items.refusals) };
    assert_eq!((long.reason, refused.reason), ("too-large", "rejected"));
    assert_eq!(refused.text, "the receiver answered 500 no\\u{7}!!");
    relp.close().await;
    assert_eq!(playing.await.unwrap(), [["1", "2", "3"]]);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_says_nothing_is_given_up() {
    let Receiver { mut relp, .. } = receiver(vec![vec![Play::Silence]]).await;
    let outcome = relp.send(lines(&["1"])).await;
    let Outcome::Retry { reason: Reason::Timeout, text, .. } = outcome else { panic!("{outcome:?}") };
    assert!(text.contains("acknowledged nothing within 20s"), "{text}");
}

#[tokio::test]
async fn what_is_no_relp_is_held_and_said() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"220 mail.example.com ESMTP\r\n").await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
    });
    let Receiver { relp, .. } = receiver(vec![]).await;
    let dialer = Dialer::new("127.0.0.1", port, None, Duration::from_secs(20)).unwrap();
    let mut relp = Relp { dialer, ..relp };
    let outcome = relp.send(lines(&["1"])).await;
    let Outcome::Hold(text) = outcome else { panic!("{outcome:?}") };
    assert!(text.contains("does not answer in RELP"), "{text}");
}
