//! `user`: adds, suspends, resumes and removes users, and replaces their passwords.

use clap::{Args, Subcommand};
use serde_json::json;

use super::confirm::confirm;
use super::database::explain;
use super::env_file::Login;
use super::issued::Issued;
use super::lookup::{find_tenant, parse_id, parse_name, warn_of_policy};
use super::output::{kicked, kicked_text};
use super::{Context, Usage, secret};
use crate::admin::{CertificateName, NewUserRequest, Password, Role, UserChange};
use crate::keys::UserNkey;
use crate::policy::subject::{Pattern, SubjectError};
use crate::redact::is_secret;
use crate::revoke;
use crate::store::UserKind;

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
    publish: Vec<Pattern>,
    /// Subjects that the service may subscribe
    #[arg(short, long, value_name = "SUBJECTS", value_delimiter = ',', value_parser = subject)]
    subscribe: Vec<Pattern>,
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
    #[arg(long, value_name = "NAME")]
    certificate: Option<CertificateName>,
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

fn subject(text: &str) -> Result<Pattern, String> {
    let pattern = not_secret(text)?.parse();
    pattern.map_err(|error: SubjectError| format!("`{text}` is no subject: {error}"))
}

pub(super) async fn run(command: UserCommand, context: &Context) -> anyhow::Result<()> {
    match command {
        UserCommand::Add(args) => add(args, context).await,
        UserCommand::Passwd(args) => passwd(&args, context).await,
        UserCommand::Suspend(args) => suspend(&args, context).await,
        UserCommand::Resume(args) => resume(&args, context).await,
        UserCommand::Remove(args) => remove(&args, context).await,
    }
}

async fn suspend(args: &NameArgs, context: &Context) -> anyhow::Result<()> {
    let (id, user) = (parse_id(&args.tenant)?, &args.user);
    let count = context.admin.change_user(&id, user, UserChange::Suspend).await.map_err(explain)?;
    context.output.print(&kicked(count), || {
        format!("Suspended user {user} of tenant {id}: {}.", kicked_text(count))
    })
}

async fn resume(args: &NameArgs, context: &Context) -> anyhow::Result<()> {
    let (id, user) = (parse_id(&args.tenant)?, &args.user);
    let count = context.admin.change_user(&id, user, UserChange::Resume).await.map_err(explain)?;
    context.output.print(&kicked(count), || format!("Resumed user {user} of tenant {id}."))
}

async fn remove(args: &NameArgs, context: &Context) -> anyhow::Result<()> {
    let (id, user) = (parse_id(&args.tenant)?, &args.user);
    find_tenant(context, &id).await?;
    context.admin.user(&id, user).await.map_err(explain)?;
    confirm(args.yes, &format!("remove user {user} of tenant {id}"))?;
    let count = context.admin.change_user(&id, user, UserChange::Remove).await.map_err(explain)?;
    context.output.print(&kicked(count), || {
        format!("Removed user {user} of tenant {id}: {}.", kicked_text(count))
    })
}

/// What a user is for, by its kind and lists.
fn role(args: &AddArgs) -> Result<Role, Usage> {
    let (publish, subscribe) = (args.publish.clone(), args.subscribe.clone());
    match args.kind {
        UserKind::Service => Ok(Role::Service { publish, subscribe }),
        UserKind::Bb if publish.is_empty() && subscribe.is_empty() => Ok(Role::Bb),
        UserKind::Bb => Err(Usage(
            "a `bb` user's subjects follow from its tenant; leave out --publish and --subscribe, \
             or add a service with --kind service"
                .to_owned(),
        )),
    }
}

async fn add(args: AddArgs, context: &Context) -> anyhow::Result<()> {
    let name = parse_name(&args.user)?;
    let role = role(&args)?;
    if args.env_file && !args.password_stdin && (args.nkey.is_some() || args.certificate.is_some())
    {
        return Err(Usage(
            "--env-file: a login by nkey or certificate alone has no password to write; add \
             --password-stdin"
                .to_owned(),
        )
        .into());
    }
    let id = parse_id(&args.tenant)?;
    let tenant = find_tenant(context, &id).await?;
    let request = NewUserRequest {
        tenant: id,
        name,
        role,
        policy: args.policy,
        password: given_password(args.password_stdin)?,
        nkey: args.nkey,
        certificate: args.certificate,
    };
    let policy = request.policy.clone();
    let added = context.admin.add_user(request).await.map_err(explain)?;
    warn_of_policy(context, policy.as_deref());
    let (user, password) = (added.user, added.password);
    let way = match (&password, &user.nkey, &user.certificate) {
        (Some(_), ..) => "",
        (None, Some(_), Some(_)) => ", to log in by nkey or certificate",
        (None, Some(_), None) => ", to log in by nkey",
        (None, None, _) => ", to log in by certificate",
    };
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
        headline: format!("Added {} {} to tenant {}{way}.", user.kind, user.name, tenant.id),
        login: Login {
            url: context.admin.config().nats.public_url.clone(),
            user: user.name,
            password: password.as_ref().map(|it| it.expose().to_owned()).unwrap_or_default(),
        },
        generated: !args.password_stdin,
        has_password: password.is_some(),
    }
    .report(context, args.env_file)
}

fn given_password(is_given: bool) -> anyhow::Result<Option<Password>> {
    is_given.then(secret::password_from_stdin).transpose()
}

async fn passwd(args: &PasswdArgs, context: &Context) -> anyhow::Result<()> {
    let id = parse_id(&args.tenant)?;
    let tenant = find_tenant(context, &id).await?;
    let password = given_password(args.password_stdin)?;
    let set = context.admin.set_user_password(&id, &args.user, password).await;
    let password = set.map_err(explain)?;

    Issued {
        tenant: json!({ "id": id.as_str(), "name": tenant.name }),
        tenant_id: id.as_str(),
        user: json!({ "name": args.user }),
        login: Login {
            url: context.admin.config().nats.public_url.clone(),
            user: args.user.clone(),
            password: password.expose().to_owned(),
        },
        generated: !args.password_stdin,
        has_password: true,
        headline: format!(
            "Replaced the password of {} of tenant {id}. Who is connected with the old one stays so for \
             {} s at most; `user suspend` closes the user's connections at once.",
            args.user,
            revoke::credential_outlived(context.admin.config().callout.ttl).as_secs()
        ),
    }
    .report(context, args.env_file)
}
