//! A snapshot as words: what `trailspool status` prints, and one line for the service manager and the terminal.

use std::fmt::Write as _;

use super::escape;
use super::snapshot::{Directory, Output, Snapshot, Source};

/// Several lines.
pub fn page(snapshot: &Snapshot) -> String {
    let mut out = String::with_capacity(1024);
    let faults = snapshot.faults();
    let health = if faults.is_empty() { "healthy" } else { "UNHEALTHY" };
    let up = span(seconds(snapshot.now - snapshot.started));
    let _ = writeln!(out, "trailspool {}: {health}, running for {up}", snapshot.version);
    for fault in &faults {
        let _ = writeln!(out, "  ! {}", escape::line(fault));
    }
    for each in &snapshot.sources {
        source(&mut out, each, snapshot.now);
    }
    let spool = &snapshot.spool;
    let _ = write!(out, "\nspool\n  size       {} of {}", bytes(spool.used), bytes(spool.max));
    out.push_str(if spool.full { ", full: fetching pauses\n" } else { "\n" });
    if let Some(fault) = &spool.disk_fault {
        let _ = writeln!(out, "  TROUBLE    fetching pauses: {}", escape::line(fault));
    }
    let waits =
        if spool.oldest == 0 { "nothing waits".to_owned() } else { format!("{} old", span(spool.oldest)) };
    let _ = writeln!(out, "  oldest     {waits}");
    let _ = writeln!(out, "  on its way {} objects queued, {} in work", spool.queued, spool.in_work);
    let quarantine = &snapshot.quarantine;
    let (held, most) = (bytes(quarantine.bytes), bytes(quarantine.max));
    let _ = writeln!(out, "  set aside  {} entries, {held} of {most}", quarantine.entries);
    if let Some(each) = &snapshot.directory {
        directory(&mut out, each, snapshot.now);
    }
    for each in &snapshot.outputs {
        output(&mut out, each, snapshot.now);
    }
    out
}

fn directory(out: &mut String, directory: &Directory, now: i64) {
    let _ = writeln!(out, "\ndirectory {}", escape::line(&directory.place));
    let lookups: Vec<_> =
        directory.lookups.iter().map(|(result, count)| format!("{result} {count}")).collect();
    let _ = writeln!(out, "  look-ups   {}; {} answers kept", lookups.join(", "), directory.cached);
    if let Some(trouble) = &directory.trouble {
        let since = span(seconds(now - trouble.since));
        let _ = writeln!(out, "  TROUBLE    {} for {since}: {}", trouble.cause, escape::line(&trouble.text));
    }
}

fn source(out: &mut String, source: &Source, now: i64) {
    let place = format!("s3://{}/{}", source.bucket, source.prefix);
    let _ = writeln!(out, "\nsource {} ({}, {})", source.name, escape::line(&place), source.region);
    let lag = source
        .lag(now)
        .map_or_else(|| "no object collected yet".to_owned(), |lag| format!("{} behind", span(lag)));
    let _ = writeln!(out, "  newest     {lag}");
    if let Some(backfill) = &source.backfill {
        let _ = writeln!(out, "  backfill   {}", escape::line(backfill));
    }
    let (collected, aside) = (source.books.objects_collected, source.books.objects_quarantined);
    let _ = writeln!(out, "  objects    {} = collected {collected} + quarantined {aside}", source.objects());
    let c = &source.books.counts;
    let _ = writeln!(
        out,
        "  records    {} = kept {} + dropped {} + duplicate {} + quarantined {}",
        c.records, c.kept, c.dropped, c.duplicate, c.quarantined
    );
    for (rule, count) in source.rule_drops.iter().filter(|(_, count)| *count > 0) {
        let _ = writeln!(out, "  dropped    {count} by {rule} since the start");
    }
    if let Some(trouble) = &source.trouble {
        let since = span(seconds(now - trouble.since));
        let _ = writeln!(out, "  TROUBLE    {} for {since}: {}", trouble.cause, escape::line(&trouble.text));
    }
    for (cause, text) in &source.warnings {
        let _ = writeln!(out, "  warning    {cause}: {}", escape::line(text));
    }
}

fn output(out: &mut String, output: &Output, now: i64) {
    let since = span(seconds(now - output.since));
    let _ = writeln!(out, "\noutput {} ({}): {} for {since}", output.name, output.kind, output.state.word());
    let Output { delivered, rejected, skipped, waiting, .. } = output;
    let skipped = if *skipped > 0 { format!("skipped {skipped}, ") } else { String::new() };
    let _ =
        writeln!(out, "  records    delivered {delivered}, rejected {rejected}, {skipped}waiting {waiting}");
    if let Some(text) = output.state.text() {
        let _ = writeln!(out, "  TROUBLE    {}", escape::line(text));
    } else if let Some((moment, text)) = &output.last_error {
        let _ = writeln!(out, "  last error {} ago: {}", span(seconds(now - moment)), escape::line(text));
    }
}

/// What is being done, and what is wrong, in one line.
pub fn line(snapshot: &Snapshot) -> String {
    let objects: u64 = snapshot.sources.iter().map(Source::objects).sum();
    let records: u64 = snapshot.sources.iter().map(|source| source.books.counts.records).sum();
    let kept: u64 = snapshot.sources.iter().map(|source| source.books.counts.kept).sum();
    let done = |output: &Output| output.delivered + output.rejected + output.skipped;
    let slowest = snapshot.outputs.iter().map(done).min().unwrap_or(0);
    let spool = snapshot.spool.used / 1024;
    let mut line =
        format!("{objects} objects, {records} records: {kept} kept, {slowest} delivered; spool {spool} KiB");
    if snapshot.spool.full {
        line.push_str("; the spool is full, fetching pauses");
    }
    if let Some(fault) = &snapshot.spool.disk_fault {
        let _ = write!(line, "; fetching pauses: {}", escape::line(fault));
    }
    for source in &snapshot.sources {
        if let Some(backfill) = &source.backfill {
            line.insert_str(0, &format!("{}: {backfill}; ", source.name));
        }
        let trouble = source.trouble.iter().map(|trouble| &trouble.text);
        for text in trouble.chain(source.warnings.iter().map(|(_, text)| text)) {
            let _ = write!(line, "; source {}: {}", source.name, escape::line(text));
        }
    }
    for output in &snapshot.outputs {
        if let Some(text) = output.state.text() {
            let _ = write!(line, "; output {}: {}", output.name, escape::line(text));
        }
    }
    if let Some(trouble) = snapshot.directory.as_ref().and_then(|directory| directory.trouble.as_ref()) {
        let _ = write!(line, "; directory: {}", escape::line(&trouble.text));
    }
    line
}

/// A span for people: its two largest units.
pub(super) fn span(seconds: u64) -> String {
    let (large, unit, small, part) = match seconds {
        0..60 => return format!("{seconds} s"),
        60..3600 => (seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => (seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => (seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    };
    match small {
        0 => format!("{large} {unit}"),
        _ => format!("{large} {unit} {small} {part}"),
    }
}

/// Bytes for people: three digits and a unit.
pub(super) fn bytes(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let power = (bytes.ilog2() / 10) as usize;
    // Tenths, rounded down, so that "full" is never said too early.
    let tenths = u128::from(bytes) * 10 / (1 << (10 * power));
    match tenths {
        0..100 => format!("{}.{} {}", tenths / 10, tenths % 10, units[power - 1]),
        _ => format!("{} {}", tenths / 10, units[power - 1]),
    }
}

pub(super) fn seconds(span: i64) -> u64 {
    u64::try_from(span).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::tests::rich;
    use super::*;

    #[test]
    fn foreign_text_stays_on_its_line() {
        for text in [page(&rich()), line(&rich())] {
            assert!(text.contains("\\n\\u{202e}"), "{text}");
            assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
        }
        assert_eq!(line(&rich()).lines().count(), 1);
    }

    #[test]
    fn the_page_says_what_the_books_say() {
        let page = page(&rich());
        assert!(
            page.contains("records    1000 = kept 900 + dropped 90 + duplicate 8 + quarantined 2"),
            "{page}"
        );
        assert!(page.contains("objects    123 = collected 120 + quarantined 3"), "{page}");
        assert!(page.contains("newest     5 min behind"), "{page}");
        assert!(page.contains("look-ups   found 12, absent 5, failed 3; 17 answers kept"), "{page}");
        assert!(
            page.starts_with("trailspool 9.9.9: UNHEALTHY, running for 2 h 46 min\n  ! source audit"),
            "{page}"
        );
    }

    #[test]
    fn figures_have_the_units_of_people() {
        let said = [0, 1023, 1024, 10 * 1024 * 1024, 1536 * 1024, u64::MAX].map(bytes);
        assert_eq!(said, ["0 B", "1023 B", "1.0 KiB", "10 MiB", "1.5 MiB", "15 EiB"]);
        assert_eq!(
            [59, 61, 7260, 90_000, 7200].map(span),
            ["59 s", "1 min 1 s", "2 h 1 min", "1 d 1 h", "2 h"]
        );
    }
}
