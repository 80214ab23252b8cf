//! `tenant`: adds, suspends, resumes and removes tenants.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, Subcommand};
use serde_json::json;

use super::database::{self, explain};
use super::env_file::Login;
use super::issued::Issued;
use super::live::{self, Live};
use super::lookup::{check_name, find_tenant, parse_id};
use super::output::note;
use super::when::When;
use super::{Context, Usage, ceiling, purge, secret};
use crate::accounts::resolver;
use crate::clock::UnixSeconds;
use crate::config::units::parse_size;
use crate::config::{Mode, OperatorMode};
use crate::connections::Selection;
use crate::deployment;
use crate::keys::AccountId;
use crate::servers::Cluster;
use crate::store::{Isolation, Limits, NewTenant, NewUser, Status, TenantRecord, UserKind};

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
        TenantCommand::Suspend(args) => set_status(&args, Status::Suspended, context).await,
        TenantCommand::Resume(args) => set_status(&args, Status::Active, context).await,
        TenantCommand::Remove(args) => remove(&args, context).await,
    }
}

async fn set_status(args: &StatusArgs, status: Status, context: &Context) -> anyhow::Result<()> {
    let id = parse_id(&args.tenant)?;
    let tenant = find_tenant(context, &id).await?;
    let store = context.admin.store();
    let users = store.users(&id).await.map_err(explain)?;
    let selection = match status {
        Status::Suspended => live::of_tenant(context.admin.config(), &tenant, &users),
        Status::Active => Ok(Selection::default()),
    };
    let live = Live::try_look(context, selection).await;
    store.set_tenant_status(&id, status).await.map_err(explain)?;
    // Before its connections: who is closed may come back in no time.
    let account = (tenant.status != status).then_some(&id);
    let kicked = live::close_with(live.as_ref(), context, account).await;
    context.output.print(&live::kicked(kicked), || match status {
        Status::Suspended => format!("Suspended tenant {id}: {}.", live::kicked_text(kicked)),
        Status::Active => format!("Resumed tenant {id}."),
    })
}

async fn remove(args: &RemoveArgs, context: &Context) -> anyhow::Result<()> {
    let id = parse_id(&args.tenant)?;
    let tenant = find_tenant(context, &id).await?;
    let store = context.admin.store();
    let users = store.users(&id).await.map_err(explain)?;
    let data = if args.purge { ", its account and all its JetStream data" } else { "" };
    let count = users.len();
    live::confirm(args.yes, &format!("remove tenant {id} with its {count} users{data}"))?;

    let selection = live::of_tenant(context.admin.config(), &tenant, &users);
    let own = match (&context.admin.config().mode, deployment::places(context.admin.config())) {
        (Mode::Operator(mode), Ok(places)) => {
            places.own(tenant.account).map(|account| (mode, account))
        }
        (Mode::Operator(_), Err(error)) if args.purge => return Err(error.into()),
        // What keys are missing for is said below, and done by the running instances.
        _ => None,
    };
    let (live, purged) = match own {
        Some((mode, account)) if args.purge => {
            let live = Live::look(context, selection).await.context(
                "nothing was removed: the JetStream data can be deleted only through NATS",
            )?;
            // Nobody may write any more, and the account is still there to delete from.
            store.set_tenant_status(&id, Status::Suspended).await.map_err(explain)?;
            live.close(context).await;
            let tenant = find_tenant(context, &id).await?;
            let purged =
                purge::purge(context, mode, &live.cluster, &tenant, account).await.with_context(
                    || format!("tenant {id} is suspended, but not removed; run the command again"),
                )?;
            (Some(live), Some(purged))
        }
        _ => (Live::try_look(context, selection).await, args.purge.then_some(0)),
    };
    store.remove_tenant(&id).await.map_err(explain)?;
    let kicked = live::close(live.as_ref(), context).await;
    if let (Some((mode, account)), Some(live)) = (own, &live)
        && let Err(error) = forget(context, mode, &live.cluster, account).await
    {
        note(&format!(
            "warning: the tenant is removed, but its account is not off all servers yet: \
             {error:#}; the running instances see to it"
        ));
    }
    if own.is_some() && !args.purge && tenant.limits.jetstream() {
        note(
            "note: its JetStream data, if it had any, stays on the servers' disks; --purge would \
             have deleted it",
        );
    }
    let mut json = live::kicked(kicked);
    if let (Some(purged), Some(object)) = (purged, json.as_object_mut()) {
        object.insert("streams_deleted".to_owned(), json!(purged));
    }
    context.output.print(&json, || {
        let streams = purged
            .map(|count| format!(", deleted {count} stream{}", if count == 1 { "" } else { "s" }))
            .unwrap_or_default();
        format!("Removed tenant {id}: {}{streams}.", live::kicked_text(kicked))
    })
}

async fn forget(
    context: &Context,
    mode: &OperatorMode,
    cluster: &Cluster,
    account: AccountId,
) -> anyhow::Result<()> {
    let issuer = deployment::account_issuer(context.admin.config(), mode)?;
    Ok(resolver::forget(cluster, &issuer, &[account], context.admin.now()).await?)
}

async fn add(args: AddArgs, context: &Context) -> anyhow::Result<()> {
    check_name(&args.name)?;
    let id = match &args.id {
        Some(id) => check_name(id).and_then(|()| parse_id(id))?,
        None => args.name.parse().map_err(|error| {
            Usage(format!(
                "the name `{}` cannot be the id too: {error}; name one with --id",
                args.name
            ))
        })?,
    };
    if args.isolation == Some(Isolation::Account)
        && matches!(context.admin.config().mode, Mode::Config(_))
    {
        return Err(Usage(
            "--isolation account: the mode `config` has no accounts of tenants' own; leave it out"
                .to_owned(),
        )
        .into());
    }
    let isolation = args.isolation.unwrap_or(context.admin.config().isolation);
    if args.answers && isolation == Isolation::Shared {
        return Err(Usage(
            "--answers: tenants in a shared account are answered without it; leave it out"
                .to_owned(),
        )
        .into());
    }
    let now = context.admin.now();
    let expires_at = args
        .expires
        .map(|when| when.at(now))
        .transpose()
        .map_err(|error| Usage(format!("--expires: {error}")))?;
    let isolation = args.isolation.unwrap_or(context.admin.config().isolation);
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
            url: context.admin.config().nats.public_url.clone(),
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
    if !new.limits.jetstream() || !ceiling::counts(&added, context.admin.config()) {
        return Ok(());
    }
    let asked =
        tokio::time::timeout(CEILING_PATIENCE, ceiling::of_server(context.admin.config())).await;
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
    let mut tenants = database::tenants(&**context.admin.store()).await?;
    if tenants.iter().any(|tenant| tenant.id == new.id) {
        return Ok(());
    }
    tenants.push(added);
    let over = ceiling.exceeded_by(&tenants, context.admin.config());
    match over.into_iter().find(|excess| excess.tenant == new.id.as_str()) {
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
        certificate: None,
        publish: Vec::new(),
        subscribe: Vec::new(),
        policy: Some(ADMIN.to_owned()),
    };
    context.admin.store().add_tenant(tenant, &admin).await.map_err(explain)
}
