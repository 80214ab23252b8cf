//! The keys there are, the mode each belongs to, and the nearest one to a misspelt name.

/// In which mode a key has a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Applies {
    Always,
    Operator,
    Config,
}

use Applies::{Always, Config, Operator};

/// Every key, as `section.key`.
pub(super) const KEYS: &[(&str, Applies)] = &[
    ("nats.mode", Always),
    ("nats.url", Always),
    ("nats.public_url", Always),
    ("nats.connections", Always),
    ("nats.credentials", Operator),
    ("nats.system_credentials", Operator),
    ("nats.nkey", Config),
    ("nats.system_nkey", Config),
    ("callout.account", Always),
    ("callout.deadline", Always),
    ("callout.max_in_flight", Always),
    ("callout.ttl", Always),
    ("callout.xkey", Always),
    ("callout.response_signing", Operator),
    ("callout.issuer", Config),
    ("operator.operator_signing", Operator),
    ("operator.user_signing", Operator),
    ("operator.bb_account", Operator),
    ("operator.users_account", Operator),
    ("operator.answers_account", Operator),
    ("operator.notifications", Operator),
    ("placement.accounts", Config),
    ("placement.dedicated", Config),
    ("tenants.isolation", Always),
    ("bb.messages_per_tenant", Always),
    ("bb.message_size", Always),
    ("bb.max_bytes", Always),
    ("bb.max_age", Always),
    ("bb.replicas", Always),
    ("events.source", Always),
    ("events.decisions", Always),
    ("events.queue", Always),
    ("events.changes_max_bytes", Always),
    ("events.changes_max_age", Always),
    ("events.changes_max_messages", Always),
    ("events.decisions_max_bytes", Always),
    ("events.decisions_max_age", Always),
    ("events.decisions_max_messages", Always),
    ("events.replicas", Always),
    ("database.url", Always),
    ("database.timeout", Always),
    ("cache.ttl", Always),
    ("cache.entries", Always),
    ("cache.password_idle", Always),
    ("hashing.threads", Always),
    ("hashing.queue", Always),
    ("hashing.rehash", Always),
    ("policies.folder", Always),
    ("http.listen", Always),
    ("log.level", Always),
    ("log.format", Always),
];

/// The sections, in the order in which they are documented.
pub(super) fn sections() -> Vec<&'static str> {
    let mut sections: Vec<_> = KEYS
        .iter()
        .filter_map(|(key, _)| key.split_once('.').map(|(section, _)| section))
        .collect();
    sections.dedup();
    sections
}

/// `[section] key`, the form of messages.
pub(super) fn display(key: &str) -> String {
    match key.split_once('.') {
        Some((section, key)) => format!("[{section}] {key}"),
        None => key.to_owned(),
    }
}

/// The variable that overrides the key.
pub(super) fn env_name(key: &str) -> String {
    format!("NATS_CALLOUT_{}", key.replace('.', "_").to_ascii_uppercase())
}

/// The candidate that `name` was most likely meant to be, if any is near.
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let allowed = (name.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(name, candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        let mut next = vec![left];
        for (above, to) in row.iter().skip(1).zip(&b) {
            let replaced = diagonal + usize::from(from != *to);
            left = replaced.min(above + 1).min(left + 1);
            next.push(left);
            diagonal = *above;
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        assert_eq!(distance("ttl", "ttl"), 0);
        assert_eq!(distance("conections", "connections"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }

    #[test]
    fn nearest_key_or_none() {
        let keys = ["url", "connections", "credentials"];
        assert_eq!(nearest("conections", keys), Some("connections"));
        assert_eq!(nearest("urll", keys), Some("url"));
        assert_eq!(nearest("banana", keys), None);
    }
}
