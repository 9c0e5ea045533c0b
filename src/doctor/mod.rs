//! What helps an operator to set things up: `trailspool check` finds what keeps the agent from collecting or
//! forwarding, and says the fix; `policy` prints policies filled in, `regions` the table of regions.
//!
//! | file | what |
//! |---|---|
//! | `finding` | what was found, in order, and the exit code (a core) |
//! | `report` | findings as text and as JSON (a core) |
//! | `advice` | from a failed request to what to do (a core) |
//! | `queue` | the same of a queue, and what its attributes tell (a core) |
//! | `probes` | what is tried, each part beside the others |
//! | `policy`, `regions` | the other two commands (cores) |
//! | `json` | JSON for policies |
//!
//! `init` writes the configuration in the first place.
//!
//! What holds of a check: every probe has a finding, whatever failed before it; a running agent notices nothing; nothing is left
//! behind, sent to an output or changed in a bucket; no secret is in a finding; the whole ends within half a minute.

pub mod advice;
pub mod finding;
pub mod init;
mod json;
pub mod policy;
mod probes;
pub mod queue;
pub mod regions;
pub mod report;

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::config::{self, Examined};
use crate::error::Exit;
use finding::{Finding, Kind, Part, Report, Section};
use report::Look;

/// Columns of the text on a terminal.
const WIDTH: usize = 100;
/// What a file system that hangs may take.
const FILES: Duration = Duration::from_secs(10);

/// The command `check`.
pub fn main(config: &Path, json: bool) -> ExitCode {
    checked(config, json).into()
}

/// Checks, prints what was found, and gives the exit code of the worst.
fn checked(config: &Path, json: bool) -> Exit {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(fault) => {
            let _ = writeln!(std::io::stderr(), "the runtime could not be started: {fault}");
            return Exit::Unavailable;
        }
    };
    let report = runtime.block_on(check(config));
    // A look-up or a disk that hangs is left behind.
    runtime.shutdown_background();
    let mut out = std::io::stdout().lock();
    let text = match json {
        true => report::json(&report),
        false => {
            let terminal = out.is_terminal();
            let look = Look { colours: terminal && !no_color(), width: terminal.then_some(WIDTH) };
            report::text(&report, look)
        }
    };
    // A reader that went away is no failure of what was checked.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    report.exit()
}

/// Everything at once; the report has the order of the configuration.
async fn check(path: &Path) -> Report {
    let examined = config::examine(path);
    let mut sections = vec![configuration(path, &examined)];
    let Examined { agent, spool, sources, outputs, directory, .. } = examined;

    let of_state = spool.clone();
    let state = tokio::task::spawn_blocking(move || probes::state(agent.as_ref(), of_state.as_ref()));
    let sources: Vec<_> = sources
        .into_iter()
        .map(|source| source.map(|source| tokio::spawn(probes::source(source, spool.clone()))))
        .collect();
    let outputs: Vec<_> =
        outputs.into_iter().map(|output| output.map(|output| tokio::spawn(probes::output(output)))).collect();

    let directory =
        directory.map(|directory| directory.map(|directory| tokio::spawn(probes::directory(directory))));

    sections.push(match timeout(FILES, state).await {
        Ok(Ok(section)) => section,
        Ok(Err(error)) => broken(Part::Agent, &error.to_string()),
        Err(_) => {
            let what = "the state directory's file system does not answer";
            let fix = "see whether its disk or network share is well: `dmesg`, `mount`";
            let finding = Finding::fail("state-dir", Kind::Io, what, format!("waited {FILES:?}"), fix);
            Section { part: Part::Agent, findings: vec![finding] }
        }
    });
    for source in sources {
        sections.push(joined(source, Part::Source).await);
    }
    if let Some(directory) = directory {
        sections.push(joined(directory, |_| Part::Directory).await);
    }
    for output in outputs {
        sections.push(joined(output, Part::Output).await);
    }
    Report { sections }
}

async fn joined(task: Result<JoinHandle<Section>, Box<str>>, part: fn(Box<str>) -> Part) -> Section {
    match task {
        Ok(task) => task.await.unwrap_or_else(|error| broken(part("".into()), &error.to_string())),
        Err(name) => {
            let findings = vec![Finding::not_tested("config", "the configuration has faults here")];
            Section { part: part(name), findings }
        }
    }
}

/// A probe that panicked: our own fault, which must not hide the other findings.
fn broken(part: Part, why: &str) -> Section {
    let fix = "report this as a fault of trailspool";
    let finding = Finding::fail("check", Kind::Unavailable, "the check itself failed", why, fix);
    Section { part, findings: vec![finding] }
}

/// Every fault and warning of the file.
fn configuration(path: &Path, examined: &Examined) -> Section {
    let shown = path.display();
    let mut findings = Vec::new();
    for fault in examined.faults.iter().flat_map(|faults| &faults.faults) {
        let place = match fault.place.as_str() {
            "" => "the file".to_owned(),
            place => place.to_owned(),
        };
        let fix = match fault.line {
            0 => format!("correct {shown}"),
            line => format!("correct line {line} of {shown}"),
        };
        findings.push(Finding::fail("config", Kind::Config, place, fault.text.clone(), fix));
    }
    if let Some(more) = examined.faults.as_ref().map(|faults| faults.more).filter(|more| *more > 0) {
        let fix = "correct these first";
        findings.push(Finding::fail("config", Kind::Config, format!("and {more} more faults"), "", fix));
    }
    if findings.is_empty() {
        let (sources, outputs) = (examined.sources.len(), examined.outputs.len());
        let what = format!("{shown} is sound: {sources} source(s), {outputs} output(s)");
        findings.push(Finding::ok("config", what));
    }
    let warnings = examined.warnings.iter();
    findings.extend(warnings.map(|warning| Finding::warn("config", warning.clone(), "", "")));
    Section { part: Part::Config, findings }
}

/// Source: no-color.org.
#[allow(clippy::disallowed_methods, reason = "how a terminal wants its text is told by the environment")]
fn no_color() -> bool {
    std::env::var("NO_COLOR").is_ok_and(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::finding::Level;
    use super::*;

    /// Every server takes connections and says nothing: TLS to one, HTTP to the other.
    #[tokio::test(start_paused = true)]
    async fn the_whole_check_ends_in_half_a_minute_when_everything_hangs() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = silent.local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("secret"), "a-secret").unwrap();
        std::fs::set_permissions(at("secret"), std::fs::Permissions::from_mode(0o600)).unwrap();
        let source = |name: &str, scheme: &str| {
            format!(
                "[[source]]\nname = {name:?}\nbucket = \"acme\"\nregion = \"us-east-1\"\nendpoint = \
                 \"{scheme}://127.0.0.1:{port}\"\n[source.credentials]\nmethod = \"iam-user\"\naccess_key_id = \
                 \"AKIAIOSFODNN7EXAMPLE\"\nsecret_key_file = {:?}\n",
                at("secret")
            )
        };
        let text = format!(
            "[agent]\nstate_dir = {:?}\n{}{}[[output]]\nname = \"siem\"\nkind = \"http\"\nurl = \
             \"https://127.0.0.1:{port}/\"\n",
            at("state"),
            source("plain", "http"),
            source("tls", "https"),
        );
        std::fs::write(at("a.toml"), text).unwrap();

        let begin = Instant::now();
        let report = check(&at("a.toml")).await;
        assert!(begin.elapsed() <= Duration::from_secs(30), "{:?}", begin.elapsed());
        assert_eq!(report.exit(), Exit::Unavailable, "{report:?}");
        let failed = |name: &str| {
            let section = report.sections.iter().find(|section| match &section.part {
                Part::Source(own) | Part::Output(own) => **own == *name,
                Part::Config | Part::Agent | Part::Directory => false,
            });
            let findings = section.expect("a section for each").findings.iter();
            findings
                .filter(|f| f.level == Level::Fail(Kind::Unavailable))
                .map(|f| f.probe)
                .collect::<Vec<_>>()
        };
        // While the clock is stopped, a connection may look as slow as its answer.
        for name in ["plain", "tls", "siem"] {
            let failed = failed(name);
            assert!(matches!(failed[..], ["tcp" | "tls" | "answer"]), "{name}: {failed:?}");
        }
    }

    #[tokio::test]
    async fn a_configuration_that_is_not_there_is_a_finding() {
        let report = check(Path::new("/nowhere/trailspool.toml")).await;
        assert_eq!(report.exit(), Exit::Config);
        let findings: Vec<_> = report.findings().collect();
        assert!(findings[0].why.contains("--config"), "{findings:?}");
        assert!(findings[1..].iter().all(|finding| finding.level == Level::NotTested), "{findings:?}");
    }
}
