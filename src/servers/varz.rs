//! What servers say of themselves, and of JetStream, to the system account.

use std::time::Duration;

use serde::Deserialize;

use super::{Cluster, ClusterError, ServerAnswer, ServerName};

/// What servers say of themselves.
const VARZ: &str = "$SYS.REQ.SERVER.PING.VARZ";

/// What a server says of itself.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Varz {
    pub(crate) version: String,
    pub(crate) now: String,
    /// For how long a client may take to log in, in seconds.
    #[serde(default)]
    auth_timeout: f64,
    /// How many bytes of a CONNECT it reads.
    #[serde(default)]
    pub(crate) max_control_line: usize,
    #[serde(default)]
    pub(crate) jetstream: JetStream,
    #[serde(default)]
    pub(crate) cluster: ClusterName,
    #[serde(default)]
    pub(crate) websocket: Websocket,
    #[serde(default)]
    pub(crate) mqtt: Mqtt,
    #[serde(default, rename = "trusted_operators_jwt")]
    pub(crate) operators: Vec<String>,
}

impl Varz {
    /// For how long a client may take to log in (`authorization.timeout`), if the server says so.
    pub(crate) fn auth_timeout(&self) -> Option<Duration> {
        let timeout = Duration::try_from_secs_f64(self.auth_timeout).ok()?;
        (!timeout.is_zero()).then_some(timeout)
    }
}

/// Where it listens for MQTT; 0 is nowhere.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Mqtt {
    #[serde(default)]
    pub(crate) port: u16,
}

/// Its JetStream; without a configuration it has none.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct JetStream {
    pub(crate) config: Option<Maxima>,
}

/// What all accounts together may be promised.
#[derive(Debug, Clone, Copy, Deserialize, PartialEq, Eq)]
pub(crate) struct Maxima {
    #[serde(rename = "max_memory")]
    pub(crate) memory: u64,
    #[serde(rename = "max_storage")]
    pub(crate) storage: u64,
}

/// Its cluster; without a name it stands alone.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct ClusterName {
    #[serde(default)]
    pub(crate) name: String,
}

/// Its WebSocket; without a port it has none.
#[derive(Debug, Clone, Default, Deserialize)]
pub(crate) struct Websocket {
    #[serde(default)]
    pub(crate) port: i64,
    #[serde(default)]
    pub(crate) jwt_cookie: String,
    #[serde(default)]
    pub(crate) same_origin: bool,
    #[serde(default)]
    pub(crate) allowed_origins: Vec<String>,
}

/// What all servers say of themselves, by name.
pub(crate) async fn servers(cluster: &Cluster) -> Result<Vec<(ServerName, Varz)>, ClusterError> {
    let answers = cluster.ask_all::<ServerAnswer<Varz>>(VARZ, b"").await?;
    let answers = answers.by_server.into_values();
    let mut servers: Vec<(ServerName, Varz)> =
        answers.filter_map(|answer| Some((answer.server, answer.data?))).collect();
    servers.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    Ok(servers)
}

/// The same of whichever answers first: of a cluster, each says so.
pub(crate) async fn any_server(cluster: &Cluster) -> Result<Option<Varz>, ClusterError> {
    let answers = cluster.gather(VARZ, b"", 1).await?;
    Ok(answers.first().and_then(|answer| ServerAnswer::parse(answer)?.data))
}

/// What JetStream has promised to an account.
#[derive(Debug, Clone, Copy, Default, Deserialize, PartialEq, Eq)]
pub(crate) struct Promised {
    #[serde(rename = "reserved_memory", default)]
    pub(crate) memory: u64,
    #[serde(rename = "reserved_storage", default)]
    pub(crate) storage: u64,
}

/// What JetStream has promised to an account, by each server that runs it for the account.
pub(crate) async fn promised(
    cluster: &Cluster,
    account: &str,
    most: usize,
) -> Result<Vec<(ServerName, Promised)>, ClusterError> {
    let subject = format!("$SYS.REQ.ACCOUNT.{account}.JSZ");
    let answers = cluster.gather(&subject, b"", most).await?;
    let answers = answers.iter().filter_map(|answer| ServerAnswer::<Promised>::parse(answer));
    Ok(answers.filter_map(|answer| Some((answer.server, answer.data?))).collect())
}
