//! What a running agent shows of itself: a page, JSON, Prometheus metrics and a health check on `status_listen`, the
//! line for the service manager and the terminal, and `trailspool status`, which asks for it.
//!
//! One [`Snapshot`] is gathered for each request ([`View::snapshot`], `gather`) and rendered by functions that know
//! nothing else:
//!
//! | file | what |
//! |---|---|
//! | `snapshot` | everything that is shown, and what counts as unhealthy |
//! | `history`, `ages` | fixed rings: what the last hours brought; how old the oldest waiting record is |
//! | `html`, `json`, `metrics`, `text` | a snapshot as a page, as `/status.json`, as `/metrics`, as words |
//! | `escape` | foreign text inside each of these |
//! | `request` | the head of a request: what is asked for, and whether it may be |
//! | `server`, `board`, `gather` | the listener, what it serves, where that comes from |
//! | `client` | `trailspool status` |
//!
//! Invariants: what is shown is never more than the configuration and the rings allow; no secret is in a snapshot; all
//! text is taken for foreign and escaped where it is rendered; a request costs a bounded head, a bounded time
//! and one of a few places ([`limits::STATUS_CONNECTIONS`](crate::limits::STATUS_CONNECTIONS)). A status server that
//! cannot listen is a warning: collecting matters more.

mod ages;
mod board;
pub mod client;
mod escape;
mod gather;
mod history;
pub mod html;
pub mod json;
pub mod metrics;
pub mod request;
mod server;
pub mod snapshot;
pub mod text;

pub use board::Board;
pub use gather::View;
pub use server::serve;
pub use snapshot::Snapshot;
