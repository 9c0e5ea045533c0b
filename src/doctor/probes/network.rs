//! The way to a server, one step after the other: name, TCP, TLS. The first two are done here, so that they can
//! be told apart; TLS is the real client's, with its trust.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::Uri;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::super::advice;
use super::super::finding::{Blocked, Finding, Kind, Notes};
use super::STEP;
use crate::net::Client;

/// The steps in their order.
pub(super) const STEPS: [&str; 3] = ["dns", "tcp", "tls"];
/// Addresses of a name that are tried.
const ADDRESSES: usize = 16;

/// Probes the way to the server of a URI. `setting` names what the operator wrote to get there.
pub(super) async fn reach(client: &Client, to: &Uri, setting: &str, notes: &Notes) -> Result<(), Blocked> {
    let tls = to.scheme_str() == Some("https");
    let host = to.host().unwrap_or_default();
    let port = to.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let addresses = look_up(host, port, setting, notes).await?;
    connect(host, port, &addresses, setting, notes).await?;
    match client.connect(to.clone()).await {
        Ok(()) if tls => {
            notes.add(Finding::ok("tls", format!("the certificate of {host} is accepted")));
            Ok(())
        }
        Ok(()) => {
            notes.add(Finding::ok("tls", "none: the URL begins with http://"));
            Ok(())
        }
        Err(error) => {
            let finding = advice::unreachable("tls", &error, host, port, setting);
            Err(notes.block(finding, format!("there is no connection to {host}")))
        }
    }
}

async fn look_up(host: &str, port: u16, setting: &str, notes: &Notes) -> Result<Vec<SocketAddr>, Blocked> {
    if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        notes.add(Finding::ok("dns", format!("{address} needs no name look-up")));
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let why = match timeout(STEP, lookup_host((host, port))).await {
        Ok(Ok(found)) => {
            let addresses: Vec<SocketAddr> = found.take(ADDRESSES).collect();
            if let [first, rest @ ..] = &addresses[..] {
                let more = if rest.is_empty() { String::new() } else { format!(" and {} more", rest.len()) };
                notes.add(Finding::ok("dns", format!("{host} has the address {}{more}", first.ip())));
                return Ok(addresses);
            }
            "the name is known, but has no address".to_owned()
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {} s", STEP.as_secs()),
    };
    let fix = format!(
        "check {setting}, and the name servers of this machine (/etc/resolv.conf): `getent hosts {host}` must print an \
         address"
    );
    let finding = Finding::fail("dns", Kind::Unavailable, format!("{host} has no address"), why, fix);
    Err(notes.block(finding, format!("{host} has no address")))
}

/// Connects to all addresses at once: one that answers is enough.
async fn connect(
    host: &str,
    port: u16,
    addresses: &[SocketAddr],
    setting: &str,
    notes: &Notes,
) -> Result<(), Blocked> {
    let begin = Instant::now();
    let mut attempts = JoinSet::new();
    for &address in addresses {
        attempts.spawn(async move { (address, timeout(STEP, TcpStream::connect(address)).await) });
    }
    let mut why = format!("no answer from any of {} addresses within {} s", addresses.len(), STEP.as_secs());
    let mut refused = false;
    while let Some(attempt) = attempts.join_next().await {
        match attempt {
            Ok((address, Ok(Ok(_)))) => {
                let took = milliseconds(begin.elapsed());
                notes.add(Finding::ok("tcp", format!("{address} answers in {took} ms")));
                return Ok(());
            }
            Ok((address, Ok(Err(error)))) => {
                refused |= error.kind() == std::io::ErrorKind::ConnectionRefused;
                why = format!("{address}: {error}");
            }
            Ok((_, Err(_))) | Err(_) => {}
        }
    }
    let fix = match refused {
        true => {
            format!(
                "check the port in {setting} and that the server runs, or whether a firewall turns it away"
            )
        }
        false => format!(
            "let this machine reach port {port} of {host}: check its route and the firewalls; try `nc -vz {host} {port}`"
        ),
    };
    let what = format!("port {port} of {host} cannot be reached");
    let finding = Finding::fail("tcp", Kind::Unavailable, what, why, fix);
    Err(notes.block(finding, format!("{host} cannot be reached")))
}

fn milliseconds(time: Duration) -> u128 {
    time.as_millis().max(1)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::super::super::finding::{Level, Part, Section};
    use super::*;
    use crate::net::Timeouts;

    const SHORT: Timeouts = Timeouts {
        connect: Duration::from_secs(2),
        first_byte: Duration::from_secs(2),
        stall: Duration::from_secs(2),
    };

    async fn steps(uri: &str) -> Section {
        let (client, notes) = (Client::with_timeouts(None, SHORT).unwrap(), Notes::default());
        let because = match reach(&client, &uri.parse().unwrap(), "`url`", &notes).await {
            Ok(()) => String::new(),
            Err(Blocked(text)) => text,
        };
        notes.finish(Part::Agent, &STEPS, &because)
    }

    fn levels(section: &Section) -> Vec<Level> {
        section.findings.iter().map(|finding| finding.level).collect()
    }

    #[tokio::test]
    async fn each_step_that_fails_is_the_one_that_is_told() {
        use Level::{Fail, NotTested, Ok};
        let unavailable = Fail(Kind::Unavailable);

        let section = steps("https://no-such-host.invalid/").await;
        assert_eq!(levels(&section), [unavailable, NotTested, NotTested], "{section:?}");
        assert!(section.findings[0].fix.contains("`getent hosts no-such-host.invalid`"), "{section:?}");

        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let section = steps(&format!("https://{closed}/")).await;
        assert_eq!(levels(&section), [Ok, unavailable, NotTested], "{section:?}");
        assert!(section.findings[1].why.contains("refused"), "{section:?}");
        assert!(section.findings[2].what.contains("because 127.0.0.1 cannot be reached"), "{section:?}");

        let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = plain.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                drop(plain.accept().await); // hangs up on every handshake
            }
        });
        let section = steps(&format!("https://{address}/")).await;
        assert_eq!(levels(&section), [Ok, Ok, unavailable], "{section:?}");

        let section = steps(&format!("http://{address}/")).await;
        assert_eq!(levels(&section), [Ok, Ok, Ok], "{section:?}");
    }
}
