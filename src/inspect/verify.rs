//! `trailspool spool verify`: reads everything in the state directory that has a checksum, and says a line for each file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;
use std::ops::ControlFlow;

use super::{Failure, Out, Place, json, shown};
use crate::discover::ledger::{self, LedgerError};
use crate::discover::state::{self, Loaded};
use crate::error::Exit;
use crate::select::remembered;
use crate::spool::frame::Frame;
use crate::spool::std_disk::StdDisk;
use crate::spool::{Cursor, Position, Quarantine, Sight, View};

/// What was found of a file, or of a place in it.
struct Found {
    /// The file, and where in it.
    place: String,
    /// What it holds, or what is wrong with it.
    what: String,
    damaged: bool,
}

/// Everything that was found, and how much was read.
#[derive(Default)]
struct Report {
    found: Vec<Found>,
    segments: u64,
    objects: u64,
    records: u64,
    cursors: u64,
    ledger_files: u64,
    ledger_entries: u64,
    sources: u64,
    marks: u64,
    quarantined: u64,
}

impl Report {
    fn whole(&mut self, place: impl Into<String>, what: impl Into<String>) {
        self.found.push(Found { place: place.into(), what: what.into(), damaged: false });
    }

    fn damaged(&mut self, place: impl Into<String>, what: impl Into<String>) {
        self.found.push(Found { place: place.into(), what: what.into(), damaged: true });
    }

    fn faults(&self) -> impl Iterator<Item = &Found> {
        self.found.iter().filter(|found| found.damaged)
    }
}

pub(super) fn spool(place: &Place, as_json: bool, out: &mut Out) -> Result<Exit, Failure> {
    let mut report = Report::default();
    let view = place.view()?;
    log(&view, &mut report)?;
    cursors(&view, &mut report);
    ledger(&place.disk, &mut report)?;
    sources(&place.disk, &mut report)?;
    marks(&place.disk, &mut report)?;
    quarantine(&place.disk, &mut report)?;
    out.text(&if as_json { report.json() } else { report.text() });
    Ok(if report.faults().next().is_none() { Exit::Done } else { Exit::Data })
}

/// What a segment was found to hold.
#[derive(Default)]
struct Contents {
    objects: u64,
    records: u64,
    damaged: bool,
}

fn log(view: &View<StdDisk>, report: &mut Report) -> Result<(), Failure> {
    for gap in view.gaps() {
        report.damaged(View::<StdDisk>::path(*gap), "it is missing, or shorter than it was");
    }
    if view.end() < view.known() {
        let what = format!("the log ends there, before a place that was reached already: {}", view.known());
        report.damaged(view.end().to_string(), what);
    }
    let numbers = view.segments().map(|(number, _)| (number, Contents::default()));
    let mut segments: BTreeMap<u64, Contents> = numbers.collect();
    // Places at which a cursor may stand.
    let mut open = BTreeSet::new();
    open.extend(view.cursors().iter().filter_map(|(_, cursor)| Some(cursor.as_ref()?.frame)));
    open.retain(|place| (view.begin()..view.end()).contains(place));
    let (mut begins, mut orphans) = (BTreeSet::new(), BTreeSet::new());
    let left = view.walk(view.begin(), &mut |sight| {
        match sight {
            Sight::Damaged { at, behind } => {
                let path = View::<StdDisk>::path(at.segment);
                let place = format!("{path} from byte {} to {}", at.offset, behind.offset);
                report.damaged(place, "the checksum or the structure of a frame is wrong");
                segments.entry(at.segment).or_default().damaged = true;
                open.retain(|place| !(at..behind).contains(place));
            }
            Sight::Frame { at, frame, .. } => {
                open.remove(&at);
                let contents = segments.entry(at.segment).or_default();
                match frame {
                    Frame::Begin(_) => {
                        begins.clear();
                        begins.insert(at);
                    }
                    Frame::Records { begin, records } => {
                        contents.records += records.count() as u64;
                        if !begins.contains(&begin) {
                            orphans.insert(begin);
                        }
                    }
                    Frame::End { .. } => contents.objects += 1,
                    Frame::Packed { .. } => {}
                }
            }
        }
        ControlFlow::Continue(())
    })?;
    // What every output had acknowledged is no damage where it is missing: the beginning of an object that ends behind
    // it, and all that an agent removed beside this walk.
    segments.retain(|number, _| *number >= left.segment);
    for begin in orphans.range(left..) {
        report.damaged(begin.to_string(), "the begin frame of records behind it is damaged");
    }
    for place in open.range(left..) {
        report.damaged(place.to_string(), "a cursor stands there, and no frame begins there");
    }
    for (number, Contents { objects, records, damaged }) in segments {
        report.segments += 1;
        report.objects += objects;
        report.records += records;
        if !damaged && !view.gaps().contains(&number) {
            let what = format!("{objects} objects end in it, {records} records");
            report.whole(View::<StdDisk>::path(number), what);
        }
    }
    Ok(())
}

fn cursors(view: &View<StdDisk>, report: &mut Report) {
    for (output, cursor) in view.cursors() {
        report.cursors += 1;
        let place = format!("cursors/{output}.cur");
        match cursor {
            Some(Cursor { frame, delivered, rejected, skipped, .. }) => {
                let counts = format!("{delivered} delivered, {rejected} rejected, {skipped} skipped");
                report.whole(place, format!("{counts}; stands at {frame}"));
            }
            None => {
                report.damaged(place, "it is damaged: the output would send everything in the spool again")
            }
        }
    }
}

fn ledger(disk: &StdDisk, report: &mut Report) -> Result<(), Failure> {
    let checked = ledger::verify(disk, &mut |path, entries| {
        report.ledger_files += 1;
        match entries {
            Ok(0) => report.whole(path, "the books"),
            Ok(count) => {
                report.ledger_entries += count;
                report.whole(path, format!("{count} entries"));
            }
            Err(fault) => report.damaged(path, fault.to_string()),
        }
    });
    checked.map_err(|fault| match fault {
        LedgerError::Disk { what, path, error } => Failure::io(format!("cannot {what} {path}"), &error),
        other => Failure::new(Exit::Data, other.to_string()),
    })
}

/// Those of sources that are not configured any more, too: they may be put back.
fn sources(disk: &StdDisk, report: &mut Report) -> Result<(), Failure> {
    let listed = disk_list(disk, state::DIR)?;
    for name in listed.iter().filter_map(|file| file.strip_suffix(state::SUFFIX)) {
        let place = format!("{}/{name}{}", state::DIR, state::SUFFIX);
        let loaded =
            state::load(disk, name).map_err(|error| Failure::io(format!("cannot read {place}"), &error))?;
        match loaded {
            // Removed since the listing.
            Loaded::Absent => continue,
            Loaded::Progress(_) => report.whole(place, "what the source remembers"),
            Loaded::Broken(why) => report.damaged(place, why),
        }
        report.sources += 1;
    }
    Ok(())
}

fn marks(disk: &StdDisk, report: &mut Report) -> Result<(), Failure> {
    let saved = remembered::saved(disk)?;
    // Read behind the marks: an agent writes the checkpoint before them. A damaged one was told.
    let reached = match ledger::checkpoint(disk) {
        Ok(reached) => Some(reached),
        Err(LedgerError::Disk { what, path, error }) => {
            return Err(Failure::io(format!("cannot {what} {path}"), &error));
        }
        Err(_) => None,
    };
    for remembered::Saved { path, marks } in saved {
        match marks {
            Ok((_, through)) if reached.is_some_and(|reached: Position| through > reached) => {
                let what = "it is ahead of the ledger: some duplicates would be delivered again";
                report.damaged(path, what);
            }
            Ok((count, through)) => {
                report.marks += count as u64;
                report.whole(path, format!("{count} marks to find duplicates by, up to {through}"));
            }
            Err(why) => report.damaged(path, format!("{why}: some duplicates would be delivered again")),
        }
    }
    Ok(())
}

fn quarantine(disk: &StdDisk, report: &mut Report) -> Result<(), Failure> {
    let quarantine = Quarantine::view(disk.clone());
    let mut ids = Vec::new();
    let listed = quarantine.list(&mut |id, _| ids.push(id.to_owned()));
    listed.map_err(|error| Failure::io("cannot list the quarantine", &error))?;
    ids.sort_unstable();
    for id in ids {
        let place = Quarantine::<StdDisk>::path(&id);
        match quarantine.read(&id, &mut |_| Ok(())) {
            Ok(stored) => {
                report.quarantined += 1;
                report.whole(place, format!("{}, {} bytes", stored.reason, stored.kept));
            }
            // Removed since the listing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                report.damaged(place, "the entry is damaged");
            }
            Err(error) => return Err(Failure::io(format!("cannot read {place}"), &error)),
        }
    }
    Ok(())
}

fn disk_list(disk: &StdDisk, dir: &str) -> Result<Vec<String>, Failure> {
    use crate::spool::disk::Disk as _;
    let listed = disk.list(dir).map_err(|error| Failure::io(format!("cannot list {dir}"), &error))?;
    let mut names: Vec<String> = listed.into_iter().map(|(name, _)| name).collect();
    names.sort_unstable();
    Ok(names)
}

impl Report {
    fn text(&self) -> String {
        let mut text = String::new();
        for Found { place, what, damaged } in &self.found {
            let word = if *damaged { "DAMAGED" } else { "ok" };
            // A String takes anything.
            let _ = writeln!(text, "{word:7}  {}: {}", shown(place), shown(what));
        }
        let _ = writeln!(
            text,
            "{} segments with {} objects and {} records, {} cursors, {} files of the ledger with {} entries, the state of {} \
             sources, {} marks of duplicates, {} entries of the quarantine: {}",
            self.segments,
            self.objects,
            self.records,
            self.cursors,
            self.ledger_files,
            self.ledger_entries,
            self.sources,
            self.marks,
            self.quarantined,
            match self.faults().count() {
                0 => "nothing is damaged".to_owned(),
                1 => "1 place is damaged".to_owned(),
                many => format!("{many} places are damaged"),
            }
        );
        text
    }

    fn json(&self) -> String {
        let list = self.faults();
        let list: Vec<String> = list
            .map(|found| format!("{{\"place\":{},\"what\":{}}}", json(&found.place), json(&found.what)))
            .collect();
        format!(
            "{{\"version\":1,\"segments\":{},\"objects\":{},\"records\":{},\"cursors\":{},\"ledger_files\":{},\
             \"ledger_entries\":{},\"sources\":{},\"marks\":{},\"quarantined\":{},\"damaged\":[{}]}}\n",
            self.segments,
            self.objects,
            self.records,
            self.cursors,
            self.ledger_files,
            self.ledger_entries,
            self.sources,
            self.marks,
            self.quarantined,
            list.join(",")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Counts, ObjectFate, ObjectId};
    use crate::spool::disk::Disk;
    use crate::spool::{self, Compression};

    /// Two objects that take several segments each; the output has acknowledged a record of the first one.
    fn filled(disk: &StdDisk) {
        let options = spool::Options {
            max_bytes: 64 * 1024,
            segment_bytes: 1024,
            max_record_bytes: 1024,
            compression: Compression::None,
            outputs: vec!["siem".into()],
        };
        let quarantine = Quarantine::open(disk.clone(), 0).unwrap();
        let opened =
            spool::open(disk.clone(), options, quarantine, Position::default(), &mut |_, _, _, _| {});
        let (mut writer, spool, _) = opened.unwrap();
        for key in ["a", "b"] {
            writer
                .begin(&ObjectId { source: "prod".into(), bucket: "acme".into(), key: key.into() })
                .unwrap();
            (0..10).for_each(|index| writer.record(index, &[b'x'; 400]).unwrap());
            let counts = Counts { records: 10, kept: 10, ..Counts::default() };
            writer.end(ObjectFate::Collected, &counts).unwrap();
        }
        let _ = writer.commit().unwrap();
        let mut first = None;
        let mut take = |_: &ObjectId, _, _: &[u8], cursor| {
            first = Some(cursor);
            ControlFlow::Break(())
        };
        spool.reader("siem").unwrap().read(&mut take).unwrap();
        spool.advance("siem", first.unwrap());
        spool.save("siem").unwrap();
    }

    #[test]
    fn segments_that_are_removed_beside_it_are_no_damage() {
        let folder = tempfile::tempdir().unwrap();
        let disk = StdDisk::open(folder.path()).unwrap();
        filled(&disk);
        let view = View::open(disk.clone(), Position::default(), 1024).unwrap();
        let numbers: Vec<u64> = view.segments().map(|(number, _)| number).collect();
        let verified = || {
            let mut report = Report::default();
            assert!(log(&view, &mut report).is_ok());
            let faults: Vec<String> = report.faults().map(|found| found.place.clone()).collect();
            (faults, report.segments)
        };
        let all = numbers.len() as u64;
        assert_eq!(verified(), (vec![], all));
        // The one that the cursor stands in and the first object begins in.
        disk.remove(&View::<StdDisk>::path(numbers[0])).unwrap();
        assert_eq!(verified(), (vec![], all - 1));
        disk.remove(&View::<StdDisk>::path(numbers[1])).unwrap();
        assert_eq!(verified(), (vec![], all - 2));
    }
}
