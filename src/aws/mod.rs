//! AWS as this agent needs it: credentials, signed S3 requests, and what the answers mean.

mod control;
pub mod credentials;
pub mod fault;
pub mod listing;
pub mod partition;
pub mod s3;
mod sigv4;
pub mod sts;
mod xml;

pub use fault::{Class, Fault, Warning};
