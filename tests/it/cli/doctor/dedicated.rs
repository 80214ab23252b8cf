//! Accounts of config mode that one tenant has for itself.

use super::Findings;
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::{eventually, servers};

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

/// Whoever takes another tenant's subject of INTAKE sends events under that tenant's name.
#[test]
fn whoever_takes_events_of_others_is_named() {
    let take = |subject: &str, to: &str| {
        format!("{{ service: {{ account: INTAKE, subject: \"{subject}\" }}, to: \"{to}\" }}")
    };
    let nobody = "which no tenant has for itself";
    let foreign = [
        ("ALICE", "which is the tenant alice's", "own.bob.Events", "other"),
        ("BOB", "which is the tenant bob's", "own.*.Events", "as.*.Events"),
        ("SPA.RE", nobody, "own.alice.Events", "spare"),
        ("USERS", nobody, "own.bob.Events", "other"),
    ]
    .map(|(account, whose, subject, to)| (account, whose, subject, take(subject, to)));
    let of = |account| &foreign.iter().find(|(name, ..)| *name == account).expect("one").3;
    let mut deployment = Deployment::start_prepared(Mode::Config, servers::version(), |init| {
        let accounts = format!(
            "\naccounts {{\n    ALICE {{ imports: [ {}\n{} ] }}\n    BOB {{ imports: [ {}\n{} ] }}\n    \
             \"SPA.RE\" {{ imports: [ {} ] }}\n",
            take("own.alice.Events", "Events"),
            of("ALICE"),
            take("own.bob.Events", "Events"),
            of("BOB"),
            of("SPA.RE"),
        );
        with_account(&init.server_conf(), "\naccounts {\n", &accounts);
        let users = format!("\n    USERS {{\n        imports: [ {} ]\n", of("USERS"));
        with_account(&init.server_conf(), "\n    USERS {\n", &users);
        init.set("dedicated", "{ ALICE = \"alice\", BOB = \"bob\" }");
    });
    let findings = Findings::of(&deployment);
    findings.fail_only(&[CHECK]);
    for (account, whose, subject, _) in &foreign {
        let what = format!("the account {account}, {whose}, takes {subject} of INTAKE");
        let harm = "taken for another tenant's events";
        findings.has(CHECK, "fail", &[&what, harm, "out of nats-server.conf"]);
        eventually(&what, || deployment.service.log().contains(&what).then_some(()));
    }
    let fails = findings.0.iter().filter(|(_, state, _)| state == "fail").count();
    assert_eq!(fails, foreign.len(), "{:#?}", findings.0);

    for (.., import) in &foreign {
        with_account(&deployment.server_conf(), import, "");
    }
    deployment.server.restart();
    let findings = Findings::of(&deployment);
    findings.fail_only(&[]);
    findings.has(CHECK, "ok", &["no account takes another tenant's events of INTAKE"]);
    findings.has(CHECK, "ok", &["BOB", "takes own.bob.Events"]);
}

fn with_account(conf: &std::path::Path, old: &str, new: &str) {
    let text = std::fs::read_to_string(conf).expect("a configuration");
    assert!(text.contains(old), "{text}");
    std::fs::write(conf, text.replacen(old, new, 1)).expect("a configuration");
}
