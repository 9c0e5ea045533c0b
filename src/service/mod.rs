//! The process: what runs, what it tells the operator and the service manager.

pub mod log;
pub mod notify;
