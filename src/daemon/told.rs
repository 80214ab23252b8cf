//! What others are told of decisions, as the configuration wants it.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use async_nats::Client;

use crate::audit::Observer;
use crate::authorize::Gate;
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::events::decisions::{self, DecisionEvents};
use crate::events::publisher::Publisher;
use crate::store::CredentialStore;
use crate::store::cache::Cached;

/// Who is shown outcomes and kicks, and what is done with them.
pub(super) struct Told {
    pub(super) publisher: Publisher,
    pub(super) decisions: Option<Arc<dyn Observer>>,
    /// Counts the decisions that could not be kept.
    pub(super) dropped: Arc<AtomicU64>,
    pub(super) gate: Option<Arc<dyn Gate>>,
    /// To be run once the streams are there.
    pub(super) events: Option<DecisionEvents>,
}

impl Told {
    /// `id` is this instance's, which no other has.
    pub(super) fn new(
        config: &Config,
        client: &Client,
        cache: &Arc<Cached>,
        clock: &Arc<dyn Clock>,
        id: &str,
    ) -> Self {
        let publisher =
            Publisher::new(client.clone(), config.events.source.clone(), config.streams.clone());
        let credentials = Arc::clone(cache) as Arc<dyn CredentialStore>;
        let (log, events) = decisions::queue(
            config.events.queue,
            publisher.clone(),
            credentials,
            Arc::clone(clock),
            id.to_owned(),
        );
        let dropped = log.dropped();
        let mut told = Self { publisher, decisions: None, dropped, gate: None, events: None };
        match config.events.decisions {
            config::DecisionEvents::Off => return told,
            config::DecisionEvents::Queue => told.decisions = Some(Arc::new(log)),
            config::DecisionEvents::BeforeGrant => {
                let (log, gate) = log.with_gate(told.publisher.clone());
                told.decisions = Some(Arc::new(log));
                told.gate = Some(Arc::new(gate));
            }
        }
        told.events = Some(events);
        told
    }
}
