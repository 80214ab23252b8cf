//! The service's two logins, and what servers say of themselves to the one in the system account.

use std::time::Duration;

use anyhow::anyhow;
use async_nats::{Client, ConnectOptions, Request};
use serde::Deserialize;

use crate::config::Config;
pub(super) use crate::daemon::Login;
use crate::servers::{Answer, Cluster, ClusterError, Named};

/// What servers say of themselves.
const VARZ: &str = "$SYS.REQ.SERVER.PING.VARZ";

/// How long a server has for a round trip.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a login may take; a busy server's takes a while.
const LOGIN: Duration = Duration::from_secs(5);

/// The options of one of the service's own logins.
pub(super) fn options(config: &Config, login: Login) -> anyhow::Result<ConnectOptions> {
    let options = login.options(config)?;
    Ok(options.name("nats-callout command").connection_timeout(LOGIN))
}

/// Logs in with one of the service's own logins.
pub(super) async fn connect(config: &Config, login: Login) -> anyhow::Result<Client> {
    let urls = config.nats.urls.as_slice();
    options(config, login)?
        .connect(urls)
        .await
        .map_err(|error| anyhow!(error).context(format!("cannot log in at {}", urls.join(", "))))
}

/// Waits until the server has taken what was sent before: a question that nobody answers.
pub(super) async fn round_trip(client: &Client) {
    let nowhere = client.new_inbox();
    let request = Request::new().timeout(Some(PATIENCE));
    drop(client.send_request(nowhere, request).await);
}

/// What a server says of itself.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Varz {
    pub(super) version: String,
    pub(super) now: String,
    #[serde(default)]
    pub(super) jetstream: JetStream,
    #[serde(default)]
    pub(super) cluster: ClusterName,
    #[serde(default)]
    pub(super) websocket: Websocket,
    #[serde(default, rename = "trusted_operators_jwt")]
    pub(super) operators: Vec<String>,
}

/// Its JetStream; without a configuration it has none.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct JetStream {
    pub(super) config: Option<Maxima>,
}

/// What all accounts together may be promised.
#[derive(Debug, Clone, Copy, Deserialize, PartialEq, Eq)]
pub(super) struct Maxima {
    #[serde(rename = "max_memory")]
    pub(super) memory: u64,
    #[serde(rename = "max_storage")]
    pub(super) storage: u64,
}

/// Its cluster; without a name it stands alone.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct ClusterName {
    #[serde(default)]
    pub(super) name: String,
}

/// Its WebSocket; without a port it has none.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Websocket {
    #[serde(default)]
    pub(super) port: i64,
    #[serde(default)]
    pub(super) jwt_cookie: String,
    #[serde(default)]
    pub(super) same_origin: bool,
    #[serde(default)]
    pub(super) allowed_origins: Vec<String>,
}

/// What all servers say of themselves, by name.
pub(super) async fn servers(cluster: &Cluster) -> Result<Vec<(Named, Varz)>, ClusterError> {
    let answers = cluster.ask_all::<Answer<Varz>>(VARZ, b"").await?;
    let answers = answers.by_server.into_values();
    let mut servers: Vec<(Named, Varz)> =
        answers.filter_map(|answer| Some((answer.server, answer.data?))).collect();
    servers.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    Ok(servers)
}

/// The same of whichever answers first: of a cluster, each says so.
pub(super) async fn any_server(cluster: &Cluster) -> Result<Option<Varz>, ClusterError> {
    let answers = cluster.gather(VARZ, b"", 1).await?;
    Ok(answers.first().and_then(|answer| Answer::parse(answer)?.data))
}

/// What JetStream has promised to an account.
#[derive(Debug, Clone, Copy, Default, Deserialize, PartialEq, Eq)]
pub(super) struct Promised {
    #[serde(rename = "reserved_memory", default)]
    pub(super) memory: u64,
    #[serde(rename = "reserved_storage", default)]
    pub(super) storage: u64,
}

/// What JetStream has promised to an account, by each server that runs it for the account.
pub(super) async fn promised(
    cluster: &Cluster,
    account: &str,
    most: usize,
) -> Result<Vec<(Named, Promised)>, ClusterError> {
    let subject = format!("$SYS.REQ.ACCOUNT.{account}.JSZ");
    let answers = cluster.gather(&subject, b"", most).await?;
    let answers = answers.iter().filter_map(|answer| Answer::<Promised>::parse(answer));
    Ok(answers.filter_map(|answer| Some((answer.server, answer.data?))).collect())
}
