//! `[[output]]`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::files::absolute;
use super::http::http;
use super::load::Env;
use super::source::unique_name;
use super::stream;
use super::table::{Table, choice, integer, string};
use super::units::{bytes_text, period, size_within};
use super::{File, Format, OnFull, Output, OutputKind};
use crate::limits;

const MIB: u64 = 1024 * 1024;
const MINUTE: Duration = Duration::from_secs(60);

/// The word that `kind` takes.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Stdout,
    File,
    Http,
    Syslog,
    Relp,
    Tcp,
}

/// What earlier outputs took.
#[derive(Default)]
pub(super) struct Taken {
    names: BTreeSet<Box<str>>,
    places: BTreeSet<PathBuf>,
}

/// Reads one output. `None`: it has faults, and they are noted.
pub(super) fn output(mut table: Table<'_>, taken: &mut Taken, env: Env<'_>) -> Option<Output> {
    let name = unique_name(&mut table, "output", &mut taken.names);
    let kinds = [
        ("stdout", Kind::Stdout),
        ("file", Kind::File),
        ("http", Kind::Http),
        ("syslog", Kind::Syslog),
        ("relp", Kind::Relp),
        ("tcp", Kind::Tcp),
    ];
    let right = "kind = \"http\", \"syslog\", \"relp\", \"tcp\", \"file\" or \"stdout\"";
    let kind = table.required("kind", right, |value| choice(value, &kinds))?;
    let formats = [("raw", Format::Raw), ("envelope", Format::Envelope)];
    let format = table.or("format", Format::Raw, |value| choice(value, &formats));
    let (least, most) = limits::BATCH_BYTES_RANGE;
    let batch_bytes =
        table.or("batch_bytes", limits::BATCH_BYTES as u64, |value| size_within(value, least, most));
    let batch_records = table.or("batch_records", limits::BATCH_RECORDS as u64, |value| {
        integer(value, 1, limits::BATCH_RECORDS_MAX)
    });
    let wait = table.or("batch_seconds", 0, |value| integer(value, 0, limits::BATCH_SECONDS));
    let on_full = table.or("on_full", OnFull::Hold, |value| {
        choice(value, &[("hold", OnFull::Hold), ("skip", OnFull::Skip)])
    });
    let concurrency = match kind {
        Kind::Http => table.or("concurrency", 1, |value| integer(value, 1, limits::CONCURRENCY_MAX)),
        _ => 1,
    };
    if concurrency * batch_bytes > limits::IN_FLIGHT_BYTES {
        table.fault(
            "concurrency",
            format!(
                "times batch_bytes is {}: at most {} may be on their way at once; lower one of them",
                bytes_text(concurrency * batch_bytes),
                bytes_text(limits::IN_FLIGHT_BYTES)
            ),
        );
    }
    let kind = match kind {
        Kind::Stdout => Some(OutputKind::Stdout),
        Kind::File => file(&mut table),
        Kind::Http => http(&mut table, env),
        Kind::Syslog => stream::syslog(&mut table, env),
        Kind::Relp => stream::relp(&mut table, env),
        Kind::Tcp => stream::tcp(&mut table, env),
    };
    let place = match &kind {
        Some(OutputKind::Stdout) => Some((Path::new("/dev/stdout"), "kind")),
        Some(OutputKind::File(file)) => Some((file.path.as_path(), "path")),
        _ => None,
    };
    if let Some((place, key)) = place
        && !taken.places.insert(place.to_owned())
    {
        table.fault(key, "is where an earlier output writes: each needs a place of its own".to_owned());
    }
    table.finish();
    Some(Output {
        name: name?,
        kind: kind?,
        format,
        batch_bytes: batch_bytes as usize,
        batch_records: batch_records as usize,
        batch_wait: Duration::from_secs(wait),
        on_full,
        concurrency: concurrency as usize,
    })
}

fn file(table: &mut Table<'_>) -> Option<OutputKind> {
    let path = table.required("path", "path = \"/PATH\"", |value| match string(value)? {
        path if path.ends_with('/') => Err("names a folder: write the path of a file".to_owned()),
        path => absolute(path),
    });
    let rotate_bytes = table.or("rotate_bytes", 100 * MIB, |value| size_within(value, 64 * 1024, u64::MAX));
    let rotate_keep = table.or("rotate_keep", 5, |value| integer(value, 1, 10_000)) as u32;
    let rotate_age = table.get("rotate_age", |value| match period(value)? {
        age if age < MINUTE => Err("must be at least \"1m\"".to_owned()),
        age => Ok(age),
    });
    let gzip = table.or("rotate_compress", false, |value| choice(value, &[("none", false), ("gzip", true)]));
    Some(OutputKind::File(File { path: path?, rotate_bytes, rotate_age, rotate_keep, gzip }))
}
