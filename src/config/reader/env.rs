//! The variables of the environment, each of which overrides a key.

use std::path::Path;

use toml::de::DeValue;

use super::super::settings::{SETTINGS, Setting};
use super::super::{ValueFile, keys};
use super::{Entry, Reader, named};
use crate::exposure::holds_password;
use crate::problem::Origin;
use crate::redact::shown_path;
use crate::spelling::nearest;

/// The end of a variable that names a file with the value: secrets are mounted as files.
const IN_FILE: &str = "_FILE";

/// Names the file itself, so it is no override.
const CONFIG_VARIABLE: &str = "NATS_CALLOUT_CONFIG";

/// The value that is the text of a file, without the ends of its last lines; or why it cannot be read.
pub(crate) fn value_in(file: &Path) -> Result<String, String> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(text.trim_end_matches(['\r', '\n']).to_owned()),
        Err(error) => Err(format!("cannot read {}: {error}", shown_path(file).display())),
    }
}

impl Reader<'_> {
    pub(super) fn read_env(&mut self, env: impl IntoIterator<Item = (String, String)>) {
        for (name, text) in env {
            if !name.starts_with(keys::PREFIX) || name == CONFIG_VARIABLE {
                continue;
            }
            let of = |name: &str| {
                let known = SETTINGS.iter().find(|known| keys::env_name(known.name) == name);
                known.map(|known| known.name.to_owned()).or_else(|| keys::issuer_key(name))
            };
            let in_file = || of(name.strip_suffix(IN_FILE)?);
            match of(&name).map(|key| (key, false)).or_else(|| Some((in_file()?, true))) {
                Some((key, is_in_file)) => self.override_by(key, name, text, is_in_file),
                None => {
                    let of_issuers = self.issuers.iter().flat_map(|issuer| {
                        let table = format!("{}.{issuer}", keys::ISSUERS);
                        keys::of_issuers().into_iter().map(move |key| format!("{table}.{key}"))
                    });
                    let all = SETTINGS.iter().map(|it| it.name.to_owned()).chain(of_issuers);
                    let names: Vec<String> = all.map(|key| keys::env_name(&key)).collect();
                    let near = nearest(&name, names.iter().map(String::as_str))
                        .map(|near| format!("; did you mean {near}?"))
                        .unwrap_or_default();
                    self.warnings.push(format!("{name} overrides no key and is ignored{near}"));
                }
            }
        }
    }

    /// Takes what a variable holds, or what the file holds that it names. A key that is a file is that file.
    fn override_by(&mut self, key: String, name: String, text: String, is_in_file: bool) {
        let at = Origin::Env(name);
        let holds_value = is_in_file && !Setting::of(&key).is_some_and(Setting::names_files);
        let text = match holds_value.then(|| value_in(Path::new(&text))) {
            None => text,
            Some(Ok(held)) => {
                let is_secret = key.ends_with(".client_secret") || holds_password(&held);
                let file = std::path::absolute(&text).map(|path| ValueFile { path, is_secret });
                self.value_files.extend(file);
                held
            }
            Some(Err(what)) => {
                let remedy = "restore it or correct its path";
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
