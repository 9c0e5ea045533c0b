//! The [`Disk`] of the running agent: one folder of a real file system.
//!
//! Folders are made with mode 0700 and files with 0600. [`DiskFile::sync`] is fdatasync, which on Linux also
//! writes a changed length; names become durable with [`Disk::sync_dir`], an fsync of the folder. A file that was
//! removed under the agent goes on taking bytes, and fdatasync has nothing against it: so its number of names is asked.
//! Each operation is a beat of the stage that the thread works for ([`worker`]).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::disk::{Disk, DiskFile, Synced};
use super::worker;

/// A folder of the file system. Clones name the same folder.
#[derive(Debug, Clone)]
pub struct StdDisk {
    root: Arc<Path>,
    /// Nothing is changed, and nothing needs to be writable.
    read_only: bool,
}

/// An open file of a [`StdDisk`].
#[derive(Debug)]
pub struct StdFile {
    file: File,
}

impl StdDisk {
    /// Opens a folder; makes it, and the folders above it, when it is not there.
    pub fn open(root: &Path) -> io::Result<StdDisk> {
        make_durably(root)?;
        Ok(StdDisk { root: root.into(), read_only: false })
    }

    /// A folder that is there, for changing something in it; nothing is made.
    pub fn existing(root: &Path) -> StdDisk {
        StdDisk { root: root.into(), read_only: false }
    }

    /// A folder for looking at it. Whatever would change it fails.
    pub fn read_only(root: &Path) -> io::Result<StdDisk> {
        match fs::metadata(root)?.is_dir() {
            true => Ok(StdDisk { root: root.into(), read_only: true }),
            false => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    /// The place of `path`, for changing it.
    fn place(&self, path: &str) -> io::Result<PathBuf> {
        match self.read_only {
            false => self.locate(path),
            true => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
        }
    }

    /// The place of `path` in the file system. Refuses what would lead out of the root.
    fn locate(&self, path: &str) -> io::Result<PathBuf> {
        worker::beat();
        let plain =
            |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['/', '\0']);
        let (dir, name) = path.split_once('/').unwrap_or((path, "-"));
        match plain(dir) && plain(name) {
            true => Ok(self.root.join(path)),
            false => {
                Err(io::Error::new(io::ErrorKind::InvalidInput, format!("not a path of a disk: {path:?}")))
            }
        }
    }

    fn locate_dir(&self, dir: &str) -> io::Result<PathBuf> {
        if dir.is_empty() { Ok(self.root.to_path_buf()) } else { self.locate(dir) }
    }
}

impl Disk for StdDisk {
    type File = StdFile;

    fn create_dir(&self, dir: &str) -> io::Result<()> {
        match self.read_only {
            false => make_durably(&self.locate_dir(dir)?),
            true => Err(io::ErrorKind::ReadOnlyFilesystem.into()),
        }
    }

    fn create(&self, path: &str) -> io::Result<StdFile> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        options.open(self.place(path)?).map(|file| StdFile { file })
    }

    fn open(&self, path: &str) -> io::Result<StdFile> {
        let file = OpenOptions::new().read(true).write(!self.read_only).open(self.locate(path)?);
        file.map(|file| StdFile { file })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.place(from)?, self.place(to)?)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.place(path)?)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        // Who only looks has nothing to make durable.
        if self.read_only { Ok(()) } else { File::open(self.locate_dir(dir)?)?.sync_all() }
    }

    fn list(&self, dir: &str) -> io::Result<Vec<(String, u64)>> {
        let entries = match fs::read_dir(self.locate_dir(dir)?) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            let data = match entry.metadata() {
                Ok(data) => data,
                // Removed between the listing and here.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            // Names that are not UTF-8 are none of ours.
            if let (true, Ok(name)) = (data.is_file(), entry.file_name().into_string()) {
                files.push((name, data.len()));
            }
        }
        Ok(files)
    }
}

impl DiskFile for StdFile {
    fn len(&self) -> io::Result<u64> {
        self.file.metadata().map(|data| data.len())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        worker::beat();
        loop {
            match self.file.read_at(buf, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                done => return done,
            }
        }
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        worker::beat();
        self.file.write_all_at(bytes, offset)
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        worker::beat();
        self.file.set_len(len)
    }

    fn sync(&mut self) -> io::Result<Synced> {
        worker::beat();
        self.file.sync_data()?;
        match self.file.metadata()?.nlink() {
            0 => Err(io::Error::new(io::ErrorKind::NotFound, "it was removed while it was being written")),
            _ => Ok(Synced::after_ok_sync()),
        }
    }
}

/// Makes a folder and those above it, and syncs the folder above each so that the names stay. A folder that
/// is already there is synced into its parent as well: a run before may have ended between the two.
fn make_durably(dir: &Path) -> io::Result<()> {
    let made = DirBuilder::new().mode(0o700).create(dir);
    let parent = match dir.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => return Ok(()),
    };
    match made {
        Ok(()) => File::open(parent)?.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {
            // The folder above the root may be closed to us (a service's state directory): then it is not
            // ours to keep.
            match File::open(parent).and_then(|parent| parent.sync_all()) {
                Err(error) if error.kind() != io::ErrorKind::PermissionDenied => Err(error),
                _ => Ok(()),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_durably(parent)?;
            make_durably(dir)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pulse::Pulse;
    use std::os::unix::fs::PermissionsExt;

    fn disk() -> (tempfile::TempDir, StdDisk) {
        let folder = tempfile::tempdir().unwrap();
        let disk = StdDisk::open(&folder.path().join("a/b")).unwrap();
        (folder, disk)
    }

    #[test]
    fn folders_and_files_are_the_owners_alone() {
        let (folder, disk) = disk();
        disk.create_dir("spool").unwrap();
        disk.create_dir("spool").unwrap();
        disk.create("spool/x").unwrap();
        let mode = |path: &str| fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            [mode("a"), mode("a/b"), mode("a/b/spool"), mode("a/b/spool/x")],
            [0o700, 0o700, 0o700, 0o600]
        );
    }

    #[test]
    fn a_file_is_written_read_cut_renamed_listed_and_removed() {
        let (_folder, disk) = disk();
        disk.create_dir("d").unwrap();
        let mut file = disk.create("d/x.tmp").unwrap();
        file.write_at(3, b"abc").unwrap();
        let _ = file.sync().unwrap();
        let mut buf = [1; 8];
        assert_eq!(file.read_at(0, &mut buf).unwrap(), 6);
        assert_eq!(&buf[..6], b"\0\0\0abc");
        assert_eq!(file.read_at(6, &mut buf).unwrap(), 0);
        file.set_len(4).unwrap();
        disk.rename("d/x.tmp", "d/x").unwrap();
        disk.sync_dir("d").unwrap();
        assert_eq!(disk.list("d").unwrap(), [("x".to_owned(), 4)]);
        assert_eq!(disk.open("d/x").unwrap().len().unwrap(), 4);
        assert_eq!(disk.create("d/x").unwrap().len().unwrap(), 0);
        disk.remove("d/x").unwrap();
        assert_eq!(disk.list("d").unwrap(), []);
        assert_eq!(disk.list("not there").unwrap(), []);
        assert_eq!(disk.list("").unwrap(), [], "folders are not files");
        assert_eq!(disk.open("d/x").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_file_that_was_removed_is_never_said_to_be_durable() {
        let (folder, disk) = disk();
        disk.create_dir("d").unwrap();
        let mut file = disk.create("d/x").unwrap();
        file.write_at(0, b"abc").unwrap();
        fs::remove_dir_all(folder.path().join("a")).unwrap();
        file.write_at(3, b"abc").unwrap();
        assert_eq!(file.sync().unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_a_thread_does_is_a_beat_of_its_own_stage() {
        let (_folder, disk) = disk();
        let mine: Arc<Pulse> = Arc::default();
        let all = || {
            disk.create_dir("d").unwrap();
            let mut file = disk.create("d/x").unwrap();
            file.write_at(0, b"abc").unwrap();
            file.read_at(0, &mut [0]).unwrap();
            file.set_len(1).unwrap();
            let _ = file.sync().unwrap();
            disk.rename("d/x", "d/y").unwrap();
            disk.remove("d/y").unwrap();
            disk.sync_dir("d").unwrap();
            disk.list("d").unwrap();
        };
        {
            let _works = worker::works_for(&mine);
            let another = || {
                let others: Arc<Pulse> = Arc::default();
                let _works = worker::works_for(&others);
                all();
                others.beats()
            };
            std::thread::scope(|scope| {
                scope.spawn(all).join().unwrap();
                assert!(scope.spawn(another).join().unwrap() >= 10);
            });
            assert_eq!(mine.beats(), 0, "others' work");
            all();
        }
        let beats = mine.beats();
        assert!(beats >= 10, "{beats}");
        all();
        assert_eq!(mine.beats(), beats, "it has stopped working for it");
    }

    #[test]
    fn no_path_leads_out_of_the_root() {
        let (_folder, disk) = disk();
        for path in ["", "..", "../x", "d/..", "/etc/passwd", "a/b/c", "d/", "/", "d/."] {
            assert_eq!(disk.create(path).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{path:?}");
        }
    }
}
