//! Where a grant comes from: the same decision as at a login, with the line of the policy file
//! behind every permission.

use super::rules::{Permission, PolicySet};
use super::subject::Pattern;
use super::{ConnectionContext, Grant};
use crate::authn::{Denied, Principal};
use crate::problem::Origin;

/// A grant with its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Explanation {
    /// What a login gets.
    pub grant: Grant,
    /// Every subject with its line, by permission and subject.
    pub subjects: Vec<Explained>,
    /// The line of `responses`.
    pub responses: Option<Origin>,
    /// The line of `ttl`.
    pub ttl: Option<Origin>,
    /// The line of `times`, which ends the grant.
    pub until: Option<Origin>,
}

/// One subject of a grant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Explained {
    /// What it is for.
    pub permission: Permission,
    /// The subject.
    pub subject: Pattern,
    /// The line, counted from 1.
    pub line: usize,
    /// The preset that it is part of.
    pub preset: Option<String>,
    /// The line of the file.
    pub from: String,
}

impl PolicySet {
    /// Decides, and says why.
    pub(crate) fn explain(
        &self,
        principal: &Principal,
        context: &ConnectionContext<'_>,
    ) -> Result<Explanation, Denied> {
        let ruling = self.ruling(principal, context)?;
        let mut subjects = Vec::new();
        let origin = |line| Origin::Line(ruling.path.to_owned(), line);
        let grant = ruling.grant(principal, |permission, pattern, line| {
            subjects.push(Explained {
                permission,
                subject: pattern.clone(),
                line: line.line,
                preset: line.preset.as_deref().map(str::to_owned),
                from: origin(line.line).to_string(),
            });
        })?;
        subjects.sort();
        subjects.dedup();
        let rule = ruling.rule;
        let line = |line: Option<usize>| line.map(origin);
        Ok(Explanation {
            responses: line(rule.responses.as_ref().and_then(|it| it.line)),
            ttl: line(rule.ttl.as_ref().and_then(|it| it.line)),
            until: line(rule.admission.times.as_ref().and_then(|it| it.line)),
            grant,
            subjects,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::Arc;

    use super::*;
    use crate::authn::DenyReason;
    use crate::policy::rules::Source;
    use crate::policy::{ConnectionType, Decision, Policy as _};
    use crate::protocol::claims::ClientInfo;
    use crate::store::{Isolation, LoginRecord, TenantRecord, UserKind, UserRecord};

    const TEXT: &str = "[account]\npublish = [\n  \"a.{{user.name}}\",\n  \"a.alice\",\n]\n\
        presets = [\"write bucket b\"]\nttl = 60\nallow_from = [\"10.0.0.0/8\"]\n\
        times = [\"00:00-01:00\"]\n[shared]\n";

    #[test]
    fn every_permission_has_its_line_and_the_grant_is_the_same() {
        let path = PathBuf::from("policies/mine.toml");
        let source = Source { name: "mine".into(), path: path.clone(), text: TEXT.into() };
        let policies = PolicySet::read(vec![source]).unwrap();
        let record = LoginRecord {
            tenant: TenantRecord::new("42".parse().unwrap()),
            user: UserRecord {
                policy: Some("mine".to_owned()),
                ..UserRecord::new("alice", UserKind::Bb)
            },
        };
        let principal = Principal::new(Arc::new(record), "password", None, 0).unwrap();
        let here = ClientInfo { host: "10.1.1.1".into(), ..ConnectionType::Nats.client() };
        let context = |client, isolation, now| ConnectionContext { isolation, client, now };
        let at = context(&here, Isolation::Account, 100);
        let found = policies.explain(&principal, &at).unwrap();
        assert_eq!(policies.decide(&principal, &at), Decision::Permit(found.grant.clone()));
        let lines: Vec<_> =
            found.subjects.iter().map(|it| (it.subject.as_str(), it.line)).collect();
        let wanted =
            [("$JS.API.STREAM.INFO.KV_b", 6), ("$KV.b.>", 6), ("a.alice", 3), ("a.alice", 4)];
        assert_eq!(lines, wanted);
        assert_eq!(found.subjects[0].preset.as_deref(), Some("write bucket b"));
        assert_eq!(found.subjects[2].from, "policies/mine.toml:3");
        let line = |line| Some(Origin::Line(path.clone(), line));
        assert_eq!((found.ttl, found.until), (line(7), line(9)));
        assert_eq!(found.grant.until, Some(3_600));

        let refused = |at| policies.explain(&principal, &at).unwrap_err();
        let late = refused(context(&here, Isolation::Account, 3_600));
        assert_eq!((late.reason, late.at), (DenyReason::Time, line(9)));
        let nowhere = ConnectionType::Nats.client();
        let elsewhere = refused(context(&nowhere, Isolation::Account, 0));
        assert_eq!((elsewhere.reason, elsewhere.at), (DenyReason::Address, line(8)));
        let mqtt = ConnectionType::Mqtt.client();
        let shared = refused(context(&mqtt, Isolation::Shared, 0));
        assert_eq!(shared.reason, DenyReason::ConnectionType);
        assert_eq!(shared.at, Some(Origin::File(path)));
    }
}
