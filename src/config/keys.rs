//! How keys are named: in messages, and in the environment.

use super::settings::{ISSUER_SETTINGS, SETTINGS, Setting};

/// How the names of variables begin.
pub(super) const PREFIX: &str = "NATS_CALLOUT_";

/// The section whose tables have names of their own: `[issuers.NAME]`.
pub(super) const ISSUERS: &str = "issuers";

/// The keys of each of these tables.
pub(super) fn of_issuers() -> Vec<&'static str> {
    ISSUER_SETTINGS.iter().map(Setting::key).collect()
}

/// The sections, in the order in which they are documented.
pub(super) fn sections() -> Vec<&'static str> {
    let mut sections: Vec<_> = SETTINGS.iter().map(Setting::section).collect();
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
    format!("{PREFIX}{}", key.replace('.', "_").to_ascii_uppercase())
}

/// Whether a table of issuers may have this name: one that a variable's name can hold.
pub(super) fn is_issuer_name(name: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    (1..=32).contains(&name.len()) && name.bytes().all(legal)
}

/// The key of an issuer that a variable overrides, which may be the first word of it.
pub(super) fn issuer_key(variable: &str) -> Option<String> {
    let rest = variable.strip_prefix(PREFIX)?.strip_prefix("ISSUERS_")?.to_ascii_lowercase();
    of_issuers()
        .into_iter()
        .filter_map(|key| Some((rest.strip_suffix(key)?.strip_suffix('_')?, key)))
        .filter(|(name, _)| is_issuer_name(name))
        .max_by_key(|(_, key)| key.len())
        .map(|(name, key)| format!("{ISSUERS}.{name}.{key}"))
}
