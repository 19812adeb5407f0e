//! Whom a connection trusts, and who it says that we are.
//!
//! The certificates that this machine trusts, so that a private registry's
//! authority needs to be made known in one place only, and those that
//! [`TlsSettings`] add for one registry.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::error::{Error, TransportError};
use crate::hosts::TlsSettings;

/// A TLS configuration, and whether it trusts anybody at all. A machine
/// without any authority can still reach loopback registries.
pub(crate) fn configure(settings: &TlsSettings) -> Result<(ClientConfig, bool), Error> {
    let mut roots = machine_roots().clone();
    for file in &settings.ca {
        for certificate in certificates(file)? {
            roots
                .add(certificate)
                .map_err(|err| unusable(file, &err.to_string()))?;
        }
    }
    let has_roots = !roots.is_empty() || settings.skip_verify;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|err| Error::Setup(TransportError::new(&err)))?;
    let builder = if settings.skip_verify {
        builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAny(provider)))
    } else {
        builder.with_root_certificates(roots)
    };
    // A server asks for one certificate; the first that is configured is shown.
    let mut tls = match settings.client.first() {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
            .map_err(|err| unusable(certificate, &err.to_string()))?,
    };
    // Our own configuration replaces the HTTP client's, this offer included.
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((tls, has_roots))
}

/// Read once: it is a file of a hundred and fifty certificates.
fn machine_roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots
    })
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(file)
        .map_err(|err| unusable(file, &err.to_string()))?
        .collect();
    let all = all.map_err(|err| unusable(file, &err.to_string()))?;
    if all.is_empty() {
        return Err(unusable(file, "it holds no certificate in PEM form"));
    }
    Ok(all)
}

fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_file(file).map_err(|err| unusable(file, &err.to_string()))
}

fn unusable(file: &Path, what: &str) -> Error {
    Error::Hosts {
        file: file.to_path_buf(),
        what: what.to_owned(),
    }
}

/// Accepts every certificate; only a `skip_verify` in a file makes it so.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
