//! `PATH.1.gz` out of `PATH.1`, in bounded memory, while `PATH` is being written.
//!
//! What holds, wherever the power goes: the records of a rotated file are in `PATH.<n>`, in `PATH.<n>.gz`, or whole in
//! both. It is compressed into `PATH.gz.tmp`, which is synced and takes its place under the file's number of that moment
//! (rotations go on meanwhile); only then, and after the folder was synced, the file is removed. A file that is there
//! both ways is compressed once more.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::gzip::Gzip;
use super::{Log, MODE, remove, sync_folder};

/// Bytes read at once.
const BLOCK: usize = 64 * 1024;

/// Compresses every rotated file, the oldest first, until `gone`. A failure is logged; the next rotation tries again.
pub(super) fn all(log: &Mutex<Log>, gone: &AtomicBool) {
    while !gone.load(Ordering::Relaxed) {
        match one(log, gone) {
            Ok(true) => {}
            Ok(false) => return,
            Err(error) => {
                let path = locked(log).path.clone();
                log::warn!(
                    "{}: a rotated file could not be compressed ({error}): it stays as it is until the next rotation",
                    path.display()
                );
                return;
            }
        }
    }
}

fn locked(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Compresses the oldest rotated file. `false`: there is none.
fn one(log: &Mutex<Log>, gone: &AtomicBool) -> io::Result<bool> {
    let (temporary, source) = {
        let log = locked(log);
        let temporary = log.with(".gz.tmp");
        remove(&temporary)?;
        let oldest = (1..=log.rotate_keep).rev().map(|number| log.rotated(number));
        let Some(path) = oldest.into_iter().find(|path| path.is_file()).filter(|_| log.gzip) else {
            return Ok(false);
        };
        (temporary, fs::File::open(path)?)
    };
    if !compress(&source, &temporary, gone)? {
        return remove(&temporary).map(|()| false);
    }
    let log = locked(log);
    let Some(number) = number_of(&log, &source)? else {
        // rotations have dropped it meanwhile
        return remove(&temporary).map(|()| true);
    };
    let [plain, packed] = log.names(number);
    fs::rename(&temporary, packed)?;
    sync_folder(&log.path)?;
    fs::remove_file(plain)?;
    sync_folder(&log.path)?;
    Ok(true)
}

/// The number under which a rotated file stands now.
fn number_of(log: &Log, file: &fs::File) -> io::Result<Option<u32>> {
    let wanted = file.metadata()?;
    let is = |number: &u32| {
        fs::metadata(log.rotated(*number))
            .is_ok_and(|meta| (meta.dev(), meta.ino()) == (wanted.dev(), wanted.ino()))
    };
    Ok((1..=log.rotate_keep).find(is))
}

/// `false`: given up, for nobody wants it any more.
fn compress(mut source: &fs::File, to: &PathBuf, gone: &AtomicBool) -> io::Result<bool> {
    let failed = |_| io::Error::other("the compressor gave up");
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(to)?;
    let (mut gzip, mut block, mut out) = (Gzip::default(), vec![0; BLOCK], Vec::with_capacity(BLOCK));
    gzip.begin(&mut out);
    loop {
        if gone.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let count = source.read(&mut block)?;
        if count == 0 {
            break;
        }
        gzip.write(&block[..count], &mut out).map_err(failed)?;
        file.write_all(&out)?;
        out.clear();
    }
    gzip.finish(&mut out).map_err(failed)?;
    file.write_all(&out)?;
    file.sync_all()?;
    Ok(true)
}
