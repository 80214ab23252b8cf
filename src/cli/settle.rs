//! Waits until every running instance has forgotten what a command has just changed: asks on
//! `_CALLOUT.sync` in the account AUTH, with the service's own login, and counts the answers.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::Context;
use super::output::note;
use crate::config::Config;
use crate::deployment::Login;
use crate::instance::{HEARTBEAT_SECONDS, SYNC_SUBJECT};

/// How long the server has to let the command in.
const CONNECT: Duration = Duration::from_secs(1);

/// How long instances have to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Waits for the instances. The change is committed: what goes wrong here is a warning.
pub(super) async fn settle(context: &Context) {
    let problem = match context.admin.store().instances(HEARTBEAT_SECONDS).await {
        Ok(instances) => {
            let mut awaited: BTreeSet<String> = instances.into_iter().collect();
            if awaited.is_empty() {
                return;
            }
            match tokio::time::timeout(PATIENCE, ask(context.admin.config(), &mut awaited)).await {
                Ok(Ok(())) => return,
                Ok(Err(error)) => format!("the running instances could not be asked: {error:#}"),
                Err(_) => {
                    let names: Vec<&str> = awaited.iter().map(String::as_str).collect();
                    format!("no answer in time from the instances {}", names.join(", "))
                }
            }
        }
        Err(error) => format!("the running instances are not known: {error}"),
    };
    note(&format!(
        "warning: the change is committed, but {problem}; instances that run follow within 1 s"
    ));
}

#[derive(serde::Deserialize)]
struct Answer {
    instance: String,
}

/// Returns when `awaited` is empty, or asking fails.
async fn ask(config: &Config, awaited: &mut BTreeSet<String>) -> anyhow::Result<()> {
    let options = Login::Auth.working(config)?.connection_timeout(CONNECT);
    let client = options.connect(config.nats.urls.as_slice()).await?;
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
                let answer = answer.context("the connection was closed")?;
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
