//! What a policy file says, once it is read: a rule for each form of isolation, line by line.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::admission::{Admission, Lined};
use super::template::Template;
use super::{Responses, RuleName};
use crate::store::Isolation;

/// What a line of a section gives or takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Permission {
    /// To publish.
    Publish,
    /// To subscribe.
    Subscribe,
    /// Not to publish, although allowed.
    DenyPublish,
    /// Not to subscribe, although allowed.
    DenySubscribe,
}

/// One template of a section.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) permission: Permission,
    pub(super) template: Template,
    /// For tenants with a JetStream limit above zero.
    pub(super) only_with_jetstream: bool,
    /// Counted from 1.
    pub(super) line: usize,
    /// The preset that it is part of.
    pub(super) preset: Option<Box<str>>,
}

/// A section.
#[derive(Debug, Clone, Default)]
pub(super) struct Rule {
    pub(super) name: Option<Arc<RuleName>>,
    pub(super) lines: Vec<Line>,
    pub(super) responses: Option<Lined<Responses>>,
    pub(super) ttl: Option<Lined<Duration>>,
    pub(super) no_renewal: bool,
    pub(super) admission: Admission,
    /// How many lines there are of publish, subscribe and the two denials.
    pub(super) counts: [usize; 4],
}

/// A file.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) path: PathBuf,
    pub(super) account: Rule,
    pub(super) shared: Rule,
}

impl Line {
    /// The key that it is written under.
    pub(super) fn key(&self) -> &'static str {
        match self.permission {
            _ if self.preset.is_some() => "presets",
            Permission::Publish if self.only_with_jetstream => "jetstream_publish",
            Permission::Publish => "publish",
            Permission::Subscribe => "subscribe",
            Permission::DenyPublish => "deny_publish",
            Permission::DenySubscribe => "deny_subscribe",
        }
    }
}

impl Rules {
    pub(super) fn of(&self, form: Isolation) -> &Rule {
        match form {
            Isolation::Account => &self.account,
            Isolation::Shared => &self.shared,
        }
    }
}

impl Rule {
    /// Counts the lines, once they are all there.
    pub(super) fn count(&mut self) {
        self.counts = [
            Permission::Publish,
            Permission::Subscribe,
            Permission::DenyPublish,
            Permission::DenySubscribe,
        ]
        .map(|permission| self.lines.iter().filter(|it| it.permission == permission).count());
    }
}
