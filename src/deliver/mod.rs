//! From the spool to the receivers.

pub mod batch;
pub mod format;
