//! `user`: adds, suspends, resumes and removes users, and replaces their passwords.

use clap::{Args, Subcommand};
use serde_json::json;

use super::database::explain;
use super::env_file::Login;
use super::issued::Issued;
use super::live::{self, Live};
use super::lookup::{check_name, find_tenant, parse_id};
use super::output::note;
use super::{Context, Usage, secret, settle};
use crate::authn::certificate::name;
use crate::connections::Selection;
use crate::deployment::isolation_of;
use crate::keys::UserNkey;
use crate::policy::subject::{Pattern, SubjectError};
use crate::redact::is_secret;
use crate::store::{Isolation, NewUser, Status, StoreError, TenantRecord, UserKind};

#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Add a user to a tenant
    Add(AddArgs),
    /// Replace a user's password: the old one has stopped working when this returns
    Passwd(PasswdArgs),
    /// Refuse a user, and close its connections
    Suspend(NameArgs),
    /// Let a suspended user in again
    Resume(NameArgs),
    /// Remove a user with its tokens
    Remove(NameArgs),
}

#[derive(Debug, Args)]
pub(super) struct NameArgs {
    /// The tenant's id
    tenant: String,
    /// The login
    user: String,
    /// Do not ask first
    #[arg(long)]
    yes: bool,
}

/// What becomes of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Suspended,
    Resumed,
    Removed,
}

#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// The tenant's id
    tenant: String,
    /// The login, unique over all tenants
    user: String,
    /// `service` (explicit lists) or `bb` (a person's or an app's BB account)
    #[arg(long, default_value = "service")]
    kind: UserKind,
    /// Subjects that the service may publish
    #[arg(short, long, value_name = "SUBJECTS", value_delimiter = ',', value_parser = subject)]
    publish: Vec<String>,
    /// Subjects that the service may subscribe
    #[arg(short, long, value_name = "SUBJECTS", value_delimiter = ',', value_parser = subject)]
    subscribe: Vec<String>,
    /// The policy, where not that of the kind
    #[arg(long, value_name = "P")]
    policy: Option<String>,
    /// Read the password from stdin instead of making one
    #[arg(long)]
    password_stdin: bool,
    /// A public user nkey (U...) that logs in as this user; without --password-stdin, no password
    /// is made
    #[arg(long, value_name = "U...", value_parser = nkey)]
    nkey: Option<UserNkey>,
    /// A name in client certificates that logs in as this user: an e-mail address, a DNS name, a
    /// URI, or the subject (CN=alice,O=Shop); without --password-stdin, no password is made
    #[arg(long, value_name = "NAME", value_parser = certificate)]
    certificate: Option<String>,
    /// Also write the login to .credentials/TENANT_USER.env beside the configuration
    #[arg(long)]
    env_file: bool,
}

#[derive(Debug, Args)]
pub(super) struct PasswdArgs {
    /// The tenant's id
    tenant: String,
    /// The login
    user: String,
    /// Read the password from stdin instead of making one
    #[arg(long)]
    password_stdin: bool,
    /// Also write the login to .credentials/TENANT_USER.env beside the configuration
    #[arg(long)]
    env_file: bool,
}

/// What is kept, and printed, as it is.
fn not_secret(text: &str) -> Result<&str, String> {
    if is_secret(text) { Err("it has the form of a secret".to_owned()) } else { Ok(text) }
}

fn nkey(text: &str) -> Result<UserNkey, String> {
    let hint = |what| format!("{what}; give the public half of the nkey, which begins with U");
    not_secret(text)
        .map_err(hint)?
        .parse()
        .map_err(|error: crate::keys::KeyError| error.to_string())
}

fn certificate(text: &str) -> Result<String, String> {
    name::check(not_secret(text)?).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

fn subject(text: &str) -> Result<String, String> {
    let pattern: Pattern = not_secret(text)?
        .parse()
        .map_err(|error: SubjectError| format!("`{text}` is no subject: {error}"))?;
    Ok(pattern.as_str().to_owned())
}

pub(super) async fn run(command: UserCommand, context: &Context) -> anyhow::Result<()> {
    match command {
        UserCommand::Add(args) => add(args, context).await,
        UserCommand::Passwd(args) => passwd(&args, context).await,
        UserCommand::Suspend(args) => change(&args, Fate::Suspended, context).await,
        UserCommand::Resume(args) => change(&args, Fate::Resumed, context).await,
        UserCommand::Remove(args) => change(&args, Fate::Removed, context).await,
    }
}

async fn change(args: &NameArgs, fate: Fate, context: &Context) -> anyhow::Result<()> {
    let id = parse_id(&args.tenant)?;
    let tenant = find_tenant(context, &id).await?;
    let store = context.admin.store();
    let user = args.user.as_str();
    let users = store.users(&id).await.map_err(explain)?;
    if !users.iter().any(|known| known.name == user) {
        let missing = StoreError::Missing { what: "user", key: user.to_owned() };
        return Err(explain(missing));
    }
    if fate == Fate::Removed {
        live::confirm(args.yes, &format!("remove user {user} of tenant {id}"))?;
    }
    let selection = match fate {
        Fate::Resumed => Ok(Selection::default()),
        Fate::Suspended | Fate::Removed => live::of_user(context.admin.config(), &tenant, user),
    };
    let live = Live::try_look(context, selection).await;
    match fate {
        Fate::Suspended => store.set_user_status(&id, user, Status::Suspended).await,
        Fate::Resumed => store.set_user_status(&id, user, Status::Active).await,
        Fate::Removed => store.remove_user(&id, user).await,
    }
    .map_err(explain)?;
    let kicked = live::close(live.as_ref(), context).await;
    context.output.print(&live::kicked(kicked), || {
        let closed = live::kicked_text(kicked);
        match fate {
            Fate::Suspended => format!("Suspended user {user} of tenant {id}: {closed}."),
            Fate::Resumed => format!("Resumed user {user} of tenant {id}."),
            Fate::Removed => format!("Removed user {user} of tenant {id}: {closed}."),
        }
    })
}

async fn add(args: AddArgs, context: &Context) -> anyhow::Result<()> {
    check_name(&args.user)?;
    let lists = !args.publish.is_empty() || !args.subscribe.is_empty();
    if args.kind == UserKind::Bb && lists {
        return Err(Usage(
            "a `bb` user's subjects follow from its tenant; leave out --publish and --subscribe, \
             or add a service with --kind service"
                .to_owned(),
        )
        .into());
    }
    let has_password = args.password_stdin || (args.nkey.is_none() && args.certificate.is_none());
    if args.env_file && !has_password {
        return Err(Usage(
            "--env-file: a login by nkey or certificate alone has no password to write; add \
             --password-stdin"
                .to_owned(),
        )
        .into());
    }
    let id = parse_id(&args.tenant)?;
    let tenant = find_tenant(context, &id).await?;
    let password = match (has_password, args.password_stdin) {
        (false, _) => None,
        (true, true) => Some(secret::password_from_stdin()?),
        (true, false) => Some(secret::generate_password()?),
    };
    let password_hash = match &password {
        Some(password) => Some(secret::hash_password(password).await?),
        None => None,
    };
    let user = NewUser {
        tenant: id,
        name: args.user,
        kind: args.kind,
        password_hash,
        nkey: args.nkey.map(|nkey| nkey.to_string()),
        certificate: args.certificate,
        publish: args.publish,
        subscribe: args.subscribe,
        policy: args.policy,
    };
    context.admin.store().add_user(&user).await.map_err(explain)?;
    remark_on_lists(&user, &tenant, context.admin.config());
    Issued {
        tenant: json!({ "id": tenant.id.as_str(), "name": tenant.name }),
        tenant_id: tenant.id.as_str(),
        user: json!({
            "name": user.name,
            "kind": user.kind.as_str(),
            "publish": user.publish,
            "subscribe": user.subscribe,
            "policy": user.policy,
            "nkey": user.nkey,
            "certificate": user.certificate,
        }),
        login: Login {
            url: context.admin.config().nats.public_url.clone(),
            user: user.name.clone(),
            password: password.as_ref().map(|it| it.to_string()).unwrap_or_default(),
        },
        generated: !args.password_stdin,
        has_password: password.is_some(),
        headline: format!(
            "Added {} {} to tenant {}{}.",
            user.kind,
            user.name,
            tenant.id,
            match (has_password, &user.nkey, &user.certificate) {
                (false, Some(_), Some(_)) => ", to log in by nkey or certificate",
                (false, Some(_), None) => ", to log in by nkey",
                (false, None, _) => ", to log in by certificate",
                (true, ..) => "",
            }
        ),
    }
    .report(context, args.env_file)
}

async fn passwd(args: &PasswdArgs, context: &Context) -> anyhow::Result<()> {
    let id = parse_id(&args.tenant)?;
    let tenant = find_tenant(context, &id).await?;
    let password = if args.password_stdin {
        secret::password_from_stdin()?
    } else {
        secret::generate_password()?
    };
    let hash = secret::hash_password(&password).await?;
    let store = context.admin.store();
    store.set_password(&id, &args.user, &hash).await.map_err(explain)?;
    settle::settle(context).await;

    Issued {
        tenant: json!({ "id": id.as_str(), "name": tenant.name }),
        tenant_id: id.as_str(),
        user: json!({ "name": args.user }),
        login: Login {
            url: context.admin.config().nats.public_url.clone(),
            user: args.user.clone(),
            password: password.to_string(),
        },
        generated: !args.password_stdin,
        has_password: true,
        headline: format!("Replaced the password of {} of tenant {id}.", args.user),
    }
    .report(context, args.env_file)
}

/// Says what a service's lists come to, where that is not plain from the lists.
fn remark_on_lists(user: &NewUser, tenant: &TenantRecord, config: &crate::config::Config) {
    if user.kind != UserKind::Service {
        return;
    }
    if user.publish.is_empty() && user.subscribe.is_empty() {
        note(&format!(
            "note: {} has no subjects and may do nothing but log in; give it some with --publish \
             and --subscribe",
            user.name
        ));
    } else if isolation_of(config, tenant) == Some(Isolation::Shared) {
        note(&format!(
            "note: tenant {id} shares an account, so the lists are taken below user.{id}. \
             (orders.* grants user.{id}.orders.*)",
            id = tenant.id
        ));
    }
}
