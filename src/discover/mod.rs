//! (to be written)

pub mod ledger;
