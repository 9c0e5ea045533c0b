//! Whom to trust: the system's CA certificates and those of one file; and what to show when a server asks who is
//! there ([`Identity`]). The crypto provider is named, never
//! taken from a process-wide default. What is trusted is webpki's decision alone; [`Verifier`] adds the name of
//! an issuer that it does not know to the fault.

use std::error::Error as StdError;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, OtherError, RootCertStore,
    SignatureScheme, WantsVerifier,
};

use super::issuer::issuer;
use crate::config::bounded;
use crate::limits;

/// Sessions kept for resumption: a few endpoints, some connections each.
const SESSIONS: usize = 16;

/// A client's certificate and its key, for servers that want one (mutual TLS).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// PEM: the certificate, then those that it is signed by, if the server may not know them.
    pub cert_file: PathBuf,
    /// PEM: the key, not encrypted.
    pub key_file: PathBuf,
}

/// What the configuration says of TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Trust {
    /// PEM certificates trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// What is shown to a server that asks.
    pub identity: Option<Identity>,
}

/// A configuration, and why it trusts nobody if so: that only matters when TLS is used.
///
/// # Errors
/// A text with the file's path: one that cannot be read, holds nothing of use, or a key that is not the certificate's.
pub(super) fn config(
    ca_file: Option<&Path>,
    identity: Option<&Identity>,
) -> io::Result<(ClientConfig, Option<Box<str>>)> {
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
    if no_trust.is_some() {
        return Ok((trusting_nobody(), no_trust));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(io::Error::other)?;
    let builder = builder().dangerous().with_custom_certificate_verifier(Arc::new(Verifier(webpki)));
    Ok((finished(builder, identity)?, None))
}

/// For a client that never uses TLS.
pub(super) fn trusting_nobody() -> ClientConfig {
    with_sessions(builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth())
}

fn builder() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(rustls::DEFAULT_VERSIONS)
        .expect("ring has the default versions")
}

fn finished(
    builder: ConfigBuilder<ClientConfig, WantsClientCert>,
    identity: Option<&Identity>,
) -> io::Result<ClientConfig> {
    let Some(identity) = identity else { return Ok(with_sessions(builder.with_no_client_auth())) };
    let (chain, key) = load(identity)?;
    let config = builder.with_client_auth_cert(chain, key).map_err(|error| {
        let Identity { cert_file, key_file } = identity;
        let why = match error {
            Error::InconsistentKeys(_) => "they do not belong together".to_owned(),
            error => error.to_string(),
        };
        io::Error::other(format!(
            "the client certificate {} and its key {}: {why}",
            cert_file.display(),
            key_file.display()
        ))
    })?;
    Ok(with_sessions(config))
}

/// The certificates and the key of an identity.
fn load(identity: &Identity) -> io::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let Identity { cert_file, key_file } = identity;
    let fault = |what: &str, path: &Path, why: &dyn fmt::Display| {
        io::Error::other(format!("the client {what} {}: {why}", path.display()))
    };
    let certificates =
        bounded(cert_file, limits::CA_FILE_BYTES).map_err(|error| fault("certificate", cert_file, &error))?;
    let chain = CertificateDer::pem_slice_iter(&certificates)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| fault("certificate", cert_file, &error))?;
    let key = bounded(key_file, limits::SECRET_BYTES).map_err(|error| fault("key", key_file, &error))?;
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| fault("key", key_file, &error))?;
    match chain.is_empty() {
        true => Err(fault("certificate", cert_file, &"there is no certificate in it")),
        false => Ok((chain, key)),
    }
}

fn with_sessions(mut config: ClientConfig) -> ClientConfig {
    config.resumption = Resumption::in_memory_sessions(SESSIONS);
    config
}

/// webpki's verifier.
#[derive(Debug)]
struct Verifier(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        verdict.map_err(|error| match error {
            Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                let unknown = UnknownIssuer { name: issuer(end_entity) };
                Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(unknown))))
            }
            error => error,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// A certificate is signed by nobody that is trusted.
#[derive(Debug)]
pub(super) struct UnknownIssuer {
    /// By whom it says that it is signed.
    pub(super) name: Option<String>,
}

impl fmt::Display for UnknownIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(f, "its issuer is {name}"),
            None => f.write_str("its issuer has no name"),
        }
    }
}

impl StdError for UnknownIssuer {}

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
        let error = config(Some(file.path()), None).unwrap_err().to_string();
        assert!(
            error.contains(&*file.path().to_string_lossy()) && error.contains("no certificate"),
            "{error}"
        );
    }

    #[test]
    fn a_ca_file_that_is_not_there_is_said_with_its_path() {
        let error = config(Some(Path::new("/nowhere/ca.pem")), None).unwrap_err().to_string();
        assert!(error.contains("/nowhere/ca.pem"), "{error}");
    }

    #[test]
    fn a_client_certificate_needs_its_own_key_and_faults_name_the_file() {
        let file = crate::net::scripted::tls_file;
        let identity = |cert: &str, key: &str| Identity { cert_file: file(cert), key_file: file(key) };
        let ca = file("ca.pem");
        let config =
            |identity| config(Some(&ca), Some(&identity)).map(drop).map_err(|error| error.to_string());
        assert_eq!(config(identity("server.pem", "server.key")), Ok(()));
        for (cert, key, named, why) in [
            ("ca.pem", "server.key", "ca.pem", "do not belong together"),
            ("server.key", "server.key", "server.key", "no certificate"),
            ("server.pem", "ca.pem", "ca.pem", "client key"),
            ("nowhere.pem", "server.key", "nowhere.pem", "client certificate"),
        ] {
            let text = config(identity(cert, key)).unwrap_err();
            assert!(text.contains(named) && text.contains(why), "{text}");
        }
    }
}
