//! `token`: adds, lists and removes tokens, further credentials of a user.

use clap::{Args, Subcommand};
use serde_json::json;

use super::database::explain;
use super::lookup::{check_name, find_tenant, parse_id};
use super::output::{table, time, time_json};
use super::when::When;
use super::{Context, Usage, secret, settle};
use crate::store::{NewToken, StoreError};

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
    let store = context.admin.store();
    if let Some(id) = &tenant {
        find_tenant(context, id).await?;
        let users = store.users(id).await.map_err(explain)?;
        if let Some(user) = &args.user
            && !users.iter().any(|known| known.name == *user)
        {
            return Err(explain(StoreError::Missing { what: "user", key: user.clone() }));
        }
    }
    let mut tokens = store.tokens().await.map_err(explain)?;
    tokens.retain(|token| {
        tenant.as_ref().is_none_or(|id| token.tenant == *id)
            && args.user.as_ref().is_none_or(|user| token.user_name == *user)
    });
    let json: Vec<_> = tokens
        .iter()
        .map(|token| {
            json!({
                "id": token.id,
                "tenant": token.tenant.as_str(),
                "user": token.user_name,
                "label": token.label,
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
                    token.label.unwrap_or_default(),
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
    let store = context.admin.store();
    let missing = || explain(StoreError::Missing { what: "token", key: id.clone() });
    let tokens = store.tokens().await.map_err(explain)?;
    let token = tokens.iter().find(|token| token.id == *id).ok_or_else(missing)?;
    let named = match owner {
        [tenant, user] => token.tenant.as_str() == tenant && token.user_name == *user,
        [either] => token.tenant.as_str() == either || token.user_name == *either,
        _ => true,
    };
    if !named {
        return Err(missing());
    }
    store.remove_token_by_id(id).await.map_err(explain)?;
    settle::settle(context).await;
    let user = &token.user_name;
    let json = json!({ "id": id, "tenant": token.tenant.as_str(), "user": user });
    context.output.print(&json!({ "removed": json }), || {
        format!(
            "Removed token {id} of user {user}. Who is connected with it stays so for {} s at \
             most; `user suspend` closes the user's connections at once.",
            context.admin.config().callout.ttl.as_secs()
        )
    })
}

async fn add(args: AddArgs, context: &Context) -> anyhow::Result<()> {
    let id = parse_id(&args.tenant)?;
    if let Some(label) = &args.label {
        check_name(label)?;
    }
    let expires_at = args
        .expires
        .map(|when| when.at(context.admin.now()))
        .transpose()
        .map_err(|error| Usage(format!("--expires: {error}")))?;
    let (token, hash) = secret::generate_token()?;
    let new = NewToken { user_name: args.user, hash, label: args.label, expires_at };
    context.admin.store().add_token(&id, &new).await.map_err(explain)?;
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
