//! What the end-to-end tests, the kill test and the demo share: a generated bucket, an S3 server and a
//! receiver that fail on purpose, and the real agent as a process. Each user takes a part of it, hence:
#![allow(dead_code, unreachable_pub)]

pub mod agent;
pub mod bucket;
pub mod collectors;
pub mod growth;
pub mod http_script;
pub mod receiver;
pub mod records;
pub mod s3_listing;
pub mod s3_server;
pub mod sqs_server;
