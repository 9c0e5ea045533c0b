//! Reads a configuration file as a whole: the grammar, the tables, and what must hold between them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use log::LevelFilter;
use toml::de::DeTable;

use super::fault::{Faults, Report, quoted};
use super::files::{self, absolute};
use super::output::{Taken, output};
use super::source::source;
use super::table::{Read, Table, choice, integer, string};
use super::units::{bytes_text, size_within};
use super::{Agent, Config, Spool};
use crate::limits;

/// Environment variables, by name.
pub(super) type Env<'e> = &'e dyn Fn(&str) -> Option<String>;

/// Where everything durable lives when neither the configuration nor the service manager says.
const STATE_DIR: &str = "/var/lib/trailspool";
const GIB: u64 = 1024 * 1024 * 1024;
const MIB: u64 = 1024 * 1024;

/// Reads the configuration at `path`, the secrets that it names included.
///
/// # Errors
/// Every fault that the file has, each with its line; a file that cannot be read is one fault.
pub fn load(path: &Path) -> Result<Config, Faults> {
    let bytes = files::bounded(path, limits::CONFIG_BYTES).map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::NotFound => "; write one there, or name another with --config FILE",
            _ => "",
        };
        Faults::whole(path, format!("cannot be read: {error}{hint}"))
    })?;
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let line = 1 + bytes[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count();
        Faults::whole(path, format!("is not UTF-8 text: see line {line}"))
    })?;
    #[allow(clippy::disallowed_methods)] // The configuration is where the environment is read.
    parse(text, path, &|name| std::env::var(name).ok())
}

/// Reads the text of a configuration. `path` only names it in faults; `env` answers for the environment.
/// The secret and certificate files that the text names are read.
///
/// # Errors
/// As [`load`].
pub fn parse(text: &str, path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Faults> {
    if text.len() as u64 > limits::CONFIG_BYTES {
        return Err(Faults::whole(path, format!("is longer than {}", bytes_text(limits::CONFIG_BYTES))));
    }
    let mut report = Report::new(text);
    let (document, errors) = DeTable::parse_recoverable(text);
    // What stands behind a broken header or an open bracket was read as part of something else:
    // faults found there would mislead.
    let mut readable = true;
    for error in &errors {
        let at = error.span().map_or(0, |span| span.start);
        let message = error.message();
        readable &=
            !message.starts_with("unclosed") && !message.contains("recursion") && !report.heads_table(at);
        let bare =
            message.starts_with("string values must be quoted") || message.starts_with("invalid float");
        report.syntax(
            at,
            match error.span() {
                Some(span) if bare && span.is_empty() => "a value is missing",
                // "info" is told to be a broken "inf", an address to be a broken fraction.
                _ if bare => "a value that is not a number, true or false must stand in quotes",
                _ => message,
            },
        );
    }
    let config = if readable { config(Table::root(&report, document.get_ref()), env) } else { None };
    let warnings = report.finish(path)?;
    // Whatever is left out is left out with a fault.
    let config = config
        .ok_or_else(|| Faults::whole(path, "could not be read, by an error of this program".to_owned()))?;
    Ok(Config { warnings, ..config })
}

fn config(mut root: Table<'_>, env: Env<'_>) -> Option<Config> {
    let agent = agent(root.table("agent", "[agent]".to_owned(), ""), env);
    let spool = spool(root.table("spool", "[spool]".to_owned(), ""));
    if !root.has("source") {
        root.missing("source", "at least one [[source]] with its name, bucket and region");
    }
    if !root.has("output") {
        root.missing("output", "at least one [[output]] with its name and kind");
    }
    let tables = root.tables("source", "source", "");
    let mut names = BTreeSet::new();
    let sources: Vec<_> = tables.into_iter().map(|table| source(table, &mut names, env)).collect();
    let tables = root.tables("output", "output", "");
    let mut taken = Taken::default();
    let outputs: Vec<_> = tables.into_iter().map(|table| output(table, &mut taken, env)).collect();
    root.finish();
    let sources = sources.into_iter().collect::<Option<_>>()?;
    let outputs = outputs.into_iter().collect::<Option<_>>()?;
    Some(Config { agent: agent?, spool, sources, outputs, warnings: Vec::new() })
}

fn agent(mut table: Table<'_>, env: Env<'_>) -> Option<Agent> {
    let levels = [
        ("error", LevelFilter::Error),
        ("warn", LevelFilter::Warn),
        ("info", LevelFilter::Info),
        ("debug", LevelFilter::Debug),
        ("trace", LevelFilter::Trace),
    ];
    let state_dir = match table.has("state_dir") {
        true => table.get("state_dir", |value| absolute(string(value)?)),
        false => state_dir(&mut table, env),
    };
    let local = SocketAddr::from(([127, 0, 0, 1], 9464));
    let status_listen = table.or("status_listen", Some(local), |value| listen(string(value)?));
    let log_level = table.or("log_level", LevelFilter::Info, |value| choice(value, &levels));
    let fetches = table.or("fetches_in_flight", limits::FETCHES_IN_FLIGHT as u64, |value| {
        integer(value, 1, limits::FETCHES_IN_FLIGHT_MAX as u64)
    });
    table.finish();
    Some(Agent { state_dir: state_dir?, status_listen, log_level, fetches_in_flight: fetches as usize })
}

/// The folder that the service manager made, or the usual one. Source: systemd.exec(5), StateDirectory= (several are
/// separated by colons).
fn state_dir(table: &mut Table<'_>, env: Env<'_>) -> Option<PathBuf> {
    table.value("state_dir"); // makes the key known
    let given = env("STATE_DIRECTORY").filter(|dirs| !dirs.is_empty());
    let first = given.as_deref().and_then(|dirs| dirs.split(':').next()).unwrap_or(STATE_DIR);
    absolute(first).map_err(|text| table.fault("state_dir", format!("$STATE_DIRECTORY {text}"))).ok()
}

fn listen(text: &str) -> Read<Option<SocketAddr>> {
    if text.is_empty() {
        return Ok(None);
    }
    let right = "write an address and a port such as \"127.0.0.1:9464\", or \"\" for none";
    text.parse().map(Some).map_err(|_| format!("{} is not an address with a port; {right}", quoted(text)))
}

fn spool(mut table: Table<'_>) -> Spool {
    let mut spool = Spool {
        max_bytes: 2 * GIB,
        quarantine_max_bytes: 64 * MIB,
        max_record_bytes: limits::RECORD_BYTES,
        max_object_bytes: GIB,
    };
    spool.max_bytes =
        table.or("max_bytes", spool.max_bytes, |value| size_within(value, limits::SPOOL_BYTES_MIN, u64::MAX));
    spool.quarantine_max_bytes = table
        .or("quarantine_max_bytes", spool.quarantine_max_bytes, |value| size_within(value, MIB, u64::MAX));
    let (least, most) = limits::RECORD_BYTES_RANGE;
    spool.max_record_bytes = table.or("max_record_bytes", spool.max_record_bytes, |value| {
        Ok(size_within(value, least, most)? as usize)
    });
    // An object enters the spool whole: it must fit beside one that is being delivered.
    let half = spool.max_bytes / 2;
    let record = spool.max_record_bytes as u64;
    spool.max_object_bytes = table.or("max_object_bytes", GIB.min(half), |value| {
        let bytes = size_within(value, record, u64::MAX)?;
        if bytes > half {
            return Err(format!(
                "must be at most half of max_bytes ({}), not {}",
                bytes_text(half),
                bytes_text(bytes)
            ));
        }
        Ok(bytes)
    });
    table.get("compression", |value| match choice(value, &[("none", true), ("lz4", false)])? {
        true => Ok(()),
        false => Err("\"lz4\" is not supported in this version: write \"none\"".to_owned()),
    });
    table.finish();
    spool
}
