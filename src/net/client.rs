//! The HTTP client. What holds: every wait has an end ([`Timeouts`]), a connection buffers at most
//! twice [`limits::HTTP_READ_BYTES`] of an answer, and an answer's body is only read as fast as its reader asks.

use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use bytes::{Bytes, BytesMut};
use http::uri::Scheme;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tower_service::Service as _;

use super::clock::Clock;
use super::connect::{self, Answered, Connector};
use super::error::{Error, Kind};
use super::proxy::Proxies;
use super::stream::ended_within;
use super::tls::{self, Identity};
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

/// What a client is made of.
#[derive(Debug, Clone, Default)]
pub struct Options<'a> {
    /// A file of CA certificates (PEM) that are trusted besides the system's.
    pub ca_file: Option<&'a Path>,
    /// What is shown to a server that asks for a certificate.
    pub identity: Option<&'a Identity>,
    /// Which proxy requests go through.
    pub proxies: Proxies,
    /// How long to wait for what.
    pub timeouts: Timeouts,
}

/// An HTTP/1.1 client with a pool of connections. A clone shares the pool.
#[derive(Debug, Clone)]
pub struct Client {
    pool: Pool<Connector, Full<Bytes>>,
    connector: Connector,
    proxies: Arc<Proxies>,
    clock: Arc<Clock>,
    timeouts: Timeouts,
}

impl Client {
    /// A client with connections of its own.
    ///
    /// # Errors
    /// When `ca_file` cannot be read or holds no certificate. A system without CA certificates is an error
    /// only of requests that use TLS.
    pub fn new(options: Options<'_>) -> io::Result<Client> {
        let Options { ca_file, identity, proxies, timeouts } = options;
        let (config, no_trust) = tls::config(ca_file, identity)?;
        Ok(Client::build(config, no_trust, proxies, timeouts))
    }

    /// A client for endpoints on this machine or link: without TLS, and never through a proxy.
    pub fn plain(timeouts: Timeouts) -> Client {
        let no_trust = Some("this client is for http:// alone".into());
        Client::build(tls::trusting_nobody(), no_trust, Proxies::default(), timeouts)
    }

    fn build(
        config: rustls::ClientConfig,
        no_trust: Option<Box<str>>,
        proxies: Proxies,
        timeouts: Timeouts,
    ) -> Client {
        let (proxies, clock) = (Arc::new(proxies), Arc::new(Clock::default()));
        let connector =
            Connector::new(config, no_trust, Arc::clone(&proxies), timeouts.connect, Arc::clone(&clock));
        let pool = Pool::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .http1_max_buf_size(limits::HTTP_READ_BYTES)
            .build(connector.clone());
        Client { pool, connector, proxies, clock, timeouts }
    }

    /// Connects as a request to this URI would, through its proxy and with TLS, and sends it nothing. Then it waits a
    /// little, for a server that turns a client's certificate down after the handshake, as with TLS 1.3.
    ///
    /// # Errors
    /// The [`Kind`]s of a connection that cannot be made; those of one that ends within `patience`.
    pub async fn connect(&self, to: Uri, patience: Duration) -> Result<(), Error> {
        let host: Box<str> = to.authority().map_or("", |authority| authority.as_str()).into();
        let stream = self.connector.clone().call(to).await.map_err(|error| self.blame(error))?;
        if patience.is_zero() {
            return Ok(());
        }
        match ended_within(patience, TokioIo::new(stream)).await {
            Some(ended) => Err(Error::sort(&host, &ended).unanswered()),
            None => Ok(()),
        }
    }

    /// This machine's clock, held against the dates of all answers.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Sends a request, with an absolute URI, and waits for the answer's head, whatever its status.
    ///
    /// A server may close a kept connection just when a request goes out on it. A GET is then sent once more, on a
    /// new connection.
    ///
    /// # Errors
    /// Any [`Kind`] but [`Kind::Stall`]. The request may have reached the server nevertheless.
    pub async fn request(&self, mut request: Request<Full<Bytes>>) -> Result<Response<Body>, Error> {
        let host: Box<str> = request.uri().authority().map_or("", |authority| authority.as_str()).into();
        let plain = request.uri().scheme() == Some(&Scheme::HTTP);
        // What an https:// target's proxy is told, it is told when the tunnel is made.
        let proxy = self.proxies.of(request.uri()).filter(|_| plain);
        request.headers_mut().extend(proxy.and_then(connect::authorization));
        let limit = self.timeouts.first_byte;
        let answer = match timeout(limit, self.send(&host, request)).await {
            Ok(answer) => answer?,
            Err(_) => return Err(Error::new(Kind::FirstByteTimeout, &host, waited(limit))),
        };
        if let Some(date) = connect::date_of(answer.headers()) {
            self.clock.observe(date, now());
        }
        match proxy {
            Some(proxy) if answer.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                Err(connect::wants_authorization(&host, proxy))
            }
            _ => Ok(answer.map(|incoming| Body::new(incoming, host, self.timeouts.stall))),
        }
    }

    async fn send(&self, host: &str, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Error> {
        let again = (request.method() == Method::GET).then(|| request.clone());
        let answer = match (self.pool.request(request).await, again) {
            (Err(error), Some(again)) if is_stale(&error) => self.pool.request(again).await,
            (answer, _) => answer,
        };
        let answer = answer.map_err(|error| self.sort(host, &error))?;
        if let Some(answered) = answer.extensions().get::<Answered>() {
            answered.set();
        }
        Ok(answer)
    }

    fn sort(&self, host: &str, error: &hyper_util::client::legacy::Error) -> Error {
        let sorted = self.blame(Error::sort(host, error));
        match answered(error) {
            Some(false) => sorted.unanswered(),
            _ => sorted,
        }
    }

    fn blame(&self, error: Error) -> Error {
        match (error.kind(), self.clock.fault(now())) {
            (Kind::Expired | Kind::NotYetValid, Some(fault)) => error.blame(fault),
            _ => error,
        }
    }
}

/// A connection that has carried answers before ended without one to this request.
fn is_stale(error: &hyper_util::client::legacy::Error) -> bool {
    let ended = || matches!(Error::sort("", error).kind(), Kind::ClosedEarly | Kind::Reset);
    answered(error) == Some(true) && ended()
}

/// Whether the connection on which it happened had carried an answer; `None`: there was none.
fn answered(error: &hyper_util::client::legacy::Error) -> Option<bool> {
    let mut marks = http::Extensions::new();
    error.connect_info()?.get_extras(&mut marks);
    marks.get::<Answered>().map(Answered::get)
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

#[allow(
    clippy::disallowed_methods,
    reason = "this is the shell that holds the clock against the servers' dates"
)]
pub(super) fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;
    use crate::net::scripted::{Reply, Server, tls_file, tls_server};

    const SHORT: Timeouts = Timeouts {
        connect: Duration::from_millis(300),
        first_byte: Duration::from_millis(300),
        stall: Duration::from_millis(300),
    };

    fn client() -> Client {
        with(None, SHORT)
    }

    fn with(ca_file: Option<&str>, timeouts: Timeouts) -> Client {
        let ca_file = ca_file.map(tls_file);
        Client::new(Options { ca_file: ca_file.as_deref(), timeouts, ..Default::default() }).unwrap()
    }

    async fn get(client: &Client, uri: &str) -> Result<Bytes, Error> {
        let request = Request::get(uri).body(Full::default()).unwrap();
        client.request(request).await?.into_body().read_at_most(usize::MAX).await
    }

    async fn get_scripted(reply: Reply) -> Result<Bytes, Error> {
        let server = Server::start([reply]).await;
        get(&client(), &format!("http://{}/", server.address)).await
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
        let patient = with(None, Timeouts { first_byte: Duration::from_secs(60), ..SHORT });
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
        let port = tls_server("server.pem", rustls::DEFAULT_VERSIONS).await;
        let trusting = with(Some("ca.pem"), Timeouts::default());
        assert_eq!(get(&trusting, &format!("https://localhost:{port}/")).await.unwrap(), "hello");

        let error = get(&client(), &format!("https://localhost:{port}/")).await.unwrap_err();
        assert!(matches!(error.kind(), Kind::UnknownIssuer | Kind::NoTrust), "{error}");
        assert!(error.to_string().contains("ca_file"), "{error}");
    }

    #[tokio::test]
    async fn both_versions_of_tls_are_spoken() {
        for version in rustls::ALL_VERSIONS {
            let port = tls_server("server.pem", &[version]).await;
            let trusting = with(Some("ca.pem"), Timeouts::default());
            let answer = get(&trusting, &format!("https://127.0.0.1:{port}/")).await;
            assert_eq!(answer.unwrap(), "hello", "{version:?}");
        }
    }

    /// Certificate of the server, file of trusted ones, what is wrong, words of the text.
    #[tokio::test]
    async fn faults_of_certificates_are_told_apart() {
        for (certificate, ca_file, host, kind, words) in [
            (
                "server.pem",
                "acme-ca.pem",
                "localhost",
                Kind::UnknownIssuer,
                "issuer is \"trailspool test CA\"",
            ),
            ("expired.pem", "acme-ca.pem", "localhost", Kind::Expired, "ended on Fri, 01 Jan 2021"),
            ("not-yet.pem", "acme-ca.pem", "localhost", Kind::NotYetValid, "begins on Fri, 01 Jan 2100"),
            // The same address, written so that the certificate does not name it.
            ("server.pem", "ca.pem", "[::ffff:127.0.0.1]", Kind::WrongName, "another name"),
        ] {
            let port = tls_server(certificate, rustls::DEFAULT_VERSIONS).await;
            let error =
                get(&with(Some(ca_file), SHORT), &format!("https://{host}:{port}/")).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{certificate}: {error}");
            assert!(error.to_string().contains(words), "{certificate}: {error}");
        }
    }

    /// A machine whose clock runs ahead or behind learns that from any server that it has spoken with.
    #[tokio::test]
    async fn a_certificate_out_of_its_time_is_the_clocks_fault_when_that_is_wrong() {
        let old = "Date: Wed, 21 Oct 2015 07:28:00 GMT\r\n";
        let server = Server::start([Reply::new(200, old, b"")]).await;
        let tls = tls_server("expired.pem", rustls::DEFAULT_VERSIONS).await;
        let client = with(Some("acme-ca.pem"), SHORT);
        get(&client, &format!("http://{}/", server.address)).await.unwrap();
        let error = get(&client, &format!("https://localhost:{tls}/")).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Clock, "{error}");
        let text = error.to_string();
        assert!(text.contains("days ahead of the server's: set it right (NTP)"), "{text}");
    }

    #[tokio::test]
    async fn dates_of_answers_are_held_against_the_clock() {
        let cached = "Date: Wed, 21 Oct 2015 07:28:00 GMT\r\nAge: 60\r\n";
        let right = format!("Date: {}\r\n", httpdate::fmt_http_date(now()));
        let script = [Reply::new(200, cached, b""), Reply::new(500, &right, b"")];
        let server = Server::start(script).await;
        let (client, uri) = (client(), format!("http://{}/", server.address));
        get(&client, &uri).await.unwrap();
        assert_eq!(client.clock().ahead(), None, "a cache's date is not the time");
        get(&client, &uri).await.unwrap();
        assert!(client.clock().ahead().unwrap().abs() < 60 && client.clock().skew().is_none());
    }

    /// The server ends a kept connection in the moment in which it is used again.
    #[tokio::test]
    async fn a_get_on_a_connection_that_has_just_ended_is_sent_once_more() {
        for end in [Reply::raw(b"").then_close(), Reply::raw(b"").then_reset()] {
            let script = [Reply::new(200, "", b"one"), end.clone(), Reply::new(200, "", b"two")];
            let server = Server::start(script).await;
            let (client, uri) = (client(), format!("http://{}/", server.address));
            assert_eq!(get(&client, &uri).await.unwrap(), "one");
            assert_eq!(get(&client, &uri).await.unwrap(), "two");
            assert_eq!(server.requests().len(), 3);
        }
        let end = Reply::raw(b"").then_close();
        let server = Server::start([Reply::new(200, "", b"one"), end.clone(), end]).await;
        let (client, uri) = (client(), format!("http://{}/", server.address));
        get(&client, &uri).await.unwrap();
        assert_eq!(get(&client, &uri).await.unwrap_err().kind(), Kind::ClosedEarly, "not twice");
        assert!(server.is_through());
    }

    #[tokio::test]
    async fn what_is_no_get_is_not_sent_twice() {
        let script = [Reply::new(200, "", b"one"), Reply::raw(b"").then_close(), Reply::new(200, "", b"two")];
        let server = Server::start(script).await;
        let (client, uri) = (client(), format!("http://{}/", server.address));
        get(&client, &uri).await.unwrap();
        let error = client.request(Request::post(uri).body(Full::default()).unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), Kind::ClosedEarly);
    }

    #[tokio::test]
    async fn an_ipv6_address_is_a_host() {
        let Ok(listener) = TcpListener::bind("[::1]:0").await else { return }; // a machine without IPv6
        let server = Server::serve(listener, [Reply::new(200, "", b"six")]);
        assert_eq!(get(&client(), &format!("http://{}/", server.address)).await.unwrap(), "six");
    }

    #[tokio::test]
    async fn tls_to_a_server_without_tls_says_so() {
        let trusting = with(Some("ca.pem"), SHORT);
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
