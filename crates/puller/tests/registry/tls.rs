//! TLS with certificates made on the spot (catalogue RG-05, 2d).

use std::path::Path;
use std::sync::Arc;

use puller::{Error, Settings};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::fixture::*;
use crate::mock::Server;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for names, changed by `change`, and its key.
fn certificate(
    ca: &Authority,
    names: &[&str],
    change: impl FnOnce(&mut CertificateParams),
) -> (rcgen::Certificate, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params =
        CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
    change(&mut params);
    (params.signed_by(&key, ca).unwrap(), key)
}

fn server_config(
    certificate: &(rcgen::Certificate, KeyPair),
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Arc<rustls::ServerConfig> {
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certificate.1.serialize_der()));
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.0.der().clone()], key)
            .unwrap();
    Arc::new(config)
}

const VERSIONS: &[&rustls::SupportedProtocolVersion] = &[&rustls::version::TLS12, &rustls::version::TLS13];

fn serve(config: Arc<rustls::ServerConfig>) -> (Image, Server) {
    let image = Image::new(&[b"one", &noise(300_000)]);
    let site = image.site();
    (image, Server::start_at("127.0.0.1:0", Some(config), move |r, c| site.serve(r, c)))
}

/// A `certs.d` with this authority for this host.
fn trusting(dir: &Path, host: &str, ca: &Authority) -> Settings {
    let of_host = dir.join(host);
    std::fs::create_dir_all(&of_host).unwrap();
    std::fs::write(of_host.join("ca.crt"), ca.pem()).unwrap();
    Settings { certs: vec![dir.join("none"), dir.to_owned()], ..Settings::default() }
}

fn name(server: &Server) -> String {
    format!("{}/{REPO}:v1", server.host())
}

#[test]
fn a_ca_from_certs_d_is_trusted_for_its_host_alone() {
    let ca = authority("throw-away");
    let dir = tempfile::tempdir().unwrap();
    for version in VERSIONS {
        let (image, server) = serve(server_config(&certificate(&ca, &["127.0.0.1"], |_| {}), &[version]));
        let mut request = request(&name(&server));
        request.settings = trusting(dir.path(), &server.host(), &ca);
        run(&request).good(&image);

        request.settings = trusting(&dir.path().join("x"), "other.example:5000", &ca);
        let outcome = run(&request);
        assert!(matches!(outcome.bad(&["TLS", "unknown authority", "certs.d"]), Error::Tls { .. }));

        request.cert_dir = Some(dir.path().join(server.host()));
        run(&request).good(&image);
    }
}

#[test]
fn certificates_that_do_not_verify_are_refused_and_plain_http_is_not_tried() {
    let ca = authority("throw-away");
    let past = |p: &mut CertificateParams| p.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let future = |p: &mut CertificateParams| p.not_before = rcgen::date_time_ymd(2090, 1, 1);
    let dir = tempfile::tempdir().unwrap();
    for (cert, word) in [
        (certificate(&ca, &["127.0.0.1"], past), "expired"),
        (certificate(&ca, &["127.0.0.1"], future), "not valid yet"),
        (certificate(&ca, &["127.0.0.9", "registry.example"], |_| {}), "not valid for"),
        (certificate(&authority("another"), &["127.0.0.1"], |_| {}), "unknown authority"),
    ] {
        let (image, server) = serve(server_config(&cert, VERSIONS));
        let mut request = request(&name(&server));
        request.settings = trusting(dir.path(), &server.host(), &ca);
        let outcome = run(&request);
        assert!(matches!(outcome.bad(&["TLS", word]), Error::Tls { .. }));
        assert_eq!(server.requests().len(), 0);
        assert_eq!(outcome.retries(), 0);
        // Only by the user's word.
        request.tls_verify = Some(false);
        run(&request).good(&image);
    }
}

#[test]
fn a_name_that_resolves_to_loopback_is_never_plain() {
    // The only such name that every host has is its own, in /etc/hosts; without one there is nothing to try.
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    let own = hosts
        .lines()
        .filter(|l| l.starts_with("127."))
        .flat_map(|l| l.split_whitespace().skip(1))
        .find(|n| *n != "localhost" && !n.starts_with('#') && (n.contains('.') || n.contains('-')));
    let image = Image::new(&[b"one"]);
    let site = image.site();
    let server = Server::start(move |r, c| site.serve(r, c));
    let port = server.address.port();
    // `localhost` itself is a literal, and means loopback whatever the DNS says.
    run(&request(&format!("localhost:{port}/{REPO}:v1"))).good(&image);
    let seen = server.requests().len();
    if let Some(own) = own {
        run(&request(&format!("{own}:{port}/{REPO}:v1"))).bad(&["TLS", "speaks no TLS"]);
    }
    assert_eq!(server.requests().len(), seen);
}

#[test]
fn a_client_certificate_is_shown_to_its_host() {
    let ca = authority("throw-away");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
            .build()
            .unwrap();
    let own = certificate(&ca, &["127.0.0.1"], |_| {});
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.1.serialize_der()));
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![own.0.der().clone()], key)
        .unwrap();
    let (image, server) = serve(Arc::new(config));
    let dir = tempfile::tempdir().unwrap();
    let mut request = request(&name(&server));
    request.settings = trusting(dir.path(), &server.host(), &ca);
    run(&request).bad(&["reach 127.0.0.1"]);

    let client = certificate(&ca, &["client"], |_| {});
    let of_host = dir.path().join(server.host());
    std::fs::write(of_host.join("client.key"), client.1.serialize_pem()).unwrap();
    run(&request).bad(&["client.key", "no .cert file"]);
    std::fs::write(of_host.join("client.cert"), client.0.pem()).unwrap();
    run(&request).good(&image);
    std::fs::write(of_host.join("ca.crt"), "not PEM").unwrap();
    let outcome = run(&request);
    assert!(matches!(outcome.bad(&["ca.crt", "no PEM certificate"]), Error::Settings { .. }));
}

#[test]
fn a_redirect_from_https_to_plain_http_is_refused() {
    let ca = authority("throw-away");
    let image = Image::new(&[b"one"]);
    let site = image.site();
    let plain = {
        let site = site.clone();
        Server::start(move |r, c| site.serve(r, c))
    };
    let host = plain.host();
    let config = server_config(&certificate(&ca, &["127.0.0.1"], |_| {}), VERSIONS);
    let server = Server::start_at("127.0.0.1:0", Some(config), move |r, c| match r.is_blob() {
        true => c.reply(307, &[("Location", &format!("http://{host}{}", r.path))], ""),
        false => site.serve(r, c),
    });
    let dir = tempfile::tempdir().unwrap();
    let mut request = request(&name(&server));
    request.settings = trusting(dir.path(), &server.host(), &ca);
    run(&request).bad(&["from https to plain http"]);
    assert_eq!(plain.requests().len(), 0);
    request.tls_verify = Some(false);
    run(&request).good(&image);
}

#[test]
fn an_old_tls_is_refused() {
    // A ServerHello of TLS 1.0, by hand: rustls has no such version to serve.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            use std::io::{Read, Write};
            let mut hello = [0; 4096];
            let _ = stream.read(&mut hello);
            let mut answer = vec![22, 3, 1, 0, 42, 2, 0, 0, 38, 3, 1];
            answer.extend([7; 32]);
            answer.extend([0, 0, 0x2f, 0]);
            let _ = stream.write_all(&answer);
            let _ = stream.read(&mut hello);
        }
    });
    let mut request = request(&format!("{host}/{REPO}:v1"));
    request.tls_verify = Some(true);
    run(&request).bad(&["TLS"]);
}
