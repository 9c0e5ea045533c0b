//! The directory: the way to it, TLS, the bind, and whether the base is there. No account is looked up.

use tokio::time::timeout;

use super::super::advice;
use super::super::finding::{Blocked, Finding, Kind, Notes, Part, Section};
use super::{PART, STEP, TIME_IS_UP, network};
use crate::config::{self, Encryption};
use crate::directory::client::{self, Connection, Fault, Step};

const STEPS: [&str; 5] = ["dns", "tcp", "tls", "bind", "base"];
/// What the operator wrote to get there.
const SETTING: &str = "`url` of [directory]";

/// Probes the directory.
pub(in crate::doctor) async fn directory(config: config::Directory) -> Section {
    let notes = Notes::default();
    let config = config::Directory { timeout: STEP.min(config.timeout), ..config };
    let because = match timeout(PART, reach(&config, &notes)).await {
        Ok(Ok(())) => String::new(),
        Ok(Err(Blocked(because))) => because,
        Err(_) => TIME_IS_UP.to_owned(),
    };
    notes.finish(Part::Directory, &STEPS, &because)
}

async fn reach(config: &config::Directory, notes: &Notes) -> Result<(), Blocked> {
    let config::Directory { host, port, encryption, .. } = config;
    let addresses = network::look_up(host, *port, SETTING, notes).await?;
    network::connect(host, *port, &addresses, false, SETTING, notes).await?;
    let no_connection = || format!("there is no connection to {host}");
    let dialer = client::dialer(config).map_err(|error| {
        let finding = Finding::fail(
            "tls",
            Kind::Config,
            "a file for TLS is of no use",
            error.to_string(),
            "correct `ca_file` of [directory]",
        );
        notes.block(finding, no_connection())
    })?;
    let mut connection = match Connection::open(&dialer, config).await {
        Ok(connection) => connection,
        Err(Fault::Network(error)) => {
            let finding = advice::unreachable("tls", &error, host, *port, SETTING);
            return Err(notes.block(finding, no_connection()));
        }
        Err(fault) => {
            let finding = finding("tls", format!("{host} gives no TLS"), &fault);
            return Err(notes.block(finding, no_connection()));
        }
    };
    notes.add(Finding::ok(
        "tls",
        match encryption {
            Encryption::None => "none: `url` begins with ldap://, on this machine".to_owned(),
            Encryption::StartTls => format!("{host} takes StartTLS, and its certificate is accepted"),
            Encryption::Tls => format!("the certificate of {host} is accepted"),
        },
    ));
    let who = match &config.bind {
        Some(bind) => format!("as {}", bind.dn),
        None => "as nobody (there is no `bind_dn`)".to_owned(),
    };
    if let Err(fault) = connection.bind(config).await {
        let finding = finding("bind", format!("{host} does not let the agent in {who}"), &fault);
        return Err(notes.block(finding, "the bind failed"));
    }
    notes.add(Finding::ok("bind", format!("{host} lets the agent in {who}")));
    if let Err(fault) = connection.find_base(config).await {
        let finding = finding("base", format!("{} cannot be searched", config.base), &fault);
        return Err(notes.block(finding, "the base is not there"));
    }
    notes.add(Finding::ok("base", format!("{} is there", config.base)));
    connection.close().await;
    Ok(())
}

/// A fault and what to do.
fn finding(probe: &'static str, what: String, fault: &Fault) -> Finding {
    let kind = match fault {
        Fault::Network(_) | Fault::Broken(..) | Fault::Timeout(..) => Kind::Unavailable,
        Fault::Malformed(..) | Fault::Refused(Step::StartTls, _) => Kind::Config,
        Fault::Refused(..) => match fault.cause() {
            "credentials" | "denied" => Kind::Permission,
            "no-base" | "no-tls" => Kind::Config,
            _ => Kind::Unavailable,
        },
    };
    Finding::fail(probe, kind, what, fault.why(), fault.cure())
}
