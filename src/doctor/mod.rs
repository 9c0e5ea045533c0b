//! What helps an operator to set things up: policies filled in, and the table of regions.

mod json;
pub mod policy;
pub mod regions;
