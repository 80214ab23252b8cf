//! Reads typed values out of the file and the environment, and notes every mistake instead of
//! stopping at the first. [`super::Config`] says which keys there are and what they mean.

mod named;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::keys::{self, Applies, KEYS};
use super::problem::{Origin, Problem};
use super::units::{format_size, parse_duration, parse_size};
use crate::document::Document;
use crate::redact::{without_likely_secrets, without_secrets};
use crate::spelling::nearest;

const PREFIX: &str = "NATS_CALLOUT_";
/// Names the file itself, so it is no override.
const CONFIG_VARIABLE: &str = "NATS_CALLOUT_CONFIG";

fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) if whole(value).is_none() => "a number out of range",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn string(value: &DeValue<'_>) -> Result<String, &'static str> {
    value.as_str().map(str::to_owned).ok_or_else(|| kind(value))
}

fn whole(value: &DeValue<'_>) -> Option<i64> {
    let number = value.as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

#[derive(Debug)]
struct Entry<'a> {
    value: DeValue<'a>,
    origin: Origin,
}

/// The values that were written and the mistakes that were found so far.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    document: Document<'a>,
    folder: &'a Path,
    entries: BTreeMap<String, Entry<'a>>,
    /// The names of the tables of issuers.
    issuers: BTreeSet<String>,
    check_files: bool,
    syntax_is_sound: bool,
    warnings: Vec<String>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        file: &'a Path,
        folder: &'a Path,
        text: &'a str,
        env: impl IntoIterator<Item = (String, String)>,
        check_files: bool,
    ) -> Self {
        let mut document = Document::new(file, text);
        let table =
            document.table("write `key = value` below a `[section]`, with text in double quotes");
        let mut reader = Self {
            syntax_is_sound: document.problems.is_empty(),
            document,
            folder,
            entries: BTreeMap::new(),
            issuers: BTreeSet::new(),
            check_files,
            warnings: Vec::new(),
        };
        reader.read_file(table);
        reader.read_env(env);
        reader
    }

    fn read_file(&mut self, table: DeTable<'a>) {
        for (section, value) in table {
            let at = self.document.origin(section.span().start);
            let section: &str = section.get_ref();
            let DeValue::Table(section_table) = value.into_inner() else {
                self.unknown_top_level_key(at, section);
                continue;
            };
            if !keys::sections().contains(&section) {
                let remedy = match nearest(section, keys::sections()) {
                    Some(near) => format!("did you mean [{near}]?"),
                    None => format!("the sections are {}", keys::sections().join(", ")),
                };
                self.problem(at, format!("[{section}]"), "unknown section", remedy);
                continue;
            }
            if section == keys::ISSUERS {
                self.read_issuers(section_table);
                continue;
            }
            for (key, value) in section_table {
                let origin = self.document.origin(key.span().start);
                let name = format!("{section}.{}", key.get_ref());
                if KEYS.iter().any(|(known, _)| *known == name) {
                    self.entries.insert(name, Entry { value: value.into_inner(), origin });
                } else {
                    self.unknown_key(origin, section, key.get_ref());
                }
            }
        }
    }

    fn unknown_top_level_key(&mut self, at: Origin, name: &str) {
        let owner = KEYS
            .iter()
            .find(|(known, _)| known.split_once('.').is_some_and(|(_, key)| key == name));
        let remedy = match owner {
            Some((known, _)) => format!("write it as {}", keys::display(known)),
            None => "remove it, or put it below its [section]".to_owned(),
        };
        self.problem(at, name.to_owned(), "a key outside of any section", remedy);
    }

    fn unknown_key(&mut self, at: Origin, section: &str, key: &str) {
        let in_section = |known: &'static str| {
            known.split_once('.').filter(|(of, _)| *of == section).map(|(_, key)| key)
        };
        let here: Vec<&str> = KEYS.iter().filter_map(|(known, _)| in_section(known)).collect();
        let elsewhere = KEYS
            .iter()
            .find(|(known, _)| known.split_once('.').is_some_and(|(_, other)| other == key));
        let remedy = match (nearest(key, here.iter().copied()), elsewhere) {
            (Some(near), _) => format!("did you mean `{near}`?"),
            (None, Some((known, _))) => format!("did you mean {}?", keys::display(known)),
            (None, None) => format!("the keys of [{section}] are {}", here.join(", ")),
        };
        self.problem(at, format!("[{section}] {key}"), "unknown key", remedy);
    }

    fn read_env(&mut self, env: impl IntoIterator<Item = (String, String)>) {
        for (name, text) in env {
            if !name.starts_with(PREFIX) || name == CONFIG_VARIABLE {
                continue;
            }
            let known = KEYS.iter().find(|(key, _)| keys::env_name(key) == name);
            match known.map(|(key, _)| (*key).to_owned()).or_else(|| keys::issuer_key(&name)) {
                Some(key) => {
                    let value = DeValue::String(text.into());
                    let entry = Entry { value, origin: Origin::Env(name) };
                    self.issuers.extend(named::issuer_of(&key));
                    self.entries.insert(key, entry);
                }
                None => {
                    let of_issuers = self.issuers.iter().flat_map(|issuer| {
                        let table = format!("{}.{issuer}", keys::ISSUERS);
                        keys::ISSUER_KEYS.iter().map(move |key| format!("{table}.{key}"))
                    });
                    let all = KEYS.iter().map(|(key, _)| (*key).to_owned()).chain(of_issuers);
                    let names: Vec<String> = all.map(|key| keys::env_name(&key)).collect();
                    let near = nearest(&name, names.iter().map(String::as_str))
                        .map(|near| format!("; did you mean {near}?"))
                        .unwrap_or_default();
                    self.warnings.push(format!("{name} overrides no key and is ignored{near}"));
                }
            }
        }
    }

    fn problem(
        &mut self,
        at: Origin,
        key: String,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let key = without_likely_secrets(&key).into_owned();
        let what = without_secrets(&what.into()).into_owned();
        self.document.problems.push(Problem { at, key, what, remedy: remedy.into() });
    }

    /// Whether `key` is written.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Notes a mistake in the value of `key`, wherever it was written. If `what` repeats the value,
    /// it does so without what may be a secret in the wrong place.
    pub(super) fn wrong(&mut self, key: &str, what: impl Into<String>, remedy: impl Into<String>) {
        self.wrong_path(key, without_likely_secrets(&what.into()), remedy);
    }

    /// [`Self::wrong`], where `what` names a path, which may well look like a secret.
    fn wrong_path(&mut self, key: &str, what: impl Into<String>, remedy: impl Into<String>) {
        let at = match self.entries.get(key) {
            Some(entry) => entry.origin.clone(),
            None => self.document.origin(None),
        };
        self.problem(at, keys::display(key), what, remedy);
    }

    /// Notes that `key` has to be written and is not.
    pub(super) fn missing(&mut self, key: &str, remedy: &str) {
        if self.syntax_is_sound && !self.entries.contains_key(key) {
            self.wrong(key, "missing", remedy);
        }
    }

    /// Refuses the keys that have no meaning in the active mode.
    pub(super) fn refuse_other_mode(&mut self, mode: Applies, mode_name: &str, other_name: &str) {
        for (key, applies) in KEYS {
            if *applies != Applies::Always && *applies != mode && self.entries.contains_key(*key) {
                self.wrong(
                    key,
                    format!("belongs to the mode `{other_name}`, and [nats] mode is `{mode_name}`"),
                    "remove it, or change the mode",
                );
            }
        }
    }

    /// Notes that the list in `key` is empty, unless it is missing as a whole.
    pub(super) fn empty(&mut self, key: &str, remedy: &str) {
        let empty = self.entries.get(key).is_some_and(|entry| match &entry.value {
            DeValue::Array(values) => values.is_empty(),
            DeValue::String(text) => split_list(text).is_empty(),
            _ => false,
        });
        if empty {
            self.wrong(key, "an empty list", remedy);
        }
    }

    /// The warnings, and the mistakes in the order of the file.
    pub(super) fn finish(self) -> (Vec<String>, Vec<Problem>) {
        let mut problems = self.document.problems;
        problems.sort_by_key(|problem| match &problem.at {
            Origin::Line(_, line) => (0, *line),
            Origin::File(_) => (1, 0),
            Origin::Env(_) => (2, 0),
        });
        (self.warnings, problems)
    }

    fn mismatch(&mut self, key: &str, found: &'static str, expected: &str, example: &str) {
        self.wrong(key, format!("expected {expected}, found {found}"), format!("write {example}"));
    }

    /// A string.
    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        let value = &self.entries.get(key)?.value;
        if let DeValue::String(text) = value {
            return Some(text.clone().into_owned());
        }
        let found = kind(value);
        self.mismatch(key, found, "a string", "it in double quotes");
        None
    }

    /// A string that `parse` turns into a value, or says why not.
    pub(super) fn parsed<T>(
        &mut self,
        key: &str,
        remedy: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(key)?;
        match parse(&text) {
            Ok(value) => Some(value),
            Err(what) => {
                self.wrong(key, what, remedy);
                None
            }
        }
    }

    /// A duration within `range`.
    pub(super) fn duration(
        &mut self,
        key: &str,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let Some(value) = self.parsed(key, "", parse_duration) else {
            return default;
        };
        if !range.contains(&value) {
            let remedy = format!("choose one from {:?} to {:?}", range.start(), range.end());
            self.wrong(key, format!("{value:?} is out of range"), remedy);
        }
        value
    }

    /// A size within `range`.
    pub(super) fn size(&mut self, key: &str, default: u64, range: RangeInclusive<u64>) -> u64 {
        let Some(value) = self.parsed(key, "", parse_size) else {
            return default;
        };
        if !range.contains(&value) {
            let (least, most) = (format_size(*range.start()), format_size(*range.end()));
            let what = format!("{} is out of range", format_size(value));
            self.wrong(key, what, format!("choose one from {least} to {most}"));
        }
        value
    }

    /// A whole number within `range`.
    pub(super) fn count(&mut self, key: &str, default: usize, range: RangeInclusive<i64>) -> usize {
        let Some(entry) = self.entries.get(key) else {
            return default;
        };
        let number = match (&entry.value, &entry.origin) {
            (DeValue::String(text), Origin::Env(_)) => text.trim().parse().ok(),
            (value, _) => whole(value),
        };
        let Some(number) = number else {
            let found = kind(&entry.value);
            self.mismatch(key, found, "a whole number", &format!("one such as {default}"));
            return default;
        };
        if range.contains(&number) {
            usize::try_from(number).unwrap_or(default)
        } else {
            let remedy = format!("choose one from {} to {}", range.start(), range.end());
            self.wrong(key, format!("{number} is out of range"), remedy);
            default
        }
    }

    /// `true` or `false`.
    pub(super) fn switch(&mut self, key: &str, default: bool) -> bool {
        let Some(entry) = self.entries.get(key) else {
            return default;
        };
        let value = match (&entry.value, &entry.origin) {
            (DeValue::Boolean(value), _) => Some(*value),
            (DeValue::String(text), Origin::Env(_)) => text.trim().parse().ok(),
            _ => None,
        };
        value.unwrap_or_else(|| {
            let found = self.entries.get(key).map_or("nothing", |entry| kind(&entry.value));
            self.mismatch(key, found, "true or false", "one of them, without quotes");
            default
        })
    }

    /// A list of strings; comma-separated in the environment.
    pub(super) fn list(&mut self, key: &str) -> Option<Vec<String>> {
        let entry = self.entries.get(key)?;
        let found = match (&entry.value, &entry.origin) {
            (DeValue::Array(values), _) => values.iter().map(|it| string(it.get_ref())).collect(),
            (DeValue::String(text), Origin::Env(_)) => Ok(split_list(text)),
            (other, _) => Err(kind(other)),
        };
        match found {
            Ok(list) => Some(list),
            Err(kind) => {
                self.mismatch(key, kind, "a list of strings", "them as [\"a\", \"b\"]");
                None
            }
        }
    }

    /// A table of strings; `key=value,key=value` in the environment.
    pub(super) fn table(&mut self, key: &str) -> Option<BTreeMap<String, String>> {
        let entry = self.entries.get(key)?;
        let found = match (&entry.value, &entry.origin) {
            (DeValue::Table(table), _) => table
                .iter()
                .map(|(name, it)| Ok((name.get_ref().to_string(), string(it.get_ref())?)))
                .collect(),
            (DeValue::String(text), Origin::Env(_)) => split_list(text)
                .into_iter()
                .map(|pair| {
                    pair.split_once('=')
                        .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
                        .ok_or("a name without `=`")
                })
                .collect(),
            (other, _) => Err(kind(other)),
        };
        match found {
            Ok(table) => Some(table),
            Err(kind) => {
                self.mismatch(key, kind, "a table of strings", "it as { NAME = \"value\" }");
                None
            }
        }
    }

    /// The path of a file, which has to be there where files are looked at.
    pub(super) fn file(&mut self, key: &str, default: &str) -> PathBuf {
        let text = self.text(key).unwrap_or_else(|| default.to_owned());
        self.existing(key, &text)
    }

    /// A file that there need not be; an empty text names none.
    pub(super) fn optional_file(&mut self, key: &str) -> Option<PathBuf> {
        let text = self.text(key).filter(|text| !text.is_empty())?;
        Some(self.existing(key, &text))
    }

    /// One or two key files of one purpose, the first of which is the one in use.
    pub(super) fn generations(&mut self, key: &str) -> Vec<PathBuf> {
        let files = self.list(key).unwrap_or_default();
        if files.len() > 2 {
            self.wrong(
                key,
                format!("{} files", files.len()),
                "list at most two: the one in use, then the next or the previous one",
            );
        }
        files.iter().map(|file| self.existing(key, file)).collect()
    }

    fn existing(&mut self, key: &str, text: &str) -> PathBuf {
        if text.is_empty() {
            self.wrong(key, "an empty path", "name a file");
        }
        let path = self.folder.join(text);
        let shown = self.folder.join(&*without_likely_secrets(text));
        if self.check_files && !text.is_empty() {
            match std::fs::metadata(&path) {
                Ok(found) if found.is_file() => {}
                Ok(_) => self.wrong_path(
                    key,
                    format!("{} is no file", shown.display()),
                    "name the file itself",
                ),
                Err(error) => self.wrong_path(
                    key,
                    format!("cannot read {}: {error}", shown.display()),
                    "restore the file, or correct the path (relative ones start at the \
                     configuration file's folder)",
                ),
            }
        }
        path
    }
}

fn split_list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}
