//! One output: can it be reached, as far as that can be told without sending anything.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use tokio::time::timeout;

use super::super::finding::{Blocked, Finding, Kind, Notes, Part, Section};
use super::files::{self, bytes, cannot_write};
use super::{PART, TIME_IS_UP, TIMEOUTS, health, network, stream};
use crate::config::{self, OutputKind};
use crate::net::{Client, Options};

/// Probes an output.
pub(in crate::doctor) async fn output(output: config::Output) -> Section {
    let notes = Notes::default();
    let part = Part::Output(output.name.clone());
    let probes: &[&'static str] = match &output.kind {
        OutputKind::Stdout => &["stdout"],
        OutputKind::File(_) => &["file", "space"],
        OutputKind::Http(http) => health::probes(http),
        OutputKind::Syslog { peer, .. } | OutputKind::Tcp(peer) => stream::steps(peer, false),
        OutputKind::Relp { peer, .. } => stream::steps(peer, true),
    };
    let because = match timeout(PART, probe(output.kind, &notes)).await {
        Ok(Ok(())) => String::new(),
        Ok(Err(Blocked(because))) => because,
        Err(_) => TIME_IS_UP.to_owned(),
    };
    notes.finish(part, probes, &because)
}

async fn probe(kind: OutputKind, notes: &Notes) -> Result<(), Blocked> {
    match kind {
        OutputKind::Stdout => {
            notes.add(Finding::ok("stdout", "standard output needs no test"));
            Ok(())
        }
        OutputKind::File(config) => {
            let notes = notes.clone();
            let work = move || file(&config.path, config.rotate_bytes, config.rotate_keep, &notes);
            tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(Blocked(error.to_string())))
        }
        OutputKind::Syslog { peer, .. } | OutputKind::Tcp(peer) => stream::reach(&peer, false, notes).await,
        OutputKind::Relp { peer, .. } => stream::reach(&peer, true, notes).await,
        OutputKind::Http(http) => {
            // Nothing is posted: even an empty body could become an event. A connection and a GET cannot.
            let proxy = http.proxies.of(&http.url);
            let options = Options {
                ca_file: http.trust.ca_file.as_deref(),
                identity: http.trust.identity.as_ref(),
                proxies: http.proxies.clone(),
                timeouts: TIMEOUTS,
            };
            match Client::new(options) {
                Ok(client) => {
                    let setting = "the output's `url`";
                    network::reach(&client, proxy, &http.url, setting, stream::SECOND_THOUGHTS, notes)
                        .await?;
                    if let Some(endpoint) = health::endpoint(&http) {
                        health::health(&client, &http, endpoint, notes).await;
                    }
                    Ok(())
                }
                Err(error) => {
                    let what = "there is nobody to trust";
                    let finding = Finding::fail(
                        "tls",
                        Kind::Config,
                        what,
                        error.to_string(),
                        "correct `ca_file`, `client_cert_file` and `client_key_file`",
                    );
                    Err(notes.block(finding, "there is no client without trust"))
                }
            }
        }
    }
}

fn file(path: &Path, rotate_bytes: u64, rotate_keep: u32, notes: &Notes) -> Result<(), Blocked> {
    let shown = path.display();
    let folder = path.parent().unwrap_or(Path::new("/"));
    let not_writable = "the file cannot be written";
    if let Err(error) = files::try_writing(folder) {
        let finding = match error.kind() {
            io::ErrorKind::NotFound => Finding::fail(
                "file",
                Kind::Io,
                format!("the folder of {shown} is not there"),
                error.to_string(),
                format!(
                    "make it for the user that the agent runs as: `install -d -o USER {}`",
                    folder.display()
                ),
            ),
            _ => cannot_write("file", folder, &error),
        };
        return Err(notes.block(finding, not_writable));
    }
    let there = match fs::metadata(path) {
        Ok(meta) if !meta.is_file() => {
            let what = format!("{shown} is not a regular file");
            let finding = Finding::fail("file", Kind::Config, what, "", "name another `path`");
            return Err(notes.block(finding, not_writable));
        }
        // Opening for appending changes nothing.
        Ok(meta) => OpenOptions::new().append(true).open(path).map(|_| meta.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    };
    let len = match there {
        Ok(len) => len,
        Err(error) => return Err(notes.block(cannot_write("file", path, &error), not_writable)),
    };
    notes.add(Finding::ok("file", format!("{shown} can be written and rotated")));
    notes.add(space(folder, len, rotate_bytes.saturating_mul(u64::from(rotate_keep) + 1)));
    Ok(())
}

fn space(folder: &Path, len: u64, most: u64) -> Finding {
    let free = match files::room(folder) {
        Ok(room) => room.bytes,
        Err(error) => {
            return Finding::warn(
                "space",
                "the free space cannot be told",
                error.to_string(),
                "check the disk",
            );
        }
    };
    let what =
        format!("{} are free; with all rotated files the output takes up to {}", bytes(free), bytes(most));
    match free.saturating_add(len) >= most {
        true => Finding::ok("space", what),
        false => Finding::warn(
            "space",
            what,
            "when the disk is full, delivery to this file waits",
            "lower `rotate_bytes` or `rotate_keep`, or make room",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::finding::Level;
    use super::*;

    fn probe_file(path: &Path) -> Vec<Finding> {
        let notes = Notes::default();
        let because = file(path, 1024, 1, &notes).err().map_or_else(String::new, |Blocked(text)| text);
        notes.finish(Part::Agent, &["file", "space"], &because).findings
    }

    #[test]
    fn a_file_is_tried_and_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.ndjson");
        assert_eq!(probe_file(&path)[0].level, Level::Ok);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        fs::write(&path, "{}\n").unwrap();
        assert_eq!(probe_file(&path)[0].level, Level::Ok);
        assert_eq!(fs::read_to_string(&path).unwrap(), "{}\n");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_folder_and_a_folder_for_a_file_fail() {
        let dir = tempfile::tempdir().unwrap();
        let findings = probe_file(&dir.path().join("a/out"));
        assert_eq!((findings[0].level, findings[1].level), (Level::Fail(Kind::Io), Level::NotTested));
        assert!(findings[0].fix.contains("install -d"), "{findings:?}");
        assert_eq!(probe_file(dir.path())[0].level, Level::Fail(Kind::Config));
    }

    #[test]
    fn too_little_room_for_all_rotated_files_is_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(space(dir.path(), 0, u64::MAX).level, Level::Warn);
        assert_eq!(space(dir.path(), 0, 1).level, Level::Ok);
    }
}
