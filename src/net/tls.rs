//! Whom to trust: the system's CA certificates and those of one file. The crypto provider is named, never
//! taken from a process-wide default.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Sessions kept for resumption: a few endpoints, some connections each.
const SESSIONS: usize = 16;

/// A configuration, and why it trusts nobody if so: that only matters when TLS is used.
pub(super) fn config(ca_file: Option<&Path>) -> io::Result<(ClientConfig, Option<Box<str>>)> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    if let Some(path) = ca_file {
        add_file(&mut roots, path)?;
    }
    let no_trust = roots.is_empty().then(|| match system.errors.first() {
        Some(error) => error.to_string().into(),
        None => "none were found".into(),
    });
    Ok((trusting(roots), no_trust))
}

/// For a client that never uses TLS.
pub(super) fn trusting_nobody() -> ClientConfig {
    trusting(RootCertStore::empty())
}

fn trusting(roots: RootCertStore) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)
        .expect("ring has the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    config
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> io::Result<()> {
    let fault = |why: String| io::Error::other(format!("the CA file {}: {why}", path.display()));
    let mut found = 0;
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| fault(error.to_string()))? {
        let certificate = certificate.map_err(|error| fault(error.to_string()))?;
        found += 1;
        roots.add(certificate).map_err(|error| fault(format!("its certificate {found}: {error}")))?;
    }
    if found == 0 {
        return Err(fault("there is no certificate in it (PEM, `-----BEGIN CERTIFICATE-----`)".into()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_without_a_certificate_is_said_with_its_path() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "not a certificate\n").unwrap();
        let error = config(Some(file.path())).unwrap_err().to_string();
        assert!(
            error.contains(&*file.path().to_string_lossy()) && error.contains("no certificate"),
            "{error}"
        );
    }

    #[test]
    fn a_ca_file_that_is_not_there_is_said_with_its_path() {
        let error = config(Some(Path::new("/nowhere/ca.pem"))).unwrap_err().to_string();
        assert!(error.contains("/nowhere/ca.pem"), "{error}");
    }
}
