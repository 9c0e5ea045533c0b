//! AWS as this agent needs it: signed S3 requests, and what the answers mean.

pub mod fault;
pub mod listing;
pub mod partition;
pub mod s3;
mod sigv4;
mod xml;

pub use fault::{Class, Fault, Warning};
