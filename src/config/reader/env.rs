//! The variables of the environment, each of which overrides a key.

use std::collections::BTreeSet;
use std::path::Path;

use toml::de::DeValue;

use super::super::settings::{SETTINGS, Setting};
use super::super::{ValueFile, keys};
use super::{Entry, Reader, named};
use crate::exposure::holds_password;
use crate::keyfile::remedy_of;
use crate::problem::Origin;
use crate::redact::shown_path;
use crate::spelling::nearest;

/// The end of a variable that names a file with the value: secrets are mounted as files.
const IN_FILE: &str = "_FILE";

/// Names the file itself, so it is no override.
const CONFIG_VARIABLE: &str = "NATS_CALLOUT_CONFIG";

/// The value that is the text of a file, without the ends of its last lines; or why there is none.
pub(crate) fn value_in(file: &Path) -> Result<String, Unread> {
    let shown = || shown_path(file).display().to_string();
    match std::fs::read_to_string(file) {
        Ok(text) if text.trim().is_empty() => {
            Err(Unread { what: format!("{} is empty", shown()), remedy: "write the value into it" })
        }
        Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
        Err(error) => Err(Unread {
            what: format!("cannot read {}: {error}", shown()),
            remedy: remedy_of(&error),
        }),
    }
}

/// Why there is no value in a file.
#[derive(Debug)]
pub(crate) struct Unread {
    pub(crate) what: String,
    pub(crate) remedy: &'static str,
}

/// What Kubernetes sets in every container beside a Service, here one whose name begins with
/// `nats-callout`: `NATS_CALLOUT_SERVICE_HOST`, `NATS_CALLOUT_PORT_4222_TCP_ADDR` and the like.
fn is_of_kubernetes(name: &str, text: &str) -> bool {
    let is_port = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let protocols = ["TCP", "UDP", "SCTP"];
    let is_link = || text.split_once("://").is_some_and(|(_, rest)| rest.contains(':'));
    let of_port = || {
        let (_, rest) = name.rsplit_once("_PORT_")?;
        let mut words = rest.split('_');
        let (port, protocol, last) = (words.next()?, words.next()?, words.next());
        let is_known = last.is_none_or(|last| matches!(last, "PROTO" | "PORT" | "ADDR"));
        Some(is_port(port) && protocols.contains(&protocol) && is_known && words.next().is_none())
    };
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT") && is_port(text)
        || name.contains("_SERVICE_PORT_") && is_port(text)
        || name.ends_with("_PORT") && is_link()
        || of_port().unwrap_or_default()
}

/// The key that a variable overrides, and whether by a file with the value.
fn key_of(name: &str) -> Option<(String, bool)> {
    let of = |name: &str| {
        let known = SETTINGS.iter().find(|known| keys::env_name(known.name) == name);
        known.map(|known| known.name.to_owned()).or_else(|| keys::issuer_key(name))
    };
    let in_file = || of(name.strip_suffix(IN_FILE)?);
    of(name).map(|key| (key, false)).or_else(|| Some((in_file()?, true)))
}

/// Whether a variable is one of those that override keys, by its name's beginning.
fn is_override(name: &str) -> bool {
    name.starts_with(keys::PREFIX) && name != CONFIG_VARIABLE
}

/// That a variable is no key's, and which it may have been meant to be.
fn ignored(name: &str, issuers: &BTreeSet<String>) -> String {
    let of_issuers = format!("{}ISSUERS_", keys::PREFIX);
    let words = name.strip_prefix(&of_issuers).unwrap_or_default().to_ascii_lowercase();
    // An issuer of the environment alone has the name that it has there.
    let of_env = words.match_indices('_').filter_map(|(at, _)| Some(words.get(..at)?.to_owned()));
    let tables = issuers.iter().cloned().chain(of_env.filter(|it| keys::is_issuer_name(it)));
    let of_tables = tables.flat_map(|table| {
        let keys = keys::of_issuers().into_iter();
        keys.map(move |key| format!("{}.{table}.{key}", keys::ISSUERS))
    });
    let keys = SETTINGS.iter().map(|it| it.name.to_owned()).chain(of_tables);
    let names: Vec<String> = keys
        .map(|key| keys::env_name(&key))
        .flat_map(|name| [format!("{name}{IN_FILE}"), name])
        .collect();
    // What all have in common makes none of them nearer.
    let common = if words.is_empty() { keys::PREFIX } else { &of_issuers };
    let candidates = names.iter().filter_map(|name| name.strip_prefix(common));
    let near = nearest(name.strip_prefix(common).unwrap_or_default(), candidates)
        .map(|near| format!("; did you mean {common}{near}?"))
        .unwrap_or_default();
    format!("{name} overrides no key and is ignored{near}")
}

/// What is said of each variable of the process that would override a key and is none's, where there is no
/// configuration yet.
#[cfg(feature = "cli")]
pub(crate) fn unknown_variables() -> Vec<String> {
    std::env::vars_os()
        .filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)))
        .filter(|(name, text)| is_override(name) && !is_of_kubernetes(name, text))
        .filter(|(name, _)| key_of(name).is_none())
        .map(|(name, _)| ignored(&name, &BTreeSet::new()))
        .collect()
}

impl Reader<'_> {
    pub(super) fn read_env(&mut self, env: impl IntoIterator<Item = (String, String)>) {
        let mut unknown = Vec::new();
        for (name, text) in env {
            if !is_override(&name) {
                continue;
            }
            match key_of(&name) {
                Some((key, is_in_file)) => self.override_by(key, name, text, is_in_file),
                None if is_of_kubernetes(&name, &text) => {}
                None => unknown.push(name),
            }
        }
        let warn = |name: &String| ignored(name, &self.issuers);
        self.warnings = unknown.iter().map(warn).collect();
    }

    /// Takes what a variable holds, or what the file holds that it names. A key that is a file is that file.
    fn override_by(&mut self, key: String, name: String, text: String, is_in_file: bool) {
        let at = Origin::Env(name);
        let holds_value = is_in_file && !Setting::of(&key).is_some_and(Setting::names_files);
        let path = self.folder.join(&text);
        let text = match holds_value.then(|| value_in(&path)) {
            None => text,
            Some(Ok(held)) => {
                let is_secret = key.ends_with(".client_secret") || holds_password(&held);
                let variable = at.to_string();
                let file = std::path::absolute(&path);
                self.value_files.extend(file.map(|path| ValueFile { path, is_secret, variable }));
                held
            }
            Some(Err(Unread { what, remedy })) => {
                return self.problem(at, keys::display(&key), what, remedy);
            }
        };
        self.issuers.extend(named::issuer_of(&key));
        let entry = Entry { value: DeValue::String(text.into()), origin: at.clone() };
        if self.entries.insert(key.clone(), entry).is_some_and(|before| before.is_of_env()) {
            let remedy = format!("set one of {} and the same with {IN_FILE}", keys::env_name(&key));
            self.problem(at, keys::display(&key), "two variables say it", remedy);
        }
    }
}
