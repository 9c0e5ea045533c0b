//! The way to a server, one step after the other: name, TCP, TLS. The first two are done here, so that they can
//! be told apart; TLS is the real client's, with its trust. Where there is a proxy, the first two are the way to
//! that, and the third is the tunnel and TLS to the server.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::Uri;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::super::advice;
use super::super::finding::{Blocked, Finding, Kind, Notes};
use super::STEP;
use crate::net::{Client, Proxy};

/// The steps in their order.
pub(super) const STEPS: [&str; 3] = ["dns", "tcp", "tls"];
/// Addresses of a name that are tried.
const ADDRESSES: usize = 16;

/// What the operator wrote to get to a proxy.
const PROXY: &str = "`proxy` (or the environment's HTTPS_PROXY)";

/// Probes the way to the server of a URI. `setting` names what the operator wrote to get there; `patience`: how long the
/// server has to turn down a client's certificate after the handshake.
pub(super) async fn reach(
    client: &Client,
    proxy: Option<&Proxy>,
    to: &Uri,
    setting: &str,
    patience: Duration,
    notes: &Notes,
) -> Result<(), Blocked> {
    let (host, port) = place(to);
    let first = proxy.map_or(to, Proxy::uri);
    let of_first = proxy.map_or(setting, |_| PROXY);
    let (next, next_port) = place(first);
    let addresses = look_up(next, next_port, of_first, notes).await?;
    connect(next, next_port, &addresses, proxy.is_some(), of_first, notes).await?;
    let patience = if is_tls(to) { patience } else { Duration::ZERO };
    match client.connect(to.clone(), patience).await {
        Ok(()) if is_tls(to) => {
            let through = proxy.map_or_else(String::new, |proxy| format!(", through {proxy}"));
            notes.add(Finding::ok("tls", format!("the certificate of {host} is accepted{through}")));
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

fn is_tls(uri: &Uri) -> bool {
    uri.scheme_str() == Some("https")
}

fn place(uri: &Uri) -> (&str, u16) {
    (uri.host().unwrap_or_default(), uri.port_u16().unwrap_or(if is_tls(uri) { 443 } else { 80 }))
}

pub(super) async fn look_up(
    host: &str,
    port: u16,
    setting: &str,
    notes: &Notes,
) -> Result<Vec<SocketAddr>, Blocked> {
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
pub(super) async fn connect(
    host: &str,
    port: u16,
    addresses: &[SocketAddr],
    is_proxy: bool,
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
                let who = if is_proxy { "the proxy at " } else { "" };
                notes.add(Finding::ok("tcp", format!("{who}{address} answers in {took} ms")));
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
    use crate::net::scripted::{Reply, Server};
    use crate::net::{Options, Proxies, Timeouts};

    const SHORT: Timeouts = Timeouts {
        connect: Duration::from_secs(2),
        first_byte: Duration::from_secs(2),
        stall: Duration::from_secs(2),
    };

    async fn steps(uri: &str) -> Section {
        steps_through(Proxies::default(), uri).await
    }

    async fn steps_through(proxies: Proxies, uri: &str) -> Section {
        let options = Options { ca_file: None, identity: None, proxies: proxies.clone(), timeouts: SHORT };
        let (client, notes) = (Client::new(options).unwrap(), Notes::default());
        let to = uri.parse().unwrap();
        let because = match reach(&client, proxies.of(&to), &to, "`url`", Duration::ZERO, &notes).await {
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

    /// The steps before the last are those to the proxy: what stands behind it may have no address here.
    #[tokio::test]
    async fn a_proxy_is_probed_in_the_place_of_the_server_and_then_asked_for_it() {
        use Level::{Fail, NotTested, Ok};
        let through =
            |address| Proxies::all(Proxy::new(format!("http://{address}").parse().unwrap(), None).unwrap());
        let behind = "https://only-the-proxy-knows.invalid/";

        let refusing = Server::start([Reply::new(403, "", b"")]).await;
        let section = steps_through(through(refusing.address), behind).await;
        assert_eq!(levels(&section), [Ok, Ok, Fail(Kind::Permission)], "{section:?}");
        assert!(section.findings[1].what.starts_with("the proxy at 127.0.0.1:"), "{section:?}");
        assert!(refusing.requests()[0].starts_with("CONNECT only-the-proxy-knows.invalid:443 "));

        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let section = steps_through(through(closed), behind).await;
        assert_eq!(levels(&section), [Ok, Fail(Kind::Unavailable), NotTested], "{section:?}");
        assert!(section.findings[1].fix.contains("`proxy`"), "{section:?}");
    }
}
