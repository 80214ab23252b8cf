//! Where the servers are, and what is needed to connect to as many as there will be.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow, bail};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::super::Usage;
use super::args::Kind;
use super::login::{Endpoint, Protocol};
use crate::config::{NatsTls, bare_address};
use crate::intake::client_config;

/// Descriptors beside those of the connections.
const OTHER_FILES: u64 = 64;

/// Resolves the names of all servers.
pub(super) async fn endpoints(urls: &[String], tls: &NatsTls) -> anyhow::Result<Vec<Endpoint>> {
    let mut connector = None;
    let mut endpoints = Vec::new();
    for url in urls {
        if let Err(problem) = bare_address(url) {
            bail!(Usage(format!("--url: {problem}; name a server with --url nats://HOST:PORT")));
        }
        let known = url.split_once("://").and_then(|(scheme, host)| {
            let (protocol, is_encrypted, port) = speaks(scheme)?;
            Some((protocol, is_encrypted, port, host))
        });
        let Some((protocol, is_encrypted, port, host)) = known else {
            bail!(Usage(format!(
                "{url}: bench speaks with nats://, tls://, ws://, wss://, mqtt:// and mqtts://; \
                 name a server with --url nats://HOST:PORT"
            )));
        };
        let host = host.trim_end_matches('/');
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let host = if has_port { host.to_owned() } else { format!("{host}:{port}") };
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
        endpoints.push(Endpoint { address, protocol, tls });
    }
    if endpoints.is_empty() {
        return Err(anyhow!("there is no server to measure"));
    }
    Ok(endpoints)
}

/// What a scheme stands for: the protocol, whether in TLS, and the port.
fn speaks(scheme: &str) -> Option<(Protocol, bool, u16)> {
    Some(match scheme {
        "nats" => (Protocol::Nats, false, 4222),
        "tls" => (Protocol::Nats, true, 4222),
        "ws" => (Protocol::WebSocket, false, 80),
        "wss" => (Protocol::WebSocket, true, 443),
        "mqtt" => (Protocol::Mqtt, false, 1883),
        "mqtts" => (Protocol::Mqtt, true, 8883),
        _ => return None,
    })
}

/// Whether such credentials go over what the servers are spoken with by.
pub(super) fn suit(endpoints: &[Endpoint], kind: Kind, of_file: bool) -> Result<(), Usage> {
    let any = |protocol| endpoints.iter().any(|endpoint| endpoint.protocol == protocol);
    if kind == Kind::Nkey && any(Protocol::Mqtt) {
        return Err(Usage("MQTT has no nkeys: choose another --kind".to_owned()));
    }
    if of_file && matches!(kind, Kind::Token | Kind::Jwt) && any(Protocol::Mqtt) {
        let how = "MQTT carries a token as the password of its user: write lines of USER:TOKEN, with \
                   --kind password";
        return Err(Usage(how.to_owned()));
    }
    if kind == Kind::Certificate && endpoints.iter().any(|endpoint| endpoint.tls.is_none()) {
        let how = "certificates are shown in TLS: name the server with --url tls://HOST:PORT";
        return Err(Usage(how.to_owned()));
    }
    Ok(())
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
