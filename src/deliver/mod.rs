//! From the spool to the receivers.

pub mod backlog;
pub mod batch;
pub mod file;
pub mod format;
pub mod http;
mod output;
pub mod sender;
pub mod status;
pub mod stdout;
