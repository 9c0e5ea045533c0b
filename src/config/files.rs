//! Files that the configuration names: secrets, which nobody else may read, and certificates.
//! The text of a key that should name a secret is never repeated in a fault: it may be the secret itself,
//! written into the wrong place.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::Secret;
use super::table::{Read, Table, string};
use super::units::bytes_text;
use crate::limits;
use crate::net::{Identity, Trust};

/// Permission bits a secret may not have: anything for group and others. A file in the credentials folder of
/// the service manager may have group bits, because there they are the mask of an access control list.
const SECRET_MASK: u32 = 0o077;
const CREDENTIAL_MASK: u32 = 0o007;

/// Where the unit of the package takes its credentials from. Source: systemd.exec(5), LoadCredential=.
pub(crate) const CREDENTIALS: &str = "/etc/credstore";

/// Reads the secret in a file that is named by an absolute path.
pub(super) fn secret_file(path: &str, credentials_dir: Option<&str>) -> Read<Secret> {
    let path = Path::new(path);
    if !path.is_absolute() {
        return Err(
            "must be the absolute path of a file that holds the secret, not the secret itself".to_owned()
        );
    }
    secret(path, mask_of(path, credentials_dir))
}

fn mask_of(path: &Path, credentials_dir: Option<&str>) -> u32 {
    let passed = credentials_dir.filter(|dir| !dir.is_empty()).is_some_and(|dir| path.starts_with(dir));
    if passed { CREDENTIAL_MASK } else { SECRET_MASK }
}

/// Reads a secret that the service manager passed (`LoadCredential=NAME:…`), or would pass: without
/// $CREDENTIALS_DIRECTORY it is looked for in [`CREDENTIALS`]. Source: systemd.exec(5), Credentials.
pub(super) fn secret_credential(name: &str, credentials_dir: Option<&str>) -> Read<Secret> {
    if name.is_empty() || name.contains(['/', '\0']) || name == "." || name == ".." {
        return Err("must be the name of a systemd credential, without slashes".to_owned());
    }
    match credentials_dir.filter(|dir| Path::new(dir).is_absolute()) {
        Some(dir) => secret(&Path::new(dir).join(name), CREDENTIAL_MASK)
            .map_err(|text| format!("the systemd credential {text}")),
        // Somebody runs a command by hand.
        None => secret(&Path::new(CREDENTIALS).join(name), SECRET_MASK).map_err(|text| {
            format!(
                "cannot be used: $CREDENTIALS_DIRECTORY is not set, and {CREDENTIALS}/{name} {text}; start the agent \
                 as a systemd service with LoadCredential=NAME:PATH, run this as root, or name a file instead"
            )
        }),
    }
}

/// The secret that one of two keys names, its file and its systemd credential. `None`: neither is written, or it has
/// faults, and they are noted.
pub(super) fn one_secret(
    table: &mut Table<'_>,
    [file, credential]: [&'static str; 2],
    credentials_dir: Option<&str>,
) -> Option<Secret> {
    let both = table.has(file) && table.has(credential);
    let from_file = table.get(file, |value| secret_file(string(value)?, credentials_dir));
    let from_manager = table.get(credential, |value| secret_credential(string(value)?, credentials_dir));
    if both {
        table.fault(credential, format!("stands beside {file}: write one of the two"));
        return None;
    }
    from_file.or(from_manager)
}

/// A file of PEM certificates, there and readable.
pub(super) fn ca_file(path: &str) -> Read<PathBuf> {
    let path = absolute(path)?;
    if fs::metadata(&path).is_ok_and(|meta| !meta.is_file()) {
        return Err("is not a file".to_owned());
    }
    let bytes = bounded(&path, limits::CA_FILE_BYTES).map_err(|error| format!("cannot be read: {error}"))?;
    let marker = b"-----BEGIN CERTIFICATE-----";
    match memchr::memmem::find(&bytes, marker) {
        Some(_) => Ok(path),
        None => {
            Err("holds no certificate: it must have PEM blocks that begin with -----BEGIN CERTIFICATE-----"
                .to_owned())
        }
    }
}

/// `ca_file`, `client_cert_file` and `client_key_file` of anything that speaks TLS. `None`: they have faults, and they
/// are noted.
pub(super) fn trust(table: &mut Table<'_>, credentials_dir: Option<&str>) -> Option<Trust> {
    let keys = ["ca_file", "client_cert_file", "client_key_file"];
    let written = keys.map(|key| table.has(key));
    let read = keys.map(|key| {
        table.get(key, |value| match (string(value)?, key) {
            ("", _) => Ok(None),
            (path, "client_key_file") => key_file(path, credentials_dir).map(Some),
            (path, _) => ca_file(path).map(Some),
        })
    });
    let sound = written.iter().zip(&read).all(|(written, read)| !written || read.is_some());
    let [ca_file, cert_file, key_file] = read.map(Option::flatten);
    let identity = match (cert_file, key_file) {
        (Some(cert_file), Some(key_file)) => Some(Identity { cert_file, key_file }),
        (Some(_), None) if sound => {
            table.missing("client_key_file", "the file with the key of client_cert_file");
            return None;
        }
        (None, Some(_)) if sound => {
            table.missing("client_cert_file", "the file with the certificate of client_key_file");
            return None;
        }
        _ => None,
    };
    sound.then_some(Trust { ca_file, identity })
}

/// A file with a private key in PEM that nobody else may read.
fn key_file(path: &str, credentials_dir: Option<&str>) -> Read<PathBuf> {
    let path = absolute(path)?;
    let bytes = private(&path, mask_of(&path, credentials_dir))?;
    let has = |marker: &str| memchr::memmem::find(&bytes, marker.as_bytes()).is_some();
    if has("-----BEGIN ENCRYPTED PRIVATE KEY-----") || has("Proc-Type: 4,ENCRYPTED") {
        return Err(
            "holds an encrypted key: write it without a passphrase (openssl pkey) into a file that only the \
                    agent can read"
                .to_owned(),
        );
    }
    match has("PRIVATE KEY-----") {
        true => Ok(path),
        false => {
            Err("holds no private key: it must have a PEM block such as -----BEGIN PRIVATE KEY-----"
                .to_owned())
        }
    }
}

/// An absolute path; a relative one would mean something else in a service than in a shell.
pub(super) fn absolute(path: &str) -> Read<PathBuf> {
    if path.contains('\0') {
        return Err("has a NUL character".to_owned());
    }
    match Path::new(path) {
        path if path.is_absolute() => Ok(path.to_owned()),
        _ => Err("must be an absolute path, beginning with /".to_owned()),
    }
}

/// Everything in a file, unless it is longer than `most` bytes. Wiped when dropped.
pub(crate) fn bounded(path: &Path, most: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let meta = fs::metadata(path)?;
    if meta.is_dir() {
        return Err(io::Error::other("it is a folder"));
    }
    if meta.len() > most {
        return Err(io::Error::other(format!("it is longer than {}", bytes_text(most))));
    }
    // Room for all that may come: growing would leave copies of a secret behind.
    let room = if meta.is_file() { meta.len() } else { most };
    let mut bytes = Zeroizing::new(Vec::with_capacity(room as usize + 1));
    File::open(path)?.take(room + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > room {
        true if meta.is_file() => Err(io::Error::other("it is being written: try again")),
        true => Err(io::Error::other(format!("it is longer than {}", bytes_text(most)))),
        false => Ok(bytes),
    }
}

/// What is wrong with a file of secrets that others may read, and the command that mends it. A file that cannot be
/// looked at is left to its reader.
pub(crate) fn readable_by_others(path: &Path) -> Option<String> {
    let meta = fs::metadata(path).ok().filter(|meta| meta.is_file())?;
    open_to(meta.permissions().mode(), SECRET_MASK, path)
}

fn open_to(mode: u32, forbidden: u32, path: &Path) -> Option<String> {
    let shown = super::fault::escaped(&path.to_string_lossy());
    (mode & forbidden != 0)
        .then(|| format!("may be read by others (mode {:04o}): chmod 600 '{shown}'", mode & 0o7777))
}

/// What is in a file of secrets, unless others may read it.
fn private(path: &Path, forbidden: u32) -> Read<Zeroizing<Vec<u8>>> {
    let meta = fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?;
    if !meta.is_file() {
        return Err("is not a file".to_owned());
    }
    if let Some(fault) = open_to(meta.permissions().mode(), forbidden, path) {
        return Err(fault);
    }
    bounded(path, limits::SECRET_BYTES).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("cannot be read: {error}; chown it to the user the agent runs as")
        }
        _ => format!("cannot be read: {error}"),
    })
}

fn secret(path: &Path, forbidden: u32) -> Read<Secret> {
    let bytes = private(path, forbidden)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| "is not text".to_owned())?;
    let text = text.trim_end_matches(['\n', '\r']);
    if text.is_empty() {
        return Err("is empty: it must hold the secret and nothing else".to_owned());
    }
    if !text.bytes().all(|c| c.is_ascii_graphic()) {
        return Err("must hold the secret and nothing else: one line without spaces".to_owned());
    }
    Ok(Secret::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_file(content: &[u8], mode: u32, test: impl FnOnce(&Path)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        test(&path);
    }

    #[test]
    fn a_secret_comes_without_its_newline() {
        for content in ["abc/+=", "abc/+=\n", "abc/+=\r\n"] {
            with_file(content.as_bytes(), 0o600, |path| {
                let secret = secret_file(path.to_str().unwrap(), None).unwrap();
                assert_eq!(secret.reveal(), "abc/+=");
            });
        }
    }

    #[test]
    fn a_secret_that_others_may_read_is_refused_with_the_cure() {
        for mode in [0o640, 0o604, 0o644, 0o660, 0o601] {
            with_file(b"abc", mode, |path| {
                let text = secret_file(path.to_str().unwrap(), None).unwrap_err();
                assert!(text.contains(&format!("chmod 600 '{}'", path.display())), "{text}");
            });
        }
    }

    #[test]
    fn a_passed_credential_may_have_group_bits() {
        with_file(b"abc", 0o440, |path| {
            let dir = path.parent().unwrap().to_str();
            assert!(secret_file(path.to_str().unwrap(), None).is_err());
            assert!(secret_file(path.to_str().unwrap(), dir).is_ok());
            assert_eq!(secret_credential("secret", dir).unwrap().reveal(), "abc");
            for wrong in ["", "..", "a/b", "none"] {
                assert!(secret_credential(wrong, dir).is_err(), "{wrong}");
            }
            assert!(secret_credential("secret", None).unwrap_err().contains("LoadCredential"));
        });
    }

    #[test]
    fn what_is_no_secret_is_refused_and_not_repeated() {
        let long = vec![b'x'; 20_000];
        for content in [b"".as_slice(), b"\n", b"key\nsecret\n", b"two words", b"\xff\xfe", &long] {
            with_file(content, 0o600, |path| {
                assert!(secret_file(path.to_str().unwrap(), None).is_err());
            });
        }
        for pasted in ["wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "/JalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"]
        {
            let text = secret_file(pasted, None).unwrap_err();
            assert!(!text.contains("JalrXUtnFEMI"), "{text}");
        }
    }

    #[test]
    fn devices_and_folders_are_no_secrets() {
        for path in ["/dev/zero", "/tmp", "/proc/self"] {
            assert!(secret_file(path, None).is_err(), "{path}");
        }
    }
}
