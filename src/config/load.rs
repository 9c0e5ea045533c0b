//! Reads a configuration file as a whole: the grammar, the tables, and what must hold between them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use log::LevelFilter;
use toml::de::DeTable;

use super::directory::directory;
use super::fault::{Faults, Report, quoted};
use super::files::{self, absolute, secret_credential, secret_file};
use super::http::Preset;
use super::output::{Taken, output};
use super::source::source;
use super::table::{Read, Table, choice, integer, string};
use super::units::{bytes_text, size_within};
use super::{Agent, Config, Examined, Format, Output, OutputKind, Secret, Spool};
use crate::limits;
use crate::spool::Compression;

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
    whole(examine(path), path)
}

/// Reads the configuration at `path` as [`load`] does, and gives what can be used of it beside its faults.
pub fn examine(path: &Path) -> Examined {
    match text_of(path) {
        Ok(text) => examine_text(&text, path, &environment),
        Err(faults) => Examined::nothing(faults),
    }
}

fn text_of(path: &Path) -> Result<String, Faults> {
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
    Ok(text.to_owned())
}

/// Reads the text of a configuration. `path` only names it in faults; `env` answers for the environment.
/// The secret and certificate files that the text names are read.
///
/// # Errors
/// As [`load`].
pub fn parse(text: &str, path: &Path, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Faults> {
    whole(examine_text(text, path, env), path)
}

/// As [`parse`], with this process's environment.
pub(crate) fn parse_here(text: &str, path: &Path) -> Result<Config, Faults> {
    parse(text, path, &environment)
}

#[allow(clippy::disallowed_methods, reason = "the configuration is where the environment is read")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn examine_text(text: &str, path: &Path, env: Env<'_>) -> Examined {
    if text.len() as u64 > limits::CONFIG_BYTES {
        let text = format!("is longer than {}", bytes_text(limits::CONFIG_BYTES));
        return Examined::nothing(Faults::whole(path, text));
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
    let parts = readable.then(|| parts(Table::root(&report, document.get_ref()), env));
    let parts = parts.filter(|_| report.is_grammatical());
    let (warnings, faults) = report.finish(path);
    Examined { warnings, faults, ..parts.unwrap_or_else(Examined::empty) }
}

/// The whole configuration, or its faults.
fn whole(examined: Examined, path: &Path) -> Result<Config, Faults> {
    let Examined { agent, spool, sources, outputs, directory, warnings, faults } = examined;
    let together = || {
        let sources = sources.into_iter().map(Result::ok).collect::<Option<_>>()?;
        let outputs = outputs.into_iter().map(Result::ok).collect::<Option<_>>()?;
        let directory = directory.map(Result::ok).map_or(Some(None), |directory| directory.map(Some))?;
        Some(Config { agent: agent?, spool: spool?, sources, outputs, directory, warnings })
    };
    match faults {
        Some(faults) => Err(faults),
        // Whatever is left out is left out with a fault.
        None => together()
            .ok_or_else(|| Faults::whole(path, "could not be read, by an error of this program".to_owned())),
    }
}

impl Examined {
    fn empty() -> Examined {
        Examined {
            agent: None,
            spool: None,
            sources: Vec::new(),
            outputs: Vec::new(),
            directory: None,
            warnings: Vec::new(),
            faults: None,
        }
    }

    fn nothing(faults: Faults) -> Examined {
        Examined { faults: Some(faults), ..Examined::empty() }
    }
}

/// What `read` makes of a table, unless it notes faults: defaults stand then for what was meant.
fn sound<T>(report: &Report<'_>, read: impl FnOnce() -> Option<T>) -> Option<T> {
    let before = report.count();
    read().filter(|_| report.count() == before)
}

/// As [`sound`], for one table of a list.
fn sound_or_name<'a, T>(
    table: Table<'a>,
    kind: &str,
    number: usize,
    read: impl FnOnce(Table<'a>) -> Option<T>,
) -> Result<T, Box<str>> {
    let name = table.name_as_written().map_or_else(|| format!("{kind} {}", number + 1), str::to_owned);
    sound(table.report(), || read(table)).ok_or(name.into())
}

fn parts(mut root: Table<'_>, env: Env<'_>) -> Examined {
    let report = root.report();
    let agent = sound(report, || agent(root.table("agent", "[agent]".to_owned(), ""), env));
    let spool = sound(report, || Some(spool(root.table("spool", "[spool]".to_owned(), ""))));
    if !root.has("source") {
        root.missing("source", "at least one [[source]] with its name, bucket and region");
    }
    if !root.has("output") {
        root.missing("output", "at least one [[output]] with its name and kind");
    }
    let tables = root.tables("source", "source", "");
    let mut names = BTreeSet::new();
    let sources = tables.into_iter().enumerate();
    let sources = sources
        .map(|(n, table)| sound_or_name(table, "source", n, |table| source(table, &mut names, env)))
        .collect();
    let tables = root.tables("output", "output", "");
    let mut taken = Taken::default();
    let outputs = tables.into_iter().enumerate();
    let outputs = outputs
        .map(|(n, table)| sound_or_name(table, "output", n, |table| output(table, &mut taken, env)))
        .collect::<Vec<_>>();
    let directory = root.has("directory").then(|| {
        let table = root.table("directory", "[directory]".to_owned(), "");
        sound(report, || directory(table, env)).ok_or_else(|| "directory".into())
    });
    if directory.is_some() && !outputs.iter().flatten().any(carries_attribution) {
        report.warn(
            "[directory]: no output sends along what it says of accounts; write format = \"envelope\""
                .to_owned(),
        );
    }
    root.finish();
    Examined { agent, spool, sources, outputs, directory, ..Examined::empty() }
}

/// Whether an output says which account is behind a record.
fn carries_attribution(output: &Output) -> bool {
    let has_room = match &output.kind {
        OutputKind::Syslog { syslog, .. } | OutputKind::Relp { syslog, .. } => syslog.sd_id.is_some(),
        OutputKind::Http(http) => matches!(&http.preset, Preset::SplunkHec(hec) if !hec.raw),
        OutputKind::Stdout | OutputKind::File(_) | OutputKind::Tcp(_) => false,
    };
    has_room || output.format == Format::Envelope
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
    let status_token = status_token(&mut table, env, status_listen);
    let log_level = table.or("log_level", LevelFilter::Info, |value| choice(value, &levels));
    let fetches = table.or("fetches_in_flight", limits::FETCHES_IN_FLIGHT as u64, |value| {
        integer(value, 1, limits::FETCHES_IN_FLIGHT_MAX as u64)
    });
    table.finish();
    Some(Agent {
        state_dir: state_dir?,
        status_listen,
        status_token,
        log_level,
        fetches_in_flight: fetches as usize,
    })
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

/// The token that the status server asks for; one that other machines can reach needs one.
fn status_token(table: &mut Table<'_>, env: Env<'_>, listen: Option<SocketAddr>) -> Option<Secret> {
    let dir = env("CREDENTIALS_DIRECTORY");
    let written = ["status_token_file", "status_token_credential"].map(|key| table.has(key));
    let file = table.get("status_token_file", |value| match string(value)? {
        "" => Ok(None),
        path => secret_file(path, dir.as_deref()).and_then(token).map(Some),
    });
    let credential = table.get("status_token_credential", |value| match string(value)? {
        "" => Ok(None),
        name => secret_credential(name, dir.as_deref()).and_then(token).map(Some),
    });
    let told = (written[0] && file.is_none()) || (written[1] && credential.is_none());
    match (file.flatten(), credential.flatten()) {
        (Some(_), Some(_)) => {
            table.fault(
                "status_token_credential",
                "stands beside status_token_file: write one of the two".to_owned(),
            );
            None
        }
        (None, None) => {
            if !told && listen.is_some_and(|address| !address.ip().is_loopback()) {
                let text = "can be reached from other machines, which takes a token: write status_token_file or \
                            status_token_credential, or listen on 127.0.0.1";
                table.fault("status_listen", text.to_owned());
            }
            None
        }
        (file, credential) => file.or(credential),
    }
}

/// A token that can be sent in a header, and not be guessed.
fn token(secret: Secret) -> Read<Secret> {
    let text = secret.reveal();
    if text.len() < limits::STATUS_TOKEN_CHARS || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "must hold a token of at least {} letters, digits and signs without spaces, as `openssl rand -hex 32` makes",
            limits::STATUS_TOKEN_CHARS
        ));
    }
    Ok(secret)
}

fn spool(mut table: Table<'_>) -> Spool {
    let mut spool = Spool {
        max_bytes: 2 * GIB,
        quarantine_max_bytes: 64 * MIB,
        max_record_bytes: limits::RECORD_BYTES,
        max_object_bytes: GIB,
        compression: Compression::None,
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
    let kinds = [("none", Compression::None), ("lz4", Compression::Lz4)];
    spool.compression = table.or("compression", spool.compression, |value| choice(value, &kinds));
    table.finish();
    spool
}
