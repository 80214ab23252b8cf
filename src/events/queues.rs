//! Which events have to be published one after the other: those of one tenant, and those of one
//! user, also where it moves from a tenant to another or gets another name. All else goes side by
//! side.

use std::collections::{BTreeMap, HashMap, VecDeque};

use serde::Deserialize;

use crate::store::OutboxEvent;

/// Of an event's data, what names others than its tenant and its subject.
#[derive(Default, Deserialize)]
struct Previous {
    previous_name: Option<String>,
    previous_tenant_id: Option<String>,
}

/// Parts events into queues that are independent of each other, each in the order given.
pub(super) fn queues(events: Vec<OutboxEvent>) -> Vec<VecDeque<OutboxEvent>> {
    let mut groups = Groups::default();
    let firsts: Vec<usize> = events
        .iter()
        .map(|event| {
            let first = groups.of(format!("tenant {}", event.tenant));
            if event.kind.starts_with("auth.user.") {
                let previous: Previous = serde_json::from_str(event.data.get()).unwrap_or_default();
                let user = |name: &str| format!("user {name}");
                groups.join(first, user(&event.subject));
                if let Some(name) = previous.previous_name {
                    groups.join(first, user(&name));
                }
                if let Some(tenant) = previous.previous_tenant_id {
                    groups.join(first, format!("tenant {tenant}"));
                }
            }
            first
        })
        .collect();
    let mut queues: BTreeMap<usize, VecDeque<OutboxEvent>> = BTreeMap::new();
    for (event, first) in events.into_iter().zip(firsts) {
        queues.entry(groups.root(first)).or_default().push_back(event);
    }
    queues.into_values().collect()
}

/// Names that belong together: each points to another one of its group, or to itself.
#[derive(Default)]
struct Groups {
    numbers: HashMap<String, usize>,
    points_to: Vec<usize>,
}

impl Groups {
    fn of(&mut self, name: String) -> usize {
        let next = self.points_to.len();
        let number = *self.numbers.entry(name).or_insert(next);
        if number == next {
            self.points_to.push(next);
        }
        number
    }

    fn join(&mut self, member: usize, name: String) {
        let other = self.of(name);
        let (one, other) = (self.root(member), self.root(other));
        if let Some(pointer) = self.points_to.get_mut(other) {
            *pointer = one;
        }
    }

    fn root(&self, member: usize) -> usize {
        let mut member = member;
        while let Some(&next) = self.points_to.get(member)
            && next != member
        {
            member = next;
        }
        member
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    fn event(id: &str, kind: &str, tenant: &str, subject: &str, data: &str) -> OutboxEvent {
        OutboxEvent {
            id: id.to_owned(),
            kind: kind.to_owned(),
            tenant: tenant.to_owned(),
            subject: subject.to_owned(),
            time: String::new(),
            data: RawValue::from_string(data.to_owned()).unwrap(),
        }
    }

    #[test]
    fn what_shares_a_tenant_or_a_user_stays_in_order() {
        let moved = r#"{"previous_name":"carol","previous_tenant_id":"d"}"#;
        let queues = queues(vec![
            event("1", "auth.user.created", "a", "anna", "{}"),
            event("2", "auth.user.created", "b", "bert", "{}"),
            event("3", "auth.user.removed", "a", "anna", "{}"),
            event("4", "auth.user.created", "c", "anna", "{}"),
            event("5", "auth.tenant.updated", "d", "d", "{}"),
            event("6", "auth.user.created", "e", "carol", "{}"),
            event("7", "auth.user.updated", "f", "carola", moved),
            event("8", "auth.tenant.updated", "g", "anna", "{}"),
        ]);
        let ids: Vec<Vec<&str>> = queues
            .iter()
            .map(|queue| queue.iter().map(|event| event.id.as_str()).collect())
            .collect();
        let mut ids = ids;
        ids.sort();
        assert_eq!(ids, [vec!["1", "3", "4"], vec!["2"], vec!["5", "6", "7"], vec!["8"]]);
    }
}
