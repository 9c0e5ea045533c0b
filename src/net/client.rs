//! The HTTP client. What holds: every wait has an end ([`Timeouts`]), a connection buffers at most
//! [`limits::HTTP_READ_BYTES`] of an answer, and an answer's body is only read as fast as its reader asks.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::uri::Scheme;
use http::{Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as _, Incoming};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::{GaiAddrs, GaiResolver, Name};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::time::timeout;
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
            .build(connector);
        Ok(Client { pool, timeouts })
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
        Ok(answer.map(|incoming| Body { incoming, host, stall: self.timeouts.stall }))
    }
}

/// The body of an answer, as it came over the wire. Dropping it before its end closes the connection.
#[derive(Debug)]
pub struct Body {
    incoming: Incoming,
    host: Box<str>,
    stall: Duration,
}

impl Body {
    /// The next piece, never empty and at most [`limits::HTTP_READ_BYTES`] long; `None` at the end.
    ///
    /// # Errors
    /// [`Kind::Stall`], [`Kind::Reset`], [`Kind::ClosedEarly`] (also when fewer bytes came than
    /// `Content-Length` said), [`Kind::Tls`].
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            match timeout(self.stall, self.incoming.frame()).await {
                Err(_) => return Err(Error::new(Kind::Stall, &self.host, waited(self.stall))),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(Error::sort(&self.host, &error)),
                Ok(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) if !data.is_empty() => return Ok(Some(data)),
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
