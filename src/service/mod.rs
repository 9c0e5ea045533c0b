//! The process: what runs, in which order it starts and stops, and what it says of itself.
//!
//! | file | what |
//! |---|---|
//! | `run` | the command `run`: configuration, lock, runtime, signals, exit code |
//! | `agent` | one configuration at work: everything that is started for it and stopped with it |
//! | `workers` | fetch workers: queue → GET → storekeeper |
//! | `storekeeper` | the one thread that decodes, selects, spools, commits and reclaims |
//! | `retry` | tries again what was set aside, when somebody asks for it |
//! | `books` | the books of invariant 4, as they are printed |
//! | `watchdog`, `minder` | which stage stands still, and the thread that looks and pets systemd |
//! | `log`, `notify` | journald and systemd |
//! | `nodump` | secrets stay out of core dumps |
//! | `wedge` | a switch of the watchdog's tests, in no package |
//!
//! Threads: one tokio current-thread runtime for the network, one storekeeper thread for everything that
//! writes the spool, one that minds them all, short-lived blocking hops for the outputs' reads.

pub mod agent;
pub mod books;
pub mod log;
pub mod minder;
pub mod nodump;
pub mod notify;
pub mod retry;
pub mod run;
pub mod storekeeper;
pub mod watchdog;
pub mod wedge;
pub mod workers;
