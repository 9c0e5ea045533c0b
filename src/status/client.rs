//! `trailspool status`: asks the running agent, where its configuration says that it listens. Blocking; what comes
//! back is bounded, and shown as text whatever it holds.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use crate::config::{self, Secret};
use crate::error::Exit;
use crate::limits;

/// Time to connect, and time without a byte.
const TIME: Duration = Duration::from_secs(10);

/// Prints what the agent of this configuration says of itself: 0; 69 when none answers.
pub fn main(config: &Path, json: bool) -> ExitCode {
    match ask(config, if json { "/status.json" } else { "/status.txt" }) {
        Ok(text) => {
            // A reader that went away is no failure.
            let _ = io::stdout().lock().write_all(text.as_bytes());
            Exit::Done.into()
        }
        Err((exit, text)) => {
            let _ = io::stderr().lock().write_all(format!("{text}\n").as_bytes());
            exit.into()
        }
    }
}

fn ask(config: &Path, path: &str) -> Result<String, (Exit, String)> {
    // Only where it listens matters: what else is at fault, such as a secret that this user may not read, does not.
    let examined = config::examine(config);
    let agent = examined.agent.ok_or_else(|| {
        let faults = examined.faults.map(|faults| faults.to_string()).unwrap_or_default();
        (Exit::Config, faults)
    })?;
    let Some(address) = agent.status_listen else {
        let text = format!("{}: status_listen is \"\", so no agent can be asked", config.display());
        return Err((Exit::Config, text));
    };
    let address = reachable(address);
    let silent = |fault: io::Error| {
        let hint = match fault.kind() {
            io::ErrorKind::ConnectionRefused => "; is it running?",
            _ => "",
        };
        (Exit::Unavailable, format!("trailspool: no agent answers at {address}: {fault}{hint}"))
    };
    let answer = exchange(address, path, agent.status_token.as_ref()).map_err(silent)?;
    let (status, body) = parts(&answer).ok_or_else(|| {
        (Exit::Unavailable, format!("trailspool: what answers at {address} is no agent of this version"))
    })?;
    match status {
        200 => Ok(shown(body)),
        401 => {
            let text =
                format!("trailspool: the agent at {address} wants another token than the configuration's");
            Err((Exit::Permission, text))
        }
        503 => Err((
            Exit::Unavailable,
            format!("trailspool: the agent at {address}: {}", shown(body).trim_end()),
        )),
        other => {
            Err((Exit::Unavailable, format!("trailspool: {address} answers with {other}: it is no agent")))
        }
    }
}

/// Who listens on every address is asked on loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn exchange(address: SocketAddr, path: &str, token: Option<&Secret>) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, TIME)?;
    stream.set_read_timeout(Some(TIME))?;
    stream.set_write_timeout(Some(TIME))?;
    let authorization = match token {
        Some(token) => format!("Authorization: Bearer {}\r\n", token.reveal()),
        None => String::new(),
    };
    let request = zeroize::Zeroizing::new(format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\n{authorization}Connection: close\r\n\r\n"
    ));
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(limits::STATUS_ANSWER_BYTES).read_to_end(&mut answer)?;
    match answer.is_empty() {
        true => Err(io::ErrorKind::UnexpectedEof.into()),
        false => Ok(answer),
    }
}

/// The status and the body of an answer.
fn parts(answer: &[u8]) -> Option<(u16, &[u8])> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(end) = response.parse(answer).ok()? else { return None };
    Some((response.code?, &answer[end..]))
}

/// Text for a terminal: lines, and no other control.
fn shown(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().map(|c| if c.is_control() && c != '\n' { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_everywhere_is_asked_on_loopback() {
        let reached = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(reached("0.0.0.0:9464"), "127.0.0.1:9464");
        assert_eq!(reached("[::]:9464"), "[::1]:9464");
        assert_eq!(reached("10.0.0.7:1"), "10.0.0.7:1");
    }

    #[test]
    fn an_answer_has_a_status_and_a_body_or_is_none() {
        assert_eq!(parts(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody"), Some((200, &b"body"[..])));
        for bad in [&b""[..], b"HTTP/1.1 200 OK\r\n", b"SSH-2.0-OpenSSH\r\n\r\n"] {
            assert_eq!(parts(bad), None);
        }
        assert_eq!(shown(b"a\x1b[2J\nb\xff"), "a?[2J\nb\u{fffd}");
    }
}
