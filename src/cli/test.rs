//! `test`: really logs a user in, and says what it may do there, or why it is refused.

pub(super) mod decision;
mod report;
mod session;

use anyhow::{anyhow, bail};
use async_nats::ConnectErrorKind;
use clap::Args;

use self::decision::{Decided, Granted, decide, offers_jwt, words};
use self::report::{Admitted, Refused};
use super::database::explain;
use super::live::{self, Live};
use super::lookup::{find_tenant, parse_id};
use super::output::note;
use super::{Context, secret, up};
use crate::authn::DenyReason;
use crate::instance::HEARTBEAT_SECONDS;
use crate::protocol::credentials::{Credentials, Secret};
use crate::store::{
    Freshness, Isolation, LoginRecord, NewToken, TenantId, TokenHash, TokenListing,
};

/// What is written beside the temporary token.
const LABEL: &str = "nats-callout test";

/// The life of the temporary token, in seconds.
const TOKEN_LIFE: i64 = 60;

/// What nats-server says where it counts, which is in a tenant's own account of operator mode.
const FULL: &str = "maximum account active connections exceeded";

/// The word for a login with it.
const TEMPORARY: &str = "temporary token";

/// A refusal that took longer came from a server that got no answer.
const AT_ONCE: std::time::Duration = std::time::Duration::from_millis(1_900);

/// Paragraphs, wrapped to the terminal.
const HOW: &str = "\
Without --password-stdin and --token-stdin the command knows no credential, since the table holds \
hashes alone. It then adds a token to the user, with the label `nats-callout test` and a life of \
60 s, logs in with it through the whole chain, and removes it again, on Ctrl-C too. Whether the \
user's own password is right is tested with --password-stdin alone.

What the user may do is what the server says of the connection, where the user may ask it \
($SYS.REQ.USER.INFO). Where not, it is worked out with the policy of this configuration, and tried: \
everything that may be subscribed is subscribed, and a foreign subject has to be refused. Nothing is \
published that the user may publish.

Exit status 1 if the user is refused.";

/// Log a user in, and say what it may do or why it is refused
#[derive(Debug, Args)]
#[command(after_help = HOW)]
pub(super) struct TestArgs {
    /// The tenant's id
    tenant: String,
    /// The login [default: the tenant's admin, or whom the token of --token-stdin belongs to]
    user: Option<String>,
    /// Log in with the password on stdin
    #[arg(long)]
    password_stdin: bool,
    /// Log in with the token or JWT on stdin
    #[arg(long, conflicts_with = "password_stdin")]
    token_stdin: bool,
}

pub(super) async fn run(args: &TestArgs, context: &Context) -> anyhow::Result<()> {
    let id = parse_id(&args.tenant)?;
    find_tenant(context, &id).await?;
    let named = args.user.as_deref();
    let user = named.unwrap_or(id.as_str());
    if args.password_stdin {
        let password = Secret::new(secret::credential_from_stdin()?.to_string());
        let credentials = Credentials::Password { user: user.to_owned(), password };
        owned(context, &id, user).await?;
        return attempt(context, &id, user, "password", &credentials).await;
    }
    if args.token_stdin {
        let token = secret::credential_from_stdin()?;
        let credentials = Credentials::Token(Secret::new(token.to_string()));
        if offers_jwt(&credentials) {
            return with_jwt(context, &id, named, &credentials).await;
        }
        let owner = owner_of(context, &token).await?;
        if let (Some(named), Some(owner)) = (named, &owner)
            && named != owner
        {
            bail!(
                "the token is not {named}'s but another user's; leave the user out, or give its own"
            );
        }
        let user = owner.unwrap_or_else(|| user.to_owned());
        owned(context, &id, &user).await?;
        return attempt(context, &id, &user, "token", &credentials).await;
    }
    with_temporary_token(context, &id, user).await
}

/// Logs in as whom a JWT names.
async fn with_jwt(
    context: &Context,
    id: &TenantId,
    named: Option<&str>,
    credentials: &Credentials,
) -> anyhow::Result<()> {
    let decided = decide(context, credentials).await?;
    let user = match &decided {
        Decided::Granted(granted) => {
            let LoginRecord { user, tenant } = granted.principal.record();
            let (user, other) = (&user.name, &tenant.id);
            if other != id {
                bail!(
                    "the JWT is of {user}, who belongs to the tenant {other}; test it with \
                     `nats-callout test {other} --token-stdin`"
                );
            }
            if let Some(named) = named
                && named != user
            {
                bail!("the JWT is {user}'s, not {named}'s; leave the user out, or give its own");
            }
            user.clone()
        }
        Decided::Refused(_) => named.unwrap_or("the JWT's user").to_owned(),
    };
    conclude(context, id, &user, "jwt", credentials, decided).await
}

/// Whether a token is one that a test has made for itself.
pub(super) fn is_temporary(token: &TokenListing) -> bool {
    token.label.as_deref() == Some(LABEL)
}

/// Adds a token, logs in with it, and removes it whatever happens.
async fn with_temporary_token(context: &Context, id: &TenantId, user: &str) -> anyhow::Result<()> {
    let store = context.admin.store();
    let users = store.users(id).await.map_err(explain)?;
    if !users.iter().any(|it| it.name == user) {
        return refused(context, id, user, DenyReason::UnknownUser);
    }
    let stop = up::stop_on_signal()?;
    let (token, hash) = secret::generate_token()?;
    let new = NewToken {
        user_name: user.to_owned(),
        hash,
        label: Some(LABEL.to_owned()),
        expires_at: Some(context.admin.now().saturating_add(TOKEN_LIFE)),
    };
    store.add_token(id, &new).await.map_err(explain)?;
    let credentials = Credentials::Token(Secret::new(token.to_string()));
    let outcome = tokio::select! {
        outcome = attempt(context, id, user, TEMPORARY, &credentials) => outcome,
        () = stop.cancelled() => Err(anyhow!("interrupted")),
    };
    remove(context, &hash).await;
    outcome
}

async fn remove(context: &Context, hash: &TokenHash) {
    if let Err(error) = context.admin.store().revoke_token(hash).await {
        note(&format!(
            "warning: the temporary token could not be removed ({error}); it ends by itself within \
             {TOKEN_LIFE} s"
        ));
    }
}

/// The user that a token belongs to, if to any.
async fn owner_of(context: &Context, token: &str) -> anyhow::Result<Option<String>> {
    let Some(token) = crate::authn::token::Token::parse(token) else { return Ok(None) };
    let store = context.admin.store();
    let found = store.token(&token.hash(), Freshness::Fresh).await.map_err(explain)?;
    Ok(found.map(|token| token.user_name.clone()))
}

/// Fails if the user belongs to another tenant: it may well log in, but not as one of this one's.
async fn owned(context: &Context, id: &TenantId, user: &str) -> anyhow::Result<()> {
    let store = context.admin.store();
    match store.user(user, Freshness::Fresh).await.map_err(explain)? {
        Some(record) if record.tenant.id != *id => bail!(
            "{user} is a user of the tenant {other}, not of {id}; test it with `nats-callout test \
             {other} {user}`",
            other = record.tenant.id
        ),
        _ => Ok(()),
    }
}

async fn attempt(
    context: &Context,
    id: &TenantId,
    user: &str,
    method: &'static str,
    credentials: &Credentials,
) -> anyhow::Result<()> {
    let decided = decide(context, credentials).await?;
    conclude(context, id, user, method, credentials, decided).await
}

/// Logs in, and compares what comes of it with what was decided here.
async fn conclude(
    context: &Context,
    id: &TenantId,
    user: &str,
    method: &'static str,
    credentials: &Credentials,
    decided: Decided,
) -> anyhow::Result<()> {
    let prefix = match &decided {
        Decided::Granted(granted) if granted.isolation == Isolation::Shared => {
            format!("_INBOX_{id}")
        }
        _ => "_INBOX".to_owned(),
    };
    let (connected, took) = session::login(context.admin.config(), credentials, prefix).await;
    let session = match (connected, decided) {
        (Ok(session), Decided::Granted(granted)) => {
            return admitted(context, id, user, method, session, &granted, took).await;
        }
        (Ok(session), Decided::Refused(reason)) => {
            drop(session);
            bail!(
                "{user} was let in, although the table refuses it ({}): {}. A change takes effect \
                 within 1 s: try again, then see `nats-callout doctor`",
                reason.code(),
                words(reason, id.as_str(), user)
            );
        }
        (Err(error), decided) => (error, decided),
    };
    let (error, decided) = session;
    if error.to_string().contains(FULL) {
        return refused(context, id, user, DenyReason::Connections);
    }
    match (error.kind(), decided) {
        (ConnectErrorKind::AuthorizationViolation, Decided::Refused(reason)) => {
            refused(context, id, user, reason)
        }
        (ConnectErrorKind::AuthorizationViolation, Decided::Granted(_)) => {
            let alive = context.admin.store().instances(HEARTBEAT_SECONDS).await;
            let alive = alive.map_err(explain)?;
            let is_answer = !alive.is_empty() && took < AT_ONCE;
            if is_answer && is_full(context, id).await.unwrap_or(false) {
                return refused(context, id, user, DenyReason::Connections);
            }
            unexplained(context, id, user, alive.len(), took)
        }
        _ => Err(anyhow!(error).context(format!(
            "cannot reach NATS at {}; start nats-server, or correct [nats] url in {}",
            context.admin.config().nats.urls.join(", "),
            context.admin.config().file.display()
        ))),
    }
}

async fn admitted(
    context: &Context,
    id: &TenantId,
    user: &str,
    method: &'static str,
    mut session: session::Session,
    granted: &Granted,
    took: std::time::Duration,
) -> anyhow::Result<()> {
    let info = session.user_info(&granted.grant).await;
    let probed = match info {
        Some(_) => None,
        None => Some(session.probe(&granted.grant).await?),
    };
    let jetstream = session.jetstream(&granted.grant).await;
    // Read again: a first login has given the tenant its account.
    let tenant = find_tenant(context, id).await?;
    let report = Admitted {
        context,
        tenant: &tenant,
        user,
        method,
        temporary: method == TEMPORARY,
        server: session.server(),
        took,
        granted,
        info,
        probed,
        jetstream,
    };
    context.output.print(&report.json(), || report.text())?;
    match report.surprises() {
        [] => Ok(()),
        surprises => bail!(
            "the server enforces something else than this configuration's policy: {}; do the \
             service and this command use the same [policies] folder?",
            surprises.join("; ")
        ),
    }
}

fn refused(context: &Context, id: &TenantId, user: &str, reason: DenyReason) -> anyhow::Result<()> {
    let message = words(reason, id.as_str(), user);
    Refused { tenant: id, user, reason: reason.code(), message: &message }.print(context)?;
    bail!("{user} is refused: {message}")
}

/// Whether the tenant has as many connections as it may, by the servers.
async fn is_full(context: &Context, id: &TenantId) -> anyhow::Result<bool> {
    let store = context.admin.store();
    let tenant = find_tenant(context, id).await?;
    let Some(most) = tenant.limits.connections else { return Ok(false) };
    let users = store.users(id).await.map_err(explain)?;
    let live =
        Live::look(context, live::of_tenant(context.admin.config(), &tenant, &users)).await?;
    Ok(live.count() >= most)
}

/// The table and the policy allow the login, and the server refused it.
fn unexplained(
    context: &Context,
    id: &TenantId,
    user: &str,
    alive: usize,
    took: std::time::Duration,
) -> anyhow::Result<()> {
    let (reason, message) = if alive == 0 {
        (
            "no_service",
            "no instance of the service is running, so that the server got no answer; start \
             `nats-callout serve`"
                .to_owned(),
        )
    } else if took >= AT_ONCE {
        (
            "no_answer",
            format!(
                "the server got no answer that it could take within {:.1} s, although {alive} \
                 instances are alive; see their log and `nats-callout doctor`",
                took.as_secs_f64()
            ),
        )
    } else {
        (
            "unexplained",
            "the table and the policy allow it, and the service or the server refused it; see their \
             logs and `nats-callout doctor`"
                .to_owned(),
        )
    };
    Refused { tenant: id, user, reason, message: &message }.print(context)?;
    bail!("{user} is refused: {message}")
}
