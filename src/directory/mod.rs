//! The directory (LDAP, Active Directory) that derived accounts are resolved in, if one is configured.
//!
//! ```text
//! encoding ─► Attributors ─► Directory::find ─► cache: known ─► goes along with the record
//!                                                 │ not known: the record goes without
//!                                                 ▼
//!                                         waiting, bounded ─► resolver ─► client ─► directory
//!                                                                  └─► cache, for the next records
//! ```
//!
//! No record waits for a directory: whatever is not known when a record is encoded goes out without, and is looked up
//! for later ones. One connection at a time asks one question at a time, is kept while there are questions, and closed
//! when there were none for a while.
//!
//! `entry`, `cache` and `message` are cores; `client` is one connection, `resolver` the task that keeps it busy,
//! `status` what the operator sees of it.

pub mod cache;
pub mod client;
pub mod entry;
pub mod message;
mod resolver;
pub mod status;

pub use entry::{Asked, Entry, Lookup};
pub use resolver::Directory;
