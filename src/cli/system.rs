//! The servers as their system account shows them: the service's two logins, and questions that
//! every server of the cluster answers.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use async_nats::{Client, ConnectOptions};
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::config::{Config, Mode};
use crate::daemon::with_tls;
use crate::keyfile;

/// How long all servers have to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// After an answer, how long the next one may take, where the number of servers is not known.
const SILENCE: Duration = Duration::from_millis(750);

/// How long a login may take; a busy server's takes a while.
const LOGIN: Duration = Duration::from_secs(5);

/// How many answers to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expect {
    /// So many, and no longer.
    Servers(usize),
    /// As many as come: until there is silence.
    All,
}

/// Which of the service's logins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Login {
    /// In the account AUTH.
    Auth,
    /// In the system account.
    System,
}

/// The options of one of the service's own logins.
pub(super) fn options(config: &Config, login: Login) -> anyhow::Result<ConnectOptions> {
    let options = match (&config.mode, login) {
        (Mode::Operator(mode), _) => {
            let file = match login {
                Login::Auth => &mode.credentials,
                Login::System => &mode.system_credentials,
            };
            ConnectOptions::with_credentials(&keyfile::read_secret(file)?)
                .map_err(|error| anyhow!("{} is no creds file: {error}", file.display()))?
        }
        (Mode::Config(mode), _) => {
            let file = match login {
                Login::Auth => &mode.nkey,
                Login::System => &mode.system_nkey,
            };
            ConnectOptions::with_nkey(keyfile::read_secret(file)?.trim().to_owned())
        }
    };
    let options = options.name("nats-callout command").connection_timeout(LOGIN);
    Ok(with_tls(&config.nats, options))
}

/// Logs in with one of the service's own logins.
pub(super) async fn connect(config: &Config, login: Login) -> anyhow::Result<Client> {
    let urls = config.nats.urls.as_slice();
    options(config, login)?
        .connect(urls)
        .await
        .map_err(|error| anyhow!(error).context(format!("cannot log in at {}", urls.join(", "))))
}

/// One server's answer.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Answer<T> {
    pub(super) server: Named,
    #[serde(default = "Option::default")]
    pub(super) data: Option<T>,
}

/// A server's name.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Named {
    pub(super) name: String,
}

/// Asks all servers; gives the answers of those that are not silent.
pub(super) async fn ask<T: DeserializeOwned>(
    system: &Client,
    subject: &str,
    body: &serde_json::Value,
    expect: Expect,
) -> anyhow::Result<Vec<Answer<T>>> {
    let answers = ask_raw(system, subject, body.to_string().into(), expect).await?;
    answers
        .iter()
        .map(|answer| {
            serde_json::from_slice(answer)
                .with_context(|| format!("an answer on {subject} is not understood"))
        })
        .collect()
}

/// Asks all servers; gives the answers as they came.
pub(super) async fn ask_raw(
    system: &Client,
    subject: &str,
    body: bytes::Bytes,
    expect: Expect,
) -> anyhow::Result<Vec<bytes::Bytes>> {
    let inbox = system.new_inbox();
    let mut incoming = system.subscribe(inbox.clone()).await?;
    system.publish_with_reply(subject.to_owned(), inbox, body).await?;
    system.flush().await?;
    let mut answers = Vec::new();
    let mut patience = PATIENCE;
    while let Ok(Some(answer)) = tokio::time::timeout(patience, incoming.next()).await {
        if answer.status == Some(async_nats::StatusCode::NO_RESPONDERS) {
            break;
        }
        answers.push(answer.payload);
        match expect {
            Expect::Servers(count) if answers.len() >= count => break,
            Expect::Servers(_) => {}
            Expect::All => patience = SILENCE,
        }
    }
    Ok(answers)
}

/// What a server says of itself.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Varz {
    pub(super) version: String,
    pub(super) now: String,
    #[serde(default)]
    pub(super) jetstream: JetStream,
    #[serde(default)]
    pub(super) cluster: Cluster,
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
pub(super) struct Cluster {
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
pub(super) async fn servers(system: &Client, expect: Expect) -> anyhow::Result<Vec<(Named, Varz)>> {
    let subject = "$SYS.REQ.SERVER.PING.VARZ";
    let answers = ask::<Varz>(system, subject, &serde_json::json!({}), expect).await?;
    let mut servers: Vec<(Named, Varz)> =
        answers.into_iter().filter_map(|answer| Some((answer.server, answer.data?))).collect();
    servers.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    Ok(servers)
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
    system: &Client,
    account: &str,
    expect: Expect,
) -> anyhow::Result<Vec<(Named, Promised)>> {
    let subject = format!("$SYS.REQ.ACCOUNT.{account}.JSZ");
    let answers = ask::<Promised>(system, &subject, &serde_json::json!({}), expect).await?;
    Ok(answers.into_iter().filter_map(|answer| Some((answer.server, answer.data?))).collect())
}
