//! The section whose tables have names of their own, `[issuers.NAME]`: its keys are entries like all
//! others, as `issuers.NAME.key`.

use std::collections::BTreeSet;

use toml::de::{DeTable, DeValue};

use super::super::keys;
use super::{Entry, Reader};
use crate::document::instead_of;

impl<'a> Reader<'a> {
    /// The names of the tables `[issuers.NAME]`, whether of the file or of the environment.
    pub(in crate::config) fn named_tables(&self) -> BTreeSet<String> {
        self.issuers.clone()
    }

    pub(super) fn read_issuers(&mut self, tables: DeTable<'a>) {
        let known = keys::of_issuers();
        for (name, table) in tables {
            let at = self.document.origin(name.span().start);
            let name: &str = name.get_ref();
            let DeValue::Table(table) = table.into_inner() else {
                let remedy = "write it as [issuers.NAME], with its keys below";
                self.problem(at, format!("[issuers] {name}"), "no table", remedy);
                continue;
            };
            let section = format!("{}.{name}", keys::ISSUERS);
            if !keys::is_issuer_name(name) {
                let remedy = "choose one of 1 to 32 characters out of a-z, 0-9 and _";
                self.problem(at, format!("[{section}]"), "no name for an issuer", remedy);
                continue;
            }
            for (key, value) in table {
                let origin = self.document.origin(key.span().start);
                let key: &str = key.get_ref();
                if known.contains(&key) {
                    let entry = Entry { value: value.into_inner(), origin };
                    self.entries.insert(format!("{section}.{key}"), entry);
                } else {
                    let remedy = instead_of(key, &known, "its keys are");
                    self.problem(origin, format!("[{section}] {key}"), "unknown key", remedy);
                }
            }
            // A table with no key that is known is one all the same.
            self.issuers.insert(name.to_owned());
        }
    }
}

/// The table of issuers that a key is in, if it is in one.
pub(super) fn issuer_of(key: &str) -> Option<String> {
    let (name, _) = key.strip_prefix(keys::ISSUERS)?.strip_prefix('.')?.split_once('.')?;
    Some(name.to_owned())
}
