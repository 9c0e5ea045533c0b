//! `trailspool spool verify`: reads everything in the state directory that has a checksum.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::ops::ControlFlow;

use super::{Failure, Out, Place, json, shown};
use crate::discover::ledger::{self, LedgerError};
use crate::discover::state::{self, Loaded};
use crate::error::Exit;
use crate::spool::frame::Frame;
use crate::spool::std_disk::StdDisk;
use crate::spool::{Quarantine, Sight, View};

/// Something that does not check out.
struct Fault {
    /// The file, and where in it.
    place: String,
    what: String,
}

/// How much was read.
#[derive(Default)]
struct Read {
    segments: u64,
    objects: u64,
    records: u64,
    cursors: u64,
    ledger_files: u64,
    ledger_entries: u64,
    sources: u64,
    quarantined: u64,
}

pub(super) fn spool(place: &Place, as_json: bool, out: &mut Out) -> Result<Exit, Failure> {
    let (mut faults, mut read) = (Vec::new(), Read::default());
    let view = place.view()?;
    log(&view, &mut faults, &mut read)?;
    files(place, &mut faults, &mut read)?;
    out.text(&if as_json { report_json(&faults, &read) } else { report(&faults, &read) });
    Ok(if faults.is_empty() { Exit::Done } else { Exit::Data })
}

fn log(view: &View<StdDisk>, faults: &mut Vec<Fault>, read: &mut Read) -> Result<(), Failure> {
    let mut fault = |place: String, what: String| faults.push(Fault { place, what });
    for gap in view.gaps() {
        fault(View::<StdDisk>::path(*gap), "it is missing, or shorter than it was".to_owned());
    }
    if view.end() < view.known() {
        let what = format!("the log ends there, before a place that was reached already: {}", view.known());
        fault(view.end().to_string(), what);
    }
    read.segments = view.segments().count() as u64;
    // Places at which a cursor may stand.
    let mut open = BTreeSet::new();
    open.extend(view.cursors().iter().filter_map(|(_, cursor)| Some(cursor.as_ref()?.frame)));
    open.retain(|place| (view.begin()..view.end()).contains(place));
    let (mut begins, mut orphans) = (BTreeSet::new(), BTreeSet::new());
    view.walk(view.begin(), &mut |sight| {
        match sight {
            Sight::Damaged { at, behind } => {
                let place = format!(
                    "{} from byte {} to {}",
                    View::<StdDisk>::path(at.segment),
                    at.offset,
                    behind.offset
                );
                fault(place, "the checksum or the structure of a frame is wrong".to_owned());
                open.retain(|place| !(at..behind).contains(place));
            }
            Sight::Frame { at, frame, .. } => {
                open.remove(&at);
                match frame {
                    Frame::Begin(_) => {
                        begins.clear();
                        begins.insert(at);
                    }
                    Frame::Records { begin, records } => {
                        read.records += records.count() as u64;
                        // An object whose beginning every output has acknowledged may have lost it.
                        if !begins.contains(&begin) && begin >= view.begin() {
                            orphans.insert(begin);
                        }
                    }
                    Frame::End { .. } => read.objects += 1,
                    Frame::Packed { .. } => {}
                }
            }
        }
        ControlFlow::Continue(())
    })?;
    for begin in orphans {
        fault(begin.to_string(), "the begin frame of records behind it is damaged".to_owned());
    }
    for place in open {
        fault(place.to_string(), "a cursor stands there, and no frame begins there".to_owned());
    }
    Ok(())
}

fn files(place: &Place, faults: &mut Vec<Fault>, read: &mut Read) -> Result<(), Failure> {
    let view = place.view()?;
    for (output, cursor) in view.cursors() {
        read.cursors += 1;
        if cursor.is_none() {
            let what = "it is damaged: the output would send everything in the spool again";
            faults.push(Fault { place: format!("cursors/{output}.cur"), what: what.to_owned() });
        }
    }
    let counted = ledger::verify(&place.disk, &mut |fault| {
        let place = match &fault {
            LedgerError::Corrupt { path, .. } => path.clone(),
            _ => "ledger".to_owned(),
        };
        faults.push(Fault { place, what: fault.to_string() });
    });
    (read.ledger_files, read.ledger_entries) = counted.map_err(|fault| match fault {
        LedgerError::Disk { what, path, error } => Failure::io(format!("cannot {what} {path}"), &error),
        other => Failure::new(Exit::Data, other.to_string()),
    })?;
    for source in &place.config.sources {
        read.sources += 1;
        let loaded = state::load(&place.disk, &source.name)
            .map_err(|error| Failure::io(format!("state of source {}", source.name), &error))?;
        if let Loaded::Broken(why) = loaded {
            faults.push(Fault { place: format!("sources/{}.state", source.name), what: why.to_owned() });
        }
    }
    let quarantine = Quarantine::view(place.disk.clone());
    let mut ids = Vec::new();
    let listed = quarantine.list(&mut |id, _| ids.push(id.to_owned()));
    listed.map_err(|error| Failure::io("cannot list the quarantine", &error))?;
    for id in ids {
        match quarantine.read(&id, &mut |_| Ok(())) {
            Ok(_) => read.quarantined += 1,
            // Removed since the listing.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let place = Quarantine::<StdDisk>::path(&id);
                faults.push(Fault { place, what: "the entry is damaged".to_owned() });
            }
            Err(error) => return Err(Failure::io(format!("cannot read {id} in the quarantine"), &error)),
        }
    }
    Ok(())
}

fn report(faults: &[Fault], read: &Read) -> String {
    let mut text = String::new();
    for Fault { place, what } in faults {
        // A String takes anything.
        let _ = writeln!(text, "DAMAGED  {}: {}", shown(place), shown(what));
    }
    let _ = writeln!(
        text,
        "{} segments with {} objects and {} records, {} cursors, {} files of the ledger with {} entries, the state of {} \
         sources, {} entries of the quarantine: {}",
        read.segments,
        read.objects,
        read.records,
        read.cursors,
        read.ledger_files,
        read.ledger_entries,
        read.sources,
        read.quarantined,
        match faults.len() {
            0 => "nothing is damaged".to_owned(),
            1 => "1 place is damaged".to_owned(),
            many => format!("{many} places are damaged"),
        }
    );
    text
}

fn report_json(faults: &[Fault], read: &Read) -> String {
    let list: Vec<String> = faults
        .iter()
        .map(|Fault { place, what }| format!("{{\"place\":{},\"what\":{}}}", json(place), json(what)))
        .collect();
    format!(
        "{{\"version\":1,\"segments\":{},\"objects\":{},\"records\":{},\"cursors\":{},\"ledger_files\":{},\
         \"ledger_entries\":{},\"quarantined\":{},\"damaged\":[{}]}}\n",
        read.segments,
        read.objects,
        read.records,
        read.cursors,
        read.ledger_files,
        read.ledger_entries,
        read.quarantined,
        list.join(",")
    )
}
