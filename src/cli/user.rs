//! `user`: adds, suspends, resumes and removes users, and replaces their passwords.

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::database::explain;
use super::env_file::{self, Login};
use super::live::{self, Live};
use super::output::note;
use super::{Context, Usage, secret, settle, tenant, url};
use crate::authn::certificate::name;
use crate::config::Mode;
use crate::keys::UserNkey;
use crate::policy::subject::{Pattern, SubjectError};
use crate::provision::connections::Selection;
use crate::redact::is_secret;
use crate::store::{Isolation, NewUser, Status, StoreError, TenantId, TenantRecord, UserKind};

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
    let id = tenant::parse_id(&args.tenant)?;
    let tenant = find_tenant(context, &id).await?;
    let store = &context.database.provisioning;
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
        Fate::Suspended | Fate::Removed => live::of_user(&context.config, &tenant, user),
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
    let id = tenant::parse_id(&args.tenant)?;
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
    context.database.provisioning.add_user(&user).await.map_err(explain)?;
    remark_on_lists(&user, &tenant, &context.config);
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
            url: context.config.nats.public_url.clone(),
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
    let id = tenant::parse_id(&args.tenant)?;
    let tenant = find_tenant(context, &id).await?;
    let password = if args.password_stdin {
        secret::password_from_stdin()?
    } else {
        secret::generate_password()?
    };
    let hash = secret::hash_password(&password).await?;
    let store = &context.database.provisioning;
    store.set_password(&id, &args.user, &hash).await.map_err(explain)?;
    settle::settle(context).await;

    Issued {
        tenant: json!({ "id": id.as_str(), "name": tenant.name }),
        tenant_id: id.as_str(),
        user: json!({ "name": args.user }),
        login: Login {
            url: context.config.nats.public_url.clone(),
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
    } else if shares_account(tenant, config) {
        note(&format!(
            "note: tenant {id} shares an account, so the lists are taken below user.{id}. \
             (orders.* grants user.{id}.orders.*)",
            id = tenant.id
        ));
    }
}

/// Whether the tenant's users are placed in an account together with others'.
pub(super) fn shares_account(tenant: &TenantRecord, config: &crate::config::Config) -> bool {
    match &config.mode {
        Mode::Operator(_) => tenant.isolation.unwrap_or(config.isolation) == Isolation::Shared,
        Mode::Config(mode) => tenant
            .placement
            .as_ref()
            .is_none_or(|account| mode.dedicated.get(account) != Some(&tenant.id)),
    }
}

/// The tenant, which has to exist.
pub(super) async fn find_tenant(context: &Context, id: &TenantId) -> anyhow::Result<TenantRecord> {
    let missing = crate::store::StoreError::Missing { what: "tenant", key: id.to_string() };
    let found = context.database.provisioning.tenant(id).await.map_err(explain)?;
    found.ok_or_else(|| explain(missing))
}

/// A display name or a login: printable, and at most 128 characters.
pub(super) fn check_name(name: &str) -> anyhow::Result<()> {
    let problem = if name.is_empty() {
        "is empty"
    } else if name.chars().count() > 128 {
        "has more than 128 characters"
    } else if name.chars().any(char::is_control) {
        "has a control character"
    } else if name.trim() != name {
        "begins or ends with a space"
    } else if is_secret(name) {
        "has the form of a secret, and names are printed"
    } else {
        return Ok(());
    };
    Err(Usage(format!("the name `{}` {problem}; choose another", name.escape_debug())).into())
}

/// A login that was made, to be shown once.
pub(super) struct Issued<'a> {
    pub(super) tenant: Value,
    pub(super) tenant_id: &'a str,
    pub(super) user: Value,
    pub(super) login: Login,
    /// Whether the person at the command line does not know the password yet.
    pub(super) generated: bool,
    pub(super) has_password: bool,
    pub(super) headline: String,
}

impl Issued<'_> {
    /// Shows the login and writes it to a file where asked to. The login is in the table already,
    /// so it is shown even if the file cannot be written.
    pub(super) fn report(self, context: &Context, env_file: bool) -> anyhow::Result<()> {
        let path = env_file::path(&context.config.folder, self.tenant_id, &self.login.user);
        let written = if env_file { Some(env_file::write(&path, &self.login)) } else { None };
        let login_url = if self.has_password {
            url::with_login(&self.login.url, &self.login.user, &self.login.password)
        } else {
            self.login.url.clone()
        };
        let saved = matches!(written, Some(Ok(()))).then_some(&path);
        let mut json = json!({
            "tenant": self.tenant,
            "user": self.user,
            "password": self.has_password.then_some(&self.login.password),
            "url": login_url,
        });
        if let (Some(path), Some(object)) = (saved, json.as_object_mut()) {
            object.insert("env_file".to_owned(), json!(path));
        }
        context.output.print(&json, || {
            let mut text = self.headline;
            if self.generated && self.has_password {
                text.push_str(&format!(
                    "\n\n  user      {}\n  password  {}\n  url       {login_url}\n\n\
                     The password is shown this once.",
                    self.login.user, self.login.password
                ));
            }
            if let Some(path) = saved {
                text.push_str(&format!("\nCredentials saved to {}", path.display()));
            }
            text
        })?;
        written.unwrap_or(Ok(())).context("the login was made, but not saved")
    }
}
