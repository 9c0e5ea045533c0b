//! `[[output]]`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::endpoint;
use super::files::{absolute, ca_file, secret_file};
use super::load::Env;
use super::proxy::proxies;
use super::source::unique_name;
use super::stream;
use super::table::{Table, choice, integer, string};
use super::units::size_within;
use super::{Format, Output, OutputKind};
use crate::limits;

const MIB: u64 = 1024 * 1024;

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
        Some(OutputKind::File { path, .. }) => Some((path.as_path(), "path")),
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
    })
}

fn file(table: &mut Table<'_>) -> Option<OutputKind> {
    let path = table.required("path", "path = \"/PATH\"", |value| match string(value)? {
        path if path.ends_with('/') => Err("names a folder: write the path of a file".to_owned()),
        path => absolute(path),
    });
    let rotate_bytes = table.or("rotate_bytes", 100 * MIB, |value| size_within(value, 64 * 1024, u64::MAX));
    let rotate_keep = table.or("rotate_keep", 5, |value| integer(value, 1, 10_000)) as u32;
    Some(OutputKind::File { path: path?, rotate_bytes, rotate_keep })
}

fn http(table: &mut Table<'_>, env: Env<'_>) -> Option<OutputKind> {
    let url = table.required("url", "url = \"https://HOST/PATH\"", |value| {
        let text = string(value)?;
        if text.contains('#') {
            return Err("ends with a fragment (#…), which is never sent: remove it".to_owned());
        }
        endpoint::url(text)
    });
    let seconds = table.or("timeout_seconds", 30, |value| integer(value, 1, 3600));
    let credentials_dir = env("CREDENTIALS_DIRECTORY");
    let with_token = table.has("bearer_token_file");
    let bearer_token = table.get("bearer_token_file", |value| match string(value)? {
        "" => Ok(None),
        path => secret_file(path, credentials_dir.as_deref()).map(Some),
    });
    let ca_file = table.get("ca_file", |value| match string(value)? {
        "" => Ok(None),
        path => ca_file(path).map(Some),
    });
    let proxies = proxies(table, env);
    let url = url?;
    if with_token && url.scheme_str() == Some("http") && !is_local(url.host().unwrap_or("")) {
        table
            .report()
            .warn(format!("{} url: the bearer token is sent without encryption; use https", table.place()));
    }
    Some(OutputKind::Http {
        url,
        timeout: Duration::from_secs(seconds),
        bearer_token: bearer_token.flatten(),
        ca_file: ca_file.flatten(),
        proxies: Box::new(proxies?),
    })
}

fn is_local(host: &str) -> bool {
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|address| address.is_loopback())
}
