//! The storage that everything durable stands on: a directory tree with just the operations whose
//! behaviour at a power cut is defined. The real one is [`StdDisk`]; the tests put a fault disk in its place.
//!
//! What holds after a power cut (the model that the tests enforce):
//! * bytes written before a `sync` that returned `Ok` are there; bytes written after it may be there, be
//!   missing or be torn at any byte, each write on its own;
//! * a created, renamed or removed name is durable only after `sync_dir` of its directory returned `Ok`;
//! * a failed `sync` promises nothing about what was written since the last good one, then or later.

use std::io;

/// Proof that a sync returned `Ok`. Acknowledgements upstream can only be built from one.
#[derive(Debug)]
#[must_use]
pub struct Synced(());

impl Synced {
    /// For implementations of [`DiskFile`] alone: the sync returned `Ok`.
    pub fn after_ok_sync() -> Synced {
        Synced(())
    }
}

/// A directory tree. Paths are relative, with `/`, at most one folder deep (`"spool/0000000000000001.seg"`).
pub trait Disk: Clone + Send + Sync + 'static {
    /// An open file.
    type File: DiskFile;

    /// Makes a folder and makes its name durable; fine when it exists. `""` is the root.
    fn create_dir(&self, dir: &str) -> io::Result<()>;
    /// Creates an empty file for reading and writing; an existing one is emptied.
    fn create(&self, path: &str) -> io::Result<Self::File>;
    /// Opens for reading and writing; `NotFound` when it is not there.
    fn open(&self, path: &str) -> io::Result<Self::File>;
    /// Replaces `to` atomically.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// Makes creations, renames and removals in a folder durable.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;
    /// Names and lengths of the files in a folder, in no order; empty when the folder is not there.
    fn list(&self, dir: &str) -> io::Result<Vec<(String, u64)>>;
}

/// An open file of a [`Disk`].
#[allow(clippy::len_without_is_empty, reason = "nobody asks a file of the spool whether it is empty")]
pub trait DiskFile: Send + 'static {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Reads up to `buf.len()` bytes at `offset`; 0 at the end.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts or extends (with zeros).
    fn set_len(&mut self, len: u64) -> io::Result<()>;
    /// fdatasync. `NotFound` when the file has lost its name: bytes that nobody can open again are not durable.
    fn sync(&mut self) -> io::Result<Synced>;
}
