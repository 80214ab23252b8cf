//! The policies that a configuration names.

use crate::config::Config;
use crate::policy::rules::PolicySet;
use crate::problem::{Origin, Problem};

/// Those that there are not: whoever an issuer gives one to is refused.
pub(crate) fn unknown(config: &Config, policies: &PolicySet) -> Vec<Problem> {
    let named = config.policies_of_issuers();
    let missing = named.filter(|(_, named)| !policies.names().any(|name| name == *named));
    let known = policies.names().collect::<Vec<_>>().join(", ");
    let problems = missing.map(|(key, name)| Problem {
        at: Origin::File(config.file.clone()),
        key,
        what: format!("there is no policy `{name}`, and whoever it is for is refused"),
        remedy: format!("add {name}.toml to the folder of policies, or choose out of {known}"),
    });
    problems.collect()
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
        let problems = unknown(&config, &PolicySet::shipped().unwrap());
        let said: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), 2, "{said:?}");
        assert!(said[0].contains("[issuers.kc] policy: there is no policy `gone`"), "{said:?}");
        assert!(said[1].contains("[issuers.kc] policies: there is no policy `lost`"), "{said:?}");
        assert!(said[0].ends_with("choose out of admin, bb, service"), "{said:?}");
    }
}
