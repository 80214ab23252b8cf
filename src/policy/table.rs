//! Test tables: `<name>.test.toml` beside a policy says what it grants and refuses, case by case.
//! `cargo test` runs the shipped ones, `nats-callout policy test` anybody's.

mod claims;
mod prepared;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use self::claims::{A_DATE, Said};
pub(crate) use self::claims::{ByIssuer, Issuers};
use self::prepared::{Instead, Prepared};
use super::rules::{NoPolicies, PolicyError, PolicySet, SHIPPED_FOLDER, Source, Sources};
use super::subject::Pattern;
use super::{ConnectionContext, Decision, Grant, Policy as _};
use crate::clock::UnixSeconds;
use crate::document::Document;
use crate::problem::Origin;

const SHIPPED: [(&str, &str); 3] = [
    ("bb", include_str!("../../policies/bb.test.toml")),
    ("service", include_str!("../../policies/service.test.toml")),
    ("admin", include_str!("../../policies/admin.test.toml")),
];

/// What came of one case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The policy that the table is named after.
    pub policy: String,
    /// The case's name.
    pub case: String,
    /// Where the case begins.
    pub at: Origin,
    /// What was expected and not seen; empty if all was.
    pub failures: Vec<Failure>,
}

/// An expectation that was not met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What the table expects.
    pub expected: String,
    /// What the policy does.
    pub seen: String,
}

/// The outcomes of all tables, and the policies that have none.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Every case, in the order of the tables.
    pub outcomes: Vec<Outcome>,
    /// Files of policies without a table beside them.
    pub untested: Vec<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    case: Vec<Spanned<Case>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// `account` or `shared`.
    form: String,
    tenant: Spanned<String>,
    user: String,
    /// The kind of the user, `bb` unless it says otherwise.
    kind: Option<Spanned<String>>,
    /// The user's policy, where not the one that the table is named after.
    policy: Option<String>,
    /// The user's lists.
    #[serde(default)]
    publish: Vec<String>,
    #[serde(default)]
    subscribe: Vec<String>,
    /// Whether the tenant has a JetStream limit above zero.
    #[serde(default)]
    jetstream: bool,
    /// The claims of the JWT.
    #[serde(default)]
    claims: Said,
    /// Whose JWT it is, by the name of its table in the configuration: its rules say which claims the policy sees.
    issuer: Option<Spanned<String>>,
    /// `nats` unless it says otherwise.
    connection: Option<Spanned<String>>,
    /// The client's address.
    #[serde(default)]
    address: String,
    /// The time of the login, RFC 3339.
    at: Option<Spanned<String>>,

    /// The code of the reason for which it is refused.
    denied: Option<Spanned<String>>,
    #[serde(default)]
    may_publish: Vec<String>,
    #[serde(default)]
    may_not_publish: Vec<String>,
    #[serde(default)]
    may_subscribe: Vec<String>,
    #[serde(default)]
    may_not_subscribe: Vec<String>,
    /// Whether it may answer requests.
    #[serde(default)]
    responses: bool,
    /// Seconds.
    ttl: Option<u64>,
    /// When the grant ends at the latest, RFC 3339.
    until: Option<Spanned<String>>,
}

/// Runs the tables of a folder on its policies; without one, the shipped tables on theirs. Cases may name issuers
/// where there is a configuration that has some.
pub(crate) fn run(
    folder: Option<&Path>,
    issuers: Option<Issuers<'_>>,
) -> Result<Report, PolicyError> {
    let Some(folder) = folder else {
        let tables = SHIPPED.into_iter().map(|(name, text)| Source {
            name: name.to_owned(),
            path: Path::new(SHIPPED_FOLDER).join(format!("{name}.test.toml")),
            text: text.to_owned(),
        });
        return run_tables(&PolicySet::shipped()?, tables.collect(), issuers);
    };
    let Sources { policies, tables } = Sources::of(folder)?;
    let tested: BTreeSet<String> = tables.iter().map(|table| table.name.clone()).collect();
    let untested = policies.iter().filter(|policy| !tested.contains(&policy.name));
    let untested = untested.map(|policy| policy.path.clone()).collect();
    let report = run_tables(&PolicySet::read(policies)?, tables, issuers)?;
    Ok(Report { untested, ..report })
}

fn run_tables(
    policies: &PolicySet,
    tables: Vec<Source>,
    issuers: Option<Issuers<'_>>,
) -> Result<Report, PolicyError> {
    let (mut outcomes, mut problems) = (Vec::new(), Vec::new());
    for source in &tables {
        let mut document = Document::new(&source.path, &source.text);
        outcomes.extend(run_table(policies, source, issuers, &mut document));
        problems.append(&mut document.problems);
    }
    if problems.is_empty() {
        Ok(Report { outcomes, untested: Vec::new() })
    } else {
        Err(NoPolicies::Invalid(problems).into())
    }
}

fn run_table(
    policies: &PolicySet,
    source: &Source,
    issuers: Option<Issuers<'_>>,
    document: &mut Document,
) -> Vec<Outcome> {
    if !policies.names().any(|name| name == source.name) {
        let remedy = format!("write {}.toml beside it, or remove it", source.name);
        document.problem(None, "", "a table without a policy", remedy);
        return Vec::new();
    }
    let table: Table = match toml::from_str(&source.text) {
        Ok(table) => table,
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start);
            let what = error.message().replace('\n', ", ");
            let remedy = if what == A_DATE { "write it as text" } else { "see the shipped tables" };
            document.problem(at, "", what, remedy);
            return Vec::new();
        }
    };
    let outcome = |case: &Spanned<Case>| {
        let prepared = document.prepare(case, &source.name, issuers)?;
        Some(Outcome {
            policy: source.name.clone(),
            case: case.get_ref().name.clone(),
            at: document.origin(case.span().start),
            failures: case.get_ref().check(&prepared, policies),
        })
    };
    table.case.iter().filter_map(outcome).collect()
}

impl Case {
    fn expects_a_grant(&self) -> bool {
        let lists = [
            &self.may_publish,
            &self.may_not_publish,
            &self.may_subscribe,
            &self.may_not_subscribe,
        ];
        lists.iter().any(|list| !list.is_empty())
            || self.responses
            || self.ttl.is_some()
            || self.until.is_some()
    }

    fn check(&self, prepared: &Prepared, policies: &PolicySet) -> Vec<Failure> {
        let Prepared { principal, isolation, client, now, denied, until } = prepared;
        let context = ConnectionContext { isolation: *isolation, client, now: *now };
        let failure =
            |expected: &str, seen: String| Failure { expected: expected.to_owned(), seen };
        let decision = match principal {
            Ok(principal) => policies.decide(principal, &context),
            Err(Instead::Denied(denied)) => Decision::Deny(denied.clone()),
            Err(Instead::Another(failure)) => return vec![failure.clone()],
        };
        match (decision, denied) {
            (Decision::Deny(found), Some(denied)) if found.reason == *denied => Vec::new(),
            (Decision::Deny(found), Some(denied)) => vec![failure(
                &format!("denied = \"{}\"", denied.code()),
                format!("refused: {}", found.code()),
            )],
            (Decision::Deny(found), None) => {
                let why = found.detail.as_ref().map(|it| format!(": {it}")).unwrap_or_default();
                vec![failure("a grant", format!("refused: {}{why}", found.code()))]
            }
            (Decision::Permit(_), Some(denied)) => {
                vec![failure(&format!("denied = \"{}\"", denied.code()), "a grant".to_owned())]
            }
            (Decision::Permit(grant), None) => self.compare(&grant, *until),
        }
    }

    fn compare(&self, grant: &Grant, until: Option<UnixSeconds>) -> Vec<Failure> {
        let mut failures = Vec::new();
        for (key, subjects, allow, deny, expected) in [
            ("may_publish", &self.may_publish, &grant.publish, &grant.deny_publish, true),
            ("may_not_publish", &self.may_not_publish, &grant.publish, &grant.deny_publish, false),
            ("may_subscribe", &self.may_subscribe, &grant.subscribe, &grant.deny_subscribe, true),
            (
                "may_not_subscribe",
                &self.may_not_subscribe,
                &grant.subscribe,
                &grant.deny_subscribe,
                false,
            ),
        ] {
            for subject in subjects {
                let by = |list: &[Pattern]| list.iter().find(|it| it.matches(subject)).cloned();
                let (allowed, denied) = (by(allow), by(deny));
                if (allowed.is_some() && denied.is_none()) == expected {
                    continue;
                }
                let seen = match (allowed, denied) {
                    (_, Some(denied)) => format!("it is denied by {denied}"),
                    (Some(allowed), None) => format!("it is allowed by {allowed}"),
                    (None, None) => format!("nothing allows it; there are {}", words(allow)),
                };
                failures.push(Failure { expected: format!("{key} {subject}"), seen });
            }
        }
        let mut same = |key: &str, expected: String, seen: String| {
            if expected != seen {
                let expected = format!("{key} = {expected}");
                failures.push(Failure { expected, seen: format!("{key} = {seen}") });
            }
        };
        same("responses", self.responses.to_string(), grant.responses.is_some().to_string());
        if let Some(ttl) = self.ttl {
            let none = || "none".to_owned();
            let seen = grant.ttl.as_ref().map(Duration::as_secs);
            same("ttl", ttl.to_string(), seen.map_or_else(none, |it| it.to_string()));
        }
        if let Some(until) = until {
            let shown = |at| {
                jiff::Timestamp::from_second(at)
                    .map_or_else(|_| at.to_string(), |at| at.to_string())
            };
            same("until", shown(until), grant.until.map_or_else(|| "none".to_owned(), shown));
        }
        failures
    }
}

fn words(patterns: &[Pattern]) -> String {
    if patterns.is_empty() {
        return "none at all".to_owned();
    }
    patterns.iter().map(Pattern::as_str).collect::<Vec<_>>().join(", ")
}
