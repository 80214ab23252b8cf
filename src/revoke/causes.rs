//! What has a revoker act.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::Revoker;
use super::accounts::{AccountKeeper, Wanted};
use super::ages::Ages;
use crate::service::Decisions;
use crate::store::News;

/// News for a [`Revoker`](super::Revoker).
#[derive(Debug, Clone)]
pub(crate) enum Signal {
    /// What was committed.
    News(News),
    /// Something was, and it is not known what: nothing has been read for so long.
    Unknown(Duration),
}

/// What has a [`Revoker`](super::Revoker) act.
#[derive(Debug)]
pub(crate) struct Causes {
    pub(super) signals: mpsc::UnboundedReceiver<Signal>,
    pub(super) arrivals: watch::Receiver<u64>,
    pub(super) decisions: Decisions,
    pub(super) accounts: mpsc::UnboundedSender<Wanted>,
    /// Whether the feed has said its first word, that everything may have changed; nothing was granted
    /// before.
    pub(super) began: bool,
    pub(super) ages: Ages,
}

impl Causes {
    /// Signals, servers that arrive, and the decisions under way, which are let settle before; and what
    /// `revoker` is to keep accounts by.
    #[must_use]
    pub(crate) fn new(
        signals: mpsc::UnboundedReceiver<Signal>,
        arrivals: watch::Receiver<u64>,
        decisions: Decisions,
        revoker: &Arc<Revoker>,
    ) -> (Self, AccountKeeper) {
        let (accounts, wanted) = mpsc::unbounded_channel();
        let ages = Ages::new();
        let causes = Self { signals, arrivals, decisions, accounts, began: false, ages };
        (causes, AccountKeeper::new(Arc::clone(revoker), wanted))
    }
}
