//! TLS settings per registry: the system's roots, `certs.d` directories, client certificates, and the one way
//! to switch verification off.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme, WantsVerifier,
};

use crate::{Error, Request};

/// Makes and keeps the TLS settings of each host.
pub(crate) struct Tls {
    cert_dir: Option<PathBuf>,
    certs: Vec<PathBuf>,
    provider: Arc<CryptoProvider>,
    system: OnceLock<RootCertStore>,
    made: Mutex<HashMap<(String, bool), ClientConfig>>,
}

impl Tls {
    pub(crate) fn new(request: &Request) -> Self {
        Self {
            cert_dir: request.cert_dir.clone(),
            certs: request.settings.certs.clone(),
            provider: Arc::new(rustls::crypto::ring::default_provider()),
            system: OnceLock::new(),
            made: Mutex::default(),
        }
    }

    /// Settings for `host` (with its port if that is not 443), session cache and all.
    pub(crate) fn config(&self, host: &str, verify: bool) -> Result<ClientConfig, Error> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (host.to_owned(), verify);
        if let Some(config) = made.get(&key) {
            return Ok(config.clone());
        }
        let config = self.make(host, verify)?;
        made.insert(key, config.clone());
        Ok(config)
    }

    /// Settings for a client that will speak plain http alone; trusts nobody.
    pub(crate) fn unused(&self) -> ClientConfig {
        self.builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth()
    }

    fn builder(&self) -> ConfigBuilder<ClientConfig, WantsVerifier> {
        ClientConfig::builder_with_provider(self.provider.clone())
            .with_safe_default_protocol_versions()
            .expect("ring has TLS 1.2 and 1.3")
    }

    fn make(&self, host: &str, verify: bool) -> Result<ClientConfig, Error> {
        let files = match self.directory(host) {
            Some(dir) => CertFiles::read(&dir)?,
            None => CertFiles::default(),
        };
        let builder = if verify {
            let mut roots = self.system.get_or_init(system_roots).clone();
            for (path, ca) in files.authorities {
                roots.add(ca).map_err(|e| Error::Settings { path, reason: e.to_string() })?;
            }
            self.builder().with_root_certificates(roots)
        } else {
            let verifier = Arc::new(Unverified(self.provider.clone()));
            self.builder().dangerous().with_custom_certificate_verifier(verifier)
        };
        match files.client {
            None => Ok(builder.with_no_client_auth()),
            Some((path, chain, key)) => builder
                .with_client_auth_cert(chain, key)
                .map_err(|e| Error::Settings { path, reason: e.to_string() }),
        }
    }

    /// `--cert-dir`, or `certs.d/HOST[:PORT]`.
    fn directory(&self, host: &str) -> Option<PathBuf> {
        let names = match host {
            "registry-1.docker.io" => &["docker.io", "registry-1.docker.io"][..],
            host => &[host],
        };
        let in_certs = || {
            self.certs
                .iter()
                .flat_map(|dir| names.iter().map(move |name| dir.join(name)))
                .find(|d| d.is_dir())
        };
        self.cert_dir.clone().or_else(in_certs)
    }
}

/// The roots of `$SSL_CERT_FILE`, `$SSL_CERT_DIR` or the system. Unreadable ones are skipped, as OpenSSL does;
/// with none at all every certificate is refused as from an unknown issuer.
fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// What containers-certs.d(5) has in a directory.
#[derive(Default)]
struct CertFiles {
    authorities: Vec<(PathBuf, CertificateDer<'static>)>,
    client: Option<(PathBuf, Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
}

impl CertFiles {
    fn read(dir: &Path) -> Result<Self, Error> {
        let fail = |path: &Path, reason: String| Error::Settings { path: path.to_owned(), reason };
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(|e| fail(dir, e.to_string()))? {
            paths.push(entry.map_err(|e| fail(dir, e.to_string()))?.path());
        }
        paths.sort();
        let mut files = Self::default();
        for path in paths {
            // A PEM error never quotes the file.
            let chain = |path: &Path| -> Result<Vec<CertificateDer<'static>>, Error> {
                let certs: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
                    .and_then(Iterator::collect::<Result<Vec<_>, _>>)
                    .map(Ok)
                    .unwrap_or_else(Err);
                match certs {
                    Ok(certs) if certs.is_empty() => Err(fail(path, "it holds no PEM certificate".into())),
                    Ok(certs) => Ok(certs),
                    Err(e) => Err(fail(path, e.to_string())),
                }
            };
            match path.extension().and_then(|e| e.to_str()) {
                Some("crt") => files.authorities.extend(chain(&path)?.into_iter().map(|c| (path.clone(), c))),
                Some("cert") => {
                    let key = path.with_extension("key");
                    let secret = PrivateKeyDer::from_pem_file(&key).map_err(|e| fail(&key, e.to_string()))?;
                    files.client = Some((path.clone(), chain(&path)?, secret));
                }
                Some("key") if !path.with_extension("cert").exists() => {
                    return Err(fail(
                        &path,
                        "there is no .cert file for this key; CA certificates are named .crt".into(),
                    ));
                }
                _ => {}
            }
        }
        Ok(files)
    }
}

/// Takes any certificate, for registries that the user declared insecure. Signatures are still checked, so that
/// the peer at least has the key of what it shows.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
