//! What can go wrong between here and a server, told apart by what the operator can do about it.

use std::error::Error as StdError;
use std::{fmt, io};

use rustls::CertificateError;

/// A request or an answer's body that failed on its way.
#[derive(Debug, Clone)]
pub struct Error {
    kind: Kind,
    host: Box<str>,
    detail: Box<str>,
}

/// What failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The name has no address.
    Dns,
    /// Nothing listens there.
    Refused,
    /// No route.
    Unreachable,
    /// No connection (name, TCP and TLS together) in time.
    ConnectTimeout,
    /// No answer's head in time.
    FirstByteTimeout,
    /// The answer's body stopped coming.
    Stall,
    /// The server's certificate is not trusted.
    Certificate,
    /// No CA certificates to trust anybody by.
    NoTrust,
    /// The TLS handshake or connection failed otherwise.
    Tls,
    /// The connection was reset.
    Reset,
    /// The connection ended before the answer did.
    ClosedEarly,
    /// The answer is not HTTP/1.1, or its head is too large.
    NotHttp,
    /// Anything else.
    Other,
}

impl Error {
    pub(super) fn new(kind: Kind, host: &str, detail: impl fmt::Display) -> Error {
        Error { kind, host: host.into(), detail: detail.to_string().into() }
    }

    /// Sorts an error of the connector, of hyper or of rustls.
    pub(super) fn sort(host: &str, error: &(dyn StdError + 'static)) -> Error {
        if let Some(known) = find::<Error>(error) {
            return known.clone();
        }
        if let Some(tls) = find::<rustls::Error>(error) {
            return Error::tls(host, tls);
        }
        if let Some(not_resolved) = find::<NotResolved>(error) {
            return Error::new(Kind::Dns, host, &not_resolved.0);
        }
        if let Some(http) = find::<hyper::Error>(error) {
            if http.is_parse() {
                return Error::new(Kind::NotHttp, host, http);
            }
            if http.is_incomplete_message() || http.is_closed() || http.is_canceled() {
                return Error::new(Kind::ClosedEarly, host, http);
            }
        }
        let Some(io) = find::<io::Error>(error) else {
            return Error::new(Kind::Other, host, innermost(error));
        };
        let kind = match io.kind() {
            io::ErrorKind::ConnectionRefused => Kind::Refused,
            io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown => Kind::Unreachable,
            io::ErrorKind::TimedOut => Kind::ConnectTimeout,
            io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => {
                Kind::Reset
            }
            io::ErrorKind::UnexpectedEof => Kind::ClosedEarly,
            _ => Kind::Other,
        };
        Error::new(kind, host, innermost(error))
    }

    fn tls(host: &str, error: &rustls::Error) -> Error {
        let rustls::Error::InvalidCertificate(why) = error else {
            return Error::new(Kind::Tls, host, error);
        };
        let advice = match why {
            CertificateError::UnknownIssuer => {
                "it is signed by nobody this system trusts: is a proxy intercepting TLS, or does the server have a \
                 private CA? Name that CA's certificate in `ca_file`"
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => {
                "it is not valid at this time: is this machine's clock right?"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "it belongs to another name: is the endpoint right? (A bucket with dots in its name needs `path_style`)"
            }
            _ => "it cannot be verified",
        };
        Error::new(Kind::Certificate, host, format_args!("{advice} ({why})"))
    }

    /// What failed.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The words of the system or the server, without what is the same for all errors of the kind.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Error { kind, host, detail } = self;
        match kind {
            Kind::Dns => write!(
                f,
                "the name {host} has no address ({detail}): check the endpoint, the region and the DNS"
            ),
            Kind::Refused => {
                write!(f, "{host} refuses the connection: check the endpoint's port and that it runs")
            }
            Kind::Unreachable => {
                write!(f, "no route to {host} ({detail}): check the network and the firewall")
            }
            Kind::ConnectTimeout => {
                write!(f, "no connection to {host} ({detail}): check the firewall and the route to it")
            }
            Kind::FirstByteTimeout => write!(f, "{host} took the request but sent no answer ({detail})"),
            Kind::Stall => write!(f, "{host} stopped sending in the middle of an answer ({detail})"),
            Kind::Certificate => write!(f, "the certificate of {host} is not accepted: {detail}"),
            Kind::NoTrust => write!(
                f,
                "{host} cannot be verified, for this system has no CA certificates ({detail}): install the \
                 `ca-certificates` package or set `ca_file`"
            ),
            Kind::Tls => write!(
                f,
                "the TLS connection to {host} failed ({detail}): is there a TLS server, or a proxy in between?"
            ),
            Kind::Reset => write!(f, "{host} reset the connection ({detail})"),
            Kind::ClosedEarly => {
                write!(f, "{host} closed the connection before its answer was whole ({detail})")
            }
            Kind::NotHttp => {
                write!(f, "{host} does not answer in HTTP/1.1 ({detail}): check the endpoint and its port")
            }
            Kind::Other => write!(f, "talking to {host} failed ({detail})"),
        }
    }
}

impl StdError for Error {}

/// A look-up that failed, so that it can be found in the connector's error.
#[derive(Debug)]
pub(super) struct NotResolved(pub(super) io::Error);

impl fmt::Display for NotResolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for NotResolved {}

/// The outermost `T` in the chain of causes. `io::Error::source` skips the error it wraps, so that is looked at first.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    causes(error).find_map(|cause| cause.downcast_ref())
}

fn innermost<'a>(error: &'a (dyn StdError + 'static)) -> &'a (dyn StdError + 'static) {
    causes(error).last().unwrap_or(error)
}

fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| cause(*error))
}

fn cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}
