//! Where the servers are, and what is needed to connect to as many as there will be.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow, bail};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::super::Usage;
use super::login::Endpoint;
use crate::config::NatsTls;
use crate::intake::client_config;

/// Descriptors beside those of the connections.
const OTHER_FILES: u64 = 64;

/// Resolves the names of all servers.
pub(super) async fn endpoints(urls: &[String], tls: &NatsTls) -> anyhow::Result<Vec<Endpoint>> {
    let mut connector = None;
    let mut endpoints = Vec::new();
    for url in urls {
        let (is_encrypted, host) = match url.split_once("://") {
            Some(("nats", host)) => (false, host),
            Some(("tls", host)) => (true, host),
            _ => bail!(Usage(format!(
                "{url}: bench speaks TCP and TLS; name one with --url nats://HOST:PORT or \
                 tls://HOST:PORT"
            ))),
        };
        let host = host.trim_end_matches('/');
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let host = if has_port { host.to_owned() } else { format!("{host}:4222") };
        let mut found = tokio::net::lookup_host(&host)
            .await
            .with_context(|| format!("cannot find the host of {url}"))?;
        let address = found.next().with_context(|| format!("{url} has no address"))?;
        let tls = if is_encrypted {
            let name = host.rsplit_once(':').map_or(host.as_str(), |(name, _)| name);
            let name = ServerName::try_from(name.trim_matches(['[', ']']).to_owned())
                .with_context(|| format!("{url} names no host that a certificate could name"))?;
            let connector = match &connector {
                Some(known) => TlsConnector::clone(known),
                None => connector.insert(encrypted(tls).await?).clone(),
            };
            Some((connector, name))
        } else {
            None
        };
        endpoints.push(Endpoint { address, tls });
    }
    if endpoints.is_empty() {
        return Err(anyhow!("there is no server to measure"));
    }
    Ok(endpoints)
}

async fn encrypted(tls: &NatsTls) -> anyhow::Result<TlsConnector> {
    let (ca, identity): (Option<PathBuf>, _) = (tls.ca.clone(), tls.identity.clone());
    let config = tokio::task::spawn_blocking(move || client_config(ca, identity)).await?;
    Ok(TlsConnector::from(std::sync::Arc::new(config.context("cannot speak TLS")?)))
}

/// Raises the limit on open files as far as it is needed: for so many connections, or for as many
/// as there can be.
pub(super) fn allow_files(connections: Option<u64>) -> anyhow::Result<()> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    let limit = getrlimit(Resource::Nofile);
    let Some(needed) = connections.map(|connections| connections + OTHER_FILES) else {
        // What cannot be raised is found out.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
        return Ok(());
    };
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    if limit.maximum.is_some_and(|maximum| maximum < needed) {
        bail!(Usage(format!(
            "this needs {needed} open files, and this process may have {}; raise it with \
             `ulimit -n {needed}` (as root), or use fewer connections",
            limit.maximum.unwrap_or_default()
        )));
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(needed), ..limit })
        .with_context(|| format!("cannot allow {needed} open files; run `ulimit -n {needed}`"))
}
