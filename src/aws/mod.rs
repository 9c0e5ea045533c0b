//! AWS as this agent needs it: credentials, signed requests to S3 and SQS, and what the answers mean.

mod control;
pub mod credentials;
pub mod fault;
pub mod listing;
pub mod partition;
pub mod s3;
mod sigv4;
pub mod sqs;
pub mod sts;
mod xml;

pub use fault::{Class, Fault, Warning};
