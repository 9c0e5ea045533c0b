//! Discovery names the next object: it walks the folders of a bucket, lists every stream from the day
//! that may still have something new, or receives messages that name what is new, and queues what the ledger does
//! not hold.
//!
//! * [`key`]: the CloudTrail key grammar, parsed once into a type.
//! * [`window`]: from which day to list on this pass, and what a pass settles (a core).
//! * [`receive`]: messages of a queue, each held until what it names is durable.
//! * [`slice`]: the streams in 64 parts, of which one after the other is swept (a core).
//! * [`state`]: what a source remembers across restarts, as bytes.
//! * [`ledger`]: which objects are in the spool already.
//! * [`message`]: what a message of the source's queue says (a core).
//! * [`queue`]: the bounded queue to the fetch workers, and the tickets that come back.
//! * [`walk`]: one pass through the folders of a bucket, page by page.
//! * [`poll`]: passes one after the other, and what is kept between them.
//! * [`cost`]: what the LIST requests of a day come to (a core).
//! * [`status`]: what the outside may know of a source.

mod answers;
pub mod cost;
pub mod key;
pub mod ledger;
mod listing;
pub mod message;
pub mod poll;
pub mod queue;
pub mod receive;
pub mod slice;
pub mod state;
pub mod status;
pub mod walk;
pub mod window;

#[cfg(test)]
pub(crate) mod testing;
