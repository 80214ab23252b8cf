//! `token`: adds, lists and removes tokens, further credentials of a user.

use clap::{Args, Subcommand};
use serde_json::json;

use super::Context;
use super::database::explain;
use super::lookup::{parse_id, parse_name};
use super::output::{table, time, time_json};
use crate::admin::{NewTokenRequest, When};
use crate::redact::shown;
use crate::revoke;
use crate::store::StoreError;

#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Add a token to a user; it is shown once
    Add(AddArgs),
    /// List tokens: never the token itself, which is kept nowhere
    List(ListArgs),
    /// Remove a token by its id, which `token list` shows
    Remove(RemoveArgs),
}

#[derive(Debug, Args)]
pub(super) struct ListArgs {
    /// The tenant's id
    tenant: Option<String>,
    /// One of its users
    user: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct RemoveArgs {
    /// The token's id, after its tenant and user if you like: [[TENANT] USER] ID
    #[arg(required = true, num_args = 1..=3, value_name = "ID")]
    path: Vec<String>,
    /// Ask nothing
    #[arg(long)]
    yes: bool,
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
        TokenCommand::List(args) => list(&args, context).await,
        TokenCommand::Remove(args) => remove(&args, context).await,
    }
}

async fn list(args: &ListArgs, context: &Context) -> anyhow::Result<()> {
    let tenant = args.tenant.as_deref().map(parse_id).transpose()?;
    let listed = context.admin.tokens(tenant.as_ref(), args.user.as_deref()).await;
    let tokens = listed.map_err(explain)?;
    let json: Vec<_> = tokens
        .iter()
        .map(|token| {
            json!({
                "id": token.id,
                "tenant": token.tenant.as_str(),
                "user": token.user_name,
                "label": token.label.as_deref().map(shown),
                "expires_at": time_json(token.expires_at),
                "created_at": time(token.created_at),
            })
        })
        .collect();
    context.output.print(&json!({ "tokens": json }), || {
        if tokens.is_empty() {
            return "There are no tokens.".to_owned();
        }
        let rows = tokens
            .into_iter()
            .map(|token| {
                vec![
                    token.id,
                    token.tenant.to_string(),
                    token.user_name,
                    shown(&token.label.unwrap_or_default()).to_owned(),
                    token.expires_at.map_or_else(|| "never".to_owned(), time),
                    time(token.created_at),
                ]
            })
            .collect();
        table(&["ID", "TENANT", "USER", "LABEL", "EXPIRES", "CREATED"], rows)
    })
}

async fn remove(args: &RemoveArgs, context: &Context) -> anyhow::Result<()> {
    let Some((id, owner)) = args.path.split_last() else { return Ok(()) };
    let token = context.admin.token(id).await.map_err(explain)?;
    let named = match owner {
        [tenant, user] => token.tenant.as_str() == tenant && token.user_name == *user,
        [either] => token.tenant.as_str() == either || token.user_name == *either,
        _ => true,
    };
    if !named {
        return Err(explain(StoreError::Missing { what: "token", key: id.clone() }));
    }
    context.admin.remove_token(id).await.map_err(explain)?;
    let user = &token.user_name;
    let json = json!({ "id": id, "tenant": token.tenant.as_str(), "user": user });
    context.output.print(&json!({ "removed": json }), || {
        format!(
            "Removed token {id} of user {user}. Who is connected with it stays so for {} s at \
             most; `user suspend` closes the user's connections at once.",
            revoke::credential_outlived(context.admin.config().callout.ttl).as_secs()
        )
    })
}

async fn add(args: AddArgs, context: &Context) -> anyhow::Result<()> {
    let (id, user) = (parse_id(&args.tenant)?, args.user);
    let request = NewTokenRequest {
        tenant: id.clone(),
        user: user.clone(),
        label: args.label.as_deref().map(parse_name).transpose()?,
        expires: args.expires,
    };
    let added = context.admin.add_token(request).await.map_err(explain)?;
    let (token, expires_at) = (added.token.expose(), added.expires_at);
    context.output.print(
        &json!({
            "token": token,
            "tenant": { "id": id.as_str() },
            "user": { "name": user },
            "label": args.label,
            "expires_at": time_json(expires_at),
        }),
        || {
            let ends = expires_at.map(|at| format!(" It ends at {}.", time(at)));
            format!(
                "Added a token to {user} of tenant {id}.{}\n\n  {token}\n\nIt is shown this once. Log \
                 in with it as the token, or as {user}'s password.",
                ends.unwrap_or_default(),
            )
        },
    )
}
