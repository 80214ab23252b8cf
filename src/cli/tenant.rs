//! `tenant`: adds tenants.

use std::time::Duration;

use anyhow::{anyhow, bail};
use clap::{Args, Subcommand};
use serde_json::json;

use super::database::explain;
use super::env_file::Login;
use super::output::note;
use super::user::{Issued, check_name};
use super::when::When;
use super::{Context, Usage, ceiling, secret};
use crate::clock::UnixSeconds;
use crate::config::Mode;
use crate::config::units::parse_size;
use crate::store::{Isolation, Limits, NewTenant, NewUser, TenantId, TenantRecord, UserKind};

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
    let isolation = args.isolation.unwrap_or(context.config.isolation);
    let tenant = NewTenant {
        limits: limits(isolation, args.memory, args.storage),
        id,
        name: args.name,
        isolation: args.isolation,
        policy: args.policy,
        answers: args.answers,
        expires_at,
    };
    check_ceiling(context, &tenant).await?;
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

/// The JetStream limits of a new tenant: those of an own account; in a shared one they have no
/// effect, so they are kept only where they are asked for.
pub(super) fn limits(isolation: Isolation, memory: Option<u64>, storage: Option<u64>) -> Limits {
    let (default_memory, default_storage) = match isolation {
        Isolation::Account => (DEFAULT_MEMORY, DEFAULT_STORAGE),
        Isolation::Shared => (0, 0),
    };
    if isolation == Isolation::Shared && (memory.is_some() || storage.is_some()) {
        note("note: JetStream limits have no effect in a shared account; they are kept in the row");
    }
    Limits {
        memory: memory.unwrap_or(default_memory),
        storage: storage.unwrap_or(default_storage),
        ..Limits::default()
    }
}

/// The limits of a tenant's own account, where none are asked for.
const DEFAULT_MEMORY: u64 = 64 << 20;
const DEFAULT_STORAGE: u64 = 5 << 30;

/// How long the servers may take to tell their maxima.
const CEILING_PATIENCE: Duration = Duration::from_secs(6);

/// Refuses limits that JetStream would not admit beside those of the tenants that are there. A
/// server that cannot be asked, or an id that is taken, is no matter of this check.
async fn check_ceiling(context: &Context, new: &NewTenant) -> anyhow::Result<()> {
    let added = TenantRecord {
        isolation: new.isolation,
        limits: new.limits,
        created_at: UnixSeconds::MAX,
        ..TenantRecord::new(new.id.clone())
    };
    if !new.limits.jetstream() || !ceiling::counts(&added, &context.config) {
        return Ok(());
    }
    let asked = tokio::time::timeout(CEILING_PATIENCE, ceiling::of_server(&context.config)).await;
    let ceiling = match asked.unwrap_or_else(|_| Err(anyhow!("no answer in time"))) {
        Ok(Some(ceiling)) => ceiling,
        Ok(None) => return Ok(()),
        Err(error) => {
            note(&format!(
                "note: whether the limits fit into nats-server's JetStream maxima is not known \
                 ({error:#}); see `nats-callout doctor` once it runs"
            ));
            return Ok(());
        }
    };
    let mut tenants = context.database.provisioning.tenants().await.map_err(explain)?;
    if tenants.iter().any(|tenant| tenant.id == new.id) {
        return Ok(());
    }
    tenants.push(added);
    match ceiling.exceeded_by(&tenants, &context.config) {
        Some(excess) => {
            bail!("{excess}; {}, with --memory and --storage; nothing was added", ceiling::REMEDY)
        }
        None => Ok(()),
    }
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
