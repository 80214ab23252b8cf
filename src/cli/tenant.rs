//! `tenant`: adds tenants.

use clap::{Args, Subcommand};
use serde_json::json;

use super::database::explain;
use super::env_file::Login;
use super::secret;
use super::user::{Issued, check_name};
use super::when::When;
use super::{Context, Usage};
use crate::config::Mode;
use crate::config::units::parse_size;
use crate::store::{Isolation, Limits, NewTenant, NewUser, TenantId, UserKind};

#[derive(Debug, Subcommand)]
pub(super) enum TenantCommand {
    /// Add a tenant with its admin user, whose login is the tenant's id
    Add(AddArgs),
}

#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// The display name
    name: String,
    /// The id: a subject token of A-Z, a-z, 0-9, _ and - [default: NAME]
    #[arg(long)]
    id: Option<String>,
    /// JetStream memory of the tenant's account
    #[arg(long, value_name = "SIZE", default_value = "64MB", value_parser = parse_size)]
    memory: u64,
    /// JetStream storage of the tenant's account
    #[arg(long, value_name = "SIZE", default_value = "5GB", value_parser = parse_size)]
    storage: u64,
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
    }
}

async fn add(args: AddArgs, context: &Context) -> anyhow::Result<()> {
    check_name(&args.name)?;
    let id = match &args.id {
        Some(id) => parse_id(id)?,
        None => args.name.parse().map_err(|error| {
            Usage(format!(
                "the name `{}` cannot be the id too: {error}; name one with --id",
                args.name
            ))
        })?,
    };
    if args.isolation == Some(Isolation::Account) && matches!(context.config.mode, Mode::Config(_))
    {
        return Err(Usage(
            "--isolation account: the mode `config` has no accounts of tenants' own; leave it out"
                .to_owned(),
        )
        .into());
    }
    let isolation = args.isolation.unwrap_or(context.config.isolation);
    if args.answers && isolation == Isolation::Shared {
        return Err(Usage(
            "--answers: tenants in a shared account are answered without it; leave it out"
                .to_owned(),
        )
        .into());
    }
    let now = context.now();
    let expires_at = args
        .expires
        .map(|when| when.at(now))
        .transpose()
        .map_err(|error| Usage(format!("--expires: {error}")))?;
    let tenant = NewTenant {
        id,
        name: args.name,
        isolation: args.isolation,
        policy: args.policy,
        limits: Limits { memory: args.memory, storage: args.storage, ..Limits::default() },
        answers: args.answers,
        expires_at,
    };
    let password = secret::generate_password()?;
    create(context, &tenant, &password).await?;

    let id = tenant.id.as_str();
    Issued {
        tenant: json!({
            "id": id,
            "name": tenant.name,
            "isolation": isolation.as_str(),
            "answers": tenant.answers,
            "limits": { "memory": tenant.limits.memory, "storage": tenant.limits.storage },
            "expires_at": super::output::time_json(tenant.expires_at),
        }),
        tenant_id: id,
        user: json!({ "name": id, "kind": "bb", "policy": ADMIN }),
        login: Login {
            url: context.config.nats.public_url.clone(),
            user: id.to_owned(),
            password: password.to_string(),
        },
        generated: true,
        has_password: true,
        headline: format!("Added tenant {id} with its admin user {id}."),
    }
    .report(context, args.env_file)
}

/// The policy of a tenant's first user.
const ADMIN: &str = "admin";

/// Adds the tenant with its admin user.
pub(super) async fn create(
    context: &Context,
    tenant: &NewTenant,
    password: &zeroize::Zeroizing<String>,
) -> anyhow::Result<()> {
    let admin = NewUser {
        tenant: tenant.id.clone(),
        name: tenant.id.as_str().to_owned(),
        kind: UserKind::Bb,
        password_hash: Some(secret::hash_password(password).await?),
        nkey: None,
        publish: Vec::new(),
        subscribe: Vec::new(),
        policy: Some(ADMIN.to_owned()),
    };
    context.database.provisioning.add_tenant(tenant, &admin).await.map_err(explain)
}

/// The id of a tenant, as an argument.
pub(super) fn parse_id(text: &str) -> anyhow::Result<TenantId> {
    text.parse().map_err(|error| Usage(format!("`{text}`: {error}")).into())
}
