//! `policy explain`: the grant that a user would get, and from which lines.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{anyhow, bail};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use serde_json::{Value, json};
use strum::VariantNames as _;

use super::super::Context;
use super::super::database::explain;
use super::super::lookup::without_row;
use super::super::output::{name, table, time, time_json};
use super::super::test::{Teller, said};
use crate::admin::decision::{Assumed, GrantEnd, Granted};
use crate::authn::{Claims, Denied, DenyReason};
use crate::clock::UnixSeconds;
use crate::config::Mode;
use crate::placement::NOTIFICATIONS;
use crate::policy::ConnectionType;
use crate::policy::explain::Explanation;
use crate::policy::rules::{Permission, PolicySet};
use crate::problem::Origin;
use crate::protocol::claims::ClientInfo;
use crate::store::{Freshness, Isolation, LoginRecord};

/// Paragraphs, wrapped to the terminal.
const HOW: &str = "\
The decision is the service's own, worked out here on the same table and policies, as if the user had \
just proved who it is. What a policy looks at besides is assumed: a connection of NATS' own protocol, \
from no known address, now, without the claims of a JWT.

Exit status 1 if the user is refused.";

#[derive(Debug, Args)]
#[command(after_help = HOW)]
pub(in super::super) struct ExplainArgs {
    /// The login name
    user: String,
    /// Assume this address of the client
    #[arg(long, value_name = "IP")]
    address: Option<IpAddr>,
    /// Assume this type of connection
    #[arg(
        long,
        value_name = "TYPE",
        default_value = "nats",
        value_parser = PossibleValuesParser::new(ConnectionType::VARIANTS)
            .try_map(|text| text.parse::<ConnectionType>())
    )]
    connection_type: ConnectionType,
    /// Assume this time: RFC 3339, such as 2027-01-31T18:00:00+01:00
    #[arg(long, value_name = "TIME", value_parser = timestamp)]
    at: Option<jiff::Timestamp>,
    /// Assume this claim of a JWT; several times for a list
    #[arg(long = "claim", value_name = "NAME=VALUE", value_parser = claim)]
    claims: Vec<(String, String)>,
}

fn timestamp(text: &str) -> Result<jiff::Timestamp, String> {
    text.parse()
        .map_err(|_| "write it as 2027-01-31T18:00:00Z or 2027-01-31T18:00:00+01:00".to_owned())
}

fn claim(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it as NAME=VALUE".to_owned()),
    }
}

pub(super) async fn run(args: &ExplainArgs, context: &Context) -> anyhow::Result<()> {
    let policies = PolicySet::configured(context.admin.config().policies.as_deref())
        .map_err(|error| super::Usage(error.to_string()))?;
    let found = context.admin.store().user(&args.user, Freshness::Fresh).await;
    let record = found.map_err(explain)?.ok_or_else(|| {
        anyhow!(
            "there is no user {}; `nats-callout list` and `show TENANT` show those{}",
            name(&args.user),
            without_row(context, "TENANT")
        )
    })?;
    let host = args.address.map(|address| address.to_string()).unwrap_or_default();
    let assumed = Assumed {
        login: Arc::clone(&record),
        client: ClientInfo { host, ..args.connection_type.client() },
        claims: args.claims(),
        at: args.at.map_or_else(|| context.admin.now(), jiff::Timestamp::as_second),
    };
    let at = assumed.at;
    let explained = context.admin.explain(&Arc::new(policies), assumed);
    let explained = explained.map_err(|denied| Refused::of(denied, &record));
    let report = Report { context, record: &record, explained: &explained, at };
    context.output.print(&report.json(), || report.text())?;
    match &explained {
        Ok(_) => Ok(()),
        Err(refused) => bail!("{} is refused: {}", name(&args.user), refused.what),
    }
}

struct Refused {
    reason: DenyReason,
    what: String,
    at: Option<Origin>,
}

impl ExplainArgs {
    fn claims(&self) -> Claims {
        let mut claims = Claims::new();
        for (name, value) in &self.claims {
            claims.entry(name.clone()).or_default().push(value.clone());
        }
        claims
    }
}

impl Refused {
    fn of(mut denied: Denied, record: &LoginRecord) -> Self {
        let (tenant, user) = (record.tenant.id.as_str(), &record.user.name);
        // Where it is decided is shown by itself.
        let at = denied.at.take();
        Self { reason: denied.reason, what: said(&denied, tenant, user, Teller::Explain), at }
    }
}

struct Report<'a> {
    context: &'a Context,
    record: &'a LoginRecord,
    explained: &'a Result<Granted, Refused>,
    /// The time that is assumed.
    at: UnixSeconds,
}

/// A permission, a subject, and where it is from.
type Row = (&'static str, String, String);

impl Report<'_> {
    fn ends(&self, granted: &Granted) -> GrantEnd {
        granted.ends(self.context.admin.config(), granted.principal.expires_at(), self.at)
    }

    fn rows(&self, granted: &Granted) -> Vec<Row> {
        let explanation = &granted.explanation;
        let mut rows: Vec<Row> = explanation
            .subjects
            .iter()
            .map(|it| {
                let preset = it.preset.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
                (word(it.permission), it.subject.to_string(), format!("{}{preset}", it.from))
            })
            .collect();
        let built_in = |permission, subject: &str| {
            (word(permission), subject.to_owned(), "built in".to_owned())
        };
        // What the service adds when it makes the JWT.
        if granted.isolation == Isolation::Shared
            && matches!(self.context.admin.config().mode, Mode::Operator(_))
        {
            rows.push(built_in(Permission::DenyPublish, NOTIFICATIONS));
        }
        if explanation.grant.publish.is_empty() {
            rows.push(built_in(Permission::DenyPublish, ">"));
        }
        if explanation.grant.subscribe.is_empty() {
            rows.push(built_in(Permission::DenySubscribe, ">"));
        }
        rows
    }

    /// The policy's name, and what chose it.
    fn policy(&self) -> (&str, &'static str) {
        let (user, name) = (&self.record.user, PolicySet::name_for(self.record));
        let by = if user.policy.as_deref() == Some(name) {
            "users.policy"
        } else if self.record.tenant.policy.as_deref() == Some(name) {
            "tenants.policy"
        } else {
            "users.kind"
        };
        (name, by)
    }

    fn json(&self) -> Value {
        let (policy, by) = self.policy();
        let mut json = json!({
            "tenant": { "id": self.record.tenant.id.as_str() },
            "user": { "name": self.record.user.name },
            "policy": { "name": policy, "by": by },
            "admitted": self.explained.is_ok(),
        });
        let from = |at: &Option<Origin>| at.as_ref().map(ToString::to_string);
        let rest = match self.explained {
            Err(refused) => json!({
                "reason": refused.reason.code(),
                "message": refused.what,
                "from": from(&refused.at),
            }),
            Ok(granted) => {
                let Explanation { grant, responses, ttl, until, .. } = &granted.explanation;
                let ends = self.ends(granted);
                let rows = self.rows(granted).into_iter().map(|(permission, subject, from)| {
                    json!({ "permission": permission, "subject": subject, "from": from })
                });
                json!({
                    "isolation": granted.isolation.as_str(),
                    "permissions": rows.collect::<Vec<_>>(),
                    "responses": grant.responses.map(|it| json!({
                        "max": it.max,
                        "seconds": it.expires.as_secs(),
                        "from": from(responses),
                    })),
                    "ttl": grant.ttl.map(|it| json!({ "seconds": it.as_secs(), "from": from(ttl) })),
                    "until": grant.until.map(|it| json!({ "at": time(it), "from": from(until) })),
                    "expires_at": time_json(Some(ends.latest)),
                    "renewed": ends.is_renewed,
                })
            }
        };
        if let (Value::Object(json), Value::Object(rest)) = (&mut json, rest) {
            json.extend(rest);
        }
        json
    }

    fn text(&self) -> String {
        let (policy, by) = self.policy();
        let (user, tenant) = (name(&self.record.user.name), &self.record.tenant.id);
        let granted = match self.explained {
            Ok(granted) => granted,
            Err(Refused { reason, what, at }) => {
                let at = at.as_ref().map(|at| format!("{at}: ")).unwrap_or_default();
                return format!(
                    "{user} of tenant {tenant}, by the policy {policy} ({by}), may not log in \
                     ({}): {at}{what}",
                    reason.code()
                );
            }
        };
        let mut rows: Vec<Vec<String>> = self
            .rows(granted)
            .into_iter()
            .map(|(permission, subject, from)| vec![permission.to_owned(), subject, from])
            .collect();
        let Explanation { grant, responses, ttl, until, .. } = &granted.explanation;
        let from = |at: &Option<Origin>| at.as_ref().map(ToString::to_string).unwrap_or_default();
        if let Some(it) = grant.responses {
            let each = format!("{} to each request, within {} s", it.max, it.expires.as_secs());
            rows.push(vec!["answers".to_owned(), each, from(responses)]);
        }
        if let Some(it) = grant.ttl {
            rows.push(vec!["ttl".to_owned(), format!("{} s", it.as_secs()), from(ttl)]);
        }
        if let Some(it) = grant.until {
            rows.push(vec!["until".to_owned(), time(it), from(until)]);
        }
        let ends = self.ends(granted);
        let before = if ends.is_renewed { "; connections begin anew before" } else { "" };
        format!(
            "{user} of tenant {tenant}, by the policy {policy} ({by}), section [{}]:\n\n{}\n\nThe \
             grant ends at {} at the latest{before}.",
            granted.isolation.as_str(),
            table(&["PERMISSION", "SUBJECT", "FROM"], rows),
            time(ends.latest)
        )
    }
}

fn word(permission: Permission) -> &'static str {
    match permission {
        Permission::Publish => "publish",
        Permission::Subscribe => "subscribe",
        Permission::DenyPublish => "deny_publish",
        Permission::DenySubscribe => "deny_subscribe",
    }
}
