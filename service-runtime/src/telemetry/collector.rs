//! Reaching the collector.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use opentelemetry_http::hyper::HyperClient;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};

/// Follows no redirects and knows no proxies.
pub(super) type CollectorClient = HyperClient<HttpsConnector<HttpConnector>>;

/// With `https` it trusts the authorities of `ca_file`, or else the system's.
pub(super) fn client(
    endpoint: &str,
    ca_file: Option<&Path>,
    deadline: Duration,
) -> anyhow::Result<CollectorClient> {
    let authorities = match ca_file {
        _ if !endpoint.starts_with("https://") => RootCertStore::empty(),
        Some(file) => of_file(file).with_context(|| format!("reading {}", file.display()))?,
        None => of_system()?,
    };
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(authorities)
        .with_no_client_auth();
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls)
        .https_or_http()
        .enable_http1()
        .build();
    Ok(HyperClient::new(connector, deadline, None))
}

fn of_file(file: &Path) -> anyhow::Result<RootCertStore> {
    let mut authorities = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file)? {
        authorities.add(certificate?)?;
    }
    ensure!(!authorities.is_empty(), "it holds no certificate");
    Ok(authorities)
}

fn of_system() -> anyhow::Result<RootCertStore> {
    let mut authorities = RootCertStore::empty();
    authorities.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    ensure!(
        !authorities.is_empty(),
        "this system has no certificates of authorities: name a file with OTEL_EXPORTER_OTLP_CERTIFICATE"
    );
    Ok(authorities)
}
