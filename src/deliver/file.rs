//! Lines appended to a file. They count as accepted when `fdatasync` returned.
//!
//! What holds:
//! * the file always ends with a whole line when a write begins: what a crash or a full disk left of a torn
//!   line is cut back to the last line break, for those records were not acknowledged and come again;
//! * at `rotate_bytes` the file becomes `PATH.1`, `PATH.1` becomes `PATH.2` and so on; the one after
//!   `PATH.<rotate_keep>` is gone. A crash in the middle leaves a gap in the numbers, and the next rotation
//!   fills the first gap instead of dropping a file. Rotation never splits a batch;
//! * a file that was moved or removed by somebody else (logrotate) is left alone and a new one is made;
//! * two writers never share a file: an advisory lock is held on it.

use std::ffi::OsString;
use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::lines::Lines;
use super::sender::{Outcome, Reason, Sender};

/// Permissions of a new file: logs are for the group that reads them, not for everybody.
const MODE: u32 = 0o640;
/// Bytes searched at once for the last line break.
const BLOCK: usize = 4096;
/// A file without a line break in this many last bytes is no file of lines: it is not touched. Far above
/// every record.
const TORN_LINE_BYTES: u64 = 64 * 1024 * 1024;

/// A file as a receiver.
pub struct File {
    log: Arc<Mutex<Log>>,
}

impl File {
    /// Nothing is opened yet. At least one rotated file is kept.
    pub fn new(path: &Path, rotate_bytes: u64, rotate_keep: u32) -> File {
        File { log: Arc::new(Mutex::new(Log { path: path.into(), rotate_bytes, rotate_keep, open: None })) }
    }
}

impl Sender for File {
    async fn send(&mut self, lines: Lines) -> Outcome {
        let lines = lines.bytes();
        let log = self.log.clone();
        // a cancelled write goes on by itself; the next one waits for the lock, so they never mix
        let written = tokio::task::spawn_blocking(move || {
            log.lock().unwrap_or_else(PoisonError::into_inner).append(&lines)
        });
        match written.await {
            Ok(Ok(())) => Outcome::Accepted,
            Ok(Err(Fault::Io { text })) => Outcome::Retry { reason: Reason::Storage, text, after: None },
            Ok(Err(Fault::Hold(text))) => Outcome::Hold(text),
            Err(_) => Outcome::Retry {
                reason: Reason::Storage,
                text: "the writing thread ended early".into(),
                after: None,
            },
        }
    }
}

struct Log {
    path: PathBuf,
    rotate_bytes: u64,
    rotate_keep: u32,
    open: Option<fs::File>,
}

enum Fault {
    /// May pass: no space, no folder, no permission.
    Io { text: String },
    /// Wants somebody to change something.
    Hold(String),
}

impl Log {
    fn append(&mut self, lines: &[u8]) -> Result<(), Fault> {
        let mut file = self.current()?;
        let mut len = self.ok("look at", file.metadata())?.len();
        if len > 0 && len + lines.len() as u64 > self.rotate_bytes {
            drop(file);
            let rotated = self.rotate();
            self.ok("rotate", rotated)?;
            file = self.current()?;
            len = 0;
        }
        if let Err(error) = file.write_all(lines).and_then(|()| file.sync_data()) {
            // a failed sync promises nothing, so these lines are written anew; if cutting fails too, the
            // next open does it
            let _ = file.set_len(len);
            return self.ok("write", Err(error));
        }
        self.open = Some(file);
        Ok(())
    }

    /// The file that stands at the path now, ending with a whole line. It is put back by who used it well.
    fn current(&mut self) -> Result<fs::File, Fault> {
        let at_path = match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            other => Some(self.ok("look at", other)?),
        };
        if let (Some(open), Some(now)) = (self.open.take(), &at_path) {
            let was = self.ok("look at", open.metadata())?;
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
        Ok(file)
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
        while last < self.rotate_keep && self.rotated(last).try_exists()? {
            last += 1;
        }
        for number in (1..last).rev() {
            fs::rename(self.rotated(number), self.rotated(number + 1))?;
        }
        fs::rename(&self.path, self.rotated(1))?;
        sync_folder(&self.path)
    }

    fn rotated(&self, number: u32) -> PathBuf {
        let mut name: OsString = self.path.clone().into();
        name.push(format!(".{number}"));
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

fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    struct Place {
        folder: tempfile::TempDir,
        path: PathBuf,
    }

    fn place() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.ndjson");
        Place { folder, path }
    }

    impl Place {
        fn read(&self, suffix: &str) -> String {
            fs::read_to_string(format!("{}{suffix}", self.path.display())).unwrap()
        }
        fn exists(&self, suffix: &str) -> bool {
            fs::exists(format!("{}{suffix}", self.path.display())).unwrap()
        }
    }

    async fn send(file: &mut File, lines: &str) -> Outcome {
        file.send(Lines::from(lines)).await
    }

    fn held(outcome: Outcome) -> String {
        let Outcome::Hold(text) = outcome else { panic!("{outcome:?}") };
        text
    }

    fn storage(outcome: Outcome) -> String {
        let Outcome::Retry { reason: Reason::Storage, text, after: None } = outcome else {
            panic!("{outcome:?}")
        };
        text
    }

    #[tokio::test]
    async fn lines_are_appended_to_what_is_there_and_the_file_is_not_for_everybody() {
        let place = place();
        let mut file = File::new(&place.path, u64::MAX, 1);
        assert_eq!(send(&mut file, "{\"a\":1}\n").await, Outcome::Accepted);
        assert_eq!(send(&mut file, "{\"a\":2}\n").await, Outcome::Accepted);
        drop(file);
        assert_eq!(send(&mut File::new(&place.path, u64::MAX, 1), "{\"a\":3}\n").await, Outcome::Accepted);
        assert_eq!(place.read(""), "{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n");
        assert_eq!(fs::metadata(&place.path).unwrap().permissions().mode() & 0o7777 & !MODE, 0);
    }

    #[tokio::test]
    async fn a_torn_last_line_is_cut_and_never_merged_with_the_next_record() {
        for (before, kept) in [
            ("{\"a\":1}\n{\"a\":2".to_string(), "{\"a\":1}\n"),
            ("{\"a\":".to_string(), ""),
            (format!("x\n{}", "y".repeat(3 * BLOCK)), "x\n"),
            (format!("x\n{}", "\0".repeat(BLOCK - 2)), "x\n"),
            ("whole\n".to_string(), "whole\n"),
        ] {
            let place = place();
            fs::write(&place.path, before).unwrap();
            assert_eq!(send(&mut File::new(&place.path, u64::MAX, 1), "next\n").await, Outcome::Accepted);
            assert_eq!(place.read(""), format!("{kept}next\n"));
        }
    }

    #[tokio::test]
    async fn something_that_is_no_file_of_lines_is_not_touched() {
        let place = place();
        fs::File::create(&place.path).unwrap().set_len(2 * TORN_LINE_BYTES).unwrap();
        assert!(held(send(&mut File::new(&place.path, u64::MAX, 1), "x\n").await).contains("no line break"));
        assert_eq!(fs::metadata(&place.path).unwrap().len(), 2 * TORN_LINE_BYTES);

        let folder = place.folder.path();
        assert!(held(send(&mut File::new(folder, u64::MAX, 1), "x\n").await).contains("not a regular file"));
    }

    #[tokio::test]
    async fn rotation_keeps_the_newest_and_never_splits_a_batch() {
        let place = place();
        let mut file = File::new(&place.path, 10, 2);
        for lines in ["1111\n", "2222\n", "3333\n", "longer than ten\n", "5555\n"] {
            assert_eq!(send(&mut file, lines).await, Outcome::Accepted);
        }
        assert_eq!(place.read(""), "5555\n");
        assert_eq!(place.read(".1"), "longer than ten\n");
        assert_eq!(place.read(".2"), "3333\n");
        assert!(!place.exists(".3"));
    }

    #[tokio::test]
    async fn a_rotation_that_a_crash_cut_short_drops_nothing_the_next_time() {
        let place = place();
        // PATH.1 became PATH.2, then the power went
        fs::write(format!("{}.2", place.path.display()), "older\n").unwrap();
        fs::write(format!("{}.3", place.path.display()), "oldest\n").unwrap();
        fs::write(&place.path, "current\n").unwrap();
        assert_eq!(send(&mut File::new(&place.path, 1, 3), "new\n").await, Outcome::Accepted);
        let all: Vec<String> = ["", ".1", ".2", ".3"].map(|suffix| place.read(suffix)).into();
        assert_eq!(all, ["new\n", "current\n", "older\n", "oldest\n"]);
    }

    #[tokio::test]
    async fn a_file_that_logrotate_moved_or_removed_is_made_anew() {
        let place = place();
        let mut file = File::new(&place.path, u64::MAX, 1);
        send(&mut file, "1\n").await;
        fs::rename(&place.path, format!("{}.old", place.path.display())).unwrap();
        assert_eq!(send(&mut file, "2\n").await, Outcome::Accepted);
        assert_eq!((place.read(".old"), place.read("")), ("1\n".into(), "2\n".into()));
        fs::remove_file(&place.path).unwrap();
        fs::write(&place.path, "somebody else's\n").unwrap();
        assert_eq!(send(&mut file, "3\n").await, Outcome::Accepted);
        assert_eq!(place.read(""), "somebody else's\n3\n");
        // copytruncate
        fs::OpenOptions::new().write(true).truncate(true).open(&place.path).unwrap();
        assert_eq!(send(&mut file, "4\n").await, Outcome::Accepted);
        assert_eq!(place.read(""), "4\n");
    }

    #[tokio::test]
    async fn a_missing_folder_is_said_and_tried_again() {
        let place = place();
        let path = place.folder.path().join("logs/out.ndjson");
        let mut file = File::new(&path, u64::MAX, 1);
        let text = storage(send(&mut file, "1\n").await);
        assert!(text.contains(&*path.to_string_lossy()) && text.contains("create its folder"), "{text}");
        fs::create_dir(path.parent().unwrap()).unwrap();
        assert_eq!(send(&mut file, "1\n").await, Outcome::Accepted);
    }

    #[tokio::test]
    async fn a_failed_write_leaves_the_file_as_it_was_and_the_next_one_opens_it_again() {
        let place = place();
        fs::write(&place.path, "before\n").unwrap();
        let mut file = File::new(&place.path, u64::MAX, 1);
        // a handle that cannot write stands for a disk that will not
        file.log.lock().unwrap().open = Some(fs::File::open(&place.path).unwrap());
        assert!(storage(send(&mut file, "1\n").await).contains("cannot write"));
        assert_eq!(place.read(""), "before\n");
        assert_eq!(send(&mut file, "1\n").await, Outcome::Accepted);
        assert_eq!(place.read(""), "before\n1\n");
    }

    #[tokio::test]
    async fn two_outputs_never_write_the_same_file() {
        let place = place();
        let mut first = File::new(&place.path, u64::MAX, 1);
        send(&mut first, "1\n").await;
        let mut second = File::new(&place.path, u64::MAX, 1);
        assert!(held(send(&mut second, "2\n").await).contains("another output"));
        drop(first);
        assert_eq!(send(&mut second, "2\n").await, Outcome::Accepted);
    }
}
