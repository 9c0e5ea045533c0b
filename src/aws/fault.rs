//! What a failed request means for the caller (what to do next) and for the operator (what, on what, why,
//! what to do).

use std::fmt;
use std::time::{Duration, SystemTime};

/// A request that failed for good, or so far.
#[derive(Debug, Clone)]
pub struct Fault {
    /// What the caller does next.
    pub class: Class,
    /// Stable label for metrics, e.g. `denied`, `network`.
    pub cause: &'static str,
    /// For the operator: what, on what, why, what to do. One line, never a secret.
    pub text: String,
    /// The server's own wish for the time of the next try.
    pub retry_after: Option<Duration>,
}

/// What the caller does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Class {
    /// The same request may work later.
    Retry,
    /// The object changed, or cannot be continued: begin it anew from its first byte.
    Restart,
    /// Credentials or permissions: an operator has to act. May work later.
    Denied,
    /// The object is not there (any more). Will not work later.
    Gone,
    /// The bucket is in this region.
    WrongRegion(Box<str>),
    /// The signature's time is too far from the server's, which is this.
    ClockSkew(SystemTime),
    /// The configuration (bucket, endpoint, region) or the network's set-up is wrong: an operator has to act.
    Config,
}

impl Fault {
    /// The same request may work a moment later, without anybody's doing.
    pub fn is_transient(&self) -> bool {
        matches!(self.class, Class::Retry | Class::Restart | Class::ClockSkew(_))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Fault {}
