//! The state directory: there, writable, with room, and whether an agent is at work on it. Nothing is locked and
//! nothing is left behind, so that a running agent notices nothing.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};
use nix::unistd::{AccessFlags, access};

use super::super::finding::{Blocked, Finding, Kind, Notes, Part, Section};
use super::files::{self, Room, bytes, cannot_write};
use crate::config;
use crate::limits;

const PROBES: [&str; 4] = ["state-dir", "space", "inodes", "agent"];
/// What the agent makes in its state directory.
const OWN: [&str; 5] = ["lock", "spool", "cursors", "ledger", "quarantine"];
/// Files beside the spool's segments and the quarantine: ledger runs, cursors, states.
const OTHER_FILES: u64 = 1000;

/// Probes the state directory. Blocks.
pub(in crate::doctor) fn state(agent: Option<&config::Agent>, spool: Option<&config::Spool>) -> Section {
    let notes = Notes::default();
    let because = match agent {
        Some(agent) => probe(&agent.state_dir, spool, &notes).err(),
        None => Some(Blocked("the configuration does not say where it is".to_owned())),
    };
    notes.finish(Part::Agent, &PROBES, &because.map_or_else(String::new, |Blocked(text)| text))
}

fn probe(dir: &Path, spool: Option<&config::Spool>, notes: &Notes) -> Result<(), Blocked> {
    let there = there(dir, notes)?;
    match spool {
        Some(spool) => room(dir, &there, spool, notes),
        None => {
            for probe in ["space", "inodes"] {
                notes.add(Finding::not_tested(probe, "[spool] has faults"));
            }
        }
    }
    notes.add(holder(dir));
    Ok(())
}

/// The directory, or the nearest one above it that is there.
fn there(dir: &Path, notes: &Notes) -> Result<PathBuf, Blocked> {
    let shown = dir.display();
    let not_usable = "the state directory cannot be used";
    let meta = match fs::metadata(dir) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return not_there(dir, notes),
        Err(error) => return Err(notes.block(cannot_write("state-dir", dir, &error), not_usable)),
    };
    if !meta.is_dir() {
        let finding = Finding::fail(
            "state-dir",
            Kind::Io,
            format!("{shown} is no directory"),
            "",
            "move it away, or name another `state_dir`",
        );
        return Err(notes.block(finding, not_usable));
    }
    let user = match files::try_writing(dir) {
        Ok(user) => user,
        Err(error) => return Err(notes.block(cannot_write("state-dir", dir, &error), not_usable)),
    };
    let foreign = OWN.iter().map(|name| dir.join(name)).find(|path| path.exists() && !usable(path));
    notes.add(match foreign {
        Some(path) => Finding::fail(
            "state-dir",
            Kind::Permission,
            format!("{} belongs to another user", path.display()),
            "the agent once ran as that user, and cannot go on as this one",
            format!("stop the agent, then `chown -R USER {shown}` with the user that it runs as"),
        ),
        None if user != meta.uid() => Finding::warn(
            "state-dir",
            format!("{shown} is writable for user {user}, but belongs to user {}", meta.uid()),
            "the check says nothing about what that user may do",
            format!("check as that user: `sudo -u '#{}' trailspool check`", meta.uid()),
        ),
        None => Finding::ok("state-dir", format!("{shown} is writable")),
    });
    Ok(dir.to_owned())
}

/// `run` makes the directory if it can.
fn not_there(dir: &Path, notes: &Notes) -> Result<PathBuf, Blocked> {
    let shown = dir.display();
    let above = dir.ancestors().skip(1).find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    match access(above, AccessFlags::W_OK | AccessFlags::X_OK) {
        Ok(()) => {
            let what = format!("{shown} is not there yet; `run` makes it in {}", above.display());
            notes.add(Finding::ok("state-dir", what));
            Ok(above.to_owned())
        }
        Err(error) => {
            let finding = Finding::fail(
                "state-dir",
                Kind::Permission,
                format!("{shown} is not there, and cannot be made in {}", above.display()),
                error.desc(),
                format!("make it for the user that the agent runs as: `install -d -m 700 -o USER {shown}`"),
            );
            Err(notes.block(finding, "there is no state directory"))
        }
    }
}

fn usable(path: &Path) -> bool {
    let search = if path.is_dir() { AccessFlags::X_OK } else { AccessFlags::empty() };
    access(path, AccessFlags::R_OK | AccessFlags::W_OK | search).is_ok()
}

/// Room for everything that the configuration allows, less what is there already.
fn room(dir: &Path, there: &Path, spool: &config::Spool, notes: &Notes) {
    let room = match files::room(there) {
        Ok(room) => room,
        Err(error) => {
            let why = format!("statvfs says: {error}");
            for probe in ["space", "inodes"] {
                notes.add(Finding::warn(probe, "the free space cannot be told", &why, "check the disk"));
            }
            return;
        }
    };
    let used = files::used(&dir.join("spool"));
    notes.add(space(room, used, files::used(&dir.join("quarantine")), spool));
    notes.add(inodes(room, spool));
}

fn space(room: Room, spooled: u64, quarantined: u64, spool: &config::Spool) -> Finding {
    let (max, quarantine) = (spool.max_bytes, spool.quarantine_max_bytes);
    let wanted = max.saturating_sub(spooled).saturating_add(quarantine.saturating_sub(quarantined));
    let free = bytes(room.bytes);
    let what = format!("{free} are free; the spool may still take {}", bytes(wanted));
    if room.bytes >= wanted {
        return Finding::ok("space", what);
    }
    // What can be promised: a tenth of what is free is left to others.
    let fits = (room.bytes / 10 * 9).saturating_add(spooled + quarantined).saturating_sub(quarantine) >> 20;
    let why = format!(
        "`max_bytes` ({}) and `quarantine_max_bytes` ({}) are more than there is: the disk is full before the spool is",
        bytes(max),
        bytes(quarantine)
    );
    let fix = match fits << 20 >= limits::SPOOL_BYTES_MIN {
        true => format!("set `max_bytes = \"{fits}MiB\"` in [spool], or make room"),
        false => "make room, or name a `state_dir` on another disk".to_owned(),
    };
    match room.bytes.saturating_add(spooled) < limits::SPOOL_BYTES_MIN {
        true => Finding::fail("space", Kind::Io, what, why, fix),
        false => Finding::warn("space", what, why, fix),
    }
}

fn inodes(room: Room, spool: &config::Spool) -> Finding {
    let Some(files) = room.files else {
        return Finding::ok("inodes", "the file system does not limit the number of files");
    };
    let wanted = spool.max_bytes / limits::SEGMENT_BYTES + limits::QUARANTINE_ENTRIES + OTHER_FILES;
    let what = format!("{files} more files can be made; the agent makes up to {wanted}");
    match files >= wanted {
        true => Finding::ok("inodes", what),
        false => Finding::warn(
            "inodes",
            what,
            "the file system runs out of inodes before it runs out of bytes",
            "remove files, or name a `state_dir` on another file system",
        ),
    }
}

/// Who holds the agent's lock. The lock itself is not touched: an agent that starts at this moment gets it.
fn holder(dir: &Path) -> Finding {
    let none = || Finding::ok("agent", "no agent is at work on it");
    let Ok(meta) = fs::metadata(dir.join("lock")) else { return none() };
    let Ok(locks) = fs::read_to_string("/proc/locks") else {
        return Finding::ok("agent", "whether an agent is at work on it cannot be told (no /proc/locks)");
    };
    let file = (major(meta.dev()), minor(meta.dev()), meta.ino());
    let is_agent = |process: &str| {
        fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|name| name.trim_end() == "trailspool")
    };
    match lock_holder(&locks, file, &is_agent) {
        Some(process) => Finding::ok("agent", format!("an agent is at work on it (process {process})")),
        None => none(),
    }
}

/// The process that holds a lock as flock(2) gives it. Source: proc_locks(5):
/// `1: FLOCK  ADVISORY  WRITE 5433 08:01:7864448 0 EOF`, device numbers in hexadecimal. btrfs and overlayfs give
/// another device there than for the file: then the inode has to do, and that it is an agent.
fn lock_holder<'a>(
    locks: &'a str,
    (major, minor, inode): (u64, u64, u64),
    is_agent: &dyn Fn(&str) -> bool,
) -> Option<&'a str> {
    locks.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (kind, _, _, process, file) =
            (words.next()?, words.next()?, words.next()?, words.next()?, words.next()?);
        let mut parts = file.split(':');
        let mut number = |radix| u64::from_str_radix(parts.next()?, radix).ok();
        let (device, number) = ((number(16)?, number(16)?), number(10)?);
        let same = number == inode && (device == (major, minor) || is_agent(process));
        (kind == "FLOCK" && same).then_some(process)
    })
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::super::super::finding::Level;
    use super::*;

    const GIB: u64 = 1 << 30;

    fn spool() -> config::Spool {
        config::Spool {
            max_bytes: 2 * GIB,
            quarantine_max_bytes: 64 << 20,
            max_record_bytes: 1 << 20,
            compression: Default::default(),
            max_object_bytes: GIB,
        }
    }

    fn agent(state_dir: &Path) -> config::Agent {
        config::Agent {
            state_dir: state_dir.to_owned(),
            status_listen: None,
            status_token: None,
            log_level: log::LevelFilter::Off,
            fetches_in_flight: 1,
        }
    }

    fn levels(section: &Section) -> Vec<(&'static str, Level)> {
        section.findings.iter().map(|finding| (finding.probe, finding.level)).collect()
    }

    #[test]
    fn space_is_compared_with_what_the_spool_may_still_take() {
        for (free, spooled, level, fix) in [
            (3 * GIB, 0, Level::Ok, ""),
            (GIB, 2 * GIB - 1024, Level::Ok, ""),
            (GIB, 0, Level::Warn, "set `max_bytes = \"857MiB\"` in [spool], or make room"),
            (1024, GIB, Level::Warn, "set `max_bytes = \"960MiB\"` in [spool], or make room"),
            (64 << 20, 0, Level::Warn, "make room, or name a `state_dir` on another disk"),
            (4 << 20, 0, Level::Fail(Kind::Io), "make room, or name a `state_dir` on another disk"),
        ] {
            let finding = space(Room { bytes: free, files: None }, spooled, 0, &spool());
            assert_eq!((finding.level, finding.fix.as_str()), (level, fix), "{free} {spooled}");
        }
    }

    #[test]
    fn few_inodes_are_a_warning_and_no_count_is_none() {
        let level = |files| inodes(Room { bytes: 0, files }, &spool()).level;
        assert_eq!(level(None), Level::Ok);
        assert_eq!(level(Some(1_000_000)), Level::Ok);
        assert_eq!(level(Some(5000)), Level::Warn);
    }

    #[test]
    fn the_holder_of_a_lock_is_found_by_device_and_inode() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 08:01:77 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 22 08:02:77 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 99 fd:1a:77 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 33 fd:1a:77 0 EOF\n\
                     nonsense\n\n";
        let none = |_: &str| false;
        assert_eq!(lock_holder(locks, (0xfd, 0x1a, 77), &none), Some("33"));
        assert_eq!(lock_holder(locks, (8, 2, 77), &none), Some("22"));
        assert_eq!(lock_holder(locks, (8, 1, 77), &none), None);
        assert_eq!(lock_holder(locks, (8, 1, 77), &|process| process == "33"), Some("33"));
        assert_eq!(lock_holder(locks, (8, 1, 78), &|_| true), None);
        assert_eq!(lock_holder("", (8, 1, 77), &none), None);
    }

    #[test]
    fn a_lock_that_is_held_is_seen_and_not_touched() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("lock")).unwrap();
        assert_eq!(holder(dir.path()).what, "no agent is at work on it");
        file.try_lock().unwrap();
        let what = holder(dir.path()).what;
        // Some file systems show locks under another device number than their files.
        assert!(what.contains(&std::process::id().to_string()) || what.starts_with("no agent"), "{what}");
    }

    #[test]
    fn a_good_directory_is_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let section = state(Some(&agent(dir.path())), Some(&spool()));
        assert_eq!(section.findings[0].level, Level::Ok, "{section:?}");
        assert_eq!(levels(&section).len(), PROBES.len());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_that_run_would_make_is_not_made() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let section = state(Some(&agent(&path)), Some(&spool()));
        assert_eq!(section.findings[0].level, Level::Ok);
        assert!(!dir.path().join("a").exists());
    }

    #[test]
    fn what_is_no_directory_leaves_the_rest_untested() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let section = state(Some(&agent(file.path())), Some(&spool()));
        use Level::{Fail, NotTested};
        let expected = [
            ("state-dir", Fail(Kind::Io)),
            ("space", NotTested),
            ("inodes", NotTested),
            ("agent", NotTested),
        ];
        assert_eq!(levels(&section), expected);
    }

    #[test]
    fn what_the_configuration_does_not_give_is_not_tested() {
        let dir = tempfile::tempdir().unwrap();
        assert!(state(None, None).findings.iter().all(|finding| finding.level == Level::NotTested));
        let section = state(Some(&agent(dir.path())), None);
        use Level::{NotTested, Ok};
        assert_eq!(
            levels(&section),
            [("state-dir", Ok), ("space", NotTested), ("inodes", NotTested), ("agent", Ok)]
        );
    }
}
