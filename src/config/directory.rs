//! `[directory]`.

use std::collections::BTreeSet;
use std::time::Duration;

use toml::de::DeValue;

use super::fault::quoted;
use super::files::{ca_file, one_secret};
use super::http::is_local;
use super::load::Env;
use super::stream::{address, server_name};
use super::table::{Read, Table, flag, integer, string};
use super::units::bounded_text;
use super::{Bind, Directory, Encryption};
use crate::limits;

/// What Active Directory has.
const ATTRIBUTES: [&str; 3] = ["sAMAccountName", "userPrincipalName", "mail"];
const HOUR: u64 = 3600;

/// Reads the table. `None`: it has faults, and they are noted.
pub(super) fn directory(mut table: Table<'_>, env: Env<'_>) -> Option<Directory> {
    let right = "url = \"ldaps://HOST\", or \"ldap://HOST\" with start_tls = true";
    let url = table.required("url", right, |value| url(string(value)?));
    let start_tls = table.or("start_tls", false, flag);
    let encryption = url.as_ref().and_then(|url| encryption(&table, url, start_tls));
    let over_tls = ["ca_file", "server_name"].into_iter().find(|key| table.has(key));
    if let (Some(Encryption::None), Some(key)) = (encryption, over_tls) {
        table.fault(key, "is of use with ldaps:// or start_tls = true alone".to_owned());
    }
    let ca_file = table.get("ca_file", |value| match string(value)? {
        "" => Ok(None),
        path => ca_file(path).map(Some),
    });
    let server_name = table.get("server_name", server_name);
    let bind = bind(&mut table, env);
    let base = table.required("base", "base = \"dc=corp,dc=example,dc=com\"", |value| dn(string(value)?));
    let match_name = attributes(&mut table, "match_name", &ATTRIBUTES[..1]);
    let match_address = attributes(&mut table, "match_address", &ATTRIBUTES[1..]);
    if match_name.is_empty()
        && match_address.is_empty()
        && table.has("match_name")
        && table.has("match_address")
    {
        table.fault("match_name", "and match_address are both empty: accounts cannot be found so".to_owned());
    }
    let attributes = attributes(&mut table, "attributes", &ATTRIBUTES);
    if attributes.is_empty() && table.has("attributes") {
        table.fault("attributes", "is empty: name what is to go along with records".to_owned());
    }
    let seconds = table.or("timeout_seconds", 5, |value| integer(value, 1, 60));
    let (entries, most) = limits::DIRECTORY_CACHE_ENTRIES;
    let entries = table.or("cache_entries", entries, |value| integer(value, 1, most));
    let cache_seconds = table.or("cache_seconds", HOUR, |value| integer(value, 1, 7 * 24 * HOUR));
    table.finish();
    let Url { host, port, .. } = url?;
    Some(Directory {
        host,
        port,
        encryption: encryption?,
        server_name: server_name.flatten(),
        ca_file: ca_file.flatten(),
        bind: bind?,
        base: base?,
        match_name,
        match_address,
        attributes: attributes.into(),
        timeout: Duration::from_secs(seconds),
        cache_entries: entries as usize,
        cache_time: Duration::from_secs(cache_seconds),
    })
}

#[derive(Debug, PartialEq, Eq)]
struct Url {
    tls: bool,
    host: Box<str>,
    port: u16,
}

/// `ldaps://HOST[:PORT]`, `ldap://HOST[:PORT]`. What else such a URL may have (RFC 4516) has keys of its own.
fn url(text: &str) -> Read<Url> {
    let scheme = |scheme: &str| {
        let (start, rest) = text.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    let (tls, usual, rest) = match (scheme("ldaps://"), scheme("ldap://")) {
        (Some(rest), _) => (true, 636, rest),
        (_, Some(rest)) => (false, 389, rest),
        _ => return Err("must begin with ldaps:// or ldap://".to_owned()),
    };
    let place = rest.strip_suffix('/').unwrap_or(rest);
    if place.contains(['/', '?', '#', '@']) {
        let text = "must end after the host and port: base, attributes and bind_dn have keys of their own";
        return Err(text.to_owned());
    }
    let has_port = place.rsplit_once(']').map_or(place, |(_, port)| port).contains(':');
    let (host, port) = match has_port {
        true => address(place)?,
        false => address(&format!("{place}:{usual}"))?,
    };
    Ok(Url { tls, host, port })
}

/// A password is never sent where others can read it.
fn encryption(table: &Table<'_>, url: &Url, start_tls: bool) -> Option<Encryption> {
    match (url.tls, start_tls) {
        (true, false) => Some(Encryption::Tls),
        (false, true) => Some(Encryption::StartTls),
        (true, true) => {
            table.fault("start_tls", "is of use with ldap:// alone: ldaps:// begins with TLS".to_owned());
            None
        }
        (false, false) if is_local(&url.host) => Some(Encryption::None),
        (false, false) => {
            let text = "is without encryption, which is refused except on this machine: write ldaps://, or \
                        start_tls = true";
            table.fault("url", text.to_owned());
            None
        }
    }
}

/// Who asks. `None`: it has faults, and they are noted.
fn bind(table: &mut Table<'_>, env: Env<'_>) -> Option<Option<Bind>> {
    let keys = ["password_file", "password_credential"];
    let (has_dn, [has_file, has_credential]) = (table.has("bind_dn"), keys.map(|key| table.has(key)));
    let dn = table.get("bind_dn", |value| dn(string(value)?));
    let password = one_secret(table, keys, env("CREDENTIALS_DIRECTORY").as_deref());
    if has_file && has_credential {
        return None;
    }
    match (has_dn, has_file || has_credential) {
        (false, false) => Some(None),
        (true, true) => Some(Some(Bind { dn: dn?, password: password? })),
        (true, false) => {
            // a bind with a name and no password succeeds as nobody (RFC 4513, section 5.1.2)
            table.missing("password_file", "password_file = \"/PATH\" or password_credential = \"NAME\"");
            None
        }
        (false, true) => {
            table.missing("bind_dn", "the distinguished name that the password belongs to");
            None
        }
    }
}

/// The directory itself says whether it is well-formed, and Active Directory takes other names than RFC 4514's.
fn dn(text: &str) -> Read<Box<str>> {
    bounded_text(text, limits::DIRECTORY_DN_BYTES)
}

fn attributes(table: &mut Table<'_>, key: &'static str, default: &[&str]) -> Vec<Box<str>> {
    if !table.has(key) {
        table.value(key); // makes the key known
        return default.iter().map(|&name| name.into()).collect();
    }
    let mut seen = BTreeSet::new();
    table.list(key, limits::DIRECTORY_ATTRIBUTES, |value, span| {
        let name = attribute(value).map_err(|text| (span.start, text))?;
        match seen.insert(name.to_ascii_lowercase()) {
            true => Ok(name),
            false => Err((span.start, format!("{} is there twice", quoted(&name)))),
        }
    })
}

/// Source: RFC 4512, section 1.4 (`keystring`).
fn attribute(value: &DeValue<'_>) -> Read<Box<str>> {
    let name = string(value)?;
    let good = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
    match good && name.len() <= limits::DIRECTORY_NAME_BYTES {
        true => Ok(name.into()),
        false => Err(format!(
            "{} is no name of an attribute that can go along: at most {} letters, digits and hyphens",
            quoted(name),
            limits::DIRECTORY_NAME_BYTES
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;

    use super::super::{Config, parse};
    use super::*;

    const PASSWORD: &str = "a-password-that-nobody-may-see";

    /// A configuration with this `[directory]`, or its faults. `@DIR@` is a folder with files.
    fn read(directory: &str) -> Result<Config, String> {
        let dir = tempfile::tempdir().unwrap();
        let shown = dir.path().to_str().unwrap();
        for (name, mode) in [("password", 0o600), ("open", 0o644)] {
            fs::write(dir.path().join(name), format!("{PASSWORD}\n")).unwrap();
            fs::set_permissions(dir.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        let pem = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";
        fs::write(dir.path().join("ca.pem"), pem).unwrap();
        let text = format!(
            "[directory]\n{directory}\n[[source]]\nname = 'a'\nbucket = 'bbb'\nregion = 'us-east-1'\n\
             [source.credentials]\nmethod = 'ec2-role'\n[[output]]\nname = 'o'\nkind = 'stdout'\nformat = 'envelope'\n"
        );
        let env = |name: &str| (name == "CREDENTIALS_DIRECTORY").then(|| shown.to_owned());
        parse(&text.replace("@DIR@", shown), Path::new("f"), &env).map_err(|faults| faults.to_string())
    }

    const GOOD: &str =
        "url = 'ldaps://dc1'\nbase = 'dc=corp'\nbind_dn = 'cn=a'\npassword_file = '@DIR@/password'";

    #[test]
    fn little_has_to_be_written_and_there_may_be_none() {
        let directory = read(GOOD).unwrap().directory.unwrap();
        assert_eq!((&*directory.host, directory.port), ("dc1", 636));
        assert_eq!(directory.encryption, Encryption::Tls);
        assert_eq!(directory.bind.as_ref().unwrap().password.reveal(), PASSWORD);
        assert_eq!(directory.attributes.iter().map(|name| &**name).collect::<Vec<_>>(), ATTRIBUTES);
        assert_eq!((directory.match_name.len(), directory.match_address.len()), (1, 2));
        assert_eq!((directory.cache_entries, directory.cache_time), (4096, Duration::from_secs(3600)));
        assert!(!format!("{directory:?}").contains(PASSWORD));
        let credential = GOOD.replace("password_file = '@DIR@/password'", "password_credential = 'password'");
        assert!(read(&credential).unwrap().directory.unwrap().bind.is_some());
        let nobody = read("url = 'ldap://127.0.0.1'\nbase = 'dc=corp'").unwrap().directory.unwrap();
        assert_eq!((nobody.encryption, nobody.bind.is_none()), (Encryption::None, true));
        let start_tls = read(&GOOD.replace("ldaps://dc1'", "ldap://dc1'\nstart_tls = true")).unwrap();
        assert_eq!(start_tls.directory.unwrap().encryption, Encryption::StartTls);
        let without = "[[source]]\nname = 'a'\nbucket = 'bbb'\nregion = 'us-east-1'\n[source.credentials]\n\
                       method = 'ec2-role'\n[[output]]\nname = 'o'\nkind = 'stdout'\n";
        assert!(parse(without, Path::new("f"), &|_| None).unwrap().directory.is_none());
    }

    #[test]
    fn each_fault_is_said_with_its_line() {
        for (text, line, why) in [
            ("base = 'x'", 1, "[directory] url: missing: write url = \"ldaps://HOST\""),
            ("url = 'ldaps://a'", 1, "[directory] base: missing"),
            (
                "base = 'x'\nurl = 'ldap://dc1'",
                3,
                "url: is without encryption, which is refused except on this",
            ),
            ("base = 'x'\nurl = 'ldaps://a'\nstart_tls = true", 4, "start_tls: is of use with ldap:// alone"),
            (
                "base = 'x'\nurl = 'ldap://[::1]'\nca_file = '@DIR@/ca.pem'",
                4,
                "ca_file: is of use with ldaps://",
            ),
            ("base = 'x'\nurl = 'ldaps://a'\nca_file = '@DIR@/password'", 4, "ca_file: holds no certificate"),
            ("base = 'x'\nurl = 'ldaps://a'\nbind_dn = 'cn=a'", 1, "password_file: missing"),
            ("base = 'x'\nurl = 'ldaps://a'\npassword_file = '@DIR@/password'", 1, "bind_dn: missing"),
            ("base = 'x'\nurl = 'ldaps://a'\nbind_dn = 'x'\npassword_file = '@DIR@/open'", 5, "chmod 600"),
            ("base = 'x'\nurl = 'ldaps://a'\nbind_dn = 'x'\npassword = 'y'", 5, "password: unknown key"),
            ("base = ''\nurl = 'ldaps://a'", 2, "base: must have 1 to 1024 bytes"),
            ("base = 'x'\nurl = 'ldaps://a'\nattributes = []", 4, "attributes: is empty"),
            ("base = 'x'\nurl = 'ldaps://a'\nattributes = ['mail', 'MAIL']", 4, "\"MAIL\" is there twice"),
            ("base = 'x'\nurl = 'ldaps://a'\nmatch_name = ['a)(b']", 4, "is no name of an attribute"),
            ("base = 'x'\nurl = 'ldaps://a'\nmatch_name = []\nmatch_address = []", 4, "are both empty"),
            ("base = 'x'\nurl = 'ldaps://a'\ntimeout_seconds = 0", 4, "must be from 1 to 60"),
            ("base = 'x'\nurl = 'ldaps://a'\ncache_entries = 1000000", 4, "must be from 1 to 65536"),
        ] {
            let faults = read(text).unwrap_err();
            assert!(faults.contains(why), "{text}:\n{faults}");
            assert!(faults.contains(&format!("f:{line}: ")), "{text}:\n{faults}");
            assert!(!faults.contains(PASSWORD));
        }
        let two = format!("{GOOD}\npassword_credential = 'password'");
        assert!(read(&two).unwrap_err().contains("password_credential: stands beside password_file"));
        let all = read("url = 'http://a'\ntimeout_seconds = 99\ncolour = 1").unwrap_err();
        assert_eq!(all.lines().filter(|line| line.starts_with("f:")).count(), 4, "{all}");
    }

    #[test]
    fn a_directory_that_nothing_carries_is_warned_of() {
        assert_eq!(read(GOOD).unwrap().warnings, Vec::<String>::new());
        let text = "[directory]\nurl = 'ldap://127.0.0.1'\nbase = 'x'\n[[source]]\nname = 'a'\nbucket = 'bbb'\n\
             region = 'us-east-1'\n[source.credentials]\nmethod = 'ec2-role'\n[[output]]\nname = 'o'\nkind = 'stdout'\n";
        let config = parse(text, Path::new("f"), &|_| None).unwrap();
        assert!(
            config.warnings.iter().any(|text| text.contains("no output sends along")),
            "{:?}",
            config.warnings
        );
    }

    #[test]
    fn a_url_is_a_scheme_a_host_and_a_port_at_most() {
        for (text, tls, host, port) in [
            ("ldaps://dc1.corp.example.com", true, "dc1.corp.example.com", 636),
            ("LDAP://dc1/", false, "dc1", 389),
            ("ldaps://10.0.0.1:3269", true, "10.0.0.1", 3269),
            ("ldap://[2001:db8::5]", false, "2001:db8::5", 389),
            ("ldap://[::1]:1389", false, "::1", 1389),
        ] {
            assert_eq!(url(text), Ok(Url { tls, host: host.into(), port }), "{text}");
        }
        for (text, why) in [
            ("https://dc1", "must begin with ldaps://"),
            ("dc1.corp.example.com", "must begin with ldaps://"),
            ("ldaps://", "no host"),
            ("ldaps://dc1/dc=corp,dc=example", "base, attributes and bind_dn have keys"),
            ("ldaps://user@dc1", "base, attributes and bind_dn have keys"),
            ("ldaps://dc1:0", "no port from 1"),
            ("ldaps://2001:db8::5:636", "in brackets"),
        ] {
            assert!(url(text).unwrap_err().contains(why), "{text}: {:?}", url(text));
        }
    }
}
