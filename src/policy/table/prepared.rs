//! A case with its values parsed, and who comes with its claims.

use std::sync::Arc;

use toml::Spanned;

use super::{ByIssuer, Case, Failure, Issuers};
use crate::authn::{Denied, DenyReason, Handed, Principal, WithoutRow};
use crate::clock::UnixSeconds;
use crate::document::Document;
use crate::policy::ConnectionType;
use crate::policy::rules::PolicySet;
use crate::protocol::claims::ClientInfo;
use crate::store::{Isolation, Limits, LoginRecord, TenantId, TenantRecord, UserKind, UserRecord};

/// The values of a case, parsed.
pub(super) struct Prepared {
    /// Who comes, or what comes of the login before a policy looks at it.
    pub(super) principal: Result<Principal, Instead>,
    pub(super) isolation: Isolation,
    pub(super) client: ClientInfo,
    pub(super) now: UnixSeconds,
    pub(super) denied: Option<DenyReason>,
    pub(super) until: Option<UnixSeconds>,
}

/// Why the case's policy is not asked.
pub(super) enum Instead {
    /// The login is refused already.
    Denied(Denied),
    /// Another policy is.
    Another(Failure),
}

impl From<Denied> for Instead {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

impl Document<'_> {
    fn value<T>(
        &mut self,
        key: &str,
        text: &Spanned<String>,
        remedy: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let value = parse(text.get_ref());
        if value.is_none() {
            let what = format!("`{}` is none", text.get_ref());
            self.problem(text.span().start, key, what, remedy);
        }
        value
    }

    fn time(&mut self, key: &str, text: &Spanned<String>) -> Option<UnixSeconds> {
        let remedy = "write an RFC 3339 time, such as \"2026-03-30T08:00:00+02:00\"";
        self.value(key, text, remedy, |text| {
            text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
        })
    }

    /// What the issuer that the case names makes of its claims.
    fn hand(&mut self, case: &Case, issuers: Option<Issuers<'_>>) -> Option<ByIssuer> {
        let name = case.issuer.as_ref()?;
        let handed = issuers.map(|issuers| issuers(name.get_ref(), &case.claims.0));
        let (what, remedy) = match handed {
            Some(Some(handed)) => return Some(handed),
            Some(None) => (
                format!("there is no [issuers.{}]", name.get_ref()),
                "name one of the configuration",
            ),
            None => {
                let what = "there is no configuration to know it by".to_owned();
                (what, "leave the folder out, and name the configuration with --config")
            }
        };
        self.problem(name.span().start, "issuer", what, remedy);
        None
    }

    /// Of the table of this policy; `None` if a value is none, which is noted.
    pub(super) fn prepare(
        &mut self,
        spanned: &Spanned<Case>,
        table: &str,
        issuers: Option<Issuers<'_>>,
    ) -> Option<Prepared> {
        let before = self.problems.len();
        let case = spanned.get_ref();
        let at = spanned.span().start;
        let isolation =
            [Isolation::Account, Isolation::Shared].into_iter().find(|it| it.as_str() == case.form);
        if isolation.is_none() {
            let what = format!("`{}` is none", case.form);
            self.problem(at, "form", what, "write account or shared");
        }
        let remedy = "write one token of A-Z, a-z, 0-9, _ and -";
        let tenant =
            self.value("tenant", &case.tenant, remedy, |text| text.parse::<TenantId>().ok());
        let kind = case.kind.as_ref().map_or(Some(UserKind::Bb), |text| {
            self.value("kind", text, "write bb or service", |text| text.parse().ok())
        });
        let connection = case.connection.as_ref().map_or(Some(ConnectionType::Nats), |text| {
            let remedy = "write nats, websocket, mqtt or leafnode";
            self.value("connection", text, remedy, |text| text.parse().ok())
        });
        let now = case.at.as_ref().map_or(Some(0), |text| self.time("at", text));
        let until = case.until.as_ref().and_then(|text| self.time("until", text));
        let denied = case.denied.as_ref().and_then(|text| {
            let remedy =
                "write policy, connection_type, address, time, or invalid_token beside an issuer";
            self.value("denied", text, remedy, |text| text.parse().ok())
        });
        if case.denied.is_some() && case.expects_a_grant() {
            let what = "expects a refusal and a grant";
            self.problem(at, "denied", what, "leave one of them out");
        }
        let handed = self.hand(case, issuers);
        if self.problems.len() > before {
            return None;
        }
        let principal = case.principal(table, tenant?, kind?, handed);
        let client = ClientInfo { host: case.address.clone(), ..connection?.client() };
        let (isolation, now) = (isolation?, now?);
        Some(Prepared { principal, isolation, client, now, denied, until })
    }
}

impl Case {
    /// Who comes with the claims, by the rules of the issuer that the case names.
    fn principal(
        &self,
        table: &str,
        tenant: TenantId,
        kind: UserKind,
        by_issuer: Option<ByIssuer>,
    ) -> Result<Principal, Instead> {
        let tenant = TenantRecord {
            limits: Limits { memory: u64::from(self.jetstream), ..Limits::default() },
            ..TenantRecord::new(tenant)
        };
        let Some((issuer, handed)) = by_issuer else {
            return Ok(self.of_row(table, tenant, kind)?.with_claims(self.claims.all()));
        };
        let Handed { claims, tenant: only, without_row } = handed?;
        if let Some(only) = only.filter(|it| *it != tenant.id) {
            return Err(Instead::Another(Failure {
                expected: format!("the tenant {}", tenant.id),
                seen: format!("all users of [issuers.{}] are of the tenant {only}", issuer.name),
            }));
        }
        let principal = match without_row.filter(|it| !self.has_row(it.kind, kind)) {
            Some(user) => self.without_row(table, tenant, user, &issuer.name)?,
            None => self.of_row(table, tenant, kind)?,
        };
        Ok(principal.with_claims(claims).with_issuer(Arc::new(issuer)))
    }

    /// Whether it says what only a row does, where those without one are of this kind.
    fn has_row(&self, without_row: UserKind, kind: UserKind) -> bool {
        self.policy.is_some()
            || !self.publish.is_empty()
            || !self.subscribe.is_empty()
            || self.kind.is_some() && kind != without_row
    }

    fn of_row(
        &self,
        table: &str,
        tenant: TenantRecord,
        kind: UserKind,
    ) -> Result<Principal, Denied> {
        let user = UserRecord {
            policy: Some(self.policy.as_deref().unwrap_or(table).to_owned()),
            publish: self.publish.clone(),
            subscribe: self.subscribe.clone(),
            ..UserRecord::new(self.user.clone(), kind)
        };
        Principal::new(Arc::new(LoginRecord { tenant, user }), "password", None, 0)
    }

    fn without_row(
        &self,
        table: &str,
        tenant: TenantRecord,
        WithoutRow { kind, policy, by }: WithoutRow,
        issuer: &str,
    ) -> Result<Principal, Instead> {
        let user =
            UserRecord { policy: policy?, ..UserRecord::new(tenant.id.login(&self.user), kind) };
        // No case knows what its row names.
        let tenant = TenantRecord { policy: Some(table.to_owned()), ..tenant };
        let record = LoginRecord { tenant, user };
        let given = PolicySet::name_for(&record);
        if given != table {
            return Err(Instead::Another(Failure {
                expected: format!("the policy {table}, which the table is of"),
                seen: format!(
                    "[issuers.{issuer}] gives the policy {given} to who has no row{by}; of a user whose row \
                     names {table}, write policy = \"{table}\""
                ),
            }));
        }
        Ok(Principal::new(Arc::new(record), "jwt", None, 0)?.with_name(&self.user))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Map, Value};

    use super::super::run_tables;
    use super::*;
    use crate::authn::{Claims, IssuerOf};
    use crate::policy::rules::Source;

    /// What a case with these lines fails by, where its issuer gives this policy to users without a row.
    fn failures(
        lines: &str,
        kind: UserKind,
        policy: &Result<Option<&str>, Denied>,
    ) -> Vec<Failure> {
        let source = |text: &str| Source {
            name: "team".to_owned(),
            path: Path::new("team.toml").to_owned(),
            text: text.to_owned(),
        };
        let policies = PolicySet::read(vec![source(
            "[account]\npublish = [\"in.{{user.name}}\"]\n[shared]\n",
        )]);
        let issuer = |name: &str, _: &Map<String, Value>| {
            let policy = policy.clone().map(|it| it.map(str::to_owned));
            let without_row = Some(WithoutRow { kind, policy, by: " (`roles` is `x`)".to_owned() });
            let who = IssuerOf { name: name.to_owned(), claims: Vec::new() };
            let tenant = Some("42".parse().unwrap());
            Some((who, Ok(Handed { claims: Claims::new(), tenant, without_row })))
        };
        let tenant = if lines.contains("tenant = ") { "" } else { "tenant = \"42\"\n" };
        let table = source(&format!(
            "[[case]]\nname = \"a\"\nform = \"account\"\n{tenant}user = \"alice\"\nissuer = \"kc\"\n{lines}"
        ));
        let report = run_tables(&policies.unwrap(), vec![table], Some(&issuer)).unwrap();
        report.outcomes.into_iter().flat_map(|it| it.failures).collect()
    }

    #[test]
    fn an_issuer_has_users_of_its_tenant_alone() {
        let lines = "tenant = \"77\"\nmay_publish = [\"in.alice\"]";
        let other = [Failure {
            expected: "the tenant 77".to_owned(),
            seen: "all users of [issuers.kc] are of the tenant 42".to_owned(),
        }];
        assert_eq!(failures(lines, UserKind::Bb, &Ok(Some("team"))), other);
    }

    #[test]
    fn who_has_no_row_gets_the_policy_that_its_issuer_gives() {
        use UserKind::{Bb, Service};
        let grant = "may_publish = [\"in.alice\"]";
        for (kind, policy) in [(Bb, Some("team")), (Service, Some("team")), (Bb, None)] {
            assert_eq!(failures(grant, kind, &Ok(policy)), [], "{kind:?} {policy:?}");
        }
        for (kind, policy, given) in [(Bb, Some("office"), "office"), (Service, None, "service")] {
            let other = [Failure {
                expected: "the policy team, which the table is of".to_owned(),
                seen: format!(
                    "[issuers.kc] gives the policy {given} to who has no row (`roles` is `x`); of a user whose \
                     row names team, write policy = \"team\""
                ),
            }];
            let same = format!("kind = \"{}\"", kind.as_str());
            for lines in [grant, "denied = \"policy\"", &format!("{same}\n{grant}")] {
                assert_eq!(failures(lines, kind, &Ok(policy)), other, "{lines}");
            }
            let another = if kind == Bb { "kind = \"service\"" } else { "kind = \"bb\"" };
            for row in ["policy = \"team\"", "publish = [\"x\"]", "subscribe = [\"x\"]", another] {
                assert_eq!(failures(&format!("{row}\n{grant}"), kind, &Ok(policy)), [], "{row}");
            }
        }
    }

    #[test]
    fn who_has_no_row_is_refused_where_the_claims_choose_no_policy() {
        let none = Err(Denied::from(DenyReason::InvalidToken).with_detail("no value"));
        assert_eq!(failures("denied = \"invalid_token\"", UserKind::Bb, &none), []);
        let found = failures("may_publish = [\"in.alice\"]", UserKind::Bb, &none);
        assert_eq!(
            (&*found[0].expected, &*found[0].seen),
            ("a grant", "refused: invalid_token: no value")
        );
        let row = "policy = \"team\"\nmay_publish = [\"in.alice\"]";
        assert_eq!(failures(row, UserKind::Bb, &none), []);
    }
}
