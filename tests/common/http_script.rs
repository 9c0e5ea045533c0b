//! An HTTP server for tests that can misbehave: answers are scripts of bytes, pauses and resets, run by
//! hyper on a thread of its own.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper::{Request, Response};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::Sleep;
use tokio_rustls::TlsAcceptor;

/// What to do with a request.
pub enum Reply {
    /// Send this answer.
    Answer(Response<Script>),
    /// Reset the connection without an answer.
    Reset,
}

/// A step of an answer's body.
pub enum Step {
    Send(Bytes),
    Wait(Duration),
    /// Reset the connection (RST, not FIN).
    Reset,
}

/// An answer's body, step by step. When it ends before the declared Content-Length, the connection is closed.
pub struct Script {
    steps: VecDeque<Step>,
    pause: Option<Pin<Box<Sleep>>>,
    whole: bool,
}

impl Script {
    /// The whole body at once.
    pub fn whole(bytes: impl Into<Bytes>) -> Script {
        Script { steps: [Step::Send(bytes.into())].into(), pause: None, whole: true }
    }
    /// The given steps; the answer needs its own Content-Length.
    pub fn steps(steps: impl Into<VecDeque<Step>>) -> Script {
        Script { steps: steps.into(), pause: None, whole: false }
    }
}

/// The error by which a script asks for a reset.
#[derive(Debug)]
pub struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the connection is reset on purpose")
    }
}
impl std::error::Error for Broken {}

impl Body for Script {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match self.steps.pop_front() {
                None => return Poll::Ready(None),
                Some(Step::Send(bytes)) if bytes.is_empty() => {}
                Some(Step::Send(bytes)) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                Some(Step::Wait(time)) => self.pause = Some(Box::pin(tokio::time::sleep(time))),
                Some(Step::Reset) => return Poll::Ready(Some(Err(Broken))),
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match (self.whole, self.steps.front()) {
            (true, Some(Step::Send(bytes))) => SizeHint::with_exact(bytes.len() as u64),
            (true, _) => SizeHint::with_exact(0),
            (false, _) => SizeHint::default(),
        }
    }
}

/// A running server; it ends when this is dropped.
pub struct Server {
    pub address: SocketAddr,
    _stop: oneshot::Sender<Infallible>,
}

/// Starts a server on a free loopback port that answers with `handle`.
pub fn serve<H, F>(handle: H) -> Server
where
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Reply> + Send,
{
    serve_with(None, handle)
}

/// TLS for [`serve_with`], of one version, with a certificate for `localhost` that `ca.pem` has signed. It demands a
/// client certificate that the same CA has signed.
pub fn mutual_tls(version: &'static rustls::SupportedProtocolVersion) -> TlsAcceptor {
    let certificate = |name| CertificateDer::from_pem_file(tls_file(name)).expect("a certificate");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate("ca.pem")).expect("a CA");
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("a version of ring's")
        .with_client_cert_verifier(verifier.expect("somebody to trust"))
        .with_single_cert(
            vec![certificate("server.pem")],
            PrivateKeyDer::from_pem_file(tls_file("server.key")).expect("a key"),
        );
    TlsAcceptor::from(Arc::new(config.expect("a certificate and its key")))
}

/// A file of the test certificates: `ca.pem` has signed `server.pem`, `acme-ca.pem` has signed `expired.pem`; both are of
/// `server.key`.
pub fn tls_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/tls").join(name)
}

/// As [`serve`], with TLS if there is any.
pub fn serve_with<H, F>(tls: Option<TlsAcceptor>, handle: H) -> Server
where
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Reply> + Send,
{
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("its address");
    listener.set_nonblocking(true).expect("a non-blocking listener");
    let (stop, stopped) = oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            tokio::select! {
                () = accept(listener, tls, Arc::new(handle)) => {}
                _ = stopped => {}
            }
        });
    });
    Server { address, _stop: stop }
}

/// A connection, with TLS or without.
trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

async fn accept<H, F>(listener: tokio::net::TcpListener, tls: Option<TlsAcceptor>, handle: Arc<H>)
where
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Reply> + Send,
{
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let (handle, tls) = (handle.clone(), tls.clone());
        tokio::spawn(async move {
            // A second handle to the socket, to make its end a reset.
            let Ok(socket) = stream.into_std() else { return };
            let (Ok(second), Ok(stream)) = (socket.try_clone(), tokio::net::TcpStream::from_std(socket))
            else {
                return;
            };
            let wire: Box<dyn Wire> = match tls {
                None => Box::new(stream),
                // who is not let in was told why
                Some(tls) => match tls.accept(stream).await {
                    Ok(stream) => Box::new(stream),
                    Err(_) => return,
                },
            };
            let service = service_fn(|request| async {
                match handle(request).await {
                    Reply::Answer(answer) => Ok(answer),
                    Reply::Reset => Err(Broken),
                }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .timer(hyper_util::rt::TokioTimer::new())
                .serve_connection(hyper_util::rt::TokioIo::new(wire), service);
            let mut connection = std::pin::pin!(connection);
            if let Err(error) = connection.as_mut().await
                && on_purpose(&error)
                && let Ok(second) = tokio::net::TcpStream::from_std(second)
            {
                let _ = second.set_zero_linger();
            }
            // The connection's own handle is dropped last: with the linger time of zero that is the reset.
        });
    }
}

fn on_purpose(error: &hyper::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<Broken>())
}
