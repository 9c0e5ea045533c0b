//! What the loop of an output asks of a receiver, and what a receiver can answer.

use std::fmt::Write as _;
use std::time::Duration;

use super::lines::Lines;
/// Bytes of a receiver's own words that go into a text.
const SAID_BYTES: usize = 300;

/// One receiver.
pub trait Sender: Send + Sized {
    /// Hands records over. [`Outcome::Accepted`] means that they are the receiver's from now on; after
    /// anything else but [`Outcome::Items`] they may or may not have arrived. May be cancelled: the same holds then.
    fn send(&mut self, lines: Lines) -> impl Future<Output = Outcome> + Send;

    /// A sender to the same receiver that may send at the same time. `None`: there can be only one.
    fn another(&self) -> Option<Self> {
        None
    }

    /// Whether the receiver never says what it has: then [`Outcome::Accepted`] only means that records went into a
    /// connection. They count as arrived while that stands ([`super::unconfirmed`]), and are sent again if it breaks.
    fn is_provisional(&self) -> bool {
        false
    }

    /// Why the connection broke that carried what was sent, if it did: told once. Looks, and does not wait. Asked of
    /// provisional senders alone; the next [`Sender::send`] makes a new connection.
    fn broken(&mut self) -> Option<Again> {
        None
    }

    /// What it has to do though no record comes: asked while nothing waits to be sent. How long until it wants to be
    /// asked again; `None`: never.
    fn tend(&mut self) -> impl Future<Output = Option<Duration>> + Send {
        async { None }
    }

    /// Ends the connection in order. Whether the receiver then took everything that was written and closed in turn.
    fn close(&mut self) -> impl Future<Output = bool> + Send {
        async { false }
    }
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
    /// Something is bad, and this one of the records is said to be it: it is tried alone, and nothing in it together
    /// with the others. What became of the others is open.
    RejectedAt(usize, String),
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
    /// It answered record by record, or for the first ones only before it broke off.
    Items(Box<Items>),
}

/// An answer record by record.
///
/// The cursor moves over the records before the first one with [`Fate::Again`]. Only such records are sent again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Items {
    /// What became of each record, in the order sent. Those beyond its end: [`Fate::Again`].
    pub fates: Vec<Fate>,
    /// Why records were refused, by their place in what was sent, ascending. A refused one that is not listed shares
    /// the reason of the one listed last before it: a receiver's words may be long, and records many.
    pub refusals: Vec<(usize, Refusal)>,
    /// Why some are to be sent again, if any are.
    pub again: Option<Again>,
}

impl Items {
    /// The first `accepted` of `count` records were acknowledged, then something went wrong.
    pub fn prefix(accepted: usize, count: usize, again: Again) -> Items {
        let mut fates = vec![Fate::Accepted; accepted.min(count)];
        fates.resize(count, Fate::Again);
        Items { fates, refusals: Vec::new(), again: Some(again) }
    }
}

/// What became of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The receiver has it.
    Accepted,
    /// The receiver refused it. It is believed when it accepted another one with it, or does later.
    Refused,
    /// It can never be sent as things stand: over a limit of the protocol or the configuration, whoever the receiver
    /// is, or over one that the receiver named. This needs no proof.
    Unfit,
    /// It was not answered, or the receiver cannot take it now.
    Again,
}

/// Why one record was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// A stable word, kept with the record in the quarantine: `too-large`, `rejected`.
    pub reason: &'static str,
    /// What the receiver said, for the operator.
    pub text: String,
}

/// Why records are sent again, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Again {
    /// Why, as a metric's label.
    pub reason: Reason,
    /// Why, for the operator.
    pub text: String,
    /// How long the receiver wants to be left alone.
    pub after: Option<Duration>,
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
