//! The sender against real sockets.

use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::net::scripted::tls_file;
use crate::net::{Identity, Trust};

fn peer(port: u16, transport: Transport) -> Peer {
    Peer {
        host: "localhost".into(),
        port,
        transport,
        server_name: None,
        trust: Trust { ca_file: Some(tls_file("ca.pem")), identity: None },
        timeout: Duration::from_secs(20),
        max_message_bytes: None,
    }
}

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn tcp(port: u16) -> Tcp {
    Tcp::new(&peer(port, Transport::Tcp), Framing::LineFeed).unwrap()
}

async fn read_to_end(mut stream: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    all
}

#[tokio::test]
async fn records_go_out_as_they_are_and_an_orderly_end_confirms_them() {
    let (listener, port) = listener().await;
    let mut tcp = tcp(port);
    let reading = tokio::spawn(async move { read_to_end(listener.accept().await.unwrap().0).await });
    assert_eq!(tcp.send(Lines::from("one\ntwo\n")).await, Outcome::Accepted);
    assert_eq!(tcp.broken(), None);
    assert_eq!(tcp.send(Lines::from("three\n")).await, Outcome::Accepted);
    assert!(tcp.close().await);
    assert_eq!(reading.await.unwrap(), b"one\ntwo\nthree\n");
}

#[tokio::test]
async fn a_receiver_that_closed_is_noticed_before_anything_is_written() {
    let (listener, port) = listener().await;
    let mut tcp = tcp(port);
    assert_eq!(tcp.send(Lines::from("one\n")).await, Outcome::Accepted);
    drop(listener.accept().await.unwrap());
    let again = loop {
        tokio::task::yield_now().await;
        if let Some(again) = tcp.broken() {
            break again;
        }
    };
    assert_eq!(again.reason, Reason::Broken);
    assert!(again.text.contains(&format!("localhost:{port}")), "{}", again.text);
    assert_eq!(tcp.broken(), None, "told once");
    assert_eq!(tcp.send(Lines::from("two\n")).await, Outcome::Accepted);
    drop(tcp);
    assert_eq!(read_to_end(listener.accept().await.unwrap().0).await, b"two\n");
}

#[tokio::test]
async fn a_receiver_that_resets_with_bytes_unread_confirms_nothing() {
    let (listener, port) = listener().await;
    let mut tcp = tcp(port);
    assert_eq!(tcp.send(Lines::from("one\n")).await, Outcome::Accepted);
    let (mut stream, _) = listener.accept().await.unwrap();
    // one byte of four: the kernel answers the end of such a connection with a reset
    stream.read_u8().await.unwrap();
    drop(stream);
    assert!(!tcp.close().await);
}

#[tokio::test]
async fn a_record_over_the_limit_is_told_and_its_neighbours_are_sent() {
    let (listener, port) = listener().await;
    let limited = Peer { max_message_bytes: Some(5), ..peer(port, Transport::Tcp) };
    let mut tcp = Tcp::new(&limited, Framing::LineFeed).unwrap();
    let lines = "12345\n123456\nx\n1234567\n";
    let Outcome::Items(items) = tcp.send(Lines::from(lines)).await else { panic!() };
    assert_eq!(items.fates, [Fate::Accepted, Fate::Unfit, Fate::Accepted, Fate::Unfit]);
    let listed: Vec<_> = items.refusals.iter().map(|(at, refusal)| (*at, refusal.reason)).collect();
    assert_eq!(listed, [(1, "too-large"), (3, "too-large")]);
    drop(tcp);
    assert_eq!(read_to_end(listener.accept().await.unwrap().0).await, b"12345\nx\n");
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_stops_reading_is_given_up() {
    let (listener, port) = listener().await;
    let mut tcp = tcp(port);
    let line = Lines::one(vec![b'x'; 16 << 20].into());
    let (outcome, _held) = tokio::join!(tcp.send(line), listener.accept());
    let Outcome::Retry { reason: Reason::Timeout, text, .. } = outcome else { panic!("{outcome:?}") };
    assert!(text.contains("took nothing within 20s"), "{text}");
}

#[tokio::test]
async fn nobody_there_is_a_retry_and_no_name_too() {
    let (listener, port) = listener().await;
    drop(listener);
    let outcome = tcp(port).send(Lines::from("x\n")).await;
    assert!(matches!(outcome, Outcome::Retry { reason: Reason::Connect, .. }), "{outcome:?}");
    let nowhere = Peer { host: "nowhere.invalid".into(), ..peer(port, Transport::Tcp) };
    let outcome = Tcp::new(&nowhere, Framing::LineFeed).unwrap().send(Lines::from("x\n")).await;
    assert!(matches!(outcome, Outcome::Retry { reason: Reason::Connect, .. }), "{outcome:?}");
}

/// A TLS server that wants a certificate of `ca.pem`'s, if told; what it read from one connection.
async fn tls_server(wants: bool) -> (u16, tokio::task::JoinHandle<io::Result<Vec<u8>>>) {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let certificate = |name: &str| CertificateDer::from_pem_file(tls_file(name)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate("ca.pem")).unwrap();
    let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
    let builder = match wants {
        true => builder.with_client_cert_verifier(verifier.build().unwrap()),
        false => builder.with_no_client_auth(),
    };
    let key = PrivateKeyDer::from_pem_file(tls_file("server.key")).unwrap();
    let config = builder.with_single_cert(vec![certificate("server.pem")], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let (listener, port) = listener().await;
    let reading = tokio::spawn(async move {
        let mut stream = acceptor.accept(listener.accept().await?.0).await?;
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await?;
        stream.shutdown().await?;
        Ok(all)
    });
    (port, reading)
}

#[tokio::test]
async fn tls_ends_with_close_notify_and_that_confirms() {
    let (port, reading) = tls_server(false).await;
    let mut tcp = Tcp::new(&peer(port, Transport::Tls), Framing::LineFeed).unwrap();
    assert_eq!(tcp.send(Lines::from("one\n")).await, Outcome::Accepted);
    assert!(tcp.close().await);
    // without close_notify this would be an error
    assert_eq!(reading.await.unwrap().unwrap(), b"one\n");
}

#[tokio::test]
async fn a_receiver_that_wants_a_client_certificate_gets_it_or_its_absence_is_said() {
    let (port, reading) = tls_server(true).await;
    let mut tcp = Tcp::new(&peer(port, Transport::Tls), Framing::LineFeed).unwrap();
    // with TLS 1.3 the refusal comes after the first bytes were written
    let _ = tcp.send(Lines::from("lost\n")).await;
    assert!(reading.await.unwrap().is_err());
    let text = loop {
        tokio::task::yield_now().await;
        if let Some(again) = tcp.broken() {
            break again.text;
        }
    };
    assert!(text.contains("client_cert_file"), "{text}");

    let identity = Identity { cert_file: tls_file("server.pem"), key_file: tls_file("server.key") };
    let (port, reading) = tls_server(true).await;
    let mut peer = peer(port, Transport::Tls);
    peer.trust.identity = Some(identity);
    let mut tcp = Tcp::new(&peer, Framing::LineFeed).unwrap();
    assert_eq!(tcp.send(Lines::from("one\n")).await, Outcome::Accepted);
    assert!(tcp.close().await);
    assert_eq!(reading.await.unwrap().unwrap(), b"one\n");
}

#[tokio::test]
async fn a_server_of_another_name_or_without_tls_is_held_and_said() {
    let (port, _reading) = tls_server(false).await;
    let other = Peer { server_name: Some("siem.example.com".into()), ..peer(port, Transport::Tls) };
    let outcome = Tcp::new(&other, Framing::LineFeed).unwrap().send(Lines::from("x\n")).await;
    let Outcome::Hold(text) = outcome else { panic!("{outcome:?}") };
    assert!(text.contains("another name"), "{text}");

    let (listener, port) = listener().await;
    let plain = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"220 mail.example.com\r\n").await.unwrap();
        read_to_end(stream).await
    });
    let outcome =
        Tcp::new(&peer(port, Transport::Tls), Framing::LineFeed).unwrap().send(Lines::from("x\n")).await;
    assert!(matches!(outcome, Outcome::Hold(_)), "{outcome:?}");
    drop(plain);
}

#[tokio::test]
async fn a_receiver_that_closes_in_the_handshake_may_be_starting_anew() {
    let (listener, port) = listener().await;
    let closing = tokio::spawn(async move {
        for unread in [true, false] {
            let (mut stream, _) = listener.accept().await.unwrap();
            if !unread {
                // the client's hello, so that the end is an orderly one
                stream.read_buf(&mut Vec::with_capacity(4096)).await.unwrap();
            }
        }
    });
    let mut tcp = Tcp::new(&peer(port, Transport::Tls), Framing::LineFeed).unwrap();
    for _ in 0..2 {
        let outcome = tcp.send(Lines::from("x\n")).await;
        let Outcome::Retry { reason: Reason::Broken, text, .. } = outcome else { panic!("{outcome:?}") };
        assert!(text.contains("is there a TLS server"), "{text}");
    }
    closing.await.unwrap();
}
