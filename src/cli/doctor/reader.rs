//! Whether the service's events can be read, and nothing else of AUTH be reached by it: what AUTH
//! offers to other accounts, and the account EVENTS, which may have neither JetStream nor leaf
//! nodes.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::super::system::{self, Expect};
use super::callout::Watched;
use super::{Findings, State, servers};
use crate::config::{Config, Mode, OperatorMode};
use crate::keys::OperatorId;
use crate::protocol::claims::AccountBody;
use crate::provision::streams::readers;

const CHECK: &str = "events reader";

/// What the account can have, as a server knows it.
struct Powers {
    jetstream: bool,
    leafnodes: bool,
}

/// What a server of config mode says of it.
#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    jetstream_enabled: bool,
    #[serde(default)]
    leafnode_connections: u64,
}

/// Judges what AUTH exports.
pub(super) fn offered(config: &Config, exports: &BTreeSet<String>, findings: &mut Findings) {
    let faults = readers::judge(exports, &config.streams.events).faults();
    if faults.is_empty() {
        return findings.ok(CHECK, "AUTH offers its consumers, and nothing else");
    }
    for fault in faults {
        findings.fail(CHECK, fault, readers::REMEDY);
    }
}

/// Looks at the account EVENTS on every server.
pub(super) async fn account(
    config: &Config,
    system: &Watched,
    count: usize,
    findings: &mut Findings,
) {
    let expect = Expect::Servers(count);
    let found = match &config.mode {
        Mode::Operator(OperatorMode { events_account: None, .. }) => {
            return findings.fail(CHECK, "there is no [operator] events_account", readers::REMEDY);
        }
        Mode::Operator(OperatorMode { events_account: Some(account), .. }) => {
            servers::look_up(system, account, expect).await.map(|found| {
                let powers = |(body, _): &(AccountBody, OperatorId)| Powers {
                    jetstream: body.limits.mem_storage != 0 || body.limits.disk_storage != 0,
                    leafnodes: body.limits.leaf != 0,
                };
                found.iter().map(powers).collect()
            })
        }
        Mode::Config(_) => named(system, expect).await,
    };
    let found = match found {
        Ok(found) => found,
        Err(error) => return findings.fail(CHECK, format!("{error:#}"), "see nats-server's log"),
    };
    if found.is_empty() {
        return findings.fail(CHECK, "no server knows the account EVENTS", readers::REMEDY);
    }
    let before = findings.count(State::Fail);
    for (what, has) in [
        ("has JetStream", found.iter().any(|powers| powers.jetstream)),
        ("can have leaf nodes", found.iter().any(|powers| powers.leafnodes)),
    ] {
        if has {
            findings.fail(
                CHECK,
                format!("the account EVENTS {what}, by which a reader reaches more of AUTH"),
                "take that away from it, and give it nothing but the events' readers",
            );
        }
    }
    if findings.count(State::Fail) == before {
        findings.ok(CHECK, "the account EVENTS has neither JetStream nor leaf nodes");
    }
}

/// No server tells the limit of a named account's leaf nodes, but whether it has any.
async fn named(system: &Watched, expect: Expect) -> anyhow::Result<Vec<Powers>> {
    let subject = "$SYS.REQ.ACCOUNT.EVENTS.INFO";
    let answers =
        system::ask::<Info>(&system.client, subject, &serde_json::json!({}), expect).await?;
    let powers = |info: Info| Powers {
        jetstream: info.jetstream_enabled,
        leafnodes: info.leafnode_connections > 0,
    };
    Ok(answers.into_iter().filter_map(|answer| answer.data).map(powers).collect())
}
