//! The tenants whose events wait because one of them was refused, so that all others go on. Each is
//! tried again after a while, in order.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::cloud_event::CloudEvent;
use super::publisher::PublishError;

/// How long the events of a tenant wait.
const HOLD: Duration = Duration::from_secs(10);

/// Where more tenants than this would wait, it is not for their events.
const MOST: usize = 64;

/// Who waits, and until when.
#[derive(Debug, Default)]
pub(super) struct HeldTenants(HashMap<String, Instant>);

impl HeldTenants {
    /// The tenants that wait now.
    pub(super) fn tenants(&self) -> Vec<String> {
        let now = Instant::now();
        self.0.iter().filter(|(_, until)| **until > now).map(|(tenant, _)| tenant.clone()).collect()
    }

    /// Lets the tenant of an event that was refused wait. Not so where too many do.
    pub(super) fn hold(&mut self, event: CloudEvent, error: &PublishError) -> bool {
        let now = Instant::now();
        // Whoever did not come back is well again.
        self.0.retain(|_, until| *until + HOLD > now);
        let Some(tenant) = event.tenant else { return false };
        if self.0.len() >= MOST && !self.0.contains_key(&tenant) {
            self.0.clear();
            return false;
        }
        if !self.0.contains_key(&tenant) {
            tracing::error!(
                tenant, event = %event.id, %error,
                "an event is refused; it is kept, and tried again with those of its tenant behind it"
            );
        }
        self.0.insert(tenant, now + HOLD);
        true
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    fn event(tenant: &str) -> CloudEvent {
        CloudEvent {
            id: "1".to_owned(),
            kind: "auth.user.created".to_owned(),
            time: "2027-01-01T00:00:00.000Z".to_owned(),
            subject: None,
            tenant: Some(tenant.to_owned()),
            data: RawValue::from_string("{}".to_owned()).unwrap(),
        }
    }

    #[test]
    fn a_tenant_waits_and_a_crowd_does_not() {
        let error = PublishError::Malformed("x".to_owned());
        let mut held = HeldTenants::default();
        assert!(held.hold(event("bad"), &error) && held.hold(event("bad"), &error));
        assert_eq!(held.tenants(), ["bad"]);
        let all = (0..MOST).map(|n| held.hold(event(&n.to_string()), &error));
        assert_eq!(all.filter(|held| *held).count(), MOST - 1);
        assert!(held.tenants().is_empty());
    }
}
