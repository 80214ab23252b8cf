//! What others are told of decisions, as the configuration wants it.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use async_nats::Client;
use metrics::counter;

use super::base::Base;
use crate::audit::Observer;
use crate::authorize::Gate;
use crate::config;
use crate::events::decisions::{self, DecisionEvents};
use crate::events::publisher::Publisher;
use crate::store::CredentialStore;

/// Who is shown outcomes and kicks, and what is done with them.
pub(super) struct EventSinks {
    pub(super) publisher: Publisher,
    pub(super) decisions: Option<Arc<dyn Observer>>,
    pub(super) gate: Option<Arc<dyn Gate>>,
    /// Whether grants cannot be recorded, where they have to be.
    pub(super) unrecorded: Option<Arc<AtomicBool>>,
    /// To be run once the streams are there.
    pub(super) events: Option<DecisionEvents>,
}

impl EventSinks {
    /// `id` is this instance's, which no other has.
    pub(super) fn new(base: &Base<'_>, client: &Client, id: &str) -> Self {
        let Base { config, cache, clock, .. } = base;
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
        base.observed.metrics.show(move || {
            counter!("nats_callout_events_dropped_total").absolute(dropped.load(Relaxed));
        });
        let mut sinks =
            Self { publisher, decisions: None, gate: None, unrecorded: None, events: None };
        match config.events.decisions {
            config::DecisionEvents::Off => return sinks,
            config::DecisionEvents::Queue => sinks.decisions = Some(Arc::new(log)),
            config::DecisionEvents::BeforeGrant => {
                let (log, gate) = log.with_gate(sinks.publisher.clone());
                sinks.decisions = Some(Arc::new(log));
                sinks.unrecorded = Some(gate.failing());
                sinks.gate = Some(Arc::new(gate));
            }
        }
        sinks.events = Some(events);
        sinks
    }
}
