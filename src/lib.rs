//! trailspool fetches AWS CloudTrail log objects from S3, inflates and filters their records, spools
//! them to disk and forwards them until each is acknowledged.
//!
//! # The path of a record
//!
//! ```text
//!  discover ──► fetch ──► decode ─────────────► select ──► spool ──► deliver
//!  which object  signed    gunzip ► split         rules      one log    one cursor
//!  is next?      GET       fixed buffers                     on disk    per output
//!     ▲                                                        │            │
//!     └── ledger: "these objects are in the spool" ◄───────────┘            └─► reclaim segments
//! ```
//!
//! The modules below stand in that order. *Cores* (`discover::key`, `discover::window`, `decode`,
//! `select`, `spool::frame`, `deliver::batch`, `deliver::format`, `aws::listing`, `aws::fault`,
//! `net::backoff`, `doctor::finding`, `doctor::report`, `doctor::advice`) take bytes, events and `now`, and return values or actions: they do no I/O and read
//! no clock. The shells around them do what they decide. `tests/boundary.rs` holds that line.

pub mod decode;
pub mod deliver;
pub mod discover;
pub mod fetch;
pub mod select;
pub mod spool;

pub mod service;

pub mod aws;
pub mod net;

pub mod cli;
pub mod config;
pub mod doctor;
pub mod error;
pub mod limits;
pub mod record;

// The tests' disk is written against the public names, so that unit tests and integration tests share it.
#[cfg(test)]
extern crate self as trailspool;
#[cfg(test)]
#[path = "../tests/common/fault_disk.rs"]
mod fault_disk;
