//! Waits until every running instance has forgotten what an operation has just changed: asks on
//! `_CALLOUT.sync` in the account AUTH, with the service's own login, and counts the answers.

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::client::FlushError;
use async_nats::{Client, ConnectError, PublishError, SubscribeError};
use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::{Admin, in_full};
use crate::config::Config;
use crate::deployment::Login;
use crate::instance::{HEARTBEAT_SECONDS, SYNC_SUBJECT};
use crate::keyfile::KeyFileError;

/// How long the server has to let us in.
const CONNECT: Duration = Duration::from_secs(1);

/// How long instances have to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Waits for the instances, which are asked on this connection of AUTH, or on a new one. The change is
/// committed: what goes wrong here is a remark.
pub(super) async fn settle(admin: &Admin, auth: Option<Client>) {
    let problem = match admin.store.instances(HEARTBEAT_SECONDS).await {
        Ok(instances) => {
            let mut awaited: BTreeSet<String> = instances.into_iter().collect();
            if awaited.is_empty() {
                return;
            }
            let asking = ask(&admin.config, auth, &mut awaited);
            match tokio::time::timeout(PATIENCE, asking).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => {
                    format!("the running instances could not be asked: {}", in_full(&error))
                }
                Err(_) => {
                    let names: Vec<&str> = awaited.iter().map(String::as_str).collect();
                    format!("no answer in time from the instances {}", names.join(", "))
                }
            }
        }
        Err(error) => format!("the running instances are not known: {error}"),
    };
    admin.remark(&format!(
        "warning: the change is committed, but {problem}; instances that run follow within 1 s"
    ));
}

/// Why the instances could not be asked.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error(transparent)]
    Credentials(#[from] KeyFileError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error(transparent)]
    Flush(#[from] FlushError),
    #[error("the connection was closed")]
    Closed,
}

#[derive(serde::Deserialize)]
struct Answer {
    instance: String,
}

/// Returns when `awaited` is empty, or asking fails.
async fn ask(
    config: &Config,
    auth: Option<Client>,
    awaited: &mut BTreeSet<String>,
) -> Result<(), AskError> {
    let client = match auth {
        Some(client) => client,
        None => {
            let options = Login::Auth.working(config)?.connection_timeout(CONNECT);
            options.connect(config.nats.urls.as_slice()).await?
        }
    };
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await?;
    // Instances that are just connecting miss a first question, so it is repeated.
    let mut repeat = tokio::time::interval_at(Instant::now(), Duration::from_millis(500));
    loop {
        tokio::select! {
            _ = repeat.tick() => {
                client.publish_with_reply(SYNC_SUBJECT, inbox.clone(), bytes::Bytes::new()).await?;
                client.flush().await?;
            }
            answer = answers.next() => {
                let answer = answer.ok_or(AskError::Closed)?;
                if let Ok(answer) = serde_json::from_slice::<Answer>(&answer.payload) {
                    awaited.remove(&answer.instance);
                }
                if awaited.is_empty() {
                    return Ok(());
                }
            }
        }
    }
}
