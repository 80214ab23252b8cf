//! What a test found, for people and as JSON.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::Context;
use super::super::output::{name, time, time_json};
use super::session::{JetStreamInfo, Lists, Permissions, Probed, Responses, UserInfo};
use crate::admin::decision::{GrantEnd, Granted};
use crate::config::Mode;
use crate::config::units::format_size;
use crate::policy::Grant;
use crate::policy::subject::Pattern;
use crate::redact::without_secrets;
use crate::servers::versions;
use crate::store::{Isolation, TenantId, TenantRecord};

/// The word for a login with a token that is there for it alone.
const TEMPORARY: &str = "temporary token";

/// The text without what may be a secret in a wrong place. A name that looks like one, and is none, stays.
pub(super) fn without_secrets_but(text: &str, known: Option<&str>) -> String {
    let parts = |text: &str| without_secrets(text).into_owned();
    match known.filter(|name| *without_secrets(name) != **name) {
        Some(name) => text.split(name).map(parts).collect::<Vec<_>>().join(name),
        None => parts(text),
    }
}

/// A login that was refused.
pub(super) struct Refused<'a> {
    pub(super) tenant: &'a TenantId,
    /// None where nothing says whose login it is.
    pub(super) user: Option<String>,
    pub(super) reason: &'static str,
    pub(super) message: &'a str,
}

impl Refused<'_> {
    pub(super) fn print(&self, context: &Context) -> anyhow::Result<()> {
        let Self { tenant, user, reason, message } = self;
        context.output.print(
            &json!({
                "tenant": { "id": tenant.as_str() },
                "user": { "name": user },
                "admitted": false,
                "reason": reason,
                "message": message,
            }),
            || match &user {
                Some(user) => {
                    let user = name(user);
                    format!("{user} of tenant {tenant} may not log in ({reason}): {message}")
                }
                None => format!("no user of tenant {tenant} logs in with it ({reason}): {message}"),
            },
        )
    }
}

/// A login that succeeded.
pub(super) struct Admitted<'a> {
    pub(super) context: &'a Context,
    pub(super) tenant: &'a TenantRecord,
    /// Whether it was by a token that is there for this login alone.
    pub(super) temporary: bool,
    pub(super) server: (String, String),
    pub(super) took: Duration,
    pub(super) granted: &'a Granted,
    /// What the server says; without it, what is said comes from the policy.
    pub(super) info: Option<UserInfo>,
    pub(super) probed: Option<Probed>,
    pub(super) jetstream: Option<Result<JetStreamInfo, String>>,
}

impl Admitted<'_> {
    pub(super) fn surprises(&self) -> &[String] {
        self.probed.as_ref().map_or(&[], |probed| &probed.surprises)
    }

    fn user(&self) -> &str {
        &self.granted.principal.record().user.name
    }

    fn method(&self) -> &'static str {
        if self.temporary { TEMPORARY } else { self.granted.principal.method() }
    }

    fn permissions(&self) -> Permissions {
        match &self.info {
            Some(info) => info.permissions.clone(),
            None => permissions(&self.granted.explanation.grant),
        }
    }

    /// When the connection ends; `true` if it may end a little sooner.
    fn ends(&self) -> (GrantEnd, bool) {
        let now = self.context.admin.now();
        let record = self.granted.principal.record();
        // A temporary token's own end is not the user's.
        let end = if self.temporary {
            [record.tenant.expires_at, record.user.expires_at].into_iter().flatten().min()
        } else {
            self.granted.principal.expires_at()
        };
        let ends = self.granted.ends(self.context.admin.config(), end, now);
        match &self.info {
            Some(info) if info.expires > 0 && !self.temporary => {
                let seconds = info.expires / 1_000_000_000;
                let latest = now.saturating_add(i64::try_from(seconds).unwrap_or(0));
                (GrantEnd { latest, ..ends }, false)
            }
            _ => (ends, true),
        }
    }

    fn account(&self) -> String {
        if let Some(info) = &self.info {
            return info.account.clone();
        }
        match (&self.context.admin.config().mode, self.granted.isolation) {
            (Mode::Operator(mode), Isolation::Shared) => mode.users_account.to_string(),
            (Mode::Operator(_), Isolation::Account) => self
                .tenant
                .account
                .map_or_else(|| "not known yet".to_owned(), |account| account.to_string()),
            (Mode::Config(mode), _) => self
                .tenant
                .placement
                .clone()
                .or_else(|| mode.accounts.first().cloned())
                .unwrap_or_default(),
        }
    }

    fn jetstream_json(&self) -> Value {
        match &self.jetstream {
            None => Value::Null,
            Some(Err(problem)) => json!({ "error": problem }),
            Some(Ok(info)) => match (&info.error, &info.limits) {
                (Some(error), _) => {
                    json!({ "error": format!("{}: {}", error.code, error.description) })
                }
                (None, Some(limits)) => json!({
                    "memory": limits.max_memory,
                    "storage": limits.max_storage,
                    "streams": limits.max_streams,
                    "consumers": limits.max_consumers,
                }),
                (None, None) => Value::Null,
            },
        }
    }

    pub(super) fn json(&self) -> Value {
        let permissions = self.permissions();
        let lists = |lists: &Lists| json!({ "allow": lists.allow, "deny": lists.deny });
        let (ends, at_most) = self.ends();
        json!({
            "tenant": { "id": self.tenant.id.as_str() },
            "user": { "name": self.user() },
            "admitted": true,
            "method": self.method(),
            "server": { "name": self.server.0, "version": self.server.1 },
            "milliseconds": (self.took.as_secs_f64() * 1e5).round() / 1e2,
            "account": self.account(),
            "isolation": self.granted.isolation.as_str(),
            "permissions": {
                "publish": lists(&permissions.publish),
                "subscribe": lists(&permissions.subscribe),
                "responses": permissions.responses.map(|responses| json!({
                    "max": responses.max,
                    "seconds": Duration::from_nanos(responses.ttl).as_secs(),
                })),
            },
            "source": if self.info.is_some() { "server" } else { "policy" },
            "probes": self.probed.as_ref().map(|probed| json!({
                "subscriptions_admitted": probed.admitted,
                "foreign_refused": probed.foreign_refused,
                "surprises": probed.surprises,
            })),
            "expires_at": time_json(Some(ends.latest)),
            "expires_at_most": at_most,
            "renewed": ends.is_renewed,
            "jetstream": self.jetstream_json(),
            "mqtt": self.mqtt(),
        })
    }

    pub(super) fn text(&self) -> String {
        let permissions = self.permissions();
        let list = |subjects: &[String]| {
            if subjects.is_empty() { "nothing".to_owned() } else { subjects.join(", ") }
        };
        let own = match self.granted.isolation {
            Isolation::Account => "the tenant's own",
            Isolation::Shared => "shared with other tenants",
        };
        let mut rows = vec![
            ("account", format!("{} ({own})", self.account())),
            ("publish", list(&permissions.publish.allow)),
            ("subscribe", list(&permissions.subscribe.allow)),
        ];
        for (name, denied) in [
            ("no publish", &permissions.publish.deny),
            ("no subscribe", &permissions.subscribe.deny),
        ] {
            if !denied.is_empty() {
                rows.push((name, list(denied)));
            }
        }
        rows.push(("answers", answers(permissions.responses)));
        let (ends, at_most) = self.ends();
        let at_most = if at_most { " at the latest" } else { "" };
        let before = if ends.is_renewed { "; connections begin anew before" } else { "" };
        rows.push(("ends", format!("{}{at_most}{before}", time(ends.latest))));
        rows.push(("jetstream", self.jetstream_text()));
        if let Some(problem) = self.mqtt() {
            rows.push(("mqtt", problem.to_owned()));
        }
        rows.push((
            "source",
            match &self.probed {
                None => "what the server says of this connection".to_owned(),
                Some(probed) => format!(
                    "this configuration's policy, since the user may not ask the server; tried: {} \
                     subscriptions admitted, a foreign subject {}",
                    probed.admitted,
                    if probed.foreign_refused { "refused" } else { "NOT refused" }
                ),
            },
        ));
        let rows: Vec<String> =
            rows.iter().map(|(name, value)| format!("  {name:<13}{value}")).collect();
        format!(
            "{} of tenant {} may log in ({}, {:.1} ms, {} {})\n\n{}",
            name(self.user()),
            self.tenant.id,
            self.method(),
            self.took.as_secs_f64() * 1e3,
            self.server.0,
            self.server.1,
            rows.join("\n")
        )
    }

    /// What the user cannot do over MQTT on a server of this version.
    fn mqtt(&self) -> Option<&'static str> {
        let version = versions::parse(&self.server.1)?;
        let operator = matches!(self.context.admin.config().mode, Mode::Operator(_));
        (operator && versions::takes_mqtt_passwords_for_jwts(version))
            .then_some("not with a password on a server of this version, but with a certificate")
    }

    fn jetstream_text(&self) -> String {
        let size = |bytes: i64| match u64::try_from(bytes) {
            Ok(bytes) => format_size(bytes),
            Err(_) => "unlimited".to_owned(),
        };
        let count = |count: i64| {
            if count < 0 { "unlimited".to_owned() } else { count.to_string() }
        };
        match &self.jetstream {
            None => {
                let limits = &self.tenant.limits;
                let grant = &self.granted.explanation.grant;
                let is_jetstream = |it: &Pattern| it.as_str().starts_with("$JS.API.");
                // In config mode, nats-server.conf says what an account has.
                let is_there = limits.jetstream()
                    || matches!(self.context.admin.config().mode, Mode::Config(_));
                match (grant.publish.iter().any(is_jetstream), is_there) {
                    (false, _) => "not for this user",
                    (true, true) => "as its policy grants it; it may not read its limits",
                    (true, false) => "granted by its policy, but its tenant has no JetStream",
                }
                .to_owned()
            }
            Some(Err(problem)) => problem.clone(),
            Some(Ok(JetStreamInfo { error: Some(error), .. })) => {
                format!("{}: {}; see `nats-callout doctor`", error.code, error.description)
            }
            Some(Ok(JetStreamInfo { limits: Some(limits), .. })) => format!(
                "{} of memory, {} of storage, {} streams, {} consumers",
                size(limits.max_memory),
                size(limits.max_storage),
                count(limits.max_streams),
                count(limits.max_consumers)
            ),
            Some(Ok(_)) => "no limits were told".to_owned(),
        }
    }
}

fn answers(responses: Option<Responses>) -> String {
    match responses {
        None => "no reply subjects beside those above".to_owned(),
        Some(responses) => format!(
            "{} to each request, within {} s",
            responses.max,
            Duration::from_nanos(responses.ttl).as_secs()
        ),
    }
}

fn permissions(grant: &Grant) -> Permissions {
    let texts = |patterns: &[Pattern]| patterns.iter().map(ToString::to_string).collect();
    Permissions {
        publish: Lists { allow: texts(&grant.publish), deny: texts(&grant.deny_publish) },
        subscribe: Lists { allow: texts(&grant.subscribe), deny: texts(&grant.deny_subscribe) },
        responses: grant.responses.map(|responses| Responses {
            max: i64::from(responses.max),
            ttl: u64::try_from(responses.expires.as_nanos()).unwrap_or(u64::MAX),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_looks_like_a_secret_stays_and_others_do_not() {
        let (name, other) = ("nct_bot", "nct_0000000000000000000000000000000019Bvis");
        let text = format!("{name} and {other}: `user passwd L1 {name}`");
        let said = without_secrets_but(&text, Some(name));
        assert_eq!(said, "nct_bot and (redacted): `user passwd L1 nct_bot`");
        for known in [None, Some("nct"), Some("n")] {
            let said = without_secrets_but(&text, known);
            assert_eq!(said, "(redacted) and (redacted): `user passwd L1 (redacted)`", "{known:?}");
        }
    }
}
