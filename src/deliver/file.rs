//! Lines appended to a file. They count as accepted when `fdatasync` returned.
//!
//! What holds:
//! * the file always ends with a whole line when a write begins: what a crash or a full disk left of a torn
//!   line is cut back to the last line break, for those records were not acknowledged and come again;
//! * at `rotate_bytes`, and when it is older than `rotate_age`, whether or not records come, the file becomes `PATH.1`,
//!   `PATH.1` becomes `PATH.2` and so on; the one after `PATH.<rotate_keep>` is gone. A crash in the middle leaves a gap in the
//!   numbers, and the next rotation fills the first gap instead of dropping a file. Rotation never splits a batch;
//! * `rotate_compress` makes `PATH.1.gz` of `PATH.1`, beside the writing ([`pack`]); a number stands for either;
//! * a file that was moved or removed by somebody else (logrotate) is left alone and a new one is made;
//! * two writers never share a file: an advisory lock is held on it.

mod pack;

use std::ffi::OsString;
use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use super::lines::Lines;
use super::sender::{Outcome, Reason, Sender};
use crate::config;

/// Permissions of a new file: logs are for the group that reads them, not for everybody.
const MODE: u32 = 0o640;
/// Bytes searched at once for the last line break.
const BLOCK: usize = 4096;
/// How often a file that no record goes into is looked at: so late it may be rotated by its age.
const LOOK: Duration = Duration::from_secs(60);
/// A file without a line break in this many last bytes is no file of lines: it is not touched. Far above
/// every record.
const TORN_LINE_BYTES: u64 = 64 * 1024 * 1024;

/// A file as a receiver.
pub struct File {
    log: Arc<Mutex<Log>>,
    /// Rotated files are being compressed.
    packing: Arc<AtomicBool>,
    /// They should not be any more.
    gone: Arc<AtomicBool>,
    /// An earlier process may have left rotated files uncompressed: nobody has looked yet.
    first: bool,
    /// An idle file could not be rotated, and that was told.
    told: bool,
}

impl File {
    /// Nothing is opened yet. At least one rotated file is kept.
    pub fn new(config: &config::File) -> File {
        let config::File { path, rotate_bytes, rotate_age, rotate_keep, gzip } = config;
        let log = Log {
            path: path.clone(),
            rotate_bytes: *rotate_bytes,
            rotate_age: *rotate_age,
            rotate_keep: *rotate_keep,
            gzip: *gzip,
            now,
            open: None,
        };
        File {
            log: Arc::new(Mutex::new(log)),
            packing: Arc::default(),
            gone: Arc::default(),
            first: true,
            told: false,
        }
    }

    /// Compresses what was rotated, beside the writing. One at a time; what it leaves comes after the next rotation.
    fn pack(&self) {
        if self.packing.swap(true, Ordering::Relaxed) {
            return;
        }
        let (log, packing, gone) = (self.log.clone(), self.packing.clone(), self.gone.clone());
        tokio::task::spawn_blocking(move || {
            pack::all(&log, &gone);
            packing.store(false, Ordering::Relaxed);
        });
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
    }
}

impl Sender for File {
    async fn send(&mut self, lines: Lines) -> Outcome {
        let lines = lines.bytes();
        let log = self.log.clone();
        // a cancelled write goes on by itself; the next one waits for the lock, so they never mix
        let written = tokio::task::spawn_blocking(move || {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.append(&lines).map(|rotated| rotated && log.gzip)
        });
        match written.await {
            Ok(Ok(rotated)) => {
                if std::mem::take(&mut self.first) || rotated {
                    self.pack();
                }
                Outcome::Accepted
            }
            Ok(Err(Fault::Io { text })) => Outcome::Retry { reason: Reason::Storage, text, after: None },
            Ok(Err(Fault::Hold(text))) => Outcome::Hold(text),
            Err(_) => Outcome::Retry {
                reason: Reason::Storage,
                text: "the writing thread ended early".into(),
                after: None,
            },
        }
    }

    /// Rotates a file that grew old while nothing came, and compresses what was rotated.
    async fn tend(&mut self) -> Option<Duration> {
        let log = self.log.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            (log.rotate_old(), log.gzip, log.rotate_age)
        });
        // a thread that ended early is tried again with the next record
        let (rotated, gzip, age) = looked.await.ok()?;
        let told = std::mem::replace(&mut self.told, rotated.is_err());
        match rotated {
            Ok(rotated) => {
                if gzip && (std::mem::take(&mut self.first) || rotated) {
                    self.pack();
                }
            }
            Err(Fault::Io { text } | Fault::Hold(text)) if !told => log::warn!("{text}"),
            Err(_) => {}
        }
        age.map(|_| LOOK)
    }
}

struct Log {
    path: PathBuf,
    rotate_bytes: u64,
    rotate_age: Option<Duration>,
    rotate_keep: u32,
    gzip: bool,
    now: fn() -> SystemTime,
    open: Option<Open>,
}

struct Open {
    file: fs::File,
    /// When its first line was written, as far as that can be told.
    since: SystemTime,
}

enum Fault {
    /// May pass: no space, no folder, no permission.
    Io { text: String },
    /// Wants somebody to change something.
    Hold(String),
}

impl Log {
    /// Whether the file was rotated before.
    fn append(&mut self, lines: &[u8]) -> Result<bool, Fault> {
        let mut open = self.current()?;
        let mut len = self.ok("look at", open.file.metadata())?.len();
        let mut rotated = false;
        if len > 0 && (len + lines.len() as u64 > self.rotate_bytes || self.is_old(&open)) {
            drop(open);
            self.ok("rotate", self.rotate())?;
            rotated = true;
            open = self.current()?;
            len = 0;
        }
        if len == 0 {
            open.since = (self.now)();
        }
        let file = &mut open.file;
        if let Err(error) = file.write_all(lines).and_then(|()| file.sync_data()) {
            // a failed sync promises nothing, so these lines are written anew; if cutting fails too, the
            // next open does it
            let _ = file.set_len(len);
            return self.ok("write", Err(error));
        }
        self.open = Some(open);
        Ok(rotated)
    }

    /// Rotates the file by its age though nothing is to be written. Whether it was.
    fn rotate_old(&mut self) -> Result<bool, Fault> {
        if self.rotate_age.is_none() || !self.ok("look at", self.path.try_exists())? {
            return Ok(false);
        }
        let open = self.current()?;
        let len = self.ok("look at", open.file.metadata())?.len();
        if len == 0 || !self.is_old(&open) {
            self.open = Some(open);
            return Ok(false);
        }
        drop(open);
        self.ok("rotate", self.rotate())?;
        Ok(true)
    }

    fn is_old(&self, open: &Open) -> bool {
        let age = (self.now)().duration_since(open.since).unwrap_or_default();
        self.rotate_age.is_some_and(|most| age >= most)
    }

    /// The file that stands at the path now, ending with a whole line. It is put back by who used it well.
    fn current(&mut self) -> Result<Open, Fault> {
        let at_path = match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            other => Some(self.ok("look at", other)?),
        };
        if let (Some(open), Some(now)) = (self.open.take(), &at_path) {
            let was = self.ok("look at", open.file.metadata())?;
            if (was.dev(), was.ino()) == (now.dev(), now.ino()) {
                return Ok(open);
            }
        }
        if at_path.as_ref().is_some_and(|now| !now.is_file()) {
            return Err(Fault::Hold(format!(
                "{} is not a regular file: name another `path`",
                self.path.display()
            )));
        }
        let file = OpenOptions::new().read(true).append(true).create(true).mode(MODE).open(&self.path);
        let file = self.ok("open", file)?;
        // a file system without locks is no reason to stop
        if let Err(TryLockError::WouldBlock) = file.try_lock() {
            return Err(Fault::Hold(format!(
                "{} is being written by another output or another agent: give each its own `path`",
                self.path.display()
            )));
        }
        if at_path.is_none() {
            self.ok("make the name durable of", sync_folder(&self.path))?;
        }
        self.cut_torn_line(&file)?;
        // a file system without times of birth: the age counts from now
        let born = at_path.and_then(|meta| meta.created().ok());
        Ok(Open { file, since: born.unwrap_or_else(self.now) })
    }

    fn cut_torn_line(&self, file: &fs::File) -> Result<(), Fault> {
        let len = self.ok("look at", file.metadata())?.len();
        let Some(whole) = self.ok("read", end_of_lines(file, len))? else {
            return Err(Fault::Hold(format!(
                "{} has no line break in its last {} MiB, so it is no file of records: move it away or name \
                 another `path`",
                self.path.display(),
                TORN_LINE_BYTES >> 20
            )));
        };
        if whole < len {
            log::warn!(
                "{}: cut {} bytes of a record that a crash left unfinished; it is written again",
                self.path.display(),
                len - whole
            );
            self.ok("cut", file.set_len(whole).and_then(|()| file.sync_data()))?;
        }
        Ok(())
    }

    fn rotate(&self) -> io::Result<()> {
        let mut last = 1;
        while last < self.rotate_keep && self.is_taken(last)? {
            last += 1;
        }
        for name in self.names(last) {
            remove(&name)?;
        }
        for number in (1..last).rev() {
            for (from, to) in self.names(number).into_iter().zip(self.names(number + 1)) {
                if from.try_exists()? {
                    fs::rename(from, to)?;
                }
            }
        }
        fs::rename(&self.path, self.rotated(1))?;
        sync_folder(&self.path)
    }

    fn is_taken(&self, number: u32) -> io::Result<bool> {
        let [plain, packed] = self.names(number);
        Ok(plain.try_exists()? || packed.try_exists()?)
    }

    /// What a number may stand for.
    fn names(&self, number: u32) -> [PathBuf; 2] {
        [self.rotated(number), self.with(&format!(".{number}.gz"))]
    }

    fn rotated(&self, number: u32) -> PathBuf {
        self.with(&format!(".{number}"))
    }

    fn with(&self, suffix: &str) -> PathBuf {
        let mut name: OsString = self.path.clone().into();
        name.push(suffix);
        name.into()
    }

    fn ok<T>(&self, doing: &str, result: io::Result<T>) -> Result<T, Fault> {
        result.map_err(|error| {
            let path = self.path.display();
            let advice = match error.kind() {
                io::ErrorKind::NotFound => "create its folder",
                io::ErrorKind::PermissionDenied => {
                    "let the agent's user write there (and the service: `ReadWritePaths=`)"
                }
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room",
                io::ErrorKind::ReadOnlyFilesystem => {
                    "the file system is read-only: mount it writable (and the service: `ReadWritePaths=`)"
                }
                _ => "check the disk",
            };
            Fault::Io { text: format!("cannot {doing} {path} ({error}): {advice}") }
        })
    }
}

/// The offset behind the last line break; 0 when a short file has none, `None` when a long one has none.
fn end_of_lines(file: &fs::File, len: u64) -> io::Result<Option<u64>> {
    let mut block = [0; BLOCK];
    let mut end = len;
    while end > 0 {
        if len - end > TORN_LINE_BYTES {
            return Ok(None);
        }
        let start = end.saturating_sub(BLOCK as u64);
        let part = &mut block[..(end - start) as usize];
        file.read_exact_at(part, start)?;
        if let Some(at) = memchr::memrchr(b'\n', part) {
            return Ok(Some(start + at as u64 + 1));
        }
        end = start;
    }
    Ok(Some(0))
}

/// Removes a file that may not be there.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[allow(clippy::disallowed_methods)] // the age of a file is wall-clock time
fn now() -> SystemTime {
    SystemTime::now()
}

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests;
