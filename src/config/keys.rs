//! The keys there are, and the mode each belongs to.

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
    ("nats.tls_ca", Always),
    ("nats.tls_certificate", Always),
    ("nats.tls_key", Always),
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
    ("operator.events_account", Operator),
    ("operator.answers_account", Operator),
    ("operator.notifications", Operator),
    ("intake.account", Always),
    ("intake.credentials", Operator),
    ("intake.users_credentials", Operator),
    ("intake.nkey", Config),
    ("intake.users_nkey", Config),
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
    ("events.changes_consumers", Always),
    ("events.decisions_consumers", Always),
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
    ("guessing.account_failures", Always),
    ("guessing.source_failures", Always),
    ("policies.folder", Always),
    ("http.listen", Always),
    ("log.level", Always),
    ("log.format", Always),
];

/// The section whose tables have names of their own: `[issuers.NAME]`.
pub(super) const ISSUERS: &str = "issuers";

/// The keys of each of these tables.
pub(super) const ISSUER_KEYS: &[&str] = &[
    "issuer",
    "discovery",
    "jwks_url",
    "jwks_file",
    "secret",
    "ca_file",
    "audience",
    "algorithms",
    "leeway",
    "user_claim",
    "claims",
    "users",
    "tenant",
    "tenant_claim",
    "kind",
    "policy",
];

/// The sections, in the order in which they are documented.
pub(super) fn sections() -> Vec<&'static str> {
    let mut sections: Vec<_> = KEYS
        .iter()
        .filter_map(|(key, _)| key.split_once('.').map(|(section, _)| section))
        .collect();
    sections.dedup();
    sections.push(ISSUERS);
    sections
}

/// `[section] key`, the form of messages.
pub(super) fn display(key: &str) -> String {
    match key.rsplit_once('.') {
        Some((section, key)) => format!("[{section}] {key}"),
        None => key.to_owned(),
    }
}

/// The variable that overrides the key.
pub(super) fn env_name(key: &str) -> String {
    format!("NATS_CALLOUT_{}", key.replace('.', "_").to_ascii_uppercase())
}

/// Whether a table of issuers may have this name: one that a variable's name can hold.
pub(super) fn is_issuer_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=32).contains(&name.len()) && name.bytes().all(legal)
}

/// The key of an issuer that a variable overrides, which may be the first word of it.
pub(super) fn issuer_key(variable: &str) -> Option<String> {
    let rest = variable.strip_prefix("NATS_CALLOUT_ISSUERS_")?.to_ascii_lowercase();
    ISSUER_KEYS
        .iter()
        .filter_map(|key| Some((rest.strip_suffix(key)?.strip_suffix('_')?, *key)))
        .filter(|(name, _)| is_issuer_name(name))
        .max_by_key(|(_, key)| key.len())
        .map(|(name, key)| format!("{ISSUERS}.{name}.{key}"))
}
