//! The policies that the service reads when it starts, and their test tables.

use super::Findings;
use crate::config::Config;
use crate::deployment::policies::{faults, handed};
use crate::hidden::in_a_line;
use crate::policy::rules::{NoPolicies, PolicyError, PolicySet};
use crate::policy::table;
use crate::problem::Problem;

pub(super) const CHECK: &str = "policies";

/// The policies, if they can be used.
pub(super) fn check(config: &Config, findings: &mut Findings) -> Option<PolicySet> {
    let folder = config.policies.as_deref();
    let read = PolicySet::configured(folder)
        .and_then(|policies| Ok((policies, table::run(folder, Some(&handed(config)))?)));
    let (policies, report) = match read {
        Ok(read) => read,
        Err(PolicyError(NoPolicies::Invalid(problems))) => {
            for problem in problems {
                fail(findings, &problem);
            }
            return None;
        }
        Err(error @ PolicyError(NoPolicies::Unreadable { .. })) => {
            // The text says what to do by itself.
            findings.add(CHECK, super::State::Fail, error.to_string(), None);
            return None;
        }
    };
    let named = faults(config, &policies);
    named.iter().for_each(|problem| fail(findings, problem));
    let failed: Vec<_> = report.outcomes.iter().filter(|it| !it.failures.is_empty()).collect();
    for outcome in &failed {
        let what = format!("{}: {} is not so", outcome.at, in_a_line(&outcome.case));
        findings.fail(CHECK, what, "see `nats-callout policy test`");
    }
    if failed.is_empty() && named.is_empty() {
        let (count, cases) = (policies.names().count(), report.outcomes.len());
        let whose = folder.map_or_else(|| "built in".to_owned(), |it| it.display().to_string());
        findings.ok(CHECK, format!("{count} policies, {cases} test cases ({whose})"));
    }
    Some(policies)
}

fn fail(findings: &mut Findings, Problem { at, key, what, remedy }: &Problem) {
    let what = format!("{at}: {}: {}", in_a_line(key), in_a_line(what));
    findings.fail(CHECK, what, in_a_line(remedy));
}
