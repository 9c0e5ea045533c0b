//! The HTTP client. What holds: every wait has an end ([`Timeouts`]), a connection buffers at most
//! twice [`limits::HTTP_READ_BYTES`] of an answer, and an answer's body is only read as fast as its reader asks.

use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::uri::Scheme;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiAddrs, GaiResolver, Name};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, timeout};
use tower_service::Service;

use super::error::{Error, Kind, NotResolved};
use super::tls;
use crate::limits;

/// Connections kept open without a request, each host.
const IDLE_CONNECTIONS: usize = limits::FETCHES_IN_FLIGHT;
/// How long they are kept. S3 closes an idle connection after some 20 s; closing first avoids the race.
const IDLE_TIME: Duration = Duration::from_secs(15);

/// How long a client waits for what.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// Name look-up, TCP and TLS handshake together.
    pub connect: Duration,
    /// From the request (with connecting, if that is needed) to the answer's head.
    pub first_byte: Duration,
    /// For the next piece of an answer's body, from when it is asked for.
    pub stall: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            connect: Duration::from_secs(10),
            first_byte: Duration::from_secs(30),
            stall: Duration::from_secs(30),
        }
    }
}

/// An HTTP/1.1 client with a pool of connections. A clone shares the pool.
#[derive(Debug, Clone)]
pub struct Client {
    pool: Pool<Connector, Full<Bytes>>,
    connector: Connector,
    timeouts: Timeouts,
}

impl Client {
    /// A client that trusts the system's CA certificates and those in `ca_file` (PEM).
    ///
    /// # Errors
    /// When `ca_file` cannot be read or holds no certificate. A system without CA certificates is an error
    /// only of requests that use TLS.
    pub fn new(ca_file: Option<&Path>) -> io::Result<Client> {
        Client::with_timeouts(ca_file, Timeouts::default())
    }

    /// As [`Client::new`], with other time-outs.
    pub fn with_timeouts(ca_file: Option<&Path>, timeouts: Timeouts) -> io::Result<Client> {
        let (config, no_trust) = tls::config(ca_file)?;
        let mut tcp = HttpConnector::new_with_resolver(Resolver(GaiResolver::new()));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(timeouts.connect));
        let connector = Connector {
            https: HttpsConnector::from((tcp, config)),
            limit: timeouts.connect,
            no_trust: no_trust.map(Arc::from),
        };
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .http1_max_buf_size(limits::HTTP_READ_BYTES)
            .build(connector.clone());
        Ok(Client { pool, connector, timeouts })
    }

    /// Connects as a request to this URI would, TLS included, and sends nothing.
    ///
    /// # Errors
    /// The [`Kind`]s of a connection that cannot be made.
    pub async fn connect(&self, to: Uri) -> Result<(), Error> {
        self.connector.clone().call(to).await.map(drop)
    }

    /// Sends a request, with an absolute URI, and waits for the answer's head, whatever its status.
    ///
    /// # Errors
    /// Any [`Kind`] but [`Kind::Stall`]. The request may have reached the server nevertheless.
    pub async fn request(&self, request: Request<Full<Bytes>>) -> Result<Response<Body>, Error> {
        let host: Box<str> = request.uri().authority().map_or("", |authority| authority.as_str()).into();
        let answer = match timeout(self.timeouts.first_byte, self.pool.request(request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(Error::sort(&host, &error)),
            Err(_) => {
                return Err(Error::new(Kind::FirstByteTimeout, &host, waited(self.timeouts.first_byte)));
            }
        };
        Ok(answer.map(|incoming| Body::new(incoming, host, self.timeouts.stall)))
    }
}

/// The body of an answer, as it came over the wire. Dropping it before its end closes the connection.
#[derive(Debug)]
pub struct Body {
    incoming: Incoming,
    host: Box<str>,
    stall: Duration,
    /// The end of the wait that is under way, if `waiting`.
    timer: Pin<Box<Sleep>>,
    waiting: bool,
}

impl Body {
    fn new(incoming: Incoming, host: Box<str>, stall: Duration) -> Body {
        Body { incoming, host, stall, timer: Box::pin(sleep(stall)), waiting: false }
    }

    /// The next piece, never empty and at most twice [`limits::HTTP_READ_BYTES`] long; `None` at the end.
    /// May be cancelled: nothing is lost.
    ///
    /// # Errors
    /// [`Kind::Stall`], [`Kind::Reset`], [`Kind::ClosedEarly`] (also when fewer bytes came than
    /// `Content-Length` said), [`Kind::Tls`].
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        self.waiting = false; // a wait that was cancelled does not count
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// As [`Body::chunk`]. The time-out runs from the first poll that has to wait.
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        loop {
            let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) else {
                if !self.waiting {
                    self.waiting = true;
                    self.timer.as_mut().reset(Instant::now() + self.stall);
                }
                ready!(self.timer.as_mut().poll(cx));
                return Poll::Ready(Err(Error::new(Kind::Stall, &self.host, waited(self.stall))));
            };
            self.waiting = false;
            match frame {
                None => return Poll::Ready(Ok(None)),
                Some(Err(error)) => return Poll::Ready(Err(Error::sort(&self.host, &error))),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Poll::Ready(Ok(Some(data))),
                    _ => continue, // an empty piece, or trailers
                },
            }
        }
    }

    /// The bytes that are still to come, where the answer said how many.
    pub fn remaining(&self) -> Option<u64> {
        self.incoming.size_hint().exact()
    }

    /// The first `limit` bytes; the rest is not read.
    ///
    /// # Errors
    /// As [`Body::chunk`].
    pub async fn read_at_most(mut self, limit: usize) -> Result<Bytes, Error> {
        let mut bytes = BytesMut::new();
        while bytes.len() < limit
            && let Some(chunk) = self.chunk().await?
        {
            bytes.extend_from_slice(&chunk[..chunk.len().min(limit - bytes.len())]);
        }
        Ok(bytes.freeze())
    }
}

fn waited(limit: Duration) -> String {
    format!("waited {limit:?}")
}

/// Name look-up, TCP and TLS with one time-out around them.
#[derive(Debug, Clone)]
struct Connector {
    https: HttpsConnector<HttpConnector<Resolver>>,
    limit: Duration,
    no_trust: Option<Arc<str>>,
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(())) // both connectors inside always are
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let host: Box<str> = to.authority().map_or("", |authority| authority.as_str()).into();
        if let Some(why) = self.no_trust.clone()
            && to.scheme() == Some(&Scheme::HTTPS)
        {
            return Box::pin(async move { Err(Error::new(Kind::NoTrust, &host, why)) });
        }
        let limit = self.limit;
        let connecting = self.https.call(to);
        Box::pin(async move {
            match timeout(limit, connecting).await {
                Ok(Ok(stream)) => Ok(stream),
                Ok(Err(error)) => Err(Error::sort(&host, &*error)),
                Err(_) => Err(Error::new(Kind::ConnectTimeout, &host, waited(limit))),
            }
        })
    }
}

/// The system's resolver, with errors that can be told from those of a connection.
#[derive(Debug, Clone)]
struct Resolver(GaiResolver);

impl Service<Name> for Resolver {
    type Response = GaiAddrs;
    type Error = NotResolved;
    type Future = Pin<Box<dyn Future<Output = Result<GaiAddrs, NotResolved>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NotResolved>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let lookup = self.0.call(name);
        Box::pin(async move { lookup.await.map_err(NotResolved) })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;
    use crate::net::scripted::{Reply, Server};

    const SHORT: Timeouts = Timeouts {
        connect: Duration::from_millis(300),
        first_byte: Duration::from_millis(300),
        stall: Duration::from_millis(300),
    };

    fn client() -> Client {
        Client::with_timeouts(None, SHORT).unwrap()
    }

    async fn get(client: &Client, uri: &str) -> Result<Bytes, Error> {
        let request = Request::get(uri).body(Full::default()).unwrap();
        client.request(request).await?.into_body().read_at_most(usize::MAX).await
    }

    async fn get_scripted(reply: Reply) -> Result<Bytes, Error> {
        let server = Server::start([reply]).await;
        get(&client(), &format!("http://{}/", server.address)).await
    }

    fn tls_folder() -> PathBuf {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/tls"))
    }

    /// A TLS server for `localhost`, certified by `ca.pem`, that answers every connection with "hello".
    async fn tls_server() -> u16 {
        let certificate = CertificateDer::from_pem_file(tls_folder().join("server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(tls_folder().join("server.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                if let Ok(mut tls) = acceptor.accept(tcp).await {
                    tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await.unwrap();
                    tls.shutdown().await.unwrap();
                }
            }
        });
        port
    }

    #[tokio::test]
    async fn connections_are_kept_and_used_again() {
        let server = Server::start([Reply::new(200, "", b"one"), Reply::new(404, "", b"two")]).await;
        let (client, uri) = (client(), format!("http://{}/", server.address));
        assert_eq!(get(&client, &uri).await.unwrap(), "one");
        assert_eq!(get(&client, &uri).await.unwrap(), "two");
        assert!(server.is_through());
    }

    #[tokio::test]
    async fn redirects_are_answers() {
        let server = Server::start([Reply::new(301, "Location: http://127.0.0.1:1/\r\n", b"")]).await;
        let request = Request::get(format!("http://{}/", server.address)).body(Full::default()).unwrap();
        assert_eq!(client().request(request).await.unwrap().status(), 301);
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_the_limit_only() {
        let server = Server::start([Reply::announcing(1 << 40, 200, "", &[b'x'; 100_000])]).await;
        let request = Request::get(format!("http://{}/", server.address)).body(Full::default()).unwrap();
        let body = client().request(request).await.unwrap().into_body();
        assert_eq!(body.remaining(), Some(1 << 40));
        assert_eq!(body.read_at_most(70_000).await.unwrap().len(), 70_000);
    }

    #[tokio::test]
    async fn a_piece_of_a_body_is_never_larger_than_two_read_buffers() {
        let server = Server::start([Reply::new(200, "", &vec![0; 1_000_000])]).await;
        let request = Request::get(format!("http://{}/", server.address)).body(Full::default()).unwrap();
        let mut body = client().request(request).await.unwrap().into_body();
        let mut read = 0;
        while let Some(chunk) = body.chunk().await.unwrap() {
            assert!(!chunk.is_empty() && chunk.len() <= 2 * limits::HTTP_READ_BYTES, "{}", chunk.len());
            read += chunk.len();
        }
        assert_eq!(read, 1_000_000);
    }

    #[tokio::test]
    async fn a_head_larger_than_the_read_buffer_is_refused() {
        let huge = format!("X: {}\r\n", "x".repeat(2 * limits::HTTP_READ_BYTES));
        assert_eq!(get_scripted(Reply::new(200, &huge, b"")).await.unwrap_err().kind(), Kind::NotHttp);
    }

    #[tokio::test]
    async fn what_a_server_does_wrong_is_told_apart() {
        for (reply, kind) in [
            (Reply::raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), Kind::NotHttp),
            (Reply::raw(b"").then_close(), Kind::ClosedEarly),
            (Reply::raw(b"HTTP/1.1 200 OK\r\nConte").then_close(), Kind::ClosedEarly),
            (Reply::announcing(10, 200, "", b"short").then_close(), Kind::ClosedEarly),
            (Reply::announcing(10, 200, "", b"short").then_reset(), Kind::Reset),
            (Reply::announcing(10, 200, "", b"short").then_hang(), Kind::Stall),
            (Reply::raw(b"").then_hang(), Kind::FirstByteTimeout),
        ] {
            let error = get_scripted(reply.clone()).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{reply:?}: {error}");
            assert!(error.to_string().contains("127.0.0.1"), "{error}");
        }
    }

    #[tokio::test]
    async fn no_connection_is_told_apart() {
        let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let patient =
            Client::with_timeouts(None, Timeouts { first_byte: Duration::from_secs(60), ..SHORT }).unwrap();
        for (uri, kind) in [
            (format!("http://127.0.0.1:{unused}/"), Kind::Refused),
            ("http://no..such..host/".into(), Kind::Dns),
            (format!("https://127.0.0.1:{}/", silent.local_addr().unwrap().port()), Kind::ConnectTimeout),
        ] {
            let error = get(&patient, &uri).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{uri}: {error}");
        }
    }

    #[tokio::test]
    async fn a_private_ca_is_trusted_by_its_file_alone() {
        let port = tls_server().await;
        let ca_file = tls_folder().join("ca.pem");
        let trusting = Client::with_timeouts(Some(&ca_file), Timeouts::default()).unwrap();
        assert_eq!(get(&trusting, &format!("https://localhost:{port}/")).await.unwrap(), "hello");

        let error = get(&client(), &format!("https://localhost:{port}/")).await.unwrap_err();
        assert!(matches!(error.kind(), Kind::Certificate | Kind::NoTrust), "{error}");
        assert!(error.to_string().contains("ca_file"), "{error}");
    }

    #[tokio::test]
    async fn a_certificate_for_another_name_is_refused() {
        let port = tls_server().await;
        let trusting =
            Client::with_timeouts(Some(&tls_folder().join("ca.pem")), Timeouts::default()).unwrap();
        // The same address, written so that the certificate does not name it.
        let error = get(&trusting, &format!("https://[::ffff:127.0.0.1]:{port}/")).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Certificate, "{error}");
        assert!(error.to_string().contains("another name"), "{error}");
    }

    #[tokio::test]
    async fn tls_to_a_server_without_tls_says_so() {
        let trusting = Client::with_timeouts(Some(&tls_folder().join("ca.pem")), SHORT).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        });
        let error = get(&trusting, &format!("https://127.0.0.1:{port}/")).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Tls, "{error}");
    }
}
