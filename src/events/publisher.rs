//! Publishes events to their streams and awaits each acknowledgement. A stream that is gone, with
//! the disk that held it say, is made again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::{Client, HeaderMap, HeaderValue, Request, RequestError, RequestErrorKind};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::cloud_event::{CONTENT_TYPE, CloudEvent};
use crate::streams::{self, Limits};

/// How long a stream has to acknowledge.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// Events that are on their way at once.
pub(super) const IN_FLIGHT: usize = 256;

/// Between two attempts to make a stream that is gone.
const RESTORE: Duration = Duration::from_millis(500);

/// Room for the headers in a message.
const HEADERS: usize = 1_024;

/// Why an event is not known to be in its stream. It may be there all the same.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// No acknowledgement.
    #[error("{subject}: {source}")]
    Unacknowledged {
        /// The event's subject.
        subject: String,
        /// What went wrong.
        source: RequestError,
    },
    /// JetStream refuses.
    #[error("{subject}: {description}")]
    Refused {
        /// The event's subject.
        subject: String,
        /// JetStream's words.
        description: String,
    },
    /// The event's id is none, or the answer is none of the stream's.
    #[error("{0}: no id of an event, or no acknowledgement of its stream")]
    Malformed(String),
    /// The event is no JSON.
    #[error("cannot be encoded: {0}")]
    Encoding(#[from] serde_json::Error),
}

impl PublishError {
    /// Whether another event may well be taken, where this one is not.
    pub(super) fn is_of_the_event(&self) -> bool {
        match self {
            Self::Refused { .. } | Self::Malformed(_) | Self::Encoding(_) => true,
            Self::Unacknowledged { .. } => false,
        }
    }
}

/// A connection of the account AUTH on which events are published.
#[derive(Debug, Clone)]
pub struct Publisher {
    client: Client,
    source: String,
    streams: Arc<Streams>,
}

#[derive(Debug)]
struct Streams {
    limits: Limits,
    restored: Mutex<Option<Instant>>,
}

#[derive(Deserialize)]
struct Acknowledgement {
    #[serde(default)]
    stream: String,
    error: Option<Fault>,
}

#[derive(Deserialize)]
struct Fault {
    #[serde(default)]
    description: String,
}

impl Publisher {
    /// Publishes on `client`, as `source`, to streams of these limits.
    #[must_use]
    pub fn new(client: Client, source: String, limits: Limits) -> Self {
        let streams = Arc::new(Streams { limits, restored: Mutex::default() });
        Self { client, source, streams }
    }

    /// Whether there is a connection: without one, an attempt costs its whole time.
    pub(super) fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Makes the streams that are missing: one attempt at a time, and not without a pause.
    pub(super) async fn restore(&self) {
        let Ok(mut restored) = self.streams.restored.try_lock() else { return };
        if restored.is_some_and(|at| at.elapsed() < RESTORE) {
            return;
        }
        if let Err(error) = streams::restore(&self.client, &self.streams.limits).await {
            tracing::debug!(%error, "the streams are not there");
        }
        *restored = Some(Instant::now());
    }

    /// Publishes an event; returns once `stream` has it, now or since an earlier attempt.
    pub async fn publish(&self, stream: &str, event: &CloudEvent) -> Result<(), PublishError> {
        let limit = self.client.max_payload().saturating_sub(HEADERS);
        let payload = event.encode(&self.source, limit)?;
        let mut headers = HeaderMap::new();
        let id: HeaderValue =
            event.id.parse().map_err(|_| PublishError::Malformed(event.kind.clone()))?;
        headers.insert(NATS_MESSAGE_ID, id);
        headers.insert("Nats-Expected-Stream", stream);
        headers.insert("Content-Type", CONTENT_TYPE);
        let request = Request::new().headers(headers).payload(payload).timeout(Some(PATIENCE));
        let subject = || event.kind.clone();
        let answer = match self.client.send_request(event.kind.clone(), request).await {
            Ok(answer) => answer,
            Err(source) => {
                if source.kind() == RequestErrorKind::NoResponders {
                    self.restore().await;
                }
                return Err(PublishError::Unacknowledged { subject: subject(), source });
            }
        };
        match serde_json::from_slice(&answer.payload) {
            Ok(Acknowledgement { error: Some(fault), .. }) => {
                // Its limits may be others than they should be.
                self.restore().await;
                Err(PublishError::Refused { subject: subject(), description: fault.description })
            }
            Ok(Acknowledgement { stream: from, error: None }) if from == stream => Ok(()),
            _ => Err(PublishError::Malformed(subject())),
        }
    }
}
