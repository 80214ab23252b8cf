//! `keys`: which generations of each key there are and who knows them, and the change from one to
//! the next. START with [`rotate::Rotator`].

mod files;
mod instances;
mod intake;
mod journal;
mod list;
mod logins;
mod offline;
mod plan;
mod reader;
mod rotate;
mod servers;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::bail;
use serde_json::{Value, json};

use self::rotate::{Progress, Rotator, Wait, tell};
use super::{Context, Usage};
use crate::config::units::parse_duration;
use crate::deployment::key_role::KeyRole;

/// Between two looks while a rotation waits.
const LOOK: Duration = Duration::from_secs(1);

/// The commands.
#[derive(Debug, clap::Subcommand)]
pub(super) enum KeysCommand {
    /// List the generations of every key, and who knows them; public keys only
    List,
    /// Change over to the next generation of keys; no login fails
    ///
    /// Does what can be done now, and says what has to happen before it can go on: restart the
    /// instances one after the other, in config mode (and for operator-signing) also the servers.
    /// Then run it again. It looks at what there is each time, so it may be stopped at any point.
    /// A key that is done is begun anew when it is named again, unless others that are named with it
    /// are not done yet.
    Rotate(RotateArgs),
    /// Give who reads the service's events what [events] lists the consumers of (operator mode)
    ///
    /// Makes the account EVENTS and its login where there are none, has AUTH offer to it what reading
    /// takes and to nobody anything else, and takes what it had of AUTH from BB. No login fails, and it
    /// may be run again.
    Reader(ReaderArgs),
    /// Bring a deployment of before to taking tenants' events in
    ///
    /// In operator mode, makes the account INTAKE and the service's logins there and in USERS, and
    /// changes nothing for anybody. Restart the instances then, and run it with --switch: from then on BB
    /// hears events by the intake alone. In config mode --switch is the last step of those in
    /// deploy/README.md. It may be run again.
    Intake(IntakeArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct IntakeArgs {
    /// Have events come by the intake alone, once all instances take them in
    #[arg(long)]
    switch: bool,
    /// The folder of the offline keys [default: `offline` beside the keys in use]
    #[arg(long, value_name = "DIR")]
    offline: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct ReaderArgs {
    /// The folder of the offline keys [default: `offline` beside the keys in use]
    #[arg(long, value_name = "DIR")]
    offline: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct RotateArgs {
    /// Which keys [default: those under way, else all of the mode]
    #[arg(value_enum, value_name = "KEY")]
    keys: Vec<KeyRole>,
    /// Print the steps, with the lines to change, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// The folder of the offline keys [default: `offline` beside the keys in use]
    #[arg(long, value_name = "DIR")]
    offline: Option<PathBuf>,
    /// Forget an old user-signing key at once: closes the connections of users that it signed
    #[arg(long)]
    now: bool,
    /// Wait so long for what has to happen, such as restarts, and go on by itself
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "0s")]
    wait: Duration,
}

/// Runs a command.
pub(super) async fn run(command: KeysCommand, context: &Context) -> anyhow::Result<()> {
    match command {
        KeysCommand::List => list::run(context).await,
        KeysCommand::Rotate(args) => rotate(&args, context).await,
        KeysCommand::Reader(args) => reader::run(&args, context).await,
        KeysCommand::Intake(args) => intake::run(&args, context).await,
    }
}

async fn rotate(args: &RotateArgs, context: &Context) -> anyhow::Result<()> {
    let known = KeyRole::of(context.admin.config());
    if let Some(other) = args.keys.iter().find(|key| !known.contains(key)) {
        let names: Vec<&str> = known.iter().map(|key| key.name()).collect();
        return Err(Usage(format!(
            "there is no {} in the mode `{}`; its keys are {}",
            other.name(),
            context.admin.config().mode.name(),
            names.join(", ")
        ))
        .into());
    }
    if args.dry_run {
        let keys = if args.keys.is_empty() { known } else { args.keys.clone() };
        return plan::run(context, &keys, args.offline.as_deref());
    }
    let until = Instant::now() + args.wait;
    let mut rotator = Rotator::new(context, args.offline.as_deref(), args.now).await?;
    let mut keys = args.keys.clone();
    if keys.is_empty() {
        keys = rotator.under_way();
    }
    if keys.is_empty() {
        keys = known;
    }
    let mut ended = Vec::new();
    let mut told = Vec::new();
    loop {
        let progress = rotator.advance(&keys).await;
        tell(rotator.take_done());
        let (done, waiting): (Vec<_>, Vec<_>) =
            progress?.into_iter().partition(|one| one.wait.is_none());
        keys = waiting.iter().map(|one| one.key).collect();
        ended.extend(done);
        if waiting.is_empty() || Instant::now() >= until {
            return report(context, &rotator, ended, waiting);
        }
        let lines = todo(&waiting);
        if lines != told {
            tell(lines.clone());
            told = lines;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// What is to be done before the rotations can go on, once each.
fn todo(waiting: &[Progress]) -> Vec<String> {
    let mut waits: Vec<&Wait> = waiting.iter().filter_map(|one| one.wait.as_ref()).collect();
    waits.sort();
    waits.dedup();
    waits.into_iter().map(Wait::text).collect()
}

fn report(
    context: &Context,
    rotator: &Rotator<'_>,
    done: Vec<Progress>,
    waiting: Vec<Progress>,
) -> anyhow::Result<()> {
    let one = |progress: &Progress| {
        json!({
            "key": progress.key.name(),
            "old": progress.rotation.old,
            "new": progress.rotation.new,
            "done": progress.wait.is_none(),
            "next": progress.wait.as_ref().map_or(Value::Null, Wait::json),
        })
    };
    let keys: Vec<Value> = done.iter().chain(&waiting).map(one).collect();
    let document = json!({
        "done": waiting.is_empty(),
        "keys": keys,
        "server_configs": rotator.confs(),
    });
    if done.is_empty() && waiting.is_empty() {
        bail!("there was nothing to rotate");
    }
    context.output.print(&document, || {
        let mut lines: Vec<String> = done
            .iter()
            .map(|it| {
                format!(
                    "{}: done. {} is in use, {} forgotten.",
                    it.key.name(),
                    it.rotation.new,
                    it.rotation.old
                )
            })
            .collect();
        if !waiting.is_empty() {
            let names: Vec<&str> = waiting.iter().map(|it| it.key.name()).collect();
            lines.push(format!("{}: under way. Before it goes on:", names.join(", ")));
            lines.extend(todo(&waiting).into_iter().map(|line| format!("  {line}")));
            let file = context.admin.config().file.display();
            lines.push(format!(
                "Instances on other hosts need the new {file} and keys/ first. Then run this again."
            ));
        }
        lines.join("\n")
    })
}
