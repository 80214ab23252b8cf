//! Accounts with a power by which an event comes under another tenant's name, or a reader reaches more of
//! AUTH.

use std::fs;

use nats_callout::internals::AccountLimits;

use super::{Findings, changed, without_line};
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::{accounts, ports, servers};
use crate::intake::field::Raw;

/// Each, the check that names it, and what the power is good for.
const ACCOUNTS: [(&str, &str, &str); 3] = [
    ("EVENTS", "events reader", "by which a reader reaches more of AUTH"),
    ("INTAKE", "intake", "by which events come under other tenants' names"),
    ("USERS", "intake", "by which events come under other tenants' names"),
];

/// Panics unless this power of all three is named, and nothing else.
#[track_caller]
fn all_have(findings: &Findings, power: &str) {
    findings.fail_only(&["events reader", "intake"]);
    for (account, check, harm) in ACCOUNTS {
        let what = format!("the account {account} {power}, {harm}");
        findings.has(check, "fail", &[&what, "take that away from it"]);
    }
    assert_eq!(findings.0.iter().filter(|(_, state, _)| state == "fail").count(), ACCOUNTS.len());
}

fn with_limits(change: impl Fn(&mut AccountLimits)) -> Deployment {
    Deployment::start_prepared(Mode::Operator, servers::version(), |init| {
        let conf = init.server_conf();
        let text = fs::read_to_string(&conf).unwrap();
        let text = ACCOUNTS.iter().fold(text, |text, (account, ..)| {
            accounts::with(init, &text, account, |body| change(&mut body.limits))
        });
        fs::write(&conf, text).unwrap();
    })
}

#[test]
fn accounts_of_operator_mode_that_may_have_leaf_nodes_or_jetstream() {
    let deployment = with_limits(|limits| limits.leaf = -1);
    all_have(&Findings::of(&deployment), "can have leaf nodes");
    drop(deployment);
    let deployment = with_limits(|limits| limits.disk_storage = 1 << 20);
    all_have(&Findings::of(&deployment), "has JetStream");
    drop(deployment);
    let deployment = with_limits(|limits| limits.mem_storage = 1 << 20);
    all_have(&Findings::of(&deployment), "has JetStream");
}

#[test]
fn accounts_of_config_mode_that_have_jetstream() {
    let deployment = changed(Mode::Config, |text| {
        ACCOUNTS.iter().fold(text.to_owned(), |text, (account, ..)| {
            let block = format!("\n    {account} {{\n");
            assert!(text.contains(&block), "{text}");
            let jetstream = "        jetstream { max_mem: 1MB, max_file: 1MB }\n";
            text.replacen(&block, &format!("{block}{jetstream}"), 1)
        })
    });
    all_have(&Findings::of(&deployment), "has JetStream");
}

/// No server tells the limit of an account in its configuration.
#[test]
fn accounts_of_config_mode_whose_leaf_nodes_are_connected() {
    let port = ports::free();
    let deployment = changed(Mode::Config, |text| {
        let users = ACCOUNTS.map(|(account, ..)| {
            format!("{{ user: {account}, password: {account}, account: {account} }}")
        });
        format!(
            "{}\nleafnodes {{ listen: \"127.0.0.1:{port}\", authorization {{ users: [ {} ] }} }}\n",
            without_line(text, "limits { max_leafnodes: 0 }"),
            users.join(", ")
        )
    });
    let findings = Findings::of(&deployment);
    findings.fail_only(&[]);
    for (account, check, _) in ACCOUNTS {
        let what = format!("the account {account} has neither JetStream nor leaf nodes now");
        findings.has(check, "ok", &[&what]);
    }
    let leaves = ACCOUNTS.map(|(account, ..)| Raw::connect(port, account));
    all_have(&Findings::of(&deployment), "has leaf nodes");
    drop(leaves);
}
