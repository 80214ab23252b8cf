//! Reads a policy file: the sections `[account]` and `[shared]`, every value with its line, and
//! every mistake instead of the first alone. [`super::rules`] applies what is read here.

mod values;

use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use self::values::{Text, connection_type};
use super::admission::{Admission, ConnectionType, Lined, parse_net};
use super::rule::{Line, Permission, Rule, Rules};
use super::template::Template;
use super::times::Schedule;
use super::{RuleName, preset};
use crate::document::{Document, instead_of};
use crate::problem::Problem;
use crate::spelling::nearest;
use crate::store::Isolation;

/// The shortest life of a grant, as `[callout] ttl` has it.
const SHORTEST: Duration = Duration::from_secs(10);

/// The keys of a section, in the order in which they are documented.
const KEYS: [&str; 13] = [
    "publish",
    "subscribe",
    "presets",
    "jetstream_publish",
    "deny_publish",
    "deny_subscribe",
    "responses",
    "connections",
    "allow_from",
    "times",
    "timezone",
    "ttl",
    "renew",
];

/// What a JWT could hold and nats-server ignores in that of an auth callout, with what to do.
const IGNORED: [(&str, &str); 5] = [
    ("subs", "limit what may be subscribed with `subscribe`"),
    ("payload", "set max_payload in nats-server.conf"),
    ("data", "limit what a tenant stores with its column js_storage"),
    ("src", "write allow_from = [\"10.0.0.0/8\"], which is enforced at each login"),
    (
        "allowed_connection_types",
        "write connections = [\"nats\", \"websocket\"], which is enforced at each login",
    ),
];

/// Who may connect by what in an account that others share, unless a file says otherwise: MQTT and
/// leaf nodes have subjects of their own, which permissions do not keep apart.
const SHARED_CONNECTIONS: [ConnectionType; 2] = [ConnectionType::Nats, ConnectionType::Websocket];

/// Reads a file's text, or says what is wrong in it.
pub(super) fn parse(policy: &str, path: &Path, text: &str) -> Result<Rules, Vec<Problem>> {
    let mut document = Document::new(path, text);
    let table = document
        .table("write `key = value` below [account] or [shared], with text in double quotes");
    let is_sound = document.problems.is_empty();
    let (mut account, mut shared) = (None, None);
    for (name, value) in &table {
        let at = name.span().start;
        let name: &str = name.get_ref();
        let rule = |mut rule: Rule, at| {
            rule.name = Some(Arc::new(RuleName { policy: policy.to_owned(), at }));
            Some(rule)
        };
        match (name, value.get_ref()) {
            ("account", DeValue::Table(section)) => {
                account = rule(document.section(Isolation::Account, section), document.origin(at));
            }
            ("shared", DeValue::Table(section)) => {
                shared = rule(document.section(Isolation::Shared, section), document.origin(at));
            }
            (_, DeValue::Table(_)) => {
                let remedy = match nearest(name, ["account", "shared"]) {
                    Some(near) => format!("did you mean [{near}]?"),
                    None => "a policy has [account] and [shared]".to_owned(),
                };
                document.problem(at, &format!("[{name}]"), "unknown section", remedy);
            }
            _ => document.problem(
                at,
                name,
                "a key outside of any section",
                "put it below [account] or [shared]",
            ),
        }
    }
    for (isolation, found) in [(Isolation::Account, &account), (Isolation::Shared, &shared)] {
        if is_sound && found.is_none() {
            let key = format!("[{}]", isolation.as_str());
            document.problem(None, &key, "missing", "write it; an empty section grants nothing");
        }
    }
    match (account, shared) {
        (Some(account), Some(shared)) if document.problems.is_empty() => {
            Ok(Rules { path: PathBuf::from(path), account, shared })
        }
        _ => Err(document.problems),
    }
}

impl Document<'_> {
    fn section(&mut self, isolation: Isolation, section: &DeTable<'_>) -> Rule {
        let mut rule = Rule::default();
        if isolation == Isolation::Shared {
            let value = SHARED_CONNECTIONS.to_vec();
            rule.admission.connections = Some(Lined { value, line: None });
        }
        let mut zone = None;
        let mut times: Option<(Vec<Text<'_>>, usize)> = None;
        for (key, value) in section {
            let at = key.span().start;
            let name: &str = key.get_ref();
            let shown = format!("[{}] {name}", isolation.as_str());
            let line = Some(self.line(at));
            let mut templates =
                |permission| self.templates(&mut rule, isolation, permission, &shown, value);
            match name {
                "publish" => templates(Permission::Publish),
                "subscribe" => templates(Permission::Subscribe),
                "deny_publish" => templates(Permission::DenyPublish),
                "deny_subscribe" => templates(Permission::DenySubscribe),
                "presets" | "jetstream_publish" | "responses" if isolation == Isolation::Shared => {
                    let (what, remedy) = not_shared(name);
                    self.problem(at, &shown, what, remedy);
                }
                "jetstream_publish" => {
                    let known = rule.lines.len();
                    self.templates(&mut rule, isolation, Permission::Publish, &shown, value);
                    for line in rule.lines.iter_mut().skip(known) {
                        line.only_with_jetstream = true;
                    }
                }
                "presets" => self.presets(&mut rule, &shown, value),
                "responses" => {
                    rule.responses =
                        self.responses(&shown, at, value).map(|value| Lined { value, line });
                }
                "connections" => {
                    let value = self.parsed(&shown, value, connection_type);
                    if isolation == Isolation::Shared
                        && value.iter().flatten().any(|it| *it == ConnectionType::Leafnode)
                    {
                        let (what, remedy) = not_shared(name);
                        self.problem(at, &shown, what, remedy);
                    }
                    rule.admission.connections = value.map(|value| Lined { value, line });
                }
                "allow_from" => {
                    let value = self.parsed(&shown, value, parse_net);
                    rule.admission.allow_from = value.map(|value| Lined { value, line });
                }
                "times" => times = self.filled(&shown, value).map(|texts| (texts, at)),
                "timezone" => zone = Some((at, self.zone(&shown, at, value))),
                "ttl" => {
                    let ttl = self.seconds(&shown, at, value, SHORTEST);
                    if ttl.is_some_and(|ttl| ttl < SHORTEST) {
                        let remedy = "write 10 or more: a shorter one could not be renewed in time";
                        self.problem(at, &shown, "too short a life for a grant", remedy);
                    }
                    rule.ttl = ttl.map(|value| Lined { value, line });
                }
                "renew" => rule.no_renewal = self.truth(&shown, at, value) == Some(false),
                _ => self.unknown(at, isolation, name),
            }
        }
        self.times(&mut rule.admission, isolation, times, zone);
        rule.count();
        rule
    }

    fn unknown(&mut self, at: usize, isolation: Isolation, name: &str) {
        let shown = format!("[{}] {name}", isolation.as_str());
        if let Some((_, instead)) = IGNORED.iter().find(|(ignored, _)| *ignored == name) {
            let what = "nats-server ignores this in the JWTs of an auth callout";
            return self.problem(at, &shown, what, *instead);
        }
        if name == "refuse_connections" {
            let what = "unknown key";
            let remedy = "list those that may connect: connections = [\"nats\", \"websocket\"]";
            return self.problem(at, &shown, what, remedy);
        }
        self.problem(at, &shown, "unknown key", instead_of(name, &KEYS, "the keys are"));
    }

    fn templates(
        &mut self,
        rule: &mut Rule,
        isolation: Isolation,
        permission: Permission,
        key: &str,
        value: &Spanned<DeValue<'_>>,
    ) {
        for (text, at) in self.list(key, value).unwrap_or_default() {
            let template = match Template::from_str(text) {
                Ok(template) => template,
                Err(error) => {
                    self.problem(at, key, error.to_string(), error.remedy());
                    continue;
                }
            };
            if isolation == Isolation::Shared && !stays(permission, text, &template) {
                let what = format!("`{text}` leads out of the tenant's own subjects");
                let remedy = match permission {
                    Permission::Publish => {
                        "tenants of this account are kept apart by permissions alone: begin with \
                         user.{{tenant.id}}. or _INBOX_{{tenant.id}}., or write _R_.> for answers"
                    }
                    _ => {
                        "tenants of this account are kept apart by permissions alone: begin with \
                         user.{{tenant.id}}. or _INBOX_{{tenant.id}}."
                    }
                };
                self.problem(at, key, what, remedy);
                continue;
            }
            let line = self.line(at);
            rule.lines.push(Line {
                permission,
                template,
                only_with_jetstream: false,
                line,
                preset: None,
            });
        }
    }

    fn presets(&mut self, rule: &mut Rule, key: &str, value: &Spanned<DeValue<'_>>) {
        for (text, at) in self.list(key, value).unwrap_or_default() {
            match preset::parse(text) {
                Ok(templates) => {
                    let line = self.line(at);
                    rule.lines.extend(templates.into_iter().map(|template| Line {
                        permission: Permission::Publish,
                        template,
                        only_with_jetstream: false,
                        line,
                        preset: Some(text.into()),
                    }));
                }
                Err(error) => self.problem(at, key, error.to_string(), error.remedy()),
            }
        }
    }

    fn times(
        &mut self,
        admission: &mut Admission,
        isolation: Isolation,
        times: Option<(Vec<Text<'_>>, usize)>,
        zone: Option<(usize, Option<TimeZone>)>,
    ) {
        let Some((texts, at)) = times else {
            if let Some((at, _)) = zone {
                let key = format!("[{}] timezone", isolation.as_str());
                self.problem(at, &key, "without `times`", "write times as well, or remove it");
            }
            return;
        };
        let key = format!("[{}] times", isolation.as_str());
        let zone = zone.map_or(Some(TimeZone::UTC), |(_, zone)| zone).unwrap_or(TimeZone::UTC);
        let plain: Vec<&str> = texts.iter().map(|(text, _)| *text).collect();
        match Schedule::new(&plain, zone) {
            Ok(value) => {
                let line = Some(self.line(at));
                admission.times = Some(Lined { value, line });
            }
            Err(errors) => {
                for (index, error) in errors {
                    let at = texts.get(index).map_or(at, |(_, at)| *at);
                    self.problem(at, &key, error.to_string(), error.remedy());
                }
            }
        }
    }
}

/// Whether what a template gives to one tenant of a shared account is no other's.
fn stays(permission: Permission, text: &str, template: &Template) -> bool {
    match permission {
        Permission::DenyPublish | Permission::DenySubscribe => true,
        // The answers to BB's requests: a service import's reply subjects, which nobody can guess.
        Permission::Publish if text == "_R_.>" => true,
        _ => template.is_below("user.") || template.is_below("_INBOX_"),
    }
}

/// Why a key is not for shared accounts, and what to do.
fn not_shared(key: &str) -> (&'static str, &'static str) {
    match key {
        "responses" => (
            "the reply subject is the requester's to choose, so that an answer would reach any \
             tenant of the account",
            "remove it, and publish _R_.> for answers",
        ),
        "connections" => (
            "who has a leaf node sends under any name, so that an event would be another tenant's",
            "leave `leafnode` out; a tenant with leaf nodes has the isolation `account`",
        ),
        _ => (
            "JetStream's subjects are the same for all tenants of the account",
            "remove it; a tenant with JetStream has the isolation `account`",
        ),
    }
}
