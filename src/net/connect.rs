//! Connections: straight to the server, or through a proxy, with TLS to the server where its URL says so.
//!
//! ```text
//! Connector        one time-out around everything
//!   HttpsConnector   TLS to the server
//!     Dial             TCP to the server, or to the proxy:
//!                        https:// target: a tunnel (CONNECT)
//!                        http:// target: the proxy is sent the request itself, with the absolute URL
//!       HttpsConnector   TLS to the proxy, where its URL says so
//! ```
//!
//! Source: RFC 9110, sections 9.3.6 (CONNECT), 7.1 and 11.7; RFC 9112, section 3.2.2 (absolute form).

use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, DATE, HOST, HeaderValue, PROXY_AUTHORIZATION};
use http::uri::Scheme;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::dns::{GaiAddrs, GaiResolver, Name};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower_service::Service;

use super::clock::Clock;
use super::error::{Error, Kind, NotResolved};
use super::proxy::{Proxies, Proxy};
use crate::limits;

type Tcp = HttpConnector<Resolver>;
type Future<T> = Pin<Box<dyn std::future::Future<Output = Result<T, Error>> + Send>>;

/// Everything of a connection with one time-out around it.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    https: HttpsConnector<Dial>,
    proxies: Arc<Proxies>,
    limit: Duration,
    no_trust: Option<Arc<str>>,
}

impl Connector {
    /// `no_trust`: why `tls` trusts nobody. The dates of proxies' answers go to `clock`.
    pub(super) fn new(
        tls: ClientConfig,
        no_trust: Option<Box<str>>,
        proxies: Arc<Proxies>,
        limit: Duration,
        clock: Arc<Clock>,
    ) -> Connector {
        let mut tcp = HttpConnector::new_with_resolver(Resolver(GaiResolver::new()));
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(limit));
        let tls = Arc::new(tls);
        let to_proxy = HttpsConnector::from((tcp.clone(), Arc::clone(&tls)));
        let dial = Dial { tcp, to_proxy, proxies: Arc::clone(&proxies), clock };
        let https = HttpsConnector::from((dial, tls));
        Connector { https, proxies, limit, no_trust: no_trust.map(Arc::from) }
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<Dialled>;
    type Error = Error;
    type Future = Future<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(())) // the connectors inside always are
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let host = host_of(&to);
        let proxy = self.proxies.of(&to).cloned();
        let uses_tls = |uri: &Uri| uri.scheme() == Some(&Scheme::HTTPS);
        if let Some(why) = self.no_trust.clone()
            && (uses_tls(&to) || proxy.as_ref().is_some_and(|proxy| uses_tls(proxy.uri())))
        {
            return Box::pin(async move { Err(Error::new(Kind::NoTrust, &host, why)) });
        }
        let limit = self.limit;
        let connecting = self.https.call(to);
        Box::pin(async move {
            let error = match timeout(limit, connecting).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => Error::sort(&host, &*error),
                Err(_) => Error::new(Kind::ConnectTimeout, &host, format_args!("waited {limit:?}")),
            };
            Err(match proxy {
                Some(proxy) => error.through(&proxy),
                None => error,
            })
        })
    }
}

/// A connection that carries HTTP to the server: TCP, a tunnel, or TCP to a proxy that is sent absolute URLs.
pub(super) struct Dialled {
    stream: MaybeHttpsStream<TokioIo<TcpStream>>,
    absolute: bool,
    answered: Answered,
}

/// A mark that goes with a connection: it has carried an answer before.
#[derive(Debug, Clone, Default)]
pub(super) struct Answered(Arc<AtomicBool>);

impl Answered {
    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Opens connections to servers or to their proxies.
#[derive(Clone)]
struct Dial {
    tcp: Tcp,
    to_proxy: HttpsConnector<Tcp>,
    proxies: Arc<Proxies>,
    clock: Arc<Clock>,
}

impl Service<Uri> for Dial {
    type Response = Dialled;
    type Error = Error;
    type Future = Future<Dialled>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(())) // the connectors inside always are
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let host = host_of(&to);
        let dialled = |stream, absolute| Dialled { stream, absolute, answered: Answered::default() };
        let Some(proxy) = self.proxies.of(&to).cloned() else {
            let connecting = self.tcp.call(to);
            return Box::pin(async move {
                let tcp = connecting.await.map_err(|error| Error::sort(&host, &error))?;
                Ok(dialled(MaybeHttpsStream::Http(tcp), false))
            });
        };
        let connecting = self.to_proxy.call(proxy.uri().clone());
        let clock = Arc::clone(&self.clock);
        Box::pin(async move {
            let stream = connecting.await.map_err(|error| {
                let why = Error::sort(&host_of(proxy.uri()), &*error);
                Error::new(Kind::Proxy, &host, why).through(&proxy)
            })?;
            if to.scheme() != Some(&Scheme::HTTPS) {
                return Ok(dialled(stream, true));
            }
            let tunnel = tunnel(stream, &to, &host, &proxy, &clock);
            tunnel.await.map(|stream| dialled(stream, false)).map_err(|error| error.through(&proxy))
        })
    }
}

/// Asks a proxy for a tunnel to the server.
async fn tunnel<T>(stream: T, to: &Uri, host: &str, proxy: &Proxy, clock: &Clock) -> Result<T, Error>
where
    T: Read + Write + Unpin,
{
    let no_proxy = |why: &dyn std::fmt::Display| Error::new(Kind::NotAProxy, host, why);
    let target = format!("{}:{}", to.host().unwrap_or(""), to.port_u16().unwrap_or(443));
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = target.parse().map_err(|error| no_proxy(&error))?;
    request.headers_mut().insert(HOST, target.parse().map_err(|error| no_proxy(&error))?);
    request.headers_mut().extend(authorization(proxy));

    let mut http = http1::Builder::new();
    http.max_buf_size(limits::HTTP_READ_BYTES);
    let (mut sender, connection) = http.handshake(stream).await.map_err(|error| no_proxy(&error))?;
    let (mut asked, mut connection) =
        (pin!(sender.send_request(request)), pin!(connection.without_shutdown()));
    let mut rest = None;
    let answer = loop {
        tokio::select! {
            biased;
            answer = &mut asked => break answer.map_err(|error| unanswered(host, &error))?,
            ended = &mut connection, if rest.is_none() => rest = Some(ended),
        }
    };
    if let Some(date) = date_of(answer.headers()) {
        clock.observe(date, super::client::now());
    }
    if !answer.status().is_success() {
        return Err(refused(host, proxy, &answer));
    }
    let is_page =
        answer.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/"));
    let rest = match rest {
        Some(rest) => rest,
        None => connection.await,
    };
    let parts = rest.map_err(|error| unanswered(host, &error))?;
    match is_page || !parts.read_buf.is_empty() {
        true => Err(no_proxy(&"it sends a page where a tunnel should begin")),
        false => Ok(parts.io),
    }
}

/// The header that a proxy wants, if it wants one.
pub(super) fn authorization(proxy: &Proxy) -> Option<(http::HeaderName, HeaderValue)> {
    let mut value = HeaderValue::from_str(proxy.authorization()?.reveal()).ok()?; // base64 always is one
    value.set_sensitive(true);
    Some((PROXY_AUTHORIZATION, value))
}

/// What a proxy means that answers CONNECT with anything but 2xx.
fn refused(host: &str, proxy: &Proxy, answer: &Response<Incoming>) -> Error {
    let status = answer.status();
    match status {
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => wants_authorization(host, proxy),
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            Error::new(Kind::ProxyFailed, host, status)
        }
        // These are what a web server says to a method that it does not know.
        StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::NOT_IMPLEMENTED => {
            Error::new(Kind::NotAProxy, host, format_args!("it answers CONNECT with {status}"))
        }
        _ if status.is_redirection() => {
            Error::new(Kind::NotAProxy, host, format_args!("it answers CONNECT with {status}"))
        }
        _ if status.is_server_error() => Error::new(Kind::ProxyFailed, host, status),
        _ => Error::new(Kind::ProxyRefused, host, status),
    }
}

/// 407
pub(super) fn wants_authorization(host: &str, proxy: &Proxy) -> Error {
    let why = match proxy.authorization() {
        Some(_) => "does not accept the user name and password (407)",
        None => "asks for a user name and a password (407)",
    };
    Error::new(Kind::ProxyAuth, host, why).through(proxy)
}

/// A proxy that closes instead of answering, or answers with something else than HTTP.
fn unanswered(host: &str, error: &hyper::Error) -> Error {
    match Error::sort(host, error).kind() {
        Kind::NotHttp => Error::new(Kind::NotAProxy, host, error),
        _ => Error::new(Kind::Proxy, host, error),
    }
}

/// When an answer was made. One from a cache says an earlier time.
pub(super) fn date_of(headers: &HeaderMap) -> Option<std::time::SystemTime> {
    let date = headers.get(DATE).filter(|_| !headers.contains_key("age"))?;
    httpdate::parse_http_date(date.to_str().ok()?).ok()
}

fn host_of(uri: &Uri) -> Box<str> {
    uri.authority().map_or("", |authority| authority.as_str()).into()
}

impl Connection for Dialled {
    fn connected(&self) -> Connected {
        self.stream.connected().proxy(self.absolute).extra(self.answered.clone())
    }
}

impl Read for Dialled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl Write for Dialled {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// The system's resolver, with errors that can be told from those of a connection.
#[derive(Debug, Clone)]
struct Resolver(GaiResolver);

impl Service<Name> for Resolver {
    type Response = GaiAddrs;
    type Error = NotResolved;
    type Future = Pin<Box<dyn std::future::Future<Output = Result<GaiAddrs, NotResolved>> + Send>>;

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
    use std::sync::Mutex;

    use http_body_util::Full;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
    use tokio::net::TcpListener;

    use super::*;
    use crate::net::scripted::{Reply, Server, tls_file, tls_server};
    use crate::net::{Client, NoProxy, Options, Timeouts};

    const TIMEOUTS: Timeouts = Timeouts {
        connect: Duration::from_secs(2),
        first_byte: Duration::from_secs(5),
        stall: Duration::from_secs(5),
    };
    /// Hosts that only a proxy knows: nothing resolves them here.
    const TLS: &str = "https://s3.behind.test/";
    const PLAIN: &str = "http://s3.behind.test/k?q=1";

    fn proxy(port: u16, userinfo: Option<&str>) -> Proxy {
        Proxy::new(format!("http://127.0.0.1:{port}").parse().unwrap(), userinfo).unwrap()
    }

    fn client(proxies: Proxies) -> Client {
        let ca_file = tls_file("ca.pem");
        Client::new(Options { ca_file: Some(&ca_file), identity: None, proxies, timeouts: TIMEOUTS }).unwrap()
    }

    async fn get(client: &Client, uri: &str) -> Result<Bytes, Error> {
        let request = Request::get(uri).header("host", "s3.behind.test").body(Full::default()).unwrap();
        client.request(request).await?.into_body().read_at_most(usize::MAX).await
    }

    /// A proxy that sends every tunnel to one port here; the heads that it was sent.
    async fn tunnels_to(port: u16) -> (u16, Arc<Mutex<Vec<String>>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        tokio::spawn(async move {
            loop {
                let (mut from, _) = listener.accept().await.unwrap();
                let seen = Arc::clone(&seen);
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(from.read_u8().await.unwrap());
                    }
                    seen.lock().unwrap().push(String::from_utf8(head).unwrap());
                    let mut to = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    from.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
                    let _ = copy_bidirectional(&mut from, &mut to).await;
                });
            }
        });
        (own, heads)
    }

    #[tokio::test]
    async fn tls_goes_through_a_tunnel_and_is_verified_against_the_servers_name() {
        let server = tls_server("server.pem", rustls::DEFAULT_VERSIONS).await;
        let (port, heads) = tunnels_to(server).await;
        let through = client(Proxies::all(proxy(port, Some("user:pass"))));
        // The certificate is for localhost, and that is what the tunnel ends at, but not what was asked for.
        let error = get(&through, TLS).await.unwrap_err();
        assert_eq!(error.kind(), Kind::WrongName, "{error}");
        assert!(error.to_string().contains(&format!("through the proxy http://127.0.0.1:{port}")), "{error}");
        let head = heads.lock().unwrap()[0].clone();
        assert!(head.starts_with("CONNECT s3.behind.test:443 HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("host: s3.behind.test:443\r\n"), "{head}");
        assert!(head.contains("proxy-authorization: Basic dXNlcjpwYXNz\r\n"), "{head}");
    }

    #[tokio::test]
    async fn an_answer_comes_through_a_tunnel() {
        let server = tls_server("server.pem", rustls::DEFAULT_VERSIONS).await;
        // localhost itself is never asked for through a proxy, so this connector is told to by hand.
        let (port, heads) = tunnels_to(server).await;
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let target = format!("https://localhost:{server}/").parse().unwrap();
        let io = TokioIo::new(stream);
        let io = tunnel(io, &target, "localhost", &proxy(port, None), &Clock::default()).await.unwrap();
        let (config, _) = crate::net::tls::config(Some(&tls_file("ca.pem")), None).unwrap();
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let mut tls = connector.connect(name, io.into_inner()).await.unwrap();
        let mut answer = String::new();
        tls.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let _ = tls.read_to_string(&mut answer).await; // the server ends without waiting for our end
        assert!(answer.ends_with("hello"), "{answer}");
        assert!(!heads.lock().unwrap()[0].contains("authorization"));
    }

    #[tokio::test]
    async fn plain_requests_are_sent_to_the_proxy_in_absolute_form_over_kept_connections() {
        let server = Server::start([Reply::new(200, "", b"one"), Reply::new(200, "", b"two")]).await;
        let through = client(Proxies::all(proxy(server.address.port(), Some("u:p"))));
        assert_eq!(get(&through, PLAIN).await.unwrap(), "one");
        assert_eq!(get(&through, PLAIN).await.unwrap(), "two");
        for head in server.requests() {
            assert!(head.starts_with("GET http://s3.behind.test/k?q=1 HTTP/1.1\r\n"), "{head}");
            assert!(head.contains("host: s3.behind.test\r\n"), "{head}");
            assert!(head.contains("proxy-authorization: Basic dTpw\r\n"), "{head}");
        }
    }

    /// boto/botocore#2644
    #[tokio::test]
    async fn this_machine_is_reached_directly_and_never_told_the_proxys_password() {
        let server = Server::start([Reply::new(200, "", b"direct"), Reply::new(200, "", b"direct")]).await;
        let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let all = Proxies::all(proxy(unused, Some("u:p")));
        let port = server.address.port();
        for host in ["127.0.0.1", "localhost"] {
            assert_eq!(get(&client(all.clone()), &format!("http://{host}:{port}/")).await.unwrap(), "direct");
        }
        for head in server.requests() {
            assert!(head.starts_with("GET / HTTP/1.1\r\n") && !head.contains("proxy"), "{head}");
        }
    }

    #[tokio::test]
    async fn what_no_proxy_names_is_reached_directly() {
        let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let except = NoProxy::parse("behind.test");
        let error =
            get(&client(Proxies { except, ..Proxies::all(proxy(unused, None)) }), TLS).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Dns, "{error}");
    }

    #[tokio::test]
    async fn what_a_proxy_does_to_a_tunnel_is_told_apart() {
        let page = "Content-Type: text/html\r\n";
        for (reply, kind, words) in [
            (Reply::new(407, "Proxy-Authenticate: Basic realm=x\r\n", b""), Kind::ProxyAuth, "USER:PASSWORD"),
            (Reply::new(403, page, b"<html>blocked"), Kind::ProxyRefused, "allow CONNECT"),
            (Reply::new(405, "", b""), Kind::ProxyRefused, "405"),
            (Reply::new(503, page, b"<html>squid: no DNS"), Kind::ProxyFailed, "no connection to it"),
            (Reply::new(502, "", b""), Kind::ProxyFailed, "502"),
            (Reply::new(504, "", b""), Kind::ProxyFailed, "504"),
            (Reply::new(200, page, b"<html>welcome"), Kind::NotAProxy, "a page"),
            (Reply::raw(b"HTTP/1.1 200 OK\r\n\r\n<html>welcome"), Kind::NotAProxy, "a page"),
            (Reply::new(302, "Location: http://portal/\r\n", b""), Kind::NotAProxy, "302"),
            (Reply::new(400, page, b"<html>"), Kind::NotAProxy, "400"),
            (Reply::new(404, "", b""), Kind::NotAProxy, "404"),
            (Reply::new(501, "", b""), Kind::NotAProxy, "501"),
            (Reply::raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), Kind::NotAProxy, "as a proxy"),
            (Reply::raw(b"").then_close(), Kind::Proxy, "cannot be reached"),
            (Reply::raw(b"HTTP/1.1 200 OK\r\nX").then_close(), Kind::Proxy, "cannot be reached"),
            (Reply::raw(b"").then_reset(), Kind::Proxy, "cannot be reached"),
            (Reply::raw(b"").then_hang(), Kind::ConnectTimeout, "through the proxy"),
        ] {
            let server = Server::start([reply.clone()]).await;
            let through = client(Proxies::all(proxy(server.address.port(), None)));
            let error = get(&through, TLS).await.unwrap_err();
            assert_eq!(error.kind(), kind, "{reply:?}: {error}");
            let text = error.to_string();
            assert!(text.contains(words) && text.contains("s3.behind.test"), "{text}");
            assert!(text.contains(&format!("http://127.0.0.1:{}", server.address.port())), "{text}");
        }
    }

    #[tokio::test]
    async fn a_password_that_is_not_accepted_is_not_shown() {
        let wrong = Reply::new(407, "", b"");
        let server = Server::start([wrong.clone(), wrong]).await;
        let through = client(Proxies::all(proxy(server.address.port(), Some("alice:hunter2"))));
        for target in [TLS, PLAIN] {
            let error = get(&through, target).await.unwrap_err();
            assert_eq!(error.kind(), Kind::ProxyAuth);
            let text = format!("{error} {error:?}");
            assert!(text.contains("does not accept the user name and password"), "{text}");
            assert!(!text.contains("alice") && !text.contains("hunter2"), "{text}");
        }
    }

    #[tokio::test]
    async fn a_proxy_that_is_not_there_is_named_with_the_reason() {
        let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        for (uri, reason) in [
            (format!("http://127.0.0.1:{unused}"), "refuses the connection"),
            ("http://no..such..proxy:3128".to_owned(), "has no address"),
        ] {
            for target in [TLS, PLAIN] {
                let proxy = Proxy::new(uri.parse().unwrap(), None).unwrap();
                let error = get(&client(Proxies::all(proxy)), target).await.unwrap_err();
                assert_eq!(error.kind(), Kind::Proxy, "{error}");
                let text = error.to_string();
                assert!(text.contains(reason) && text.contains(&uri), "{text}");
            }
        }
    }

    #[tokio::test]
    async fn a_proxy_may_be_spoken_to_in_tls_and_must_be_trusted_for_it() {
        let port = tls_server("server.pem", rustls::DEFAULT_VERSIONS).await;
        let tls_proxy = |name: &str| {
            Proxies::all(Proxy::new(format!("https://{name}:{port}").parse().unwrap(), None).unwrap())
        };
        assert_eq!(get(&client(tls_proxy("localhost")), PLAIN).await.unwrap(), "hello");
        let error = get(&client(tls_proxy("[::ffff:127.0.0.1]")), PLAIN).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Proxy, "{error}");
        assert!(error.to_string().contains("another name"), "{error}");
    }

    #[tokio::test]
    async fn the_date_of_a_proxys_answer_tells_of_the_clock() {
        let old = Reply::new(403, "Date: Wed, 21 Oct 2015 07:28:00 GMT\r\n", b"");
        let server = Server::start([old]).await;
        let through = client(Proxies::all(proxy(server.address.port(), None)));
        get(&through, TLS).await.unwrap_err();
        assert!(through.clock().skew().unwrap().contains("days ahead of the server's"));
    }
}
