//! `keys rotate --dry-run`: the steps from here to the end, with the lines that change, and what
//! each of them costs those who log in.

use std::path::Path;

use serde_json::json;

use super::super::Context;
use super::journal::Journal;
use super::rotate::folder;
use crate::config::{Config, Mode};
use crate::deployment::key_role::KeyRole;

/// What is true of every setting that a server reads at its start alone.
const RESTART_SERVERS: &str = "restart the servers, since none reads that again while it runs. A \
    single one refuses connections while it is down. In a cluster, take one after the other, each \
    while the instances that are connected to it are stopped: then no login fails of a client that \
    knows another server";

pub(super) fn run(
    context: &Context,
    keys: &[KeyRole],
    offline: Option<&Path>,
) -> anyhow::Result<()> {
    let config = context.admin.config();
    let folder = folder(config)?;
    let journal = Journal::read(&folder)?;
    let offline = offline.map_or_else(|| folder.join("offline"), Path::to_owned);
    let mut steps = Vec::new();
    for &key in keys {
        let public = key.public(config)?;
        let old = public.first().cloned().unwrap_or_default();
        let (old, new) = match (journal.under_way(key), public.get(1)) {
            (Some(rotation), _) => (rotation.old.clone(), rotation.new.clone()),
            (None, Some(next)) => (old, next.clone()),
            (None, None) => (old, "NEW".to_owned()),
        };
        steps.push((key, of(config, key, &old, &new, &offline)));
    }
    let document: Vec<_> =
        steps.iter().map(|(key, steps)| json!({ "key": key.name(), "steps": steps })).collect();
    context.output.show(&json!({ "plan": document }), || {
        let mut lines = Vec::new();
        for (key, steps) in &steps {
            lines.push(format!("{}:", key.name()));
            let numbered = steps.iter().enumerate();
            lines.extend(numbered.map(|(n, step)| format!("  {}. {step}", n + 1)));
        }
        lines.push("Nothing was changed. Steps of several keys are taken together.".to_owned());
        lines.join("\n")
    })
}

fn of(config: &Config, key: KeyRole, old: &str, new: &str, offline: &Path) -> Vec<String> {
    let (section, setting) = key.setting();
    let list = |what: &str| format!("nats-callout.toml: [{section}] {setting} = [{what}]");
    let restart = "restart the instances one after the other (two or more: no login fails; one: \
                   logins wait for it, and those that wait longer than 2 s are refused)";
    let operator = matches!(config.mode, Mode::Operator(_));
    let mut steps = Vec::new();
    match key {
        KeyRole::Xkey | KeyRole::Issuer => {
            steps.push(format!("{}, where NEW is a key that is made then", list("OLD, NEW")));
            steps.push(restart.to_owned());
            if operator {
                steps.push(format!(
                    "AUTH's JWT on every server: authorization.xkey from {old} to {new}; takes \
                     effect at once, and no login fails"
                ));
            } else {
                let name = if key == KeyRole::Xkey { "xkey" } else { "issuer" };
                steps.push(format!(
                    "nats-server.conf of every server, in auth_callout: `{name}: {old}` becomes \
                     `{name}: {new}`"
                ));
                steps.push(format!(
                    "{RESTART_SERVERS}. Meanwhile every instance answers each server with the key \
                     that it has"
                ));
            }
            steps.push(list("NEW"));
            steps.push(restart.to_owned());
            steps.push(format!("the seed of {old} is removed"));
        }
        KeyRole::OperatorSigning | KeyRole::UserSigning | KeyRole::ResponseSigning => {
            steps.push(format!("the seed of {new} comes from {}", offline.display()));
            steps.push(list("NEW, OLD"));
            steps.push(restart.to_owned());
            if key == KeyRole::UserSigning {
                let ttl = config.callout.ttl.as_secs();
                steps.push(format!("{ttl} s pass, until no login that {old} signed is alive"));
            }
            steps.push(format!(
                "a generation after it is made: its seed in {}, {}",
                offline.display(),
                list("NEW, NEXT")
            ));
            steps.push(restart.to_owned());
            steps.push(match key {
                KeyRole::UserSigning => {
                    "USERS and every tenant's account, on every server, list NEW \
                                     and NEXT, and OLD no longer"
                        .to_owned()
                }
                KeyRole::ResponseSigning => {
                    "AUTH, on every server, lists NEW and NEXT, and OLD no longer".to_owned()
                }
                _ => "every account on every server is signed by NEW".to_owned(),
            });
            if key == KeyRole::OperatorSigning {
                steps.push(format!(
                    "nats-server.conf of every server: `operator:` lists NEW and NEXT, signed by {}",
                    offline.join("operator.nk").display()
                ));
                steps.push(RESTART_SERVERS.to_owned());
            }
            steps.push(format!("the seed of {old} is removed"));
        }
    }
    steps
}
