//! Which connection a reply goes out on. A server handles the replies of one connection one after
//! the other, so they are spread; those that make it load an account have a connection to
//! themselves.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_nats::connection::State;
use async_nats::{Client, Subject};

use crate::keys::ServerId;

/// A connection that a server asked about, as it numbers it.
pub(super) type Key = (ServerId, u64);

/// The place of the main connection.
const MAIN: usize = 0;

/// What a request came by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    /// The main connection.
    Main,
    /// The one that stands in for it.
    Standby,
}

/// All connections for replies.
pub(super) struct All {
    pub(super) clients: Vec<Client>,
    /// So many are for answers that make no server load an account.
    pub(super) quick: usize,
    /// So many are on the server of the main one.
    pub(super) own: usize,
}

/// The connections for replies.
pub(super) struct Replies {
    main: Client,
    /// The main one, others to spread replies over, and the one for those that make the server load an
    /// account.
    lines: Vec<Client>,
    /// How many of them take turns.
    spread: usize,
    loading: Option<usize>,
    standby: Option<usize>,
    next: AtomicUsize,
}

impl Replies {
    pub(super) fn new(
        main: Client,
        others: Vec<Client>,
        loading: Option<Client>,
        standby: Option<Client>,
    ) -> Self {
        let mut lines = vec![main.clone()];
        lines.extend(others);
        let spread = lines.len();
        let mut place_of = |client| {
            lines.push(client);
            lines.len() - 1
        };
        let loading = loading.map(&mut place_of);
        let standby = standby.map(place_of);
        Self { main, lines, spread, loading, standby, next: AtomicUsize::new(0) }
    }

    /// How many bytes a reply may have: the server would close the connection over more.
    pub(super) fn max_payload(&self) -> usize {
        self.main.max_payload()
    }

    /// All of them, each at its place: those that take turns come first, the standby last.
    pub(super) fn all(&self) -> All {
        let own = self.standby.unwrap_or(self.lines.len());
        All { clients: self.lines.clone(), quick: self.spread, own }
    }

    /// Sends one reply; gives the place of the connection that it went out on.
    pub(super) async fn send(
        &self,
        subject: Subject,
        payload: Vec<u8>,
        loads_account: bool,
        via: Via,
    ) -> Option<usize> {
        let place = match via {
            Via::Main => self.place(loads_account),
            Via::Standby => self.standby.unwrap_or(MAIN),
        };
        let client = self.lines.get(place).unwrap_or(&self.main);
        match client.publish(subject, payload.into()).await {
            Ok(()) => Some(place),
            Err(error) => {
                tracing::error!(%error, "a reply could not be sent");
                None
            }
        }
    }

    fn place(&self, loads_account: bool) -> usize {
        let place = if loads_account {
            self.loading
        } else {
            Some(self.next.fetch_add(1, Ordering::Relaxed) % self.spread)
        };
        let is_usable = |place: &usize| self.lines.get(*place).is_some_and(|it| self.is_usable(it));
        place.filter(is_usable).unwrap_or(MAIN)
    }

    /// Whether a reply on `client` reaches the server that asked: it has to hang on the same server
    /// as the subscription, since another one of the cluster may not know the reply subject yet.
    fn is_usable(&self, client: &Client) -> bool {
        client.connection_state() == State::Connected
            && client.server_info().server_id == self.main.server_info().server_id
    }

    /// Waits until all replies are written.
    pub(super) async fn flush(&self) {
        for client in &self.lines {
            if client.connection_state() == State::Connected
                && let Err(error) = client.flush().await
            {
                tracing::warn!(%error, "replies may not have been written");
            }
        }
    }
}
