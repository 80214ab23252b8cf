//! Events that are not carried: why, what the sender is told, how many there were, and a line in the
//! log for each tenant and reason, at most once a minute.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::{Duration, Instant};

use strum::{EnumCount, IntoStaticStr, VariantNames};

use super::headers::HeaderFault;

/// Between two lines about the same tenant and reason.
const PAUSE: Duration = Duration::from_secs(60);

/// Tenants and reasons that are told apart; what comes on top is counted alone.
const MAX_NOTICES: usize = 4096;

/// Why an event is not carried.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, EnumCount, IntoStaticStr, VariantNames, thiserror::Error,
)]
#[strum(serialize_all = "snake_case")]
pub enum Refusal {
    /// The tenant, or all of them, have too much here.
    #[error("busy: too many events at once; send it again later")]
    Busy,
    /// The event is longer than BB's stream or a server takes.
    #[error("the event is larger than is taken")]
    Oversized,
    /// Its header cannot be carried.
    #[error("{0}")]
    #[strum(serialize = "malformed")]
    Header(HeaderFault),
    /// The tenant is suspended or has expired.
    #[error("the tenant is suspended or has expired")]
    Suspended,
    /// The tenant is not known, or no longer one that sends from there.
    #[error("the tenant is not known here")]
    Unknown,
    /// It has not been passed on in time, or nobody was there.
    #[error("the events' stream cannot be reached")]
    Unavailable,
    /// It was passed on, and nobody said that it is stored.
    #[error(
        "no acknowledgement: the event may be stored or not; send it again with its message id"
    )]
    Unacknowledged,
    /// BB's stream has refused it.
    #[error("the events' stream refused it")]
    Rejected,
}

impl Refusal {
    /// Its name in the log and in metrics.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.into()
    }

    fn place(self) -> usize {
        match self {
            Self::Busy => 0,
            Self::Oversized => 1,
            Self::Header(_) => 2,
            Self::Suspended => 3,
            Self::Unknown => 4,
            Self::Unavailable => 5,
            Self::Unacknowledged => 6,
            Self::Rejected => 7,
        }
    }

    /// What the sender is told: an acknowledgement of JetStream's form with an error in it, which
    /// every client's `publish` reports as one.
    pub(crate) fn answer(self, stream: &str) -> String {
        // The codes that nats-server has for the like.
        let (code, number) = match self {
            Self::Busy => (503, 10_023),
            Self::Oversized => (400, 10_054),
            Self::Header(_) | Self::Rejected => (400, 10_003),
            Self::Suspended | Self::Unknown => (403, 10_003),
            Self::Unavailable | Self::Unacknowledged => (503, 10_008),
        };
        // Nothing in it needs quoting. A flood is answered with nothing else, so it is made quickly.
        format!(
            "{{\"error\":{{\"code\":{code},\"err_code\":{number},\"description\":\"{self}\"}},\
             \"stream\":\"{stream}\",\"seq\":0}}"
        )
    }
}

/// How many events had which end, and how often what carries them broke.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Stored by BB's stream.
    pub stored: u64,
    /// Connections that were lost and made again.
    pub lost: u64,
    refused: [u64; Refusal::COUNT],
}

impl Tally {
    /// The reasons, each with how many were refused for it.
    pub fn by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Refusal::VARIANTS.iter().copied().zip(self.refused)
    }

    /// How many were refused for a reason.
    #[must_use]
    pub fn refused(&self, reason: Refusal) -> u64 {
        self.refused.get(reason.place()).copied().unwrap_or_default()
    }

    pub(crate) fn refuse(&mut self, reason: Refusal) {
        if let Some(count) = self.refused.get_mut(reason.place()) {
            *count += 1;
        }
    }
}

/// What was said lately about whom.
#[derive(Debug, Default)]
pub(crate) struct Notices(HashMap<(Box<str>, &'static str), Notice>);

#[derive(Debug)]
struct Notice {
    said: Instant,
    /// Since then.
    more: u64,
}

impl Notices {
    pub(crate) fn note(&mut self, tenant: &str, refusal: Refusal, now: Instant) {
        let reason = refusal.code();
        let is_full = self.0.len() >= MAX_NOTICES;
        match self.0.entry((tenant.into(), reason)) {
            Entry::Occupied(mut known) => known.get_mut().more += 1,
            Entry::Vacant(_) if is_full => {}
            Entry::Vacant(new) => {
                new.insert(Notice { said: now, more: 0 });
                tracing::warn!(tenant, reason, "an event was not acknowledged: {refusal}");
            }
        }
    }

    /// Says what has come on top since the last line, and forgets whom nothing is to be said of.
    pub(crate) fn tick(&mut self, now: Instant) {
        self.0.retain(|(tenant, reason), notice| {
            if now.saturating_duration_since(notice.said) < PAUSE {
                return true;
            }
            let more = std::mem::take(&mut notice.more);
            notice.said = now;
            if more > 0 {
                tracing::warn!(tenant = %tenant, reason, more, "more events were not acknowledged");
            }
            more > 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_own_place_and_name() {
        let all = [
            Refusal::Busy,
            Refusal::Oversized,
            Refusal::Header(HeaderFault::Name),
            Refusal::Suspended,
            Refusal::Unknown,
            Refusal::Unavailable,
            Refusal::Unacknowledged,
            Refusal::Rejected,
        ];
        assert_eq!(all.len(), Refusal::COUNT);
        let mut codes: Vec<_> = all.iter().map(|it| it.code()).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), Refusal::COUNT);
        for (place, refusal) in all.into_iter().enumerate() {
            let mut tally = Tally::default();
            tally.refuse(refusal);
            assert_eq!(refusal.place(), place);
            assert_eq!(tally.refused(refusal), 1);
            let answer: serde_json::Value =
                serde_json::from_str(&refusal.answer("ReceivedEvents")).unwrap();
            assert!(answer["error"]["code"].as_u64() >= Some(400), "{answer}");
            assert_eq!(answer["seq"], 0);
        }
    }

    #[test]
    fn one_line_a_minute_for_each_tenant_and_reason() {
        let begun = Instant::now();
        let mut notices = Notices::default();
        for _ in 0..1000 {
            notices.note("a", Refusal::Busy, begun);
        }
        notices.note("b", Refusal::Busy, begun);
        assert_eq!(notices.0.len(), 2);
        notices.tick(begun + PAUSE);
        // Of b there was nothing more to say, and a's next line comes a minute later.
        assert_eq!(notices.0.len(), 1);
        notices.tick(begun + PAUSE * 2);
        assert!(notices.0.is_empty());
        for at in 0..2 * MAX_NOTICES {
            notices.note(&at.to_string(), Refusal::Busy, begun);
        }
        assert_eq!(notices.0.len(), MAX_NOTICES);
    }
}
