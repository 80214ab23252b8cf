//! `keys`: which generations of each key there are and who knows them, and the change from one to
//! the next, as [`admin::keys`](crate::admin::keys) does it.

mod list;
mod plan;
mod rotate;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use serde_json::json;
use strum::IntoEnumIterator as _;

use super::{Context, Usage, database};
use crate::admin::keys::{self, IntakeDone, IntakeRequest, KeyRole, KeysError};
use crate::config::units::parse_duration;
use crate::streams::POOLED_EVENTS;

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
    #[arg(value_name = "KEY", value_parser = key_parser())]
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
        KeysCommand::Rotate(args) if args.dry_run => plan::run(&args, context),
        KeysCommand::Rotate(args) => rotate::run(args, context).await,
        KeysCommand::Reader(args) => reader(&args, context).await,
        KeysCommand::Intake(args) => intake(args, context).await,
    }
}

fn key_parser() -> impl TypedValueParser<Value = KeyRole> {
    let value = |key: KeyRole| {
        PossibleValue::new(key.name()).help(match key {
            KeyRole::OperatorSigning => "Signs accounts (operator mode)",
            KeyRole::UserSigning => "Signs users (operator mode)",
            KeyRole::ResponseSigning => "Signs answers to the server (operator mode)",
            KeyRole::Issuer => "Signs users and answers (config mode)",
            KeyRole::Xkey => "Opens requests and seals answers",
        })
    };
    PossibleValuesParser::new(KeyRole::iter().map(value)).try_map(|name| {
        KeyRole::iter().find(|key| key.name() == name).ok_or("not the name of a key")
    })
}

async fn reader(args: &ReaderArgs, context: &Context) -> anyhow::Result<()> {
    let made = keys::reader(&context.admin, args.offline.as_deref()).await.map_err(explain)?;
    context.output.print(
        &json!({
            "account": made.account, "credentials": made.credentials, "accounts": made.accounts,
            "server_configs": made.server_configs,
        }),
        || {
            format!(
                "{} reads the consumers that [events] lists; restart the instances of the service, \
                 with the new {} and keys/ on each host.",
                made.credentials.display(),
                context.admin.config().file.display()
            )
        },
    )
}

async fn intake(args: IntakeArgs, context: &Context) -> anyhow::Result<()> {
    let request = IntakeRequest { switch: args.switch, offline: args.offline };
    let (document, text) = match keys::intake(&context.admin, &request).await.map_err(explain)? {
        IntakeDone::Nothing => {
            (json!({}), "events come by the intake since `init`: there is nothing to do".to_owned())
        }
        IntakeDone::Prepared { account, server_configs } => (
            json!({ "account": account, "server_configs": server_configs }),
            format!(
                "bring the new {} and keys/ to every host, restart the instances one after the \
                 other, then run this again with --switch",
                context.admin.config().file.display()
            ),
        ),
        IntakeDone::Emptied => (
            json!({}),
            format!(
                "events come by the intake alone; remove the stream {POOLED_EVENTS} with BB's login"
            ),
        ),
        IntakeDone::Switched { accounts, server_configs, interrupted } => (
            json!({
                "accounts": accounts, "server_configs": server_configs,
                "interrupted_ms": u64::try_from(interrupted.as_millis()).unwrap_or(u64::MAX),
            }),
            format!(
                "events come by the intake alone; those of shared tenants were interrupted for at \
                 most {interrupted:.1?}. Bring the new keys/bb.creds to the application behind the \
                 tenants, and remove the stream {POOLED_EVENTS} with it"
            ),
        ),
    };
    context.output.print(&document, || text)
}

/// The error in the words of the command line.
fn explain(error: impl Into<keys::Error>) -> anyhow::Error {
    let keys::Error(error) = error.into();
    match error {
        KeysError::Stopped { key, source } => {
            explain(*source).context(format!("{key}, which can be resumed"))
        }
        KeysError::Config(error) => error.into(),
        KeysError::Instances(error) => database::explain(error),
        KeysError::SeedAway(_) => {
            anyhow!("{error}; name the folder of the offline keys with --offline DIR")
        }
        KeysError::NoIntake => anyhow!("{error}; run this without --switch first"),
        KeysError::Invalid(what) => Usage(what).into(),
        KeysError::NoFolder(_) | KeysError::SameFolder(_) => {
            Usage(format!("--offline: {error}")).into()
        }
        KeysError::OfflineAway(_) => Usage(format!("{error}; name it with --offline")).into(),
        KeysError::NextAway { .. } => {
            Usage(format!("{error}; name their folder with --offline DIR")).into()
        }
        KeysError::OfflineUnnamed(_) => Usage(format!(
            "{error}; name their folder with --offline DIR: the next generation is kept there, and \
             the operator's identity"
        ))
        .into(),
        KeysError::IntakeByHand => {
            Usage(format!("{error}, and run this with --switch in the end")).into()
        }
        error => error.into(),
    }
}
