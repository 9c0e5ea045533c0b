//! Replaces a small file so that a power cut at any step leaves the old one or the new one, whole.

use std::io;

use super::disk::{Disk, DiskFile};

/// Ending of files that are being written. Whatever bears it after a crash is nobody's: see [`sweep`].
pub const TEMP: &str = ".tmp";

/// Puts `bytes` in the place of `dir/name`: temporary file, write, sync, rename, sync of the folder.
///
/// `Ok`: the new bytes are durable. `Err`: the old or the new file is there, and which of them a power cut
/// would leave is not known; call again with the bytes that shall be there.
pub fn replace<D: Disk>(disk: &D, dir: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let path = join(dir, name);
    let temp = format!("{path}{TEMP}");
    let write = || -> io::Result<()> {
        let mut file = disk.create(&temp)?;
        file.write_at(0, bytes)?;
        let _proof = file.sync()?;
        disk.rename(&temp, &path)
    };
    write().inspect_err(|_| drop(disk.remove(&temp)))?;
    disk.sync_dir(dir)
}

/// Removes what a crash left half written in a folder. For the start, before anything writes there.
pub fn sweep<D: Disk>(disk: &D, dir: &str) -> io::Result<()> {
    for (name, _) in disk.list(dir)? {
        if name.ends_with(TEMP) {
            disk.remove(&join(dir, &name))?;
        }
    }
    Ok(())
}

/// The path of a file in a folder; the root is `""`.
pub fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault_disk::{EIO, ENOSPC, FaultDisk, Op, Survive};

    fn disk() -> FaultDisk {
        let disk = FaultDisk::new();
        disk.create_dir("d").unwrap();
        replace(&disk, "d", "f", b"the old").unwrap();
        disk
    }

    #[test]
    fn a_cut_at_any_step_leaves_the_old_or_the_new_and_no_litter() {
        let whole = disk();
        let before = whole.steps();
        replace(&whole, "d", "f", b"the new one").unwrap();
        let steps = whole.steps() - before;
        assert_eq!(whole.preview(Survive::Nothing).contents("d/f").unwrap(), b"the new one");
        for fuse in 0..steps {
            let disk = disk();
            disk.cut_after(fuse);
            replace(&disk, "d", "f", b"the new one").unwrap_err();
            for survive in (0..50).map(Survive::Random).chain([Survive::Nothing, Survive::Everything]) {
                let after = disk.reboot(survive);
                sweep(&after, "d").unwrap();
                assert_eq!(after.list("d").unwrap().len(), 1);
                let bytes = after.contents("d/f").unwrap();
                assert!(bytes == b"the old" || bytes == b"the new one", "{fuse} {survive:?} {bytes:?}");
            }
        }
    }

    #[test]
    fn an_error_leaves_the_old_and_no_litter() {
        for (op, errno) in [(Op::Create, EIO), (Op::Write, ENOSPC), (Op::Sync, EIO), (Op::Rename, EIO)] {
            let disk = disk();
            disk.fail_next(op, errno);
            assert_eq!(replace(&disk, "d", "f", b"new").unwrap_err().raw_os_error(), Some(errno));
            assert_eq!(disk.contents("d/f").unwrap(), b"the old");
            assert_eq!(disk.list("d").unwrap().len(), 1);
            replace(&disk, "d", "f", b"new").unwrap();
            assert_eq!(disk.reboot(Survive::Nothing).contents("d/f").unwrap(), b"new");
        }
    }
}
