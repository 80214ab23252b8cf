//! `keys rotate`: tells of each look what was done, and what has to happen before it can go on.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::Context;
use super::super::output::{note, time};
use super::{RotateArgs, explain};
use crate::admin::keys::{Progress, RotationRequest, Rotator, Wait};

/// Between two looks while a rotation waits.
const LOOK: Duration = Duration::from_secs(1);

pub(super) async fn run(args: RotateArgs, context: &Context) -> anyhow::Result<()> {
    let until = Instant::now() + args.wait;
    let request = RotationRequest { keys: args.keys, offline: args.offline, now: args.now };
    let mut rotator = Rotator::new(&context.admin, request).await.map_err(explain)?;
    let mut told = Vec::new();
    loop {
        let progress = rotator.advance().await.map_err(explain)?;
        let todo = todo(&progress);
        if todo.is_empty() || Instant::now() >= until {
            return report(context, &rotator, &progress, &todo);
        }
        if todo != told {
            todo.iter().for_each(|line| note(line));
            told = todo;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What is to be done before the rotations can go on, once each.
fn todo(progress: &[Progress]) -> Vec<String> {
    let mut waits: Vec<&Wait> = progress.iter().filter_map(|one| one.wait.as_ref()).collect();
    waits.sort();
    waits.dedup();
    waits.into_iter().map(text).collect()
}

fn report(
    context: &Context,
    rotator: &Rotator,
    progress: &[Progress],
    todo: &[String],
) -> anyhow::Result<()> {
    let one = |it: &Progress| {
        json!({
            "key": it.key.name(),
            "old": it.old,
            "new": it.new,
            "done": it.wait.is_none(),
            "next": it.wait.as_ref().map_or(Value::Null, document),
        })
    };
    let document = json!({
        "done": todo.is_empty(),
        "keys": progress.iter().map(one).collect::<Vec<_>>(),
        "server_configs": rotator.confs(),
    });
    context.output.print(&document, || {
        let (done, waiting): (Vec<&Progress>, Vec<_>) =
            progress.iter().partition(|it| it.wait.is_none());
        let mut lines: Vec<String> = done
            .iter()
            .map(|it| format!("{}: done. {} is in use, {} forgotten.", it.key, it.new, it.old))
            .collect();
        if !waiting.is_empty() {
            let names: Vec<&str> = waiting.iter().map(|it| it.key.name()).collect();
            lines.push(format!("{}: under way. Before it goes on:", names.join(", ")));
            lines.extend(todo.iter().map(|line| format!("  {line}")));
            let file = context.admin.config().file.display();
            lines.push(format!(
                "Instances on other hosts need the new {file} and keys/ first. Then run this again."
            ));
        }
        lines.join("\n")
    })
}

/// What a person has to do.
fn text(wait: &Wait) -> String {
    match wait {
        Wait::Instances(ids) => format!(
            "restart these instances of the service, one after the other: {}",
            Vec::from_iter(ids.iter().map(String::as_str)).join(", ")
        ),
        Wait::Servers(servers) => format!(
            "bring these servers their changed configuration, and restart one after the other, each \
             while the instances that are connected to it are stopped: {}",
            Vec::from_iter(servers.iter().map(String::as_str)).join(", ")
        ),
        Wait::Until(at) => format!(
            "logins that the old key signed may last until {}; go on then (or say --now, which \
             closes their connections)",
            time(*at)
        ),
    }
}

fn document(wait: &Wait) -> Value {
    match wait {
        Wait::Instances(ids) => json!({ "restart_instances": ids }),
        Wait::Servers(servers) => json!({ "restart_servers": servers }),
        Wait::Until(at) => json!({ "wait_until": time(*at) }),
    }
}
