//! The way to a collector: name, TCP, TLS, and for RELP an open session, which is closed again. No record is sent.

use std::time::Duration;

use tokio::time::timeout;

use super::super::advice;
use super::super::finding::{Blocked, Finding, Kind, Notes};
use super::{STEP, network};
use crate::config::{Peer, Transport};
use crate::deliver::relp::{self, OpenError};
use crate::deliver::tcp;
use crate::net::{self, Dialer};

/// What the operator wrote to get there.
const SETTING: &str = "the output's `address`";
/// How long a receiver has to turn down a client's certificate, after a handshake that was whole for the client
/// (TLS 1.3).
pub(super) const SECOND_THOUGHTS: Duration = Duration::from_secs(1);

/// The steps in their order.
pub(super) fn steps(peer: &Peer, is_relp: bool) -> &'static [&'static str] {
    match peer.transport {
        Transport::Udp => &["dns", "udp"],
        _ if is_relp => &["dns", "tcp", "tls", "relp"],
        _ => &["dns", "tcp", "tls"],
    }
}

/// Probes the way to a receiver.
pub(super) async fn reach(peer: &Peer, is_relp: bool, notes: &Notes) -> Result<(), Blocked> {
    let Peer { host, port, transport, .. } = peer;
    let addresses = network::look_up(host, *port, SETTING, notes).await?;
    if *transport == Transport::Udp {
        let what = "UDP: a receiver answers nothing, so whether one is there cannot be told without sending";
        notes.add(Finding::ok("udp", what));
        return Ok(());
    }
    network::connect(host, *port, &addresses, false, SETTING, notes).await?;
    let no_connection = || format!("there is no connection to {host}");
    let dialer = tcp::dialer(&Peer { timeout: STEP, ..peer.clone() }).map_err(|text| {
        let fix = "correct `ca_file`, `client_cert_file` or `client_key_file`";
        notes.block(
            Finding::fail("tls", Kind::Config, "a file for TLS is of no use", text, fix),
            no_connection(),
        )
    })?;
    let unreachable = |error: &net::Error| {
        let finding = advice::unreachable("tls", error, host, *port, SETTING);
        notes.block(finding, no_connection())
    };
    let stream = dialer.connect().await.map_err(|error| unreachable(&error))?;
    match (transport, net::ended_within(SECOND_THOUGHTS, stream).await) {
        (Transport::Tls, Some(error)) => {
            let what = format!("{host} ends the connection after the TLS handshake");
            let fix = match peer.trust.identity {
                Some(_) => {
                    "check whether the receiver trusts the certificate in `client_cert_file`, and its time"
                }
                None => {
                    "if the receiver wants a client certificate, set `client_cert_file` and `client_key_file`"
                }
            };
            let finding = Finding::fail("tls", Kind::Permission, what, error.to_string(), fix);
            return Err(notes.block(finding, no_connection()));
        }
        (Transport::Tls, None) => {
            notes.add(Finding::ok("tls", format!("the certificate of {host} is accepted")));
        }
        _ => notes.add(Finding::ok("tls", "none: `transport` is \"tcp\"")),
    }
    if is_relp { open(&dialer, host, notes).await } else { Ok(()) }
}

async fn open(dialer: &Dialer, host: &str, notes: &Notes) -> Result<(), Blocked> {
    let (why, fix) = match relp::open(dialer, STEP).await {
        Ok(session) => {
            // it is only told good-bye
            let _ = timeout(STEP, session.close()).await;
            notes.add(Finding::ok("relp", format!("{host} opens a session and takes syslog messages")));
            return Ok(());
        }
        Err(OpenError::Connect(error)) => (error.to_string(), "check that the receiver runs"),
        Err(OpenError::Broken(again)) => {
            (again.text, "check that a RELP receiver listens at that port, with TLS if `transport` says so")
        }
        Err(OpenError::Refused(text)) => {
            (text, "check the port: RELP has one of its own, such as 2514 (rsyslog: module imrelp)")
        }
    };
    let finding = Finding::fail("relp", Kind::Unavailable, format!("{host} opens no RELP session"), why, fix);
    Err(notes.block(finding, "there is no RELP session"))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::super::super::finding::{Level, Part};
    use super::*;
    use crate::net::Trust;
    use crate::net::scripted::{tls_file, tls_server};

    async fn probe(port: u16, transport: Transport, is_relp: bool) -> Vec<Finding> {
        let peer = Peer {
            host: "localhost".into(),
            port,
            transport,
            server_name: None,
            trust: Trust { ca_file: Some(tls_file("ca.pem")), identity: None },
            timeout: STEP,
            max_message_bytes: None,
        };
        let notes = Notes::default();
        let because =
            reach(&peer, is_relp, &notes).await.err().map_or_else(String::new, |Blocked(text)| text);
        notes.finish(Part::Agent, steps(&peer, is_relp), &because).findings
    }

    #[tokio::test]
    async fn a_receiver_over_tls_is_reached_and_plain_udp_cannot_be_told() {
        let port = tls_server("server.pem", rustls::DEFAULT_VERSIONS).await;
        let findings = probe(port, Transport::Tls, false).await;
        assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:?}");
        let findings = probe(port, Transport::Udp, false).await;
        assert_eq!(findings.len(), 2);
    }

    /// Takes a session and ends it as rsyslog does; says which commands came.
    async fn relp_receiver() -> (u16, tokio::sync::mpsc::UnboundedReceiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (tell, told) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = tokio::io::BufReader::new(stream);
                let mut frame = Vec::new();
                // TXNR SP COMMAND SP DATALEN [SP DATA] LF
                while let Ok(1..) = stream.read_until(b' ', &mut frame).await {
                    let number = String::from_utf8(frame.split_off(0)).unwrap();
                    stream.read_until(b' ', &mut frame).await.unwrap();
                    let command = String::from_utf8(frame.split_off(0)).unwrap();
                    let mut byte = stream.read_u8().await.unwrap();
                    let mut len = 0;
                    while byte.is_ascii_digit() {
                        len = len * 10 + usize::from(byte - b'0');
                        byte = stream.read_u8().await.unwrap();
                    }
                    let mut data = vec![0; if byte == b' ' { len + 1 } else { 0 }];
                    stream.read_exact(&mut data).await.unwrap();
                    let _ = tell.send(command.trim().to_owned());
                    let said = "200 OK\nrelp_version=0\nrelp_software=test\ncommands=syslog";
                    let answer = match command.trim() {
                        "open" => format!("{number}rsp {} {said}\n", said.len()),
                        _ => format!("{number}rsp 0\n0 serverclose 0\n"),
                    };
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        });
        (port, told)
    }

    #[tokio::test]
    async fn a_relp_session_is_opened_and_closed_and_nothing_else() {
        let (port, mut told) = relp_receiver().await;
        let findings = probe(port, Transport::Tcp, true).await;
        assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:?}");
        assert!(findings[3].what.contains("takes syslog messages"), "{findings:?}");
        let mut commands = Vec::new();
        while let Ok(command) = told.try_recv() {
            commands.push(command);
        }
        assert_eq!(commands, ["open", "close"]);
    }

    #[tokio::test]
    async fn a_closed_port_and_a_plain_receiver_behind_tls_are_told_apart() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        for is_relp in [false, true] {
            let findings = probe(closed, Transport::Tcp, is_relp).await;
            assert_eq!(findings[1].level, Level::Fail(Kind::Unavailable), "{findings:?}");
            assert!(findings[1].fix.contains("`address`"), "{findings:?}");
            assert!(findings[2..].iter().all(|finding| finding.level == Level::NotTested), "{findings:?}");
        }
        let (plain, _told) = relp_receiver().await;
        let findings = probe(plain, Transport::Tcp, false).await;
        assert!(findings.iter().all(|finding| finding.level == Level::Ok), "{findings:?}");
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = silent.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                drop(silent.accept().await); // hangs up on every handshake
            }
        });
        let findings = probe(port, Transport::Tls, false).await;
        assert_eq!(findings[2].level, Level::Fail(Kind::Unavailable), "{findings:?}");
    }

    #[tokio::test]
    async fn what_speaks_no_relp_is_found_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let _ = stream.read_u8().await;
                    let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, b"HTTP/1.1 400 x\r\n\r\n").await;
                });
            }
        });
        let findings = probe(port, Transport::Tcp, true).await;
        assert_eq!(findings[2].level, Level::Ok);
        assert_eq!(findings[3].level, Level::Fail(Kind::Unavailable), "{findings:?}");
        assert!(findings[3].why.contains("does not answer in RELP"), "{findings:?}");
    }
}
