//! Which connections are meant.

use std::collections::BTreeMap;
use std::time::Duration;

/// How long ago it was changed what a connection may do. Those that are younger are left alone.
pub(super) type Age = Duration;

/// Which connections are meant, account by account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Selection(pub(super) BTreeMap<String, Members>);

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Members {
    pub(super) everyone: Option<Age>,
    pub(super) users: BTreeMap<String, Age>,
    /// What login names begin with.
    pub(super) prefixes: BTreeMap<String, Age>,
}

impl Selection {
    /// Adds every connection in an account that began before a change of this age.
    pub(crate) fn add_account(&mut self, account: impl Into<String>, age: Duration) {
        let members = self.0.entry(account.into()).or_default();
        members.everyone = Some(members.everyone.map_or(age, |known| known.min(age)));
    }

    /// Adds a user's connections in an account that began before a change of this age.
    pub(crate) fn add_user(&mut self, account: &str, user: impl Into<String>, age: Duration) {
        let members = self.0.entry(account.to_owned()).or_default();
        let known = members.users.entry(user.into()).or_insert(age);
        *known = age.min(*known);
    }

    /// Adds the connections in an account of all users whose login name begins with `prefix`, and
    /// that began before a change of this age.
    pub(crate) fn add_prefix(&mut self, account: &str, prefix: impl Into<String>, age: Duration) {
        let members = self.0.entry(account.to_owned()).or_default();
        let known = members.prefixes.entry(prefix.into()).or_insert(age);
        *known = age.min(*known);
    }

    /// Whether it is about nobody.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Members {
    pub(super) fn age(&self, user: &str) -> Option<Age> {
        let of_user = self.users.get(user).copied();
        let of_prefix =
            self.prefixes.iter().filter(|(prefix, _)| user.starts_with(prefix.as_str()));
        let of_prefix = of_prefix.map(|(_, age)| *age);
        self.everyone.into_iter().chain(of_user).chain(of_prefix).min()
    }
}
