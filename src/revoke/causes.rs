//! What has a revoker act.

use tokio::sync::{mpsc, watch};

use super::ages::Ages;
use crate::service::Decisions;
use crate::store::News;

/// News for a [`Revoker`](super::Revoker).
#[derive(Debug, Clone)]
pub(crate) enum Signal {
    /// What was committed.
    News(News),
    /// Something was, and it is not known what.
    Unknown,
}

/// What has a [`Revoker`](super::Revoker) act.
#[derive(Debug)]
pub(crate) struct Causes {
    pub(super) signals: mpsc::UnboundedReceiver<Signal>,
    pub(super) arrivals: watch::Receiver<u64>,
    pub(super) decisions: Decisions,
    /// Whether the feed has said its first word, that everything may have changed; nothing was granted
    /// before.
    pub(super) began: bool,
    pub(super) ages: Ages,
}

impl Causes {
    /// Signals, servers that arrive, and the decisions under way, which are let settle before.
    #[must_use]
    pub(crate) fn new(
        signals: mpsc::UnboundedReceiver<Signal>,
        arrivals: watch::Receiver<u64>,
        decisions: Decisions,
    ) -> Self {
        Self { signals, arrivals, decisions, began: false, ages: Ages::new() }
    }
}
