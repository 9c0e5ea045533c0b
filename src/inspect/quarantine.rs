//! `trailspool quarantine ls | show | retry`.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use time::OffsetDateTime;

use super::{Failure, Out, Place, done, json, shown, size};
use crate::error::Exit;
use crate::spool::std_disk::StdDisk;
use crate::spool::{Quarantine, quarantine::Stored, retry};

/// Raw bytes that `show` prints without `--raw`.
const PREVIEW: usize = 512;
/// Hex digits of a whole id.
const ID: usize = 32;

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    /// The configuration.
    pub config: PathBuf,
    /// Which command.
    pub does: Does,
}

/// The commands.
#[derive(Debug, PartialEq, Eq)]
pub enum Does {
    /// What was set aside.
    Ls {
        /// For programs.
        json: bool,
    },
    /// One entry.
    Show {
        /// Its id, or a beginning of it that no other has.
        id: String,
        /// Its raw bytes alone.
        raw: bool,
        /// For programs.
        json: bool,
    },
    /// Asks the agent to try it again.
    Retry {
        /// As above; `None`: everything that can be.
        id: Option<String>,
    },
}

/// Does it.
pub fn main(asked: &Asked) -> Exit {
    let mut out = Out::new();
    let result = Place::open(&asked.config).and_then(|place| match &asked.does {
        Does::Ls { json } => ls(&place, *json, &mut out),
        Does::Show { id, raw, json } => show(&place, id, (*raw, *json), &mut out),
        Does::Retry { id } => retry(&place, id.as_deref(), &mut out),
    });
    out.end();
    done(result)
}

/// An entry, and when it was set aside (the time of its file).
struct Listed {
    id: String,
    when: Option<SystemTime>,
    bytes: u64,
    entry: io::Result<Stored>,
}

/// All entries, oldest first. There are at most [`crate::limits::QUARANTINE_ENTRIES`].
fn entries(place: &Place) -> Result<Vec<Listed>, Failure> {
    let quarantine = Quarantine::view(place.disk.clone());
    let mut all = Vec::new();
    let listed = quarantine.list(&mut |id, entry| {
        if entry.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            return; // removed since the listing
        }
        let file = place.config.agent.state_dir.join(Quarantine::<StdDisk>::path(id));
        let data = std::fs::metadata(file).ok();
        let bytes = data.as_ref().map_or(0, std::fs::Metadata::len);
        all.push(Listed {
            id: id.to_owned(),
            when: data.and_then(|data| data.modified().ok()),
            bytes,
            entry,
        });
    });
    listed.map_err(|error| Failure::io("cannot list the quarantine", &error))?;
    all.sort_by(|a, b| (a.when, &a.id).cmp(&(b.when, &b.id)));
    Ok(all)
}

fn ls(place: &Place, as_json: bool, out: &mut Out) -> Result<Exit, Failure> {
    let entries = entries(place)?;
    let asked =
        retry::requests(&place.disk).map_err(|error| Failure::io("cannot list the quarantine", &error))?;
    if as_json {
        let list: Vec<String> =
            entries.iter().map(|listed| entry_json(listed, asked.contains(&listed.id))).collect();
        out.text(&format!("{{\"version\":1,\"entries\":[{}]}}\n", list.join(",")));
        return Ok(Exit::Done);
    }
    for Listed { id, when, bytes, entry } in &entries {
        let what = match entry {
            Ok(entry) => format!("{}: {}", entry.reason, origin(entry)),
            Err(error) => format!("cannot be read: {error}"),
        };
        let again = if asked.contains(id) { " (to be tried again)" } else { "" };
        out.text(&format!("{id}  {}  {:>10}  {}{again}\n", moment(*when), size(*bytes), shown(&what)));
    }
    if entries.is_empty() {
        out.text("nothing is set aside\n");
    }
    Ok(Exit::Done)
}

fn show(place: &Place, id: &str, (raw, as_json): (bool, bool), out: &mut Out) -> Result<Exit, Failure> {
    let listed = find(place, id)?;
    let quarantine = Quarantine::view(place.disk.clone());
    let mut preview = Vec::new();
    let read = quarantine.read(&listed.id, &mut |part| {
        if raw {
            out.raw(part);
        } else {
            preview.extend_from_slice(&part[..part.len().min(PREVIEW - preview.len())]);
        }
        Ok(())
    });
    let entry = read.map_err(|error| match error.kind() {
        io::ErrorKind::InvalidData => Failure::new(Exit::Data, error.to_string()),
        _ => Failure::io(format!("cannot read {}", listed.id), &error),
    })?;
    if raw {
        return Ok(Exit::Done);
    }
    let listed = Listed { entry: Ok(entry.clone()), ..listed };
    if as_json {
        out.text(&format!("{}\n", entry_json(&listed, false)));
        return Ok(Exit::Done);
    }
    let mut text = String::new();
    let index = entry.index.map_or("the whole object".to_owned(), |index| format!("record {index}"));
    let again = match retry::meaning(&entry) {
        Ok(_) => format!("trailspool quarantine retry {}", listed.id),
        Err(why) => format!("no: {why}"),
    };
    for (name, value) in [
        ("id", listed.id.clone()),
        ("when", moment(listed.when)),
        ("source", entry.object.source.to_string()),
        ("bucket", entry.object.bucket.to_string()),
        ("key", entry.object.key.to_string()),
        ("part", index),
        ("output", entry.output.as_deref().unwrap_or("-").to_owned()),
        ("reason", entry.reason.to_string()),
        ("detail", entry.detail.to_string()),
        ("raw", format!("{} of {} bytes are kept", entry.kept, entry.given)),
        ("retry", again),
    ] {
        // A String takes anything.
        let _ = writeln!(text, "{name:8}{}", shown(&value));
    }
    let cut = if entry.kept > preview.len() as u64 { " …" } else { "" };
    let _ = writeln!(text, "\n{}{cut}", shown(&String::from_utf8_lossy(&preview)));
    out.text(&text);
    Ok(Exit::Done)
}

fn retry(place: &Place, id: Option<&str>, out: &mut Out) -> Result<Exit, Failure> {
    let listed = match id {
        Some(id) => vec![find(place, id)?],
        None => entries(place)?,
    };
    let disk = StdDisk::existing(&place.config.agent.state_dir);
    let (mut asked, mut left) = (0, 0);
    for Listed { id: found, entry, .. } in &listed {
        let meaning = match entry {
            Ok(entry) => retry::meaning(entry).map_err(str::to_owned),
            Err(error) => Err(error.to_string()),
        };
        match meaning {
            Ok(_) => {
                retry::request(&disk, found)
                    .map_err(|error| Failure::io(format!("cannot ask for {found}"), &error))?;
                asked += 1;
            }
            Err(why) if id.is_some() => return Err(Failure::new(Exit::Data, format!("{found}: {why}"))),
            Err(_) => left += 1,
        }
    }
    out.text(&format!(
        "{asked} to be tried again: a running agent does so within {} seconds, otherwise the next start\n",
        crate::service::retry::LOOK.as_secs()
    ));
    if left > 0 {
        out.text(&format!("{left} cannot be tried again; `show` says why\n"));
    }
    Ok(Exit::Done)
}

fn find(place: &Place, id: &str) -> Result<Listed, Failure> {
    let mut found: Vec<Listed> =
        entries(place)?.into_iter().filter(|listed| listed.id.starts_with(id)).collect();
    match (found.len(), id.len()) {
        (1, 4..=ID) => Ok(found.swap_remove(0)),
        (1 | 0, 0..4) => Err(Failure::new(Exit::Usage, "an id is written with at least its first 4 digits")),
        (0, _) => {
            let text = format!("nothing is set aside under {id:?}: `trailspool quarantine ls` lists what is");
            Err(Failure::new(Exit::Usage, text))
        }
        (many, _) => Err(Failure::new(Exit::Usage, format!("{id:?} begins {many} ids: write more of it"))),
    }
}

/// Where an entry comes from.
fn origin(entry: &Stored) -> String {
    let object = match entry.object.bucket.is_empty() {
        true => entry.object.key.to_string(),
        false => format!("{} s3://{}/{}", entry.object.source, entry.object.bucket, entry.object.key),
    };
    let record = entry.index.map_or(String::new(), |index| format!(" record {index}"));
    let output = entry.output.as_ref().map_or(String::new(), |output| format!(", refused by {output}"));
    format!("{object}{record}{output}")
}

fn entry_json(listed: &Listed, asked: bool) -> String {
    let Listed { id, when, bytes, entry } = listed;
    let head =
        format!("{{\"id\":\"{id}\",\"when\":\"{}\",\"file_bytes\":{bytes},\"retry\":{asked}", moment(*when));
    match entry {
        Err(error) => format!("{head},\"error\":{}}}", json(&error.to_string())),
        Ok(entry) => format!(
            "{head},\"source\":{},\"bucket\":{},\"key\":{},\"index\":{},\"output\":{},\"reason\":{},\"detail\":{},\
             \"raw_bytes\":{},\"raw_bytes_kept\":{}}}",
            json(&entry.object.source),
            json(&entry.object.bucket),
            json(&entry.object.key),
            entry.index.map_or("null".to_owned(), |index| index.to_string()),
            entry.output.as_deref().map_or("null".to_owned(), json),
            json(&entry.reason),
            json(&entry.detail),
            entry.given,
            entry.kept
        ),
    }
}

/// A moment as in RFC 3339, whole seconds, UTC.
fn moment(when: Option<SystemTime>) -> String {
    when.map_or("-".to_owned(), |when| {
        let when = OffsetDateTime::from(when);
        let (date, time) = (when.date(), when.time());
        format!("{date}T{:02}:{:02}:{:02}Z", time.hour(), time.minute(), time.second())
    })
}
