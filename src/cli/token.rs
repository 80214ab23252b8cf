//! `token`: adds tokens, further credentials of a user.

use clap::{Args, Subcommand};
use serde_json::json;

use super::database::explain;
use super::output::{time, time_json};
use super::user::check_name;
use super::when::When;
use super::{Context, Usage, secret, tenant};
use crate::store::NewToken;

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Add a token to a user; it is shown once
    Add(AddArgs),
}

#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// The tenant's id
    tenant: String,
    /// The login
    user: String,
    /// When the token ends: 30d, 2027-01-31 or an RFC 3339 time
    #[arg(long, value_name = "WHEN")]
    expires: Option<When>,
    /// A note, to tell tokens apart
    #[arg(long, value_name = "L")]
    label: Option<String>,
}

pub(super) async fn run(command: TokenCommand, context: &Context) -> anyhow::Result<()> {
    match command {
        TokenCommand::Add(args) => add(args, context).await,
    }
}

async fn add(args: AddArgs, context: &Context) -> anyhow::Result<()> {
    let id = tenant::parse_id(&args.tenant)?;
    if let Some(label) = &args.label {
        check_name(label)?;
    }
    let expires_at = args
        .expires
        .map(|when| when.at(context.now()))
        .transpose()
        .map_err(|error| Usage(format!("--expires: {error}")))?;
    let (token, hash) = secret::generate_token()?;
    let new = NewToken { user_name: args.user, hash, label: args.label, expires_at };
    context.database.provisioning.add_token(&id, &new).await.map_err(explain)?;
    context.output.print(
        &json!({
            "token": token.as_str(),
            "tenant": { "id": id.as_str() },
            "user": { "name": new.user_name },
            "label": new.label,
            "expires_at": time_json(new.expires_at),
        }),
        || {
            let ends = new.expires_at.map(|at| format!(" It ends at {}.", time(at)));
            format!(
                "Added a token to {} of tenant {id}.{}\n\n  {}\n\nIt is shown this once. Log in with \
                 it as the token, or as {0}'s password.",
                new.user_name,
                ends.unwrap_or_default(),
                token.as_str()
            )
        },
    )
}
