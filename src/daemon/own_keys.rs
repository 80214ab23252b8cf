//! Tells which keys this instance has ([`KEYS_SUBJECT`]).

use std::time::Duration;

use async_nats::{Client, SubscribeError};
use futures_util::StreamExt as _;
use tokio_util::sync::CancellationToken;

use crate::deployment::key_role::{KEYS_SUBJECT, KeysOfInstance, PublicKeys};

/// Answers on [`KEYS_SUBJECT`] until `stop`.
pub(super) async fn tell(
    client: &Client,
    instance: String,
    keys: PublicKeys,
    ttl: Duration,
    stop: CancellationToken,
) -> Result<impl Future<Output = ()> + Send + 'static, SubscribeError> {
    let mut questions = client.subscribe(KEYS_SUBJECT).await?;
    let client = client.clone();
    let answer = KeysOfInstance { instance, ttl: ttl.as_secs(), keys };
    Ok(async move {
        while let Some(Some(question)) = stop.run_until_cancelled(questions.next()).await {
            let Some(reply) = question.reply else { continue };
            let Ok(answer) = serde_json::to_vec(&answer) else { return };
            // Without a connection the asker's time-out says it.
            let _ = client.publish(reply, answer.into()).await;
        }
    })
}
