//! The spool: one segmented log on disk, readers with cursors, and what stands beside it (quarantine).

pub mod atomic;
pub mod disk;
pub mod position;
pub mod std_disk;
