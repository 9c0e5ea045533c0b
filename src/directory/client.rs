//! One connection to a directory: TLS from the beginning or by StartTLS, a bind, then one question after the other.
//! Every wait ends, and nothing of an answer is allocated before its length is known to be in bounds. After an error
//! the connection is of no use; dropped at any time it leaves nothing behind.

use std::fmt;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::entry::Asked;
use super::message::{self, Answer, Malformed, Outcome, Search};
use crate::config::{self, Encryption};
use crate::limits;
use crate::net::{self, Dialer, Stream, Trust};

/// Bytes that are read at once.
const CHUNK: usize = 4096;

/// What the directory says of an account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// One entry: a value for each wanted attribute, where it has one.
    One(Vec<Option<String>>),
    /// No entry.
    None,
    /// More than one: it is not clear who it is.
    Several,
}

/// What a connection was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Asking for TLS.
    StartTls,
    /// Saying who is there.
    Bind,
    /// Looking something up.
    Search,
}

/// Why it failed. The text says what to do.
#[derive(Debug, Clone)]
pub enum Fault {
    /// There is no connection, or it broke.
    Network(net::Error),
    /// The connection broke, or ended, at this step.
    Broken(Step, String),
    /// No answer in time.
    Timeout(Step, Duration),
    /// What came at this step is no answer.
    Malformed(Step, Malformed),
    /// The directory refused this step.
    Refused(Step, Outcome),
}

/// Result codes. Source: RFC 4511, appendix A.2.
mod code {
    pub(super) const SUCCESS: i64 = 0;
    pub(super) const OPERATIONS_ERROR: i64 = 1;
    pub(super) const PROTOCOL_ERROR: i64 = 2;
    pub(super) const SIZE_LIMIT: i64 = 4;
    pub(super) const STRONGER_AUTH: i64 = 8;
    pub(super) const CONFIDENTIALITY: i64 = 13;
    pub(super) const NO_SUCH_OBJECT: i64 = 32;
    pub(super) const INVALID_DN: i64 = 34;
    pub(super) const INAPPROPRIATE_AUTH: i64 = 48;
    pub(super) const INVALID_CREDENTIALS: i64 = 49;
    pub(super) const INSUFFICIENT_ACCESS: i64 = 50;
}

impl Fault {
    /// A stable label for metrics.
    pub fn cause(&self) -> &'static str {
        match self {
            Fault::Network(error) => error.kind().label(),
            Fault::Broken(..) => "closed",
            Fault::Timeout(..) => "timeout",
            Fault::Malformed(..) => "not-ldap",
            Fault::Refused(Step::StartTls, _) => "no-start-tls",
            Fault::Refused(_, outcome) => match outcome.code {
                code::INVALID_CREDENTIALS | code::INAPPROPRIATE_AUTH => "credentials",
                code::STRONGER_AUTH | code::CONFIDENTIALITY => "no-tls",
                code::NO_SUCH_OBJECT | code::INVALID_DN => "no-base",
                code::INSUFFICIENT_ACCESS | code::OPERATIONS_ERROR => "denied",
                _ => "refused",
            },
        }
    }

    /// Whether it may pass by itself.
    pub fn is_transient(&self) -> bool {
        match self {
            Fault::Network(error) => {
                use net::Kind::*;
                !matches!(error.kind(), UnknownIssuer | WrongName | Expired | Certificate | NoTrust | Tls)
            }
            Fault::Broken(..) | Fault::Timeout(..) => true,
            // who could be bound to speaks LDAP: it is about one account
            Fault::Malformed(step, _) => *step == Step::Search,
            Fault::Refused(..) => self.cause() == "refused",
        }
    }

    /// What happened, in one clause.
    pub fn why(&self) -> String {
        match self {
            Fault::Network(error) => error.to_string(),
            Fault::Broken(step, why) => {
                format!("the directory ended the connection in place of answering {step} ({why})")
            }
            Fault::Timeout(step, limit) => {
                format!("the directory did not answer {step} within {} s", limit.as_secs())
            }
            Fault::Malformed(step, Malformed(why)) => {
                format!("the answer to {step} is not understood: {why}")
            }
            Fault::Refused(step, Outcome { code, said }) => {
                let said =
                    if said.is_empty() { String::new() } else { format!(" ({})", said.escape_debug()) };
                format!("the directory refused {step}: {}{said}", meaning(*code))
            }
        }
    }

    /// What the operator can do.
    pub fn cure(&self) -> String {
        match self {
            Fault::Network(_) => "check `url` of [directory], and that the directory runs".to_owned(),
            Fault::Broken(Step::Bind, _) => {
                "check the port in `url`: 636 is the usual one of ldaps://, 389 that of ldap://".to_owned()
            }
            Fault::Broken(..) | Fault::Timeout(..) => {
                "see how the directory is doing, and what its log says of this machine".to_owned()
            }
            Fault::Malformed(..) => {
                "check `url`: is there a directory at that port, and does it begin with TLS (ldaps://) or without \
                 (ldap:// and `start_tls`)?"
                    .to_owned()
            }
            Fault::Refused(Step::StartTls, _) => {
                "give the directory a certificate, or use its ldaps:// port in `url` without `start_tls`".to_owned()
            }
            Fault::Refused(_, Outcome { code, .. }) => match *code {
                code::INVALID_CREDENTIALS | code::INAPPROPRIATE_AUTH => {
                    "check `bind_dn` and the password: try them with `ldapwhoami -x -W -H URL -D BIND_DN`, and whether the \
                     account is locked or its password has expired"
                        .to_owned()
                }
                code::STRONGER_AUTH | code::CONFIDENTIALITY => {
                    "the directory wants TLS: write an ldaps:// URL, or `start_tls = true`".to_owned()
                }
                code::NO_SUCH_OBJECT | code::INVALID_DN => {
                    "check `base`: `ldapsearch -x -s base -b '' namingContexts` shows what the directory has".to_owned()
                }
                code::INSUFFICIENT_ACCESS | code::OPERATIONS_ERROR => {
                    "let the account of `bind_dn` search below `base`; without `bind_dn` most directories answer nobody"
                        .to_owned()
                }
                code::PROTOCOL_ERROR => "check that it is an LDAP directory of version 3".to_owned(),
                _ => "see what the directory's log says of it".to_owned(),
            },
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // it says what to do by itself
            Fault::Network(error) => write!(f, "the directory: {error}"),
            fault => write!(f, "{}; {}", fault.why(), fault.cure()),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::StartTls => "StartTLS",
            Step::Bind => "the bind",
            Step::Search => "the search",
        })
    }
}

/// A result code in words.
fn meaning(code: i64) -> String {
    let words = match code {
        code::SUCCESS => "success",
        code::OPERATIONS_ERROR => "the operation is not possible now",
        code::PROTOCOL_ERROR => "it does not know that",
        code::STRONGER_AUTH => "stronger authentication is required",
        code::CONFIDENTIALITY => "the connection has to be encrypted",
        code::NO_SUCH_OBJECT => "there is no such entry",
        code::INVALID_DN => "that is no distinguished name",
        code::INAPPROPRIATE_AUTH => "that account cannot sign in like this",
        code::INVALID_CREDENTIALS => "wrong name or password",
        code::INSUFFICIENT_ACCESS => "no permission",
        _ => return format!("result {code}"),
    };
    format!("{words} (result {code})")
}

/// How the directory is reached.
///
/// # Errors
/// A text: a file for TLS that is of no use.
pub fn dialer(config: &config::Directory) -> io::Result<Dialer> {
    let trust = Trust { ca_file: config.ca_file.clone(), identity: None };
    let tls = (config.encryption != Encryption::None).then_some((&trust, config.server_name.as_deref()));
    Dialer::new(&config.host, config.port, tls, config.timeout)
}

/// An open connection.
pub struct Connection {
    stream: Stream,
    id: i64,
    limit: Duration,
    /// What came and is not read yet.
    came: Vec<u8>,
}

impl Connection {
    /// Connects, with TLS as configured.
    ///
    /// # Errors
    /// Nobody is there, or the TLS is not as it should be.
    pub async fn open(dialer: &Dialer, config: &config::Directory) -> Result<Connection, Fault> {
        let new = |stream| Connection { stream, id: 0, limit: config.timeout, came: Vec::new() };
        if config.encryption != Encryption::StartTls {
            return Ok(new(dialer.connect().await.map_err(Fault::Network)?));
        }
        let mut plain = new(Stream::Tcp(dialer.tcp().await.map_err(Fault::Network)?));
        plain.start_tls().await?;
        let Stream::Tcp(tcp) = plain.stream else { unreachable!("it was made of one") };
        Ok(new(dialer.secure(tcp).await.map_err(Fault::Network)?))
    }

    /// Says who is there.
    ///
    /// # Errors
    /// It is not believed, or there is no answer.
    pub async fn bind(&mut self, config: &config::Directory) -> Result<(), Fault> {
        let id = self.next_id();
        let who = config.bind.as_ref().map(|bind| (&*bind.dn, bind.password.reveal()));
        let asked = message::bind(id, who);
        self.within(Step::Bind, async |this| {
            this.send(&asked).await?;
            match this.answer(id, &[]).await? {
                Answer::Bound(outcome) if outcome.code == code::SUCCESS => Ok(()),
                Answer::Bound(outcome) => Err(Trouble::Refused(outcome)),
                _ => Err(Trouble::unexpected()),
            }
        })
        .await
    }

    /// Looks an account up.
    ///
    /// # Errors
    /// It could not be; the account has an answer for all that.
    pub async fn find(&mut self, config: &config::Directory, asked: Asked<'_>) -> Result<Found, Fault> {
        let id = self.next_id();
        let Some(question) = search(config).account(id, asked) else { return Ok(Found::None) };
        let (entry, more, outcome) = self.search(id, &question, &config.attributes).await?;
        match outcome.code {
            _ if more => Ok(Found::Several),
            code::SUCCESS => Ok(entry.map_or(Found::None, Found::One)),
            code::SIZE_LIMIT => Ok(Found::Several),
            _ => Err(Fault::Refused(Step::Search, outcome)),
        }
    }

    /// Asks whether the base is there.
    ///
    /// # Errors
    /// It is not, or cannot be read.
    pub async fn find_base(&mut self, config: &config::Directory) -> Result<(), Fault> {
        let id = self.next_id();
        let question = search(config).base(id);
        let (entry, _, outcome) = self.search(id, &question, &[]).await?;
        match (entry, outcome.code) {
            (Some(_), code::SUCCESS) => Ok(()),
            // who may not see an entry is told that it is not there
            (None, code::SUCCESS) => {
                Err(Fault::Refused(Step::Search, Outcome { code: code::INSUFFICIENT_ACCESS, ..outcome }))
            }
            _ => Err(Fault::Refused(Step::Search, outcome)),
        }
    }

    /// Ends it in order, as far as that takes no waiting.
    pub async fn close(mut self) {
        let id = self.next_id();
        let _ = timeout(self.limit, async {
            self.send(&message::unbind(id)).await?;
            self.stream.shutdown().await.map_err(Trouble::from)
        })
        .await;
    }

    async fn start_tls(&mut self) -> Result<(), Fault> {
        let id = self.next_id();
        self.within(Step::StartTls, async |this| {
            this.send(&message::start_tls(id)).await?;
            match this.answer(id, &[]).await? {
                // what came with the answer came without encryption, from whoever is in between
                Answer::Extended(_) if !this.came.is_empty() => {
                    Err(Trouble::Malformed(Malformed("something stands between its answer and TLS")))
                }
                Answer::Extended(outcome) if outcome.code == code::SUCCESS => Ok(()),
                Answer::Extended(outcome) => Err(Trouble::Refused(outcome)),
                _ => Err(Trouble::unexpected()),
            }
        })
        .await
    }

    /// The first entry, whether there was another one, and how the search ended.
    async fn search(
        &mut self,
        id: i64,
        question: &[u8],
        wanted: &[Box<str>],
    ) -> Result<(Option<Vec<Option<String>>>, bool, Outcome), Fault> {
        self.within(Step::Search, async |this| {
            this.send(question).await?;
            let (mut entry, mut more) = (None, false);
            for _ in 0..limits::DIRECTORY_MESSAGES {
                match this.answer(id, wanted).await? {
                    Answer::Entry(_) if entry.is_some() => more = true,
                    Answer::Entry(values) => entry = Some(values),
                    Answer::Reference => {}
                    Answer::Done(outcome) => return Ok((entry, more, outcome)),
                    _ => return Err(Trouble::unexpected()),
                }
            }
            Err(Trouble::Malformed(Malformed("an answer does not end")))
        })
        .await
    }

    fn next_id(&mut self) -> i64 {
        // up to 2^31-1 (RFC 4511, section 4.1.1.1); 0 is not ours
        self.id = self.id % i64::from(i32::MAX) + 1;
        self.id
    }

    /// One step, with its time-out.
    async fn within<T>(
        &mut self,
        step: Step,
        work: impl AsyncFnOnce(&mut Connection) -> Result<T, Trouble>,
    ) -> Result<T, Fault> {
        let limit = self.limit;
        match timeout(limit, work(self)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(Trouble::Io(error))) => Err(Fault::Broken(step, error.to_string())),
            Ok(Err(Trouble::Malformed(malformed))) => Err(Fault::Malformed(step, malformed)),
            Ok(Err(Trouble::Refused(outcome))) => Err(Fault::Refused(step, outcome)),
            Err(_) => Err(Fault::Timeout(step, limit)),
        }
    }

    async fn send(&mut self, request: &[u8]) -> Result<(), Trouble> {
        self.stream.write_all(request).await?;
        Ok(self.stream.flush().await?)
    }

    /// The next message of the answer to a request.
    async fn answer(&mut self, id: i64, wanted: &[Box<str>]) -> Result<Answer, Trouble> {
        let len = self.whole().await?;
        let read = message::read(&self.came[..len], wanted);
        self.came.drain(..len);
        match read.map_err(Trouble::Malformed)? {
            (answered, answer) if answered == id => Ok(answer),
            // a notice that the directory ends the connection (RFC 4511, section 4.4.1)
            (0, Answer::Extended(outcome)) => Err(Trouble::Refused(outcome)),
            _ => Err(Trouble::unexpected()),
        }
    }

    /// Reads until a whole message is there, and tells its length.
    async fn whole(&mut self) -> Result<usize, Trouble> {
        loop {
            let len = message::len_of(&self.came).map_err(Trouble::Malformed)?;
            if let Some(len) = len.filter(|len| *len <= self.came.len()) {
                return Ok(len);
            }
            let mut chunk = [0; CHUNK];
            match self.stream.read(&mut chunk).await? {
                0 => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                count => self.came.extend_from_slice(&chunk[..count]),
            }
        }
    }
}

fn search(config: &config::Directory) -> Search<'_> {
    Search {
        base: &config.base,
        match_name: &config.match_name,
        match_address: &config.match_address,
        attributes: &config.attributes,
        seconds: config.timeout.as_secs(),
    }
}

/// What can go wrong within a step.
enum Trouble {
    Io(io::Error),
    Malformed(Malformed),
    Refused(Outcome),
}

impl Trouble {
    fn unexpected() -> Trouble {
        Trouble::Malformed(Malformed("it answers what was not asked"))
    }
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Io(error)
    }
}
