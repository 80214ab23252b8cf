//! `tenant`: adds, suspends, resumes and removes tenants.

use clap::{Args, Subcommand};
use serde_json::json;

use super::confirm::confirm;
use super::database::explain;
use super::env_file::Login;
use super::issued::Issued;
use super::lookup::{find_tenant, parse_id, parse_name, warn_of_policy};
use super::output::{kicked, kicked_text, time_json};
use super::{Context, Usage};
use crate::admin::{NewTenantRequest, Removed, When};
use crate::config::units::parse_size;
use crate::store::Isolation;

#[derive(Debug, Subcommand)]
pub(super) enum TenantCommand {
    /// Add a tenant with its admin user, whose login is the tenant's id
    Add(AddArgs),
    /// Refuse a tenant's users, and close their connections
    Suspend(StatusArgs),
    /// Let a suspended tenant's users in again
    Resume(StatusArgs),
    /// Remove a tenant with its users, tokens and account
    Remove(RemoveArgs),
}

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// The tenant's id
    tenant: String,
    /// Ask nothing
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Args)]
pub(super) struct RemoveArgs {
    /// The tenant's id
    tenant: String,
    /// Do not ask first
    #[arg(long)]
    yes: bool,
    /// Delete its JetStream data too, which otherwise stays on the servers' disks
    #[arg(long)]
    purge: bool,
}

#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// The display name
    name: String,
    /// The id: a subject token of A-Z, a-z, 0-9, _ and - [default: NAME]
    #[arg(long)]
    id: Option<String>,
    /// JetStream memory of the tenant's own account [default: 64MB]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    memory: Option<u64>,
    /// JetStream storage of the tenant's own account [default: 5GB]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    storage: Option<u64>,
    /// `account` or `shared` [default: that of the configuration]
    #[arg(long, value_name = "HOW")]
    isolation: Option<Isolation>,
    /// When the licence ends: 30d, 2027-01-31 or an RFC 3339 time
    #[arg(long, value_name = "WHEN")]
    expires: Option<When>,
    /// The policy of the tenant's `bb` users
    #[arg(long, value_name = "P")]
    policy: Option<String>,
    /// Let BB's requests on user.ID.Notifications be answered by the tenant's own account
    #[arg(long)]
    answers: bool,
    /// Also write the login to .credentials/ID.env beside the configuration
    #[arg(long)]
    env_file: bool,
}

pub(super) async fn run(command: TenantCommand, context: &Context) -> anyhow::Result<()> {
    match command {
        TenantCommand::Add(args) => add(args, context).await,
        TenantCommand::Suspend(args) => suspend(&args, context).await,
        TenantCommand::Resume(args) => resume(&args, context).await,
        TenantCommand::Remove(args) => remove(&args, context).await,
    }
}

async fn suspend(args: &StatusArgs, context: &Context) -> anyhow::Result<()> {
    let id = parse_id(&args.tenant)?;
    let count = context.admin.suspend_tenant(&id).await.map_err(explain)?;
    let closed = kicked_text(count);
    context.output.print(&kicked(count), || format!("Suspended tenant {id}: {closed}."))
}

async fn resume(args: &StatusArgs, context: &Context) -> anyhow::Result<()> {
    let id = parse_id(&args.tenant)?;
    let count = context.admin.resume_tenant(&id).await.map_err(explain)?;
    context.output.print(&kicked(count), || format!("Resumed tenant {id}."))
}

async fn remove(args: &RemoveArgs, context: &Context) -> anyhow::Result<()> {
    let id = parse_id(&args.tenant)?;
    find_tenant(context, &id).await?;
    let count = context.admin.users(&id).await.map_err(explain)?.len();
    let data = if args.purge { ", its account and all its JetStream data" } else { "" };
    confirm(args.yes, &format!("remove tenant {id} with its {count} users{data}"))?;

    let removed = context.admin.remove_tenant(&id, args.purge).await.map_err(explain)?;
    let Removed { kicked: count, streams_deleted } = removed;
    let mut json = kicked(count);
    if let (Some(deleted), Some(object)) = (streams_deleted, json.as_object_mut()) {
        object.insert("streams_deleted".to_owned(), json!(deleted));
    }
    context.output.print(&json, || {
        let streams = streams_deleted
            .map(|count| format!(", deleted {count} stream{}", if count == 1 { "" } else { "s" }))
            .unwrap_or_default();
        format!("Removed tenant {id}: {}{streams}.", kicked_text(count))
    })
}

async fn add(args: AddArgs, context: &Context) -> anyhow::Result<()> {
    let name = parse_name(&args.name)?;
    let id = match &args.id {
        Some(id) => parse_name(id).and_then(|_| parse_id(id))?,
        None => args.name.parse().map_err(|error| {
            Usage(format!("the name `{name}` cannot be the id too: {error}; name one with --id"))
        })?,
    };
    let request = NewTenantRequest {
        id,
        name,
        isolation: args.isolation,
        memory: args.memory,
        storage: args.storage,
        policy: args.policy,
        answers: args.answers,
        expires: args.expires,
    };
    let policy = request.policy.clone();
    let added = context.admin.add_tenant(request).await.map_err(explain)?;
    warn_of_policy(context, policy.as_deref());
    let (tenant, admin) = (added.tenant, added.admin);
    let id = tenant.id.as_str();
    Issued {
        tenant: json!({
            "id": id,
            "name": tenant.name,
            "isolation": added.isolation.as_str(),
            "answers": tenant.answers,
            "limits": { "memory": tenant.limits.memory, "storage": tenant.limits.storage },
            "expires_at": time_json(tenant.expires_at),
        }),
        tenant_id: id,
        user: json!({ "name": admin.name, "kind": admin.kind.as_str(), "policy": admin.policy }),
        login: Login {
            url: context.admin.config().nats.public_url.clone(),
            user: id.to_owned(),
            password: added.password.expose().to_owned(),
        },
        generated: true,
        has_password: true,
        headline: format!("Added tenant {id} with its admin user {id}."),
    }
    .report(context, args.env_file)
}
