//! Connections that carry a stream of records: TCP, with TLS where it is wanted. The name is looked up anew for each
//! connection, every address is tried, and every wait has an end.
//!
//! A peer that vanished is found by TCP itself: bytes that stay unacknowledged, or keep-alive probes without an answer,
//! end the connection ([`Dialer::connect`]).

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustls::client::Resumption;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::{Error, Kind};
use super::tls::{self, Trust};

/// Bytes that wait in the kernel for the network, about: what may be lost with a connection stays bounded.
const SEND_BUFFER: usize = 256 * 1024;
/// An idle connection is probed after this time, then at this distance, this often before it is given up.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(60), Duration::from_secs(10), 3);
/// Least time for one address of a name that has several.
const ADDRESS: Duration = Duration::from_secs(2);
/// Bytes of what a peer that should say nothing says, read at a glance.
const GLANCE: usize = 4096;

/// Why the peer ended a connection that it was sent nothing on, if it did so within `patience`: a server may turn down a
/// client's certificate after a handshake that was whole for the client (TLS 1.3).
pub async fn ended_within(patience: Duration, mut stream: impl AsyncRead + Unpin) -> Option<io::Error> {
    let mut byte = [0; 1];
    match timeout(patience, stream.read(&mut byte)).await {
        Ok(Ok(0)) => Some(io::ErrorKind::UnexpectedEof.into()),
        Ok(Err(error)) => Some(error),
        Ok(Ok(_)) | Err(_) => None,
    }
}

/// Where to connect, and how.
pub struct Dialer {
    host: Box<str>,
    port: u16,
    tls: Option<Tls>,
    limit: Duration,
}

struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
    no_trust: Option<Box<str>>,
}

impl Dialer {
    /// Connections to `host` (a name or an address without brackets), each within `limit`. `tls`: whom to trust, and the
    /// name in the server's certificate if that is not the host.
    ///
    /// # Errors
    /// A text: a file of `tls` that is of no use, or a name that cannot stand in a certificate.
    pub fn new(
        host: &str,
        port: u16,
        tls: Option<(&Trust, Option<&str>)>,
        limit: Duration,
    ) -> io::Result<Dialer> {
        let tls = match tls {
            None => None,
            Some((trust, name)) => {
                let (mut config, no_trust) = tls::config(trust.ca_file.as_deref(), trust.identity.as_ref())?;
                // Connections are few and long, and librelp's servers end a resumed session with an internal error.
                config.resumption = Resumption::disabled();
                let name = name.unwrap_or(host);
                let name = ServerName::try_from(name.to_owned()).map_err(|_| {
                    io::Error::other(format!("{name} is no name that a certificate can have"))
                })?;
                Some(Tls { connector: TlsConnector::from(Arc::new(config)), name, no_trust })
            }
        };
        Ok(Dialer { host: host.into(), port, tls, limit })
    }

    /// `host:port`, for texts.
    pub fn shown(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// The addresses that the name has now.
    ///
    /// # Errors
    /// [`Kind::Dns`], also when that takes too long.
    pub async fn resolve(&self) -> Result<Vec<SocketAddr>, Error> {
        let dns = |why: &dyn std::fmt::Display| Error::new(Kind::Dns, &self.host, why);
        match timeout(self.limit, lookup_host((&*self.host, self.port))).await {
            Err(_) => Err(dns(&format_args!("no answer within {:?}", self.limit))),
            Ok(Err(error)) => Err(dns(&error)),
            Ok(Ok(found)) => {
                let found: Vec<SocketAddr> = found.collect();
                if found.is_empty() { Err(dns(&"there is none")) } else { Ok(found) }
            }
        }
    }

    /// A TCP connection to the first address that takes one.
    ///
    /// # Errors
    /// The fault of the last address.
    pub async fn tcp(&self) -> Result<TcpStream, Error> {
        let begun = Instant::now();
        let addresses = self.resolve().await?;
        let mut fault = None;
        for (n, address) in addresses.iter().enumerate() {
            let left = self.limit.saturating_sub(begun.elapsed()) / (addresses.len() - n) as u32;
            let wait = left.max(ADDRESS.min(self.limit));
            fault = Some(match timeout(wait, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    set_up(&stream, self.limit).map_err(|error| Error::sort(&self.shown(), &error))?;
                    return Ok(stream);
                }
                Ok(Err(error)) => Error::sort(&self.shown(), &error),
                Err(_) => Error::new(Kind::ConnectTimeout, &self.shown(), format_args!("waited {wait:?}")),
            });
        }
        Err(fault.unwrap_or_else(|| Error::new(Kind::Dns, &self.host, "there is no address")))
    }

    /// A connection, with its TLS handshake done. A server that wants a certificate and does not accept ours may say so
    /// later, in place of an answer.
    ///
    /// # Errors
    /// The [`Kind`]s of a connection that cannot be made.
    pub async fn connect(&self) -> Result<Stream, Error> {
        if let Some(why) = self.tls.as_ref().and_then(|tls| tls.no_trust.as_deref()) {
            return Err(Error::new(Kind::NoTrust, &self.shown(), why));
        }
        let tcp = self.tcp().await?;
        self.secure(tcp).await
    }

    /// The TLS handshake on a connection that [`Dialer::tcp`] made, for protocols that begin without; without TLS the
    /// connection as it is.
    ///
    /// # Errors
    /// As [`Dialer::connect`].
    pub async fn secure(&self, tcp: TcpStream) -> Result<Stream, Error> {
        let Some(tls) = &self.tls else { return Ok(Stream::Tcp(tcp)) };
        match timeout(self.limit, tls.connector.connect(tls.name.clone(), tcp)).await {
            Ok(Ok(stream)) => Ok(Stream::Tls(Box::new(stream))),
            Ok(Err(error)) => Err(match Error::sort(&self.shown(), &error) {
                // what speaks another protocol closes, or answers with something that is no TLS
                sorted if matches!(sorted.kind(), Kind::ClosedEarly | Kind::Reset | Kind::Other) => {
                    Error::new(Kind::Tls, &self.shown(), &error).broken_off()
                }
                sorted => sorted,
            }),
            Err(_) => {
                let why = format_args!("no TLS handshake within {:?}", self.limit);
                Err(Error::new(Kind::ConnectTimeout, &self.shown(), why))
            }
        }
    }
}

fn set_up(stream: &TcpStream, limit: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_send_buffer_size(SEND_BUFFER)?;
    let (idle, distance, times) = KEEPALIVE;
    let keepalive = TcpKeepalive::new().with_time(idle).with_interval(distance).with_retries(times);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(limit))
}

/// A connection.
pub enum Stream {
    /// Without encryption.
    Tcp(TcpStream),
    /// With TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Looks whether the peer has ended the connection, without waiting. What a peer that should say nothing says is
    /// read and forgotten.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`]: it closed; else what the system or TLS says.
    pub fn look(&mut self) -> io::Result<()> {
        let mut context = Context::from_waker(Waker::noop());
        let mut buffer = [0; GLANCE];
        let mut buffer = ReadBuf::new(&mut buffer);
        loop {
            match Pin::new(&mut *self).poll_read(&mut context, &mut buffer) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Poll::Ready(Ok(())) if buffer.remaining() == 0 => return Ok(()),
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Err(error),
            }
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn an_ipv6_address_is_connected_to_and_shown_in_brackets() {
        // a machine without IPv6 has nothing to show
        let Ok(listener) = TcpListener::bind("[::1]:0").await else { return };
        let port = listener.local_addr().unwrap().port();
        let dialer = Dialer::new("::1", port, None, Duration::from_secs(5)).unwrap();
        assert_eq!(dialer.shown(), format!("[::1]:{port}"));
        assert!(matches!(dialer.connect().await, Ok(Stream::Tcp(_))));
    }

    #[tokio::test]
    async fn a_look_tells_an_end_and_a_word_from_silence() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let dialer = Dialer::new("127.0.0.1", port, None, Duration::from_secs(5)).unwrap();
        let mut stream = dialer.connect().await.unwrap();
        let (mut other, _) = listener.accept().await.unwrap();
        assert!(stream.look().is_ok());
        tokio::io::AsyncWriteExt::write_all(&mut other, b"hello").await.unwrap();
        tokio::task::yield_now().await;
        assert!(stream.look().is_ok());
        drop(other);
        let error = loop {
            tokio::task::yield_now().await;
            if let Err(error) = stream.look() {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
