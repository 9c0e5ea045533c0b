//! Syslog over UDP, RFC 5426: a datagram for each record, and nobody says what becomes of it. What the network or a busy
//! receiver drops is lost; the kernel at least says when nothing listens at the port of a machine that answers (ICMP),
//! and then the batch is sent again.
//!
//! Datagrams go out in small bursts with a pause between them: a batch at once would overflow the receiver's buffer,
//! which is 208 KiB on Linux if nobody made it larger.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use nix::errno::Errno;
use tokio::net::UdpSocket;
use tokio::time::{Instant, sleep};

use super::lines::Lines;
use super::sender::{Fate, Items, Outcome, Reason, Refusal, Sender};
use super::syslog::Framing;
use super::tcp::{Limit, dialer, failed};
use crate::config::Peer;
use crate::net::Dialer;

/// Bytes between two pauses, and their length: 6 MiB a second at most.
const BURST: (usize, Duration) = (32 * 1024, Duration::from_millis(5));
/// The name is looked up anew after this time.
const LOOKED_UP: Duration = Duration::from_secs(60);

/// A receiver over UDP.
pub struct Udp {
    dialer: Dialer,
    limit: Limit,
    socket: Option<(UdpSocket, Instant)>,
}

impl Udp {
    /// As configured.
    ///
    /// # Errors
    /// A text for the operator.
    pub fn new(peer: &Peer) -> Result<Udp, String> {
        let limit = Limit { framing: Framing::None, most: peer.max_message_bytes };
        Ok(Udp { dialer: dialer(peer)?, limit, socket: None })
    }

    /// A socket that is connected to the first address that the kernel has a route to.
    async fn connect(&self) -> Result<UdpSocket, Outcome> {
        let addresses = self.dialer.resolve().await.map_err(|error| failed(&error))?;
        let mut fault = io::Error::other("there is no address");
        for address in addresses {
            let any = match address.ip() {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            };
            let connected = async {
                let socket = UdpSocket::bind((any, 0)).await?;
                socket.connect(address).await.map(|()| socket)
            };
            match connected.await {
                Ok(socket) => return Ok(socket),
                Err(error) => fault = error,
            }
        }
        Err(self.failed(&fault))
    }

    async fn write(&self, socket: &UdpSocket, lines: &Lines) -> Result<Outcome, Outcome> {
        let mut unfit: Vec<(usize, Refusal)> = Vec::new();
        let mut burst = 0;
        for (at, line) in lines.iter().enumerate() {
            if let Some(refusal) = self.limit.refuses(line) {
                unfit.push((at, refusal));
                continue;
            }
            match socket.send(line).await {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(Errno::EMSGSIZE as i32) => {
                    let text = format!("its message has {} bytes, too many for a datagram", line.len());
                    unfit.push((at, Refusal { reason: "too-large", text }));
                }
                Err(error) => return Err(self.failed(&error)),
            }
            burst += line.len();
            if burst >= BURST.0 {
                burst = 0;
                sleep(BURST.1).await;
            }
        }
        if unfit.is_empty() {
            return Ok(Outcome::Accepted);
        }
        let mut fates = vec![Fate::Accepted; lines.count()];
        unfit.iter().for_each(|(at, _)| fates[*at] = Fate::Unfit);
        Ok(Outcome::Items(Box::new(Items { fates, refusals: unfit, again: None })))
    }

    fn failed(&self, error: &io::Error) -> Outcome {
        let shown = self.dialer.shown();
        let text = match error.kind() {
            io::ErrorKind::ConnectionRefused => format!("nothing listens at {shown} (UDP)"),
            _ => format!("cannot send to {shown} (UDP): {error}"),
        };
        Outcome::Retry { reason: Reason::Connect, text, after: None }
    }
}

impl Sender for Udp {
    async fn send(&mut self, lines: Lines) -> Outcome {
        let (socket, since) = match self.socket.take().filter(|(_, since)| since.elapsed() < LOOKED_UP) {
            Some(open) => open,
            None => match self.connect().await {
                Ok(socket) => (socket, Instant::now()),
                Err(outcome) => return outcome,
            },
        };
        match self.write(&socket, &lines).await {
            Ok(outcome) => {
                self.socket = Some((socket, since));
                outcome
            }
            Err(outcome) => outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Transport;

    async fn sender(most: usize) -> (Udp, UdpSocket) {
        let receiver = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let peer = Peer {
            host: "127.0.0.1".into(),
            port: receiver.local_addr().unwrap().port(),
            transport: Transport::Udp,
            server_name: None,
            trust: Default::default(),
            timeout: Duration::from_secs(5),
            max_message_bytes: Some(most),
        };
        (Udp::new(&peer).unwrap(), receiver)
    }

    #[tokio::test]
    async fn each_record_is_a_datagram_and_one_that_is_too_long_is_told() {
        let (mut udp, receiver) = sender(10).await;
        let Outcome::Items(items) = udp.send(Lines::from("one\nmuch too long\nthree\n")).await else {
            panic!()
        };
        assert_eq!(items.fates, [Fate::Accepted, Fate::Unfit, Fate::Accepted]);
        assert!(items.refusals[0].1.text.contains("max_message_bytes"));
        let mut buffer = [0; 100];
        for want in ["one\n", "three\n"] {
            let count = receiver.recv(&mut buffer).await.unwrap();
            assert_eq!(&buffer[..count], want.as_bytes());
        }
    }

    #[tokio::test]
    async fn what_the_kernel_cannot_send_is_told_and_a_closed_port_too() {
        let (mut udp, receiver) = sender(1 << 20).await;
        let long = vec![b'x'; 70_000];
        let Outcome::Items(items) = udp.send(Lines::from(&long[..])).await else { panic!() };
        assert_eq!(items.fates, [Fate::Unfit]);
        drop(receiver);
        // the first datagram is what ICMP answers to
        let mut told = false;
        for _ in 0..100 {
            told |=
                matches!(udp.send(Lines::from("x")).await, Outcome::Retry { reason: Reason::Connect, .. });
            tokio::task::yield_now().await;
        }
        assert!(told);
    }
}
