//! Reads typed values out of the file and the environment, and notes every mistake instead of
//! stopping at the first. [`super::settings`] says which keys there are, with defaults and ranges.

mod entry;
mod env;
mod files;
mod named;

#[cfg(feature = "cli")]
pub(crate) use self::env::{Unread, unknown_variables, value_in};

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use self::entry::{Entry, kind, string, whole};
use super::problem::{Origin, Problem};
use super::settings::{Applies, Kind, SETTINGS, Setting};
use super::units::{format_duration, format_size, parse_duration, parse_size};
use super::{ValueFile, keys};
use crate::document::{Document, instead_of};
use crate::redact::{REDACTED, may_be_encoded, without_likely_secrets, without_secrets};
use crate::spelling::nearest;

/// The values that were written and the mistakes that were found so far.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    document: Document<'a>,
    folder: &'a Path,
    entries: BTreeMap<String, Entry<'a>>,
    /// The names of the tables of issuers.
    issuers: BTreeSet<String>,
    /// The keys that nobody has written but a preset.
    of_presets: BTreeSet<String>,
    check_files: bool,
    syntax_is_sound: bool,
    warnings: Vec<String>,
    /// The files that variables name and whose text is a value.
    value_files: Vec<ValueFile>,
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
            of_presets: BTreeSet::new(),
            check_files,
            warnings: Vec::new(),
            value_files: Vec::new(),
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
                if SETTINGS.iter().any(|known| known.name == name) {
                    self.entries.insert(name, Entry { value: value.into_inner(), origin });
                } else {
                    self.unknown_key(origin, section, key.get_ref());
                }
            }
        }
    }

    fn unknown_top_level_key(&mut self, at: Origin, name: &str) {
        let remedy = match SETTINGS.iter().find(|known| known.key() == name) {
            Some(known) => format!("write it as {}", keys::display(known.name)),
            None => "remove it, or put it below its [section]".to_owned(),
        };
        self.problem(at, name.to_owned(), "a key outside of any section", remedy);
    }

    fn unknown_key(&mut self, at: Origin, section: &str, key: &str) {
        let known = SETTINGS.iter().filter(|known| known.section() == section);
        let here: Vec<&str> = known.map(Setting::key).collect();
        let elsewhere = SETTINGS.iter().find(|known| known.key() == key);
        let remedy = match elsewhere.filter(|_| nearest(key, here.iter().copied()).is_none()) {
            Some(known) => format!("did you mean {}?", keys::display(known.name)),
            None => instead_of(key, &here, &format!("the keys of [{section}] are")),
        };
        self.problem(at, format!("[{section}] {key}"), "unknown key", remedy);
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

    /// Writes a value that is not written, since a preset says it.
    pub(super) fn write_preset(&mut self, key: &str, value: &'static str) {
        let value = DeValue::String(value.into());
        let entry = Entry { value, origin: self.document.origin(None) };
        self.entries.insert(key.to_owned(), entry);
        self.of_presets.insert(key.to_owned());
    }

    /// Notes a mistake in the value of `key`, wherever it was written. If `what` repeats the value,
    /// it does so without what may be a secret in the wrong place.
    pub(super) fn wrong(&mut self, key: &str, what: impl Into<String>, remedy: impl Into<String>) {
        let values = self.entries.get(key).map(Entry::texts).unwrap_or_default();
        let secrets = values.into_iter().filter(|it| may_be_encoded(it));
        let what = secrets.fold(what.into(), |what, secret| what.replace(secret, REDACTED));
        self.wrong_path(key, without_likely_secrets(&what), remedy);
    }

    /// [`Self::wrong`], where `what` names a path as it may be shown, however like a secret it looks.
    pub(super) fn wrong_path(
        &mut self,
        key: &str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.problem(self.origin(key), keys::display(key), what, remedy);
    }

    /// Whether more is said of `key` already: that the file cannot be read, say, that has its value.
    pub(super) fn is_wrong(&self, key: &str) -> bool {
        self.document.problems.iter().any(|it| it.key == keys::display(key))
    }

    /// Notes that `key` has to be written and is not. The service's unit may have it where a shell does not.
    pub(super) fn missing(&mut self, key: &str, remedy: &str) {
        if self.syntax_is_sound && !self.is_wrong(key) && !self.entries.contains_key(key) {
            self.wrong(key, "missing", format!("{remedy}, {}", or_set(key)));
        }
    }

    /// Refuses the keys that have no meaning in the active mode.
    pub(super) fn refuse_other_mode(&mut self, mode: Applies, mode_name: &str, other_name: &str) {
        for other in SETTINGS.iter().filter(|it| !it.is_of(mode)) {
            if self.has(other.name) {
                self.wrong(
                    other.name,
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

    /// The files beside the configuration that values were read from.
    pub(super) fn value_files(&self) -> Vec<ValueFile> {
        self.value_files.clone()
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

    /// What is written at `key`, if `read` finds it to be what is expected.
    fn read<T>(
        &mut self,
        key: &str,
        expected: &str,
        example: &str,
        read: impl FnOnce(&Entry<'_>) -> Result<T, &'static str>,
    ) -> Option<T> {
        let wrong =
            |found| (format!("expected {expected}, found {found}"), format!("write {example}"));
        let found = read(self.entries.get(key)?).map_err(wrong);
        found.map_err(|(what, remedy)| self.wrong(key, what, remedy)).ok()
    }

    fn written(&mut self, key: &str) -> Option<String> {
        self.read(key, "a string", "it in double quotes", |entry| string(&entry.value))
    }

    /// Whether the file or the environment has it.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Where it is written.
    pub(super) fn origin(&self, key: &str) -> Origin {
        let entry = self.entries.get(key).map(|entry| entry.origin.clone());
        entry.unwrap_or_else(|| self.document.origin(None))
    }

    /// A string.
    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        self.written(key).or_else(|| Kind::of(key).text().map(str::to_owned))
    }

    /// A string that `parse` turns into a value, or says why not.
    pub(super) fn parsed<T>(
        &mut self,
        key: &str,
        remedy: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        if let Some(text) = self.written(key) {
            match one_line(&text).and_then(|()| parse(&text)) {
                Ok(value) => return Some(value),
                Err(what) => self.wrong(key, what, remedy),
            }
        }
        parse(Kind::of(key).text()?).ok()
    }

    /// One of the words that there are for it.
    pub(super) fn word(&mut self, key: &str, remedy: &str) -> &'static str {
        let Kind::Word(words) = Kind::of(key) else { return "" };
        let none = if words.len() == 2 { "neither" } else { "none of them" };
        let known = |text: &str| words.iter().find(|word| **word == text).copied();
        let read = |text: &str| known(text).ok_or_else(|| format!("`{text}` is {none}"));
        self.parsed(key, remedy, read).unwrap_or_default()
    }

    /// A duration within its range.
    pub(super) fn duration(&mut self, key: &str) -> Duration {
        let Kind::Time(default, range) = Kind::of(key) else { return Duration::ZERO };
        let value = self.parsed(key, "", parse_duration).unwrap_or(*default);
        self.within(key, value, range, |time| format_duration(*time))
    }

    /// A size within its range.
    pub(super) fn size(&mut self, key: &str) -> u64 {
        let Kind::Size(default, range) = Kind::of(key) else { return 0 };
        let value = self.parsed(key, "", parse_size).unwrap_or(*default);
        self.within(key, value, range, |size| format_size(*size))
    }

    /// A whole number within its range.
    pub(super) fn count<T: TryFrom<i64> + Default>(&mut self, key: &str) -> T {
        let Kind::Count(default, range) = Kind::of(key) else { return T::default() };
        let example = format!("one such as {default}");
        let number = self.read(key, "a whole number", &example, |entry| entry.typed(whole));
        let number = self.within(key, number.unwrap_or(*default), range, i64::to_string);
        T::try_from(number).unwrap_or_default()
    }

    fn within<T: PartialOrd>(
        &mut self,
        key: &str,
        value: T,
        range: &RangeInclusive<T>,
        shown: impl Fn(&T) -> String,
    ) -> T {
        if !range.contains(&value) {
            let (least, most) = (shown(range.start()), shown(range.end()));
            let what = format!("{} is out of range", shown(&value));
            self.wrong(key, what, format!("choose one from {least} to {most}"));
        }
        value
    }

    /// `true` or `false`.
    pub(super) fn switch(&mut self, key: &str) -> Option<bool> {
        // A variable has no quotes.
        let is_of_env = self.entries.get(key).is_some_and(Entry::is_of_env);
        let example = if is_of_env { "one of them" } else { "one of them, without quotes" };
        let read = |entry: &Entry<'_>| entry.typed(|it| it.as_bool());
        self.read(key, "true or false", example, read)
            .or(if let Kind::Switch(default) = Kind::of(key) { Some(*default) } else { None })
    }

    /// A list of strings; comma-separated in the environment.
    pub(super) fn list(&mut self, key: &str) -> Vec<String> {
        let example = "them as [\"a\", \"b\"]";
        let read = self.read(key, "a list of strings", example, |entry| match &entry.value {
            DeValue::Array(values) => values.iter().map(|it| string(it.get_ref())).collect(),
            DeValue::String(text) if entry.is_of_env() => Ok(split_list(text)),
            other => Err(kind(other)),
        });
        let default = if let Kind::List(list) = Kind::of(key) { *list } else { &[] };
        read.unwrap_or_else(|| default.iter().map(|it| (*it).to_owned()).collect())
    }

    /// A table of strings; `key=value,key=value` in the environment.
    pub(super) fn table(&mut self, key: &str) -> BTreeMap<String, String> {
        let example = "it as { NAME = \"value\" }";
        let pair = |pair: String| {
            let (name, value) = pair.split_once('=').ok_or("a name without `=`")?;
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        };
        let read = self.read(key, "a table of strings", example, |entry| match &entry.value {
            DeValue::Table(table) => table
                .iter()
                .map(|(name, it)| Ok((name.get_ref().to_string(), string(it.get_ref())?)))
                .collect(),
            DeValue::String(text) if entry.is_of_env() => {
                split_list(text).into_iter().map(pair).collect()
            }
            other => Err(kind(other)),
        });
        read.unwrap_or_default()
    }
}

/// Which variables have the value of a key, too.
pub(super) fn or_set(key: &str) -> String {
    let name = keys::env_name(key);
    match Setting::of(key).is_some_and(Setting::names_files) {
        true => format!("or set {name}, as the service's unit may"),
        false => format!("or set {name} or {name}_FILE, as the service's unit may"),
    }
}

/// No value has a second line, which a file that a variable names may have. The text may be a secret.
fn one_line(text: &str) -> Result<(), String> {
    match text.contains(char::is_control) {
        true => Err("a line break or another control character in it".to_owned()),
        false => Ok(()),
    }
}

fn split_list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}
