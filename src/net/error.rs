//! What can go wrong between here and a server, told apart by what the operator can do about it.

use std::error::Error as StdError;
use std::time::{Duration, SystemTime};
use std::{fmt, io};

use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError};

use super::proxy::Proxy;
use super::tls::UnknownIssuer;

/// Longest detail that is kept: the names of a certificate, for one, are the server's words.
const DETAIL_CHARACTERS: usize = 300;

/// A request or an answer's body that failed on its way.
#[derive(Debug, Clone)]
pub struct Error {
    kind: Kind,
    host: Box<str>,
    detail: Box<str>,
    /// The proxy on the way there.
    via: Option<Box<str>>,
    /// The connection ended before it had carried any answer.
    unanswered: bool,
    /// The server ended the TLS handshake without a word.
    broken_off: bool,
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
    /// The server's certificate is signed by nobody that is trusted.
    UnknownIssuer,
    /// The server's certificate belongs to another name.
    WrongName,
    /// The server's certificate is not valid any more.
    Expired,
    /// The server's certificate is not valid yet.
    NotYetValid,
    /// The server's certificate is not valid at the time that this machine's clock shows, which is wrong.
    Clock,
    /// The server's certificate is not accepted for another reason.
    Certificate,
    /// No CA certificates to trust anybody by.
    NoTrust,
    /// The server wants a client certificate, or another one than it was shown.
    ClientCertificate,
    /// The TLS handshake or connection failed otherwise.
    Tls,
    /// The connection was reset.
    Reset,
    /// The connection ended before the answer did.
    ClosedEarly,
    /// The answer is not HTTP/1.1, or its head is too large.
    NotHttp,
    /// There is no connection to the proxy.
    Proxy,
    /// What should be a proxy does not answer as one.
    NotAProxy,
    /// The proxy wants a user name and a password, or other ones.
    ProxyAuth,
    /// The proxy does not let this connection through.
    ProxyRefused,
    /// The proxy has no connection to the server.
    ProxyFailed,
    /// Anything else.
    Other,
}

impl Error {
    pub(super) fn new(kind: Kind, host: &str, detail: impl fmt::Display) -> Error {
        let detail = detail.to_string();
        let clean = detail.chars().map(|c| if c.is_control() { ' ' } else { c });
        Error {
            kind,
            host: host.into(),
            detail: clean.take(DETAIL_CHARACTERS).collect::<String>().into(),
            via: None,
            unanswered: false,
            broken_off: false,
        }
    }

    /// Says that the connection never carried an answer.
    pub(super) fn unanswered(self) -> Error {
        Error { unanswered: true, ..self }
    }

    /// Whether the connection was made and ended before it had carried any answer. A server that wants a client
    /// certificate may end one so: with TLS 1.3 its refusal comes after the handshake, and a reset may overtake it.
    pub fn is_unanswered(&self) -> bool {
        self.unanswered
    }

    /// Says that the server ended the TLS handshake without a word.
    pub(super) fn broken_off(self) -> Error {
        Error { broken_off: true, ..self }
    }

    /// Whether the server ended the TLS handshake without a word: it may speak no TLS there, or is being started anew.
    pub fn is_broken_off(&self) -> bool {
        self.broken_off
    }

    /// Says through which proxy it was.
    pub(super) fn through(self, proxy: &Proxy) -> Error {
        Error { via: Some(proxy.to_string().into()), ..self }
    }

    /// A certificate that is out of its time, on a machine whose clock is known to be wrong.
    pub(super) fn blame(self, clock: impl fmt::Display) -> Error {
        let detail = format!("{clock}: set it right (NTP); {}", self.detail).into();
        Error { kind: Kind::Clock, detail, ..self }
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
        let why = match error {
            rustls::Error::InvalidCertificate(why) => why,
            // these alerts answer a certificate: a client's, when a server sends them
            rustls::Error::AlertReceived(
                AlertDescription::CertificateRequired
                | AlertDescription::NoCertificate
                | AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::AccessDenied,
            ) => return Error::new(Kind::ClientCertificate, host, error),
            _ => return Error::new(Kind::Tls, host, error),
        };
        match why {
            CertificateError::Other(other) => match find::<UnknownIssuer>(&*other.0) {
                Some(unknown) => Error::new(Kind::UnknownIssuer, host, unknown),
                None => Error::new(Kind::Certificate, host, why),
            },
            CertificateError::UnknownIssuer => Error::new(Kind::UnknownIssuer, host, why),
            CertificateError::ExpiredContext { time, not_after } => Error::new(
                Kind::Expired,
                host,
                format_args!("it ended on {}; this machine's clock says {}", date(not_after), date(time)),
            ),
            CertificateError::NotValidYetContext { time, not_before } => Error::new(
                Kind::NotYetValid,
                host,
                format_args!("it begins on {}; this machine's clock says {}", date(not_before), date(time)),
            ),
            CertificateError::Expired => Error::new(Kind::Expired, host, why),
            CertificateError::NotValidYet => Error::new(Kind::NotYetValid, host, why),
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Error::new(Kind::WrongName, host, why)
            }
            _ => Error::new(Kind::Certificate, host, why),
        }
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

impl Kind {
    /// A stable label for metrics.
    pub fn label(self) -> &'static str {
        match self {
            Kind::Dns => "dns",
            Kind::Refused => "conn-refused",
            Kind::Unreachable => "no-route",
            Kind::ConnectTimeout => "connect-timeout",
            Kind::FirstByteTimeout | Kind::Stall => "timeout",
            Kind::UnknownIssuer => "cert-issuer",
            Kind::WrongName => "cert-name",
            Kind::Expired | Kind::NotYetValid => "cert-time",
            Kind::Clock => "clock",
            Kind::Certificate => "certificate",
            Kind::NoTrust => "no-ca",
            Kind::ClientCertificate => "client-cert",
            Kind::Tls => "tls",
            Kind::Reset => "reset",
            Kind::ClosedEarly => "closed",
            Kind::NotHttp => "not-http",
            Kind::Proxy | Kind::NotAProxy => "proxy",
            Kind::ProxyAuth => "proxy-auth",
            Kind::ProxyRefused => "proxy-refused",
            Kind::ProxyFailed => "proxy-failed",
            Kind::Other => "network",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Error { kind, host, detail, via, unanswered: _, broken_off: _ } = self;
        let proxy = via.as_deref().unwrap_or("the proxy");
        let written = "`proxy` or the environment's HTTPS_PROXY";
        match kind {
            Kind::Dns => write!(
                f,
                "the name {host} has no address ({detail}): check the endpoint, the region and the DNS"
            )?,
            Kind::Refused => {
                write!(f, "{host} refuses the connection: check the endpoint's port and that it runs")?
            }
            Kind::Unreachable => {
                write!(f, "no route to {host} ({detail}): check the network and the firewall")?
            }
            Kind::ConnectTimeout => {
                write!(f, "no connection to {host} ({detail}): check the firewall and the route to it")?
            }
            Kind::FirstByteTimeout => write!(f, "{host} took the request but sent no answer ({detail})")?,
            Kind::Stall => write!(f, "{host} stopped sending in the middle of an answer ({detail})")?,
            Kind::UnknownIssuer => write!(
                f,
                "the certificate of {host} is signed by nobody this system trusts ({detail}): does a proxy intercept \
                 TLS, or has the server a private CA? Name that CA's certificate in `ca_file`"
            )?,
            Kind::WrongName => write!(
                f,
                "the certificate of {host} belongs to another name ({detail}): is the endpoint right? (A bucket with \
                 dots in its name needs `path_style`)"
            )?,
            Kind::Expired => write!(
                f,
                "the certificate of {host} is not valid any more ({detail}): the server needs a new one, if this \
                 machine's clock is right"
            )?,
            Kind::NotYetValid => write!(
                f,
                "the certificate of {host} is not valid yet ({detail}): is this machine's clock behind? Set it right \
                 (NTP)"
            )?,
            Kind::Clock => write!(f, "the certificate of {host} cannot be checked, for {detail}")?,
            Kind::Certificate => write!(f, "the certificate of {host} cannot be verified ({detail})")?,
            Kind::NoTrust => write!(
                f,
                "{host} cannot be verified, for this system has no CA certificates ({detail}): install the \
                 `ca-certificates` package or set `ca_file`"
            )?,
            Kind::ClientCertificate => {
                write!(f, "{host} talks to nobody without a client certificate that it trusts ({detail})")?
            }
            Kind::Tls => write!(
                f,
                "the TLS connection to {host} failed ({detail}): is there a TLS server, or a proxy in between?"
            )?,
            Kind::Reset => write!(f, "{host} reset the connection ({detail})")?,
            Kind::ClosedEarly => {
                write!(f, "{host} closed the connection before its answer was whole ({detail})")?
            }
            Kind::NotHttp => {
                write!(f, "{host} does not answer in HTTP/1.1 ({detail}): check the endpoint and its port")?
            }
            Kind::Proxy => {
                return write!(
                    f,
                    "{proxy}, the proxy to {host}, cannot be reached ({detail}): check {written}"
                );
            }
            Kind::NotAProxy => {
                return write!(
                    f,
                    "{proxy}, the proxy to {host}, does not answer as a proxy ({detail}): check {written}"
                );
            }
            Kind::ProxyAuth => {
                return write!(
                    f,
                    "{proxy}, the proxy to {host}, {detail}: set `proxy = \"http://USER:PASSWORD@HOST:PORT\"`"
                );
            }
            Kind::ProxyRefused => {
                return write!(
                    f,
                    "{proxy}, the proxy to {host}, does not let the connection through ({detail}): allow CONNECT to \
                     {host} there, or name the host in NO_PROXY if it can be reached directly"
                );
            }
            Kind::ProxyFailed => {
                return write!(
                    f,
                    "{proxy}, the proxy to {host}, has no connection to it ({detail}): check the endpoint, and the \
                     proxy's own DNS and network"
                );
            }
            Kind::Other => write!(f, "talking to {host} failed ({detail})")?,
        }
        match via {
            Some(proxy) => write!(f, " (through the proxy {proxy})"),
            None => Ok(()),
        }
    }
}

impl StdError for Error {}

fn date(time: &UnixTime) -> String {
    let latest = Duration::from_secs(253_402_300_799); // the end of the year 9999, which the format can still hold
    httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs()).min(latest))
}

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
