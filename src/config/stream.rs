//! Outputs that talk to a collector over a connection of their own: `syslog`, `relp` and `tcp`.

use std::net::IpAddr;
use std::time::Duration;

use toml::de::DeValue;

use super::fault::quoted;
use super::files;
use super::load::Env;
use super::table::{Read, Table, choice, integer, string};
use super::units::size_within;
use super::{OutputKind, Peer, Syslog, Transport};
use crate::deliver::syslog::Framing;
use crate::limits;

const FACILITIES: [(&str, u8); 20] = [
    ("kern", 0),
    ("user", 1),
    ("mail", 2),
    ("daemon", 3),
    ("auth", 4),
    ("syslog", 5),
    ("lpr", 6),
    ("news", 7),
    ("uucp", 8),
    ("cron", 9),
    ("authpriv", 10),
    ("ftp", 11),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];
const SEVERITIES: [(&str, u8); 8] = [
    ("emerg", 0),
    ("alert", 1),
    ("crit", 2),
    ("err", 3),
    ("warning", 4),
    ("notice", 5),
    ("info", 6),
    ("debug", 7),
];
const LOCAL0: u8 = 16;
const INFO: u8 = 6;

const TCP: (&str, Transport) = ("tcp", Transport::Tcp);
const TLS: (&str, Transport) = ("tls", Transport::Tls);
const UDP: (&str, Transport) = ("udp", Transport::Udp);

/// `kind = "tcp"`
pub(super) fn tcp(table: &mut Table<'_>, env: Env<'_>) -> Option<OutputKind> {
    Some(OutputKind::Tcp(peer(table, &[TCP, TLS], env)?))
}

/// `kind = "relp"`
pub(super) fn relp(table: &mut Table<'_>, env: Env<'_>) -> Option<OutputKind> {
    let peer = peer(table, &[TCP, TLS], env);
    let syslog = header(table);
    Some(OutputKind::Relp { peer: peer?, syslog: syslog? })
}

/// `kind = "syslog"`
pub(super) fn syslog(table: &mut Table<'_>, env: Env<'_>) -> Option<OutputKind> {
    let peer = peer(table, &[TCP, TLS, UDP], env);
    let syslog = header(table);
    let framings = [("octet-counting", Framing::OctetCounting), ("lf", Framing::LineFeed)];
    let written = table.has("framing");
    let framing = table.or("framing", Framing::OctetCounting, |value| choice(value, &framings));
    let (peer, syslog) = (peer?, syslog?);
    let framing = match peer.transport {
        Transport::Udp if written => {
            table.fault("framing", "has no place in UDP: each datagram is one message".to_owned());
            return None;
        }
        Transport::Udp => Framing::None,
        _ => framing,
    };
    Some(OutputKind::Syslog { peer, syslog, framing })
}

fn peer(table: &mut Table<'_>, transports: &[(&str, Transport)], env: Env<'_>) -> Option<Peer> {
    let address = table.required("address", "address = \"HOST:PORT\"", |value| address(string(value)?));
    let transport = table.or("transport", Transport::Tcp, |value| choice(value, transports));
    let seconds = table.or("timeout_seconds", 30, |value| integer(value, 1, 3600));
    let default = if transport == Transport::Udp { limits::DATAGRAM_BYTES as u64 } else { 0 };
    let (least, most) = limits::MESSAGE_BYTES_RANGE;
    let most = if transport == Transport::Udp { limits::DATAGRAM_BYTES as u64 } else { most };
    let max_message_bytes = table.or("max_message_bytes", default, |value| size_within(value, least, most));
    let over_tls = ["ca_file", "client_cert_file", "client_key_file", "server_name"];
    let misplaced = over_tls.into_iter().find(|key| transport != Transport::Tls && table.has(key));
    let trust = files::trust(table, env("CREDENTIALS_DIRECTORY").as_deref());
    let server_name = table.get("server_name", server_name);
    if let Some(key) = misplaced {
        table.fault(key, "is of use with transport = \"tls\" alone".to_owned());
        return None;
    }
    let (host, port) = address?;
    Some(Peer {
        host,
        port,
        transport,
        server_name: server_name.flatten(),
        trust: trust?,
        timeout: Duration::from_secs(seconds),
        max_message_bytes: (max_message_bytes > 0).then_some(max_message_bytes as usize),
    })
}

/// A name that a server's certificate can have; `""`: the host's.
pub(super) fn server_name(value: &DeValue<'_>) -> Read<Option<Box<str>>> {
    match string(value)? {
        "" => Ok(None),
        name => match rustls::pki_types::ServerName::try_from(name) {
            Ok(_) => Ok(Some(name.into())),
            Err(_) => Err(format!("{} is no name that a certificate can have", quoted(name))),
        },
    }
}

fn header(table: &mut Table<'_>) -> Option<Syslog> {
    let facility = table.or("facility", LOCAL0, |value| choice(value, &FACILITIES));
    let severity = table.or("severity", INFO, |value| choice(value, &SEVERITIES));
    let hostname = table.get("hostname", |value| printable(string(value)?, 255));
    let app_name = table.or("app_name", "trailspool".into(), |value| printable(string(value)?, 48));
    let sd_id = table.or("sd_id", Some("trailspool@32473".into()), |value| match string(value)? {
        "" => Ok(None),
        text => sd_id(text).map(Some),
    });
    let hostname = hostname.unwrap_or_else(this_machine);
    Some(Syslog { priority: facility * 8 + severity, hostname, app_name, sd_id })
}

/// `HOST:PORT`; an IPv6 address stands in brackets, and comes without.
pub(super) fn address(text: &str) -> Read<(Box<str>, u16)> {
    let right = "write \"HOST:PORT\", such as \"siem.example.com:6514\" or \"[2001:db8::5]:6514\"";
    if text.contains("//") {
        return Err(format!("is no URL; {right}"));
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(|| format!("has no port; {right}"))?;
    let port = port
        .parse()
        .ok()
        .filter(|&port| port > 0)
        .ok_or_else(|| format!("{} is no port from 1 to 65535; {right}", quoted(port)))?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let good = match bare {
        Some(bare) => bare.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6()),
        None => {
            (1..=253).contains(&host.len())
                && host.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._".contains(&c))
        }
    };
    match good {
        true => Ok((bare.unwrap_or(host).into(), port)),
        false if host.parse::<IpAddr>().is_ok() => Err(format!("must have the address in brackets; {right}")),
        false => Err(format!("{} is no host; {right}", quoted(host))),
    }
}

/// PRINTUSASCII of RFC 5424.
fn printable(text: &str, most: usize) -> Read<Box<str>> {
    match (1..=most).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_graphic()) {
        true => Ok(text.into()),
        false => Err(format!("must be 1 to {most} ASCII characters without spaces")),
    }
}

/// `NAME@NUMBER`
fn sd_id(text: &str) -> Read<Box<str>> {
    let right = "write \"NAME@NUMBER\" with your organisation's private enterprise number, or \"\" for none";
    let good = text.split_once('@').is_some_and(|(name, number)| {
        let dotted =
            number.split('.').all(|part| !part.is_empty() && part.bytes().all(|c| c.is_ascii_digit()));
        let name_good = name.bytes().all(|c| c.is_ascii_graphic() && !b"=]\"@".contains(&c));
        !name.is_empty() && name_good && dotted
    });
    match good && text.len() <= 32 {
        true => Ok(text.into()),
        false => Err(format!("{} is no SD-ID of RFC 5424 (at most 32 characters); {right}", quoted(text))),
    }
}

/// This machine's name, as far as a header can hold it.
fn this_machine() -> Box<str> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    printable(name.trim(), 255).unwrap_or_else(|_| "-".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_a_host_and_a_port() {
        for (text, host, port) in [
            ("siem.example.com:6514", "siem.example.com", 6514),
            ("10.0.0.1:514", "10.0.0.1", 514),
            ("[2001:db8::5]:20514", "2001:db8::5", 20514),
            ("localhost:1", "localhost", 1),
        ] {
            assert_eq!(address(text), Ok((host.into(), port)));
        }
        for (text, why) in [
            ("siem.example.com", "no port"),
            ("siem.example.com:0", "no port from 1"),
            ("siem.example.com:65536", "no port from 1"),
            ("tcp://siem.example.com:514", "no URL"),
            ("2001:db8::5:6514", "in brackets"),
            ("[10.0.0.1]:6514", "no host"),
            (":514", "no host"),
            ("a b:514", "no host"),
        ] {
            assert!(address(text).unwrap_err().contains(why), "{text}: {:?}", address(text));
        }
    }

    #[test]
    fn an_sd_id_has_a_name_and_a_number() {
        for good in ["trailspool@32473", "a@1", "a@1.2.3"] {
            assert!(sd_id(good).is_ok(), "{good}");
        }
        for bad in ["trailspool", "@1", "a@", "a@x", "a=b@1", "a]@1", "a b@1", "a@1.", &"a".repeat(40)] {
            assert!(sd_id(bad).is_err(), "{bad}");
        }
    }
}
