//! Tells which keys this instance has ([`KEYS_SUBJECT`]).

use std::time::Duration;

use async_nats::{Client, SubscribeError, Subscriber};
use futures_util::StreamExt as _;

use crate::deployment::key_role::{KEYS_SUBJECT, KeysOfInstance, PublicKeys};

/// Who asks, and the answer.
pub(super) struct Questions {
    client: Client,
    answer: KeysOfInstance,
    questions: Subscriber,
}

impl Questions {
    /// Subscribes to [`KEYS_SUBJECT`].
    pub(super) async fn subscribe(
        client: &Client,
        instance: String,
        keys: PublicKeys,
        ttl: Duration,
    ) -> Result<Self, SubscribeError> {
        let questions = client.subscribe(KEYS_SUBJECT).await?;
        let answer = KeysOfInstance { instance, ttl: ttl.as_secs(), keys };
        Ok(Self { client: client.clone(), answer, questions })
    }

    /// Answers for as long as there is the connection.
    pub(super) async fn answer(&mut self) {
        while let Some(question) = self.questions.next().await {
            let Some(reply) = question.reply else { continue };
            let Ok(answer) = serde_json::to_vec(&self.answer) else { return };
            // Without a connection the asker's time-out says it.
            let _ = self.client.publish(reply, answer.into()).await;
        }
    }
}
