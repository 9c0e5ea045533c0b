//! A dry run for people.

use std::fmt::Write as _;

use super::{Fate, Found, Reason, Tally, shown};

/// The whole page.
pub(super) fn text(found: &Found) -> String {
    let mut page = format!("source {}: {} files", found.source, found.files);
    if found.files_set_aside > 0 {
        let _ = write!(page, ", {} of them set aside whole", found.files_set_aside);
    }
    page.push('\n');
    let all = (found.records(), found.bytes());
    line(&mut page, all, "records", all, "");
    row(&mut page, all, "kept", found.fate(Fate::Kept), "");
    for (reason, tally) in found.dropped() {
        row(&mut page, all, &format!("dropped: {reason}"), tally, &looks_for(found, reason));
    }
    row(&mut page, all, "duplicate", found.fate(Fate::Duplicate), "");
    row(&mut page, all, "set aside", found.fate(Fate::Quarantined), "");
    for (file, why) in &found.set_aside {
        let _ = writeln!(page, "set aside whole: {file}: {why}");
    }
    let left_out = found.files_set_aside - found.set_aside.len() as u64;
    if left_out > 0 {
        let _ = writeln!(page, "set aside whole: {left_out} more");
    }
    page
}

fn looks_for(found: &Found, reason: Reason) -> String {
    match found.looks_for(reason) {
        (Some(field), Some(regex)) => format!("{} matches {}", shown(field), shown(regex)),
        (None, Some(regex)) => format!("the record matches {}", shown(regex)),
        _ => "reads that nobody needs: trailspool filter --baseline".to_owned(),
    }
}

fn row(page: &mut String, all: (u64, u64), name: &str, tally: &Tally, note: &str) {
    line(page, all, name, (tally.records, tally.bytes), note);
    for example in &tally.examples {
        let _ = writeln!(page, "      {}, record {} of {}", example.event, example.index, example.file);
    }
}

fn line(page: &mut String, all: (u64, u64), name: &str, (records, bytes): (u64, u64), note: &str) {
    let percent = |part: u64, whole: u64| 100.0 * part as f64 / whole.max(1) as f64;
    let text = format!(
        "  {name:<20} {records:>12} {:>6.1} %  {bytes:>15} bytes {:>6.1} %  {note}",
        percent(records, all.0),
        percent(bytes, all.1)
    );
    let _ = writeln!(page, "{}", text.trim_end());
}
