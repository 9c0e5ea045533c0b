//! AWS as this agent needs it: signed S3 requests, and what the answers mean.

pub mod fault;
pub mod s3;

pub use fault::{Class, Fault};
