//! Questions to every running instance, in the account AUTH: whether it has forgotten what an operation has
//! just changed (`_CALLOUT.sync`), say.

use std::collections::BTreeSet;
use std::time::Duration;

use async_nats::Client;
use futures_util::StreamExt as _;
use serde::de::DeserializeOwned;

use super::Admin;
use crate::causes::{BoxError, chain};
use crate::config::Config;
use crate::deployment::Login;
use crate::instance::{HEARTBEAT_SECONDS, SYNC_SUBJECT};
use crate::store::{Store, StoreError};

/// How long the server has to let us in.
const CONNECT: Duration = Duration::from_secs(1);

/// How long instances have to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long they have where it would be said of them that they do not answer: a busy machine is no fault.
const LONG_PATIENCE: Duration = Duration::from_secs(5);

/// Waits for the instances, which are asked on this connection of AUTH, or on a new one. The change is
/// committed: what goes wrong here is a remark.
pub(super) async fn settle(admin: &Admin, auth: Option<Client>) {
    let problem = match alive(&*admin.store).await {
        Ok(mut awaited) => {
            if awaited.is_empty() {
                return;
            }
            let asking = async {
                let client = match auth {
                    Some(client) => client,
                    None => connect(&admin.config).await?,
                };
                ask(&client, SYNC_SUBJECT, &mut awaited, |answer: Synced| answer.instance).await
            };
            match tokio::time::timeout(PATIENCE, asking).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => {
                    format!("the running instances could not be asked: {}", chain(&*error))
                }
                Err(_) => {
                    let names = Vec::from_iter(awaited).join(", ");
                    format!("no answer in time from the instances {names}")
                }
            }
        }
        Err(error) => format!("the running instances are not known: {error}"),
    };
    admin.remark(&format!(
        "warning: the change is committed, but {problem}; instances that run follow within 1 s"
    ));
}

/// The instances that have a young heartbeat in the database.
pub(super) async fn alive(store: &dyn Store) -> Result<BTreeSet<String>, StoreError> {
    Ok(store.instances(HEARTBEAT_SECONDS).await?.into_iter().collect())
}

/// Asks the instances, until all that are awaited have answered: those that have are not awaited any
/// more. `hear` takes each answer, and says which instance gave it.
pub(super) async fn ask<T: DeserializeOwned>(
    auth: &Client,
    subject: &'static str,
    awaited: &mut BTreeSet<String>,
    mut hear: impl FnMut(T) -> String,
) -> Result<(), BoxError> {
    let inbox = auth.new_inbox();
    let mut answers = auth.subscribe(inbox.clone()).await?;
    // Instances that are just connecting miss a first question, so it is repeated.
    let mut repeat = tokio::time::interval(Duration::from_millis(500));
    while !awaited.is_empty() {
        tokio::select! {
            _ = repeat.tick() => {
                auth.publish_with_reply(subject, inbox.clone(), "".into()).await?;
                auth.flush().await?;
            }
            answer = answers.next() => {
                let answer = answer.ok_or("the connection was closed")?;
                if let Ok(answer) = serde_json::from_slice(&answer.payload) {
                    awaited.remove(&hear(answer));
                }
            }
        }
    }
    Ok(())
}

/// How many instances answer when they are asked on this connection of AUTH, also of those that have no
/// young heartbeat. `None` where that is not known.
pub(super) async fn answering(auth: &Client, store: &dyn Store) -> Option<usize> {
    let mut awaited = alive(store).await.ok()?;
    let patience = if awaited.is_empty() { PATIENCE } else { LONG_PATIENCE };
    if awaited.is_empty() {
        // None is known by name: all that answer are heard.
        awaited.insert(String::new());
    }
    let mut heard = BTreeSet::new();
    let asking = ask(auth, SYNC_SUBJECT, &mut awaited, |answer: Synced| {
        heard.insert(answer.instance.clone());
        answer.instance
    });
    match tokio::time::timeout(patience, asking).await {
        Ok(Err(_)) => None,
        Ok(Ok(())) | Err(_) => Some(heard.len()),
    }
}

#[derive(serde::Deserialize)]
struct Synced {
    instance: String,
}

async fn connect(config: &Config) -> Result<Client, BoxError> {
    let options = Login::Auth.working(config)?.connection_timeout(CONNECT);
    Ok(options.connect(config.nats.urls.as_slice()).await?)
}
