//! Accounts of config mode that one tenant has for itself.

use super::Findings;
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::servers;

const CHECK: &str = "own accounts";

#[test]
fn what_an_account_of_its_own_lacks_is_named() {
    let mut deployment = Deployment::start_prepared(Mode::Config, servers::version(), |init| {
        with_account(&init.server_conf(), "\naccounts {\n", "\naccounts {\n    ALICE {}\n");
        init.set("dedicated", "{ ALICE = \"alice\", BOB = \"bob\" }");
    });
    let findings = Findings::of(&deployment);
    findings.fail_only(&[CHECK]);
    findings.has(CHECK, "warn", &["ALICE", "alice, who is not in the table"]);
    findings.has(CHECK, "fail", &["ALICE does not take own.alice.Events of INTAKE"]);
    findings.has(CHECK, "fail", &["no server knows the account BOB of the tenant bob"]);
    let text = deployment.cli(&["doctor"]).stdout;
    assert!(!text.contains("BOB is for the tenant"), "nobody is to be placed there yet: {text}");

    let import = "ALICE { imports: [ \
                  { service: { account: INTAKE, subject: \"own.alice.Events\" }, to: \"Events\" } ] }\n    \
                  BOB { imports: [ \
                  { service: { account: INTAKE, subject: \"own.alice.Events\" }, to: \"Events\" } ] }";
    with_account(&deployment.server_conf(), "ALICE {}", import);
    deployment.server.restart();
    deployment.tenant_add("alice", &[]);
    deployment.tenant_add("bob", &[]);
    deployment.sql("UPDATE tenants SET account = 'BOB' WHERE id = 'bob';");
    let findings = Findings::of(&deployment);
    findings.has(CHECK, "ok", &["ALICE", "takes own.alice.Events"]);
    findings.has(CHECK, "warn", &["alice, who is placed in the account for all others"]);
    findings.has(CHECK, "fail", &["BOB does not take own.bob.Events of INTAKE"]);

    deployment.sql("UPDATE tenants SET account = 'ALICE' WHERE id = 'alice';");
    let text = deployment.cli(&["doctor"]).stdout;
    assert!(!text.contains("placed in") && !text.contains("not in the table"), "{text}");
}

fn with_account(conf: &std::path::Path, old: &str, new: &str) {
    let text = std::fs::read_to_string(conf).expect("a configuration");
    assert!(text.contains(old), "{text}");
    std::fs::write(conf, text.replacen(old, new, 1)).expect("a configuration");
}
