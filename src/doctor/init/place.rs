//! Where `trailspool init` writes: files that are there whole or not at all, and none that is lost.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::config;
use crate::limits;

/// A configuration of which nothing is filled in yet, as the package brings it, has all of these values. (What its
/// comments say stays there when somebody fills it in.)
const UNFILLED: [&str; 3] =
    ["\"FILL-IN-the-bucket\"", "\"AKIAFILLIN0000000000\"", "\"https://siem.invalid/FILL-IN\""];

/// What stands at a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Existing {
    /// Nothing.
    Nothing,
    /// The package's configuration, which says what has to be filled in.
    Template,
    /// Somebody's work, or something that cannot be read.
    Work,
}

/// What stands there.
pub(super) fn existing(path: &Path) -> Existing {
    match config::bounded(path, limits::CONFIG_BYTES) {
        Ok(text) if UNFILLED.iter().all(|value| memchr::memmem::find(&text, value.as_bytes()).is_some()) => {
            Existing::Template
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Existing::Nothing,
        _ => Existing::Work,
    }
}

/// Makes the folder of a file, unless it is there.
pub(super) fn folder_of(path: &Path, mode: u32) -> io::Result<&Path> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(mode).create(folder)?;
    Ok(folder)
}

/// Where the old file is kept.
pub(super) fn kept_as(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".old");
    name.into()
}

/// Writes a file with this mode. After a power cut there is the old one or the new one.
pub(super) fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let folder = folder_of(path, 0o755)?;
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = PathBuf::from(name);
    let written =
        OpenOptions::new().write(true).create_new(true).mode(mode).open(&new).and_then(|mut file| {
            // Whatever the umask is: the service's account has to read the configuration.
            file.set_permissions(fs::Permissions::from_mode(mode))?;
            file.write_all(content)?;
            file.sync_all()?;
            fs::rename(&new, path)
        });
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written?;
    File::open(folder)?.sync_all()
}

/// Keeps what stands at the path under another name beside it; an older one there is lost.
pub(super) fn keep(path: &Path) -> io::Result<()> {
    let kept = kept_as(path);
    match fs::remove_file(&kept) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::hard_link(path, kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_packages_configuration_is_nobodys_work() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.toml");
        assert_eq!(existing(&path), Existing::Nothing);
        fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/systemd/trailspool.toml"), &path).unwrap();
        assert_eq!(existing(&path), Existing::Template);
        let template = fs::read_to_string(&path).unwrap();
        for value in UNFILLED {
            fs::write(&path, template.replace(value, "\"filled in\"")).unwrap();
            assert_eq!(
                existing(&path),
                Existing::Work,
                "{value} is filled in, whatever the comments still say"
            );
        }
        fs::write(&path, "[agent]\n").unwrap();
        assert_eq!(existing(&path), Existing::Work);
        assert_eq!(existing(dir.path()), Existing::Work, "a folder is not replaced");
    }

    #[test]
    fn what_is_replaced_is_kept_and_modes_are_what_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b.toml");
        for (content, mode) in [("old", 0o644), ("new", 0o600)] {
            if path.exists() {
                keep(&path).unwrap();
            }
            write(&path, content.as_bytes(), mode).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::read_to_string(kept_as(&path)).unwrap(), "old");
        assert_eq!(fs::read_dir(dir.path().join("a")).unwrap().count(), 2, "nothing else is left behind");
    }
}
