//! The policies that a configuration names, and what its issuers hand to them.

use serde_json::{Map, Value};

use crate::config::{Config, Mode};
use crate::policy::rules::{PolicySet, Wanted};
use crate::policy::table::ByIssuer;
use crate::problem::{Origin, Problem};
use crate::store::Isolation;

/// Why whoever an issuer gives a policy to is refused: there is no such policy, or it wants a claim that the issuer
/// does not hand to it.
pub(crate) fn faults(config: &Config, policies: &PolicySet) -> Vec<Problem> {
    let mut faults = unknown(config, policies);
    for fault in unlisted(config, policies) {
        // An issuer may name a policy twice.
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    }
    faults
}

fn unknown(config: &Config, policies: &PolicySet) -> Vec<Problem> {
    let named = config.policies_of_issuers();
    let missing = named.filter(|(.., named)| !policies.names().any(|name| name == *named));
    let known = policies.names().collect::<Vec<_>>().join(", ");
    let problems = missing.map(|(issuer, key, name)| Problem {
        at: Origin::File(config.file.clone()),
        key: format!("[issuers.{}] {key}", issuer.name),
        what: format!("there is no policy `{name}`, and whoever it is for is refused"),
        remedy: format!("add {name}.toml to the folder of policies, or choose out of {known}"),
    });
    problems.collect()
}

fn unlisted(config: &Config, policies: &PolicySet) -> impl Iterator<Item = Problem> {
    let forms: &[Isolation] = match &config.mode {
        Mode::Config(mode) if mode.dedicated.is_empty() => &[Isolation::Shared],
        _ => &[Isolation::Account, Isolation::Shared],
    };
    config.policies_of_issuers().flat_map(move |(issuer, _, policy)| {
        let wanted = forms.iter().flat_map(move |form| policies.wanted(policy, *form));
        let is_missing = |it: &Wanted<'_>| !issuer.claims.iter().any(|listed| listed == it.claim);
        wanted.filter(is_missing).map(|Wanted { at, key, claim }| Problem {
            at,
            key,
            what: format!(
                "[issuers.{}] does not hand the claim `{claim}` to the policy, and whoever it is for is refused",
                issuer.name
            ),
            remedy: format!("list \"{claim}\" in [issuers.{}] claims", issuer.name),
        })
    })
}

/// What issuers make of a JWT's claims, for cases of test tables.
pub(crate) fn handed(config: &Config) -> impl Fn(&str, &Map<String, Value>) -> Option<ByIssuer> {
    move |name, claims| {
        let issuer = config.issuers.iter().find(|issuer| issuer.name == name)?;
        Some((issuer.who(), issuer.hand(claims)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Files;

    #[test]
    fn what_issuers_name_is_looked_for() {
        let text = "[nats]\nmode = \"config\"\n[callout]\nissuer = [\"issuer.nk\"]\n\
                    [database]\nurl = \"sqlite://t.db\"\n\
                    [issuers.kc]\nissuer = \"https://kc.example.com\"\naudience = [\"nats\"]\n\
                    users = \"policy\"\ntenant = \"shop\"\npolicy = \"gone\"\n\
                    policy_claim = \"roles\"\npolicies = [\"a=admin\", \"b=lost\"]\n\
                    [issuers.rows]\nissuer = \"https://rows.example.com\"\naudience = [\"nats\"]\n";
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("nats-callout.toml");
        std::fs::write(&file, text).unwrap();
        let config = Config::load_with(&file, Files::Unchecked, []).unwrap().config;
        let problems = faults(&config, &PolicySet::shipped().unwrap());
        let said: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].contains("[issuers.kc] policy: there is no policy `gone`"), "{said:?}");
        assert!(said[1].contains("[issuers.kc] policies: there is no policy `lost`"), "{said:?}");
        assert!(said[0].ends_with("choose out of admin, bb, service"), "{said:?}");
    }
}
