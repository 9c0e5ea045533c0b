//! What the probes ask of a file system: can something be written there, and how much. Nothing that they do is
//! left behind.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use nix::sys::statvfs::statvfs;

use super::super::finding::{Finding, Kind};

/// Bytes that are written as a test: a block, so that a full disk shows.
const BLOCK: [u8; 4096] = [0; 4096];

/// Writes a file in the folder and syncs it; the user it belongs to is returned. It has no name any more when it is
/// written, so that nothing is left whatever happens.
pub(super) fn try_writing(folder: &Path) -> io::Result<u32> {
    let path = folder.join(format!(".trailspool-check-{}", std::process::id()));
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    fs::remove_file(&path)?;
    write(made)
}

fn write(mut file: File) -> io::Result<u32> {
    file.write_all(&BLOCK)?;
    file.sync_data()?;
    Ok(file.metadata()?.uid())
}

/// A folder in which nothing can be written.
pub(super) fn cannot_write(probe: &'static str, folder: &Path, error: &io::Error) -> Finding {
    let shown = folder.display();
    let (kind, fix) = match error.kind() {
        io::ErrorKind::PermissionDenied => (
            Kind::Permission,
            format!(
                "run the check as the user that the agent runs as, or give that user the folder: `chown USER {shown}`"
            ),
        ),
        io::ErrorKind::ReadOnlyFilesystem => (
            Kind::Io,
            format!("mount it writable; in a systemd unit: `ReadWritePaths={shown}` or `StateDirectory=`"),
        ),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            (Kind::Io, "make room on its file system".to_owned())
        }
        io::ErrorKind::NotADirectory => {
            (Kind::Io, "a file is in the way: move it away, or name another folder".to_owned())
        }
        _ => (Kind::Io, "check the disk: `dmesg` may say more".to_owned()),
    };
    Finding::fail(probe, kind, format!("nothing can be written in {shown}"), error.to_string(), fix)
}

/// What is left on the file system of a folder.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Bytes for users without privileges.
    pub(super) bytes: u64,
    /// Files that can be made; `None`: the file system does not count them.
    pub(super) files: Option<u64>,
}

/// Source: statvfs(3).
#[allow(clippy::useless_conversion, reason = "these numbers have 32 bits on 32-bit ARM")]
pub(super) fn room(folder: &Path) -> io::Result<Room> {
    let stat = statvfs(folder)?;
    let bytes = u64::from(stat.blocks_available()).saturating_mul(u64::from(stat.fragment_size()));
    let files = (stat.files() > 0).then(|| u64::from(stat.files_available()));
    Ok(Room { bytes, files })
}

/// Bytes of the files in a folder; what cannot be read counts nothing.
pub(super) fn used(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.metadata().ok())
        .filter(|meta| meta.is_file())
        .map(|meta| meta.len())
        .sum()
}

/// Bytes for a sentence.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [(u32, &str); 3] = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    match UNITS.iter().find(|(shift, _)| bytes >> shift > 0) {
        Some((shift, unit)) => {
            let tenths = (u128::from(bytes) * 10) >> shift;
            format!("{}.{} {unit}", tenths / 10, tenths % 10)
        }
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trying_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        try_writing(folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_is_not_there_is_an_error() {
        assert_eq!(try_writing(Path::new("/nowhere/at/all")).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(room(Path::new("/nowhere/at/all")).is_err());
    }

    #[test]
    fn bytes_are_told_with_one_decimal() {
        for (number, text) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (1_600_000, "1.5 MiB"),
            (2 << 30, "2.0 GiB"),
            (u64::MAX, "17179869183.9 GiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }
}
