//! `keys rotate --dry-run`: the steps from here to the end, with the lines that change, and what
//! each of them costs those who log in.

use serde_json::json;

use super::super::Context;
use super::{RotateArgs, explain};
use crate::admin::keys::{self, KeyRole, Plan, Step};
use crate::config::{Config, Mode};

const RESTART_INSTANCES: &str = "restart the instances one after the other (two or more: no login \
    fails; one: logins wait for it, and those that wait longer than 2 s are refused)";

/// What is true of every setting that a server reads at its start alone.
const RESTART_SERVERS: &str = "restart the servers, since none reads that again while it runs. A \
    single one refuses connections while it is down. In a cluster, take one after the other, each \
    while the instances that are connected to it are stopped: then no login fails of a client that \
    knows another server";

pub(super) fn run(args: &RotateArgs, context: &Context) -> anyhow::Result<()> {
    let plans = keys::plan(&context.admin, &args.keys, args.offline.as_deref()).map_err(explain)?;
    let config = context.admin.config();
    let steps = |plan: &Plan| -> Vec<String> {
        plan.steps.iter().flat_map(|&step| words(config, plan, step)).collect()
    };
    let plans: Vec<_> = plans.iter().map(|plan| (plan.key, steps(plan))).collect();
    let document: Vec<_> =
        plans.iter().map(|(key, steps)| json!({ "key": key.name(), "steps": steps })).collect();
    context.output.show(&json!({ "plan": document }), || {
        let mut lines = Vec::new();
        for (key, steps) in &plans {
            lines.push(format!("{key}:"));
            let numbered = steps.iter().enumerate();
            lines.extend(numbered.map(|(n, step)| format!("  {}. {step}", n + 1)));
        }
        lines.push("Nothing was changed. Steps of several keys are taken together.".to_owned());
        lines.join("\n")
    })
}

fn words(config: &Config, plan: &Plan, step: Step) -> Vec<String> {
    let Plan { key, old, offline, .. } = plan;
    let new = plan.new.as_deref().unwrap_or("NEW");
    let offline = offline.display();
    let (section, setting) = key.setting();
    let list = |what: &str| format!("nats-callout.toml: [{section}] {setting} = [{what}]");
    let restart = RESTART_INSTANCES.to_owned();
    match step {
        // Where `init` or the rotation before has done so already.
        Step::ServersLearn | Step::ServersKeep => Vec::new(),
        Step::InstancesLearn => vec![format!("the seed of {new} comes from {offline}")],
        Step::Sign => vec![list("NEW, OLD"), restart],
        Step::GrantsEnd => {
            let ttl = config.callout.ttl.as_secs();
            vec![format!("{ttl} s pass, until no login that {old} signed is alive")]
        }
        Step::NameNext => vec![format!(
            "a generation after it is made: its seed in {offline}, {}",
            list("NEW, NEXT")
        )],
        Step::ListNext => vec![restart],
        Step::Resign => vec!["every account on every server is signed by NEW".to_owned()],
        Step::Forget => forget(plan),
        Step::TakeEither => {
            vec![format!("{}, where NEW is a key that is made then", list("OLD, NEW")), restart]
        }
        Step::ServersChange => change_servers(config, *key, old, new),
        Step::TakeNew => vec![list("NEW"), restart],
        Step::Remove => vec![format!("the seed of {old} is removed")],
    }
}

fn forget(plan: &Plan) -> Vec<String> {
    match plan.key {
        KeyRole::OperatorSigning => vec![
            format!(
                "nats-server.conf of every server: `operator:` lists NEW and NEXT, signed by {}",
                plan.offline.join("operator.nk").display()
            ),
            RESTART_SERVERS.to_owned(),
        ],
        KeyRole::ResponseSigning => {
            vec!["AUTH, on every server, lists NEW and NEXT, and OLD no longer".to_owned()]
        }
        _ => vec![
            "USERS and every tenant's account, on every server, list NEW and NEXT, and OLD no longer"
                .to_owned(),
        ],
    }
}

fn change_servers(config: &Config, key: KeyRole, old: &str, new: &str) -> Vec<String> {
    match config.mode {
        Mode::Operator(_) => vec![format!(
            "AUTH's JWT on every server: authorization.xkey from {old} to {new}; takes effect at \
             once, and no login fails"
        )],
        Mode::Config(_) => vec![
            format!(
                "nats-server.conf of every server, in auth_callout: `{key}: {old}` becomes `{key}: \
                 {new}`"
            ),
            format!(
                "{RESTART_SERVERS}. Meanwhile every instance answers each server with the key that \
                 it has"
            ),
        ],
    }
}
