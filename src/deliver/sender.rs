//! What the loop of an output asks of a receiver, and what a receiver can answer.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;

/// Bytes of a receiver's own words that go into a text.
const SAID_BYTES: usize = 300;

/// One receiver.
pub trait Sender: Send {
    /// Hands lines over. [`Outcome::Accepted`] means that they are the receiver's from now on; after
    /// anything else they may or may not have arrived. May be cancelled: the same holds then.
    fn send(&mut self, lines: Bytes) -> impl Future<Output = Outcome> + Send;
}

/// How a receiver answered. The texts say what happened, who said so and what to do, for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It has them.
    Accepted,
    /// Too many bytes at once.
    TooLarge(String),
    /// Something in these lines is bad.
    Rejected(String),
    /// It cannot take them now.
    Retry {
        /// Why, as a metric's label.
        reason: Reason,
        /// Why, for the operator.
        text: String,
        /// How long it wants to be left alone.
        after: Option<Duration>,
    },
    /// Nothing will get through until somebody changes something.
    Hold(String),
}

/// Why something is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The receiver asked for a slower pace (429).
    Busy,
    /// The receiver failed (5xx).
    Unavailable,
    /// No connection could be made.
    Connect,
    /// No whole answer in time.
    Timeout,
    /// The connection broke after it had been made.
    Broken,
    /// A file could not be written.
    Storage,
    /// The receiver refuses everything, or will not talk ([`Outcome::Hold`]).
    Held,
}

impl Reason {
    /// Every reason, in the order of its discriminant.
    pub const ALL: [Reason; 7] = [
        Reason::Busy,
        Reason::Unavailable,
        Reason::Connect,
        Reason::Timeout,
        Reason::Broken,
        Reason::Storage,
        Reason::Held,
    ];

    /// The metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Reason::Busy => "busy",
            Reason::Unavailable => "unavailable",
            Reason::Connect => "connect",
            Reason::Timeout => "timeout",
            Reason::Broken => "broken",
            Reason::Storage => "storage",
            Reason::Held => "held",
        }
    }
}

/// What a remote party said, fit for a log: one line, bounded, control characters escaped.
pub(super) fn said(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(SAID_BYTES);
    for c in String::from_utf8_lossy(&bytes[..bytes.len().min(SAID_BYTES)]).trim().chars() {
        if c.is_control() || matches!(c, '\u{200e}'..='\u{202e}' | '\u{2066}'..='\u{2069}') {
            // writing to a String cannot fail
            let _ = write!(text, "{}", c.escape_default());
        } else {
            text.push(c);
        }
    }
    if bytes.len() > SAID_BYTES {
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reasons_stand_in_the_order_of_their_discriminants() {
        for (at, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, at);
        }
    }

    #[test]
    fn what_a_receiver_says_cannot_forge_a_log_line() {
        assert_eq!(said(b" no\r\n2026-01-01 ok\x1b[2J\xff "), "no\\r\\n2026-01-01 ok\\u{1b}[2J\u{fffd}");
        let long = said(&[b'a'; 5000]);
        assert!(long.len() <= SAID_BYTES + '…'.len_utf8() && long.ends_with('…'));
        assert!(said(&[0; 5000]).len() <= SAID_BYTES * "\\u{0}".len() + 3);
    }
}
