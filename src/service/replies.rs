//! Which connection a reply goes out on. A server handles the replies of one connection one after
//! the other, so they are spread; those that make it load an account have a connection to
//! themselves.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_nats::connection::State;
use async_nats::{Client, Subject};

use crate::authorize::Reply;

/// The connections for replies.
pub(super) struct Replies {
    main: Client,
    spread: Vec<Client>,
    loading: Option<Client>,
    next: AtomicUsize,
}

impl Replies {
    pub(super) fn new(main: Client, others: Vec<Client>, loading: Option<Client>) -> Self {
        let mut spread = others;
        spread.push(main.clone());
        Self { main, spread, loading, next: AtomicUsize::new(0) }
    }

    /// How many bytes a reply may have: the server would close the connection over more.
    pub(super) fn max_payload(&self) -> usize {
        self.main.server_info().max_payload
    }

    /// Sends one reply.
    pub(super) async fn send(&self, subject: Subject, reply: Reply) {
        let client = if reply.loads_account {
            self.loading.as_ref()
        } else {
            let turn = self.next.fetch_add(1, Ordering::Relaxed);
            self.spread.get(turn % self.spread.len().max(1))
        };
        let client = client.filter(|client| self.is_usable(client)).unwrap_or(&self.main);
        if let Err(error) = client.publish(subject, reply.payload.into()).await {
            tracing::error!(%error, "a reply could not be sent");
        }
    }

    /// Whether a reply on `client` reaches the server that asked: it has to hang on the same server
    /// as the subscription, since another one of the cluster may not know the reply subject yet.
    fn is_usable(&self, client: &Client) -> bool {
        client.connection_state() == State::Connected
            && client.server_info().server_id == self.main.server_info().server_id
    }

    /// Waits until all replies are written.
    pub(super) async fn flush(&self) {
        for client in self.spread.iter().chain(&self.loading) {
            if client.connection_state() == State::Connected
                && let Err(error) = client.flush().await
            {
                tracing::warn!(%error, "replies may not have been written");
            }
        }
    }
}
