//! A server for tests that answers each request with the next line of a script, whatever was asked.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// One answer, and what becomes of its connection.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    bytes: Vec<u8>,
    then: Then,
}

#[derive(Debug, Clone, Copy)]
enum Then {
    Keep,
    Close,
    Reset,
    Hang,
}

impl Reply {
    /// A status, headers (`"Name: value\r\n"`…) and a body with its `Content-Length`.
    pub(crate) fn new(status: u16, headers: &str, body: &[u8]) -> Reply {
        Reply::announcing(body.len(), status, headers, body)
    }

    /// As [`Reply::new`], but saying that the body has `len` bytes.
    pub(crate) fn announcing(len: usize, status: u16, headers: &str, body: &[u8]) -> Reply {
        let mut bytes = format!("HTTP/1.1 {status} X\r\nContent-Length: {len}\r\n{headers}\r\n").into_bytes();
        bytes.extend_from_slice(body);
        Reply { bytes, then: Then::Keep }
    }

    /// These bytes.
    pub(crate) fn raw(bytes: &[u8]) -> Reply {
        Reply { bytes: bytes.to_vec(), then: Then::Keep }
    }

    pub(crate) fn then_close(self) -> Reply {
        Reply { then: Then::Close, ..self }
    }

    pub(crate) fn then_reset(self) -> Reply {
        Reply { then: Then::Reset, ..self }
    }

    pub(crate) fn then_hang(self) -> Reply {
        Reply { then: Then::Hang, ..self }
    }
}

/// The running server: until the runtime ends.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    script: Arc<Mutex<VecDeque<Reply>>>,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) async fn start(script: impl IntoIterator<Item = Reply>) -> Server {
        Server::serve(TcpListener::bind("127.0.0.1:0").await.unwrap(), script)
    }

    /// As [`Server::start`], on this listener.
    pub(crate) fn serve(listener: TcpListener, script: impl IntoIterator<Item = Reply>) -> Server {
        let address = listener.local_addr().unwrap();
        let script = Arc::new(Mutex::new(script.into_iter().collect()));
        let requests = Arc::default();
        let server = Server { address, script: Arc::clone(&script), requests: Arc::clone(&requests) };
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, Arc::clone(&script), Arc::clone(&requests)));
            }
        });
        server
    }

    /// Head and body of each request so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// Every line of the script was played.
    pub(crate) fn is_through(&self) -> bool {
        self.script.lock().unwrap().is_empty()
    }
}

/// A file of the test certificates.
pub(crate) fn tls_file(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/tls")).join(name)
}

/// A TLS server with a certificate for `localhost`, that answers every connection with "hello"; its port.
/// `server.pem` is signed by `ca.pem`, `expired.pem` and `not-yet.pem` are by `acme-ca.pem`.
pub(crate) async fn tls_server(
    certificate: &str,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> u16 {
    let certificate = CertificateDer::from_pem_file(tls_file(certificate)).unwrap();
    let key = PrivateKeyDer::from_pem_file(tls_file("server.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
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
                let _ = tls.read_u8().await; // an answer that comes before its request is a fault
                tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello").await.unwrap();
                tls.shutdown().await.unwrap();
            }
        }
    });
    port
}

async fn serve(
    mut stream: TcpStream,
    script: Arc<Mutex<VecDeque<Reply>>>,
    requests: Arc<Mutex<Vec<String>>>,
) {
    while let Some(request) = request(&mut stream).await {
        requests.lock().unwrap().push(request);
        let Some(reply) = script.lock().unwrap().pop_front() else { return };
        let _ = stream.write_all(&reply.bytes).await; // the client may have gone
        match reply.then {
            Then::Keep => {}
            Then::Close => return,
            Then::Reset => return stream.set_zero_linger().unwrap(),
            Then::Hang => std::future::pending().await,
        }
    }
}

async fn request(stream: &mut TcpStream) -> Option<String> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8_lossy(&request).into_owned();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await.ok()?;
    Some(head + &String::from_utf8_lossy(&body))
}
