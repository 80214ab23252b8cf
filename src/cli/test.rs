//! `test`: really logs a user in, and says what it may do there, or why it is refused.

mod hints;
mod owner;
mod report;
mod sent;
mod session;
mod words;

use std::borrow::Cow;

use anyhow::{anyhow, bail};
use async_nats::ConnectErrorKind;
use clap::Args;

use self::hints::{too_long, undecided};
use self::owner::{login_of, whose};
use self::report::{Admitted, Refused, without_secrets_but};
pub(super) use self::words::{Teller, said};
use super::database::explain;
use super::lookup::{find_tenant, parse_id, parse_name, without_row};
use super::output::{name, note};
use super::{Clean, Context, up};
use crate::admin::decision::{Decision, Granted};
use crate::admin::temporary::TOKEN_LABEL;
use crate::admin::{NewTokenRequest, When};
use crate::authn::{AuthnError, Claims, Denied, DenyReason};
use crate::deployment::connect_failure;
use crate::instance::HEARTBEAT_SECONDS;
use crate::policy::ConnectionType;
use crate::protocol::claims::ClientInfo;
use crate::protocol::credentials::{Credentials, Secret};
use crate::store::{Isolation, TenantId, TokenHash};

/// The life of the temporary token.
const TOKEN_LIFE: std::time::Duration = std::time::Duration::from_secs(60);

/// What nats-server says where it counts, which is in a tenant's own account of operator mode.
const FULL: &str = "maximum account active connections exceeded";

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
        return sent::by_password(context, &id, user).await;
    }
    if args.token_stdin {
        return sent::by_token(context, &id, named).await;
    }
    with_temporary_token(context, &id, user).await
}

/// Adds a token, logs in with it, and removes it whatever happens.
async fn with_temporary_token(context: &Context, id: &TenantId, user: &str) -> anyhow::Result<()> {
    let users = context.admin.users(id).await.map_err(explain)?;
    let known = users.iter().any(|it| it.name == user).then_some(user);
    let attempt = Attempt { context, id, user: Some(user), known, temporary: true };
    if known.is_none() {
        return attempt.refused(&DenyReason::UnknownUser.into());
    }
    let stop = up::stop_on_signal()?;
    let request = NewTokenRequest {
        tenant: id.clone(),
        user: user.to_owned(),
        label: Some(parse_name(TOKEN_LABEL)?),
        expires: Some(When::After(TOKEN_LIFE)),
    };
    let token = context.admin.add_token(request).await.map_err(explain)?.token;
    let credentials = Credentials::token(None, Secret::new(token.expose().to_owned()));
    let outcome = tokio::select! {
        outcome = attempt.run(&credentials) => outcome,
        () = stop.cancelled() => Err(anyhow!("interrupted")),
    };
    remove(context, &token.hash()).await;
    outcome
}

async fn remove(context: &Context, hash: &TokenHash) {
    if let Err(error) = context.admin.store().revoke_token(hash).await {
        note(&format!(
            "warning: the temporary token could not be removed ({error}); it ends by itself within \
             {} s",
            TOKEN_LIFE.as_secs()
        ));
    }
}

/// What the table and the policy say: a login that should succeed, or why not.
type Decided = Result<Box<Granted>, Refusal>;

/// Why a login should not succeed, and the claims by which a policy has said so.
struct Refusal {
    denied: Denied,
    claims: Claims,
}

impl<T: Into<Denied>> From<T> for Refusal {
    fn from(denied: T) -> Self {
        Self { denied: denied.into(), claims: Claims::new() }
    }
}

/// Decides as the service does about a client on this machine.
async fn decide(context: &Context, credentials: &Credentials) -> anyhow::Result<Decided> {
    let greeting = session::greeting(context.admin.config()).await;
    let host = greeting.map(|it| it.client_ip).unwrap_or_default();
    let client = ClientInfo { host, ..ConnectionType::Nats.client() };
    match context.admin.decide(credentials, &client).await? {
        Decision::Granted(granted) => Ok(Ok(granted)),
        Decision::Denied { denied, claims } => Ok(Err(Refusal { denied, claims })),
        Decision::Fault(fault @ (AuthnError::Keys { .. } | AuthnError::Introspection { .. })) => {
            Err(undecided(context, credentials, &fault).await)
        }
        Decision::Fault(fault) => Err(fault.into()),
    }
}

/// A login that is attempted.
struct Attempt<'a> {
    context: &'a Context,
    id: &'a TenantId,
    /// None where nothing says whose it is.
    user: Option<&'a str>,
    /// The user's name if the command has it and a row too, so that it is no secret in a wrong place.
    known: Option<&'a str>,
    /// Whether it is by a token that is there for this login alone.
    temporary: bool,
}

impl<'a> Attempt<'a> {
    /// By what is known already: as whom the decision names, and else as whom the command does.
    fn of(
        context: &'a Context,
        id: &'a TenantId,
        typed: Option<&'a str>,
        decided: &'a Decided,
    ) -> Self {
        let (user, tenant) = whose(decided);
        let (user, id) = (user.or(typed), tenant.unwrap_or(id));
        let known =
            typed.filter(|typed| login_of(decided).is_some_and(|it| it.user.name == *typed));
        Self { context, id, user, known, temporary: false }
    }

    fn who(&self) -> Cow<'_, str> {
        self.user.map_or("the login".into(), name)
    }

    async fn run(&self, credentials: &Credentials) -> anyhow::Result<()> {
        let decided = decide(self.context, credentials).await?;
        self.conclude(credentials, &decided).await
    }

    /// Logs in, and compares what comes of it with what was decided here.
    async fn conclude(&self, credentials: &Credentials, decided: &Decided) -> anyhow::Result<()> {
        let Self { context, id, .. } = self;
        let prefix = match decided {
            Ok(granted) if granted.isolation == Isolation::Shared => {
                format!("_INBOX_{id}")
            }
            _ => "_INBOX".to_owned(),
        };
        let (connected, took) = session::login(context.admin.config(), credentials, prefix).await;
        let session = match (connected, decided) {
            (Ok(session), Ok(granted)) => {
                return self.admitted(session, granted, took).await;
            }
            (Ok(session), Err(refusal)) => {
                drop(session);
                bail!(
                    "{} was let in, although the table refuses it ({}): {}. A change takes effect \
                     within 1 s: try again, then see `nats-callout doctor`",
                    self.who(),
                    refusal.denied.code(),
                    self.words(refusal)
                );
            }
            (Err(error), decided) => (error, decided),
        };
        let (error, decided) = session;
        if let Some(hint) = too_long(credentials, &error) {
            return Err(anyhow!(error).context(hint));
        }
        if error.to_string().contains(FULL) {
            return self.refused(&DenyReason::Connections.into());
        }
        match (error.kind(), decided) {
            (ConnectErrorKind::AuthorizationViolation, Err(refusal)) => self.refused(refusal),
            (ConnectErrorKind::AuthorizationViolation, Ok(granted)) => {
                let alive = context.admin.store().instances(HEARTBEAT_SECONDS).await;
                let alive = alive.map_err(explain)?;
                let is_answer = !alive.is_empty() && took < AT_ONCE;
                if is_answer && let Some(denied) = self.full().await.unwrap_or(None) {
                    return self.refused(&denied.into());
                }
                if is_answer && let Some(denied) = self.too_large(granted).await {
                    return self.refused(&denied.into());
                }
                self.unexplained(alive.len(), took)
            }
            _ => Err(anyhow!(
                "cannot reach NATS at {}; start nats-server, or correct [nats] url in {}: {}",
                context.admin.config().nats.urls.join(", "),
                context.admin.config().file.display(),
                connect_failure(&error)
            )),
        }
    }

    async fn admitted(
        &self,
        mut session: session::Session,
        granted: &Granted,
        took: std::time::Duration,
    ) -> anyhow::Result<()> {
        let &Self { context, id, temporary, .. } = self;
        let info = session.user_info(&granted.explanation.grant).await;
        let probed = match info {
            Some(_) => None,
            None => Some(session.probe(&granted.explanation.grant).await?),
        };
        let jetstream = session.jetstream(&granted.explanation.grant).await;
        // Read again: a first login has given the tenant its account.
        let tenant = find_tenant(context, id).await?;
        let report = Admitted {
            context,
            tenant: &tenant,
            temporary,
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

    fn refused(&self, refusal: &Refusal) -> anyhow::Result<()> {
        self.refused_with(refusal.denied.code(), &self.words(refusal))
    }

    fn words(&self, Refusal { denied, claims }: &Refusal) -> String {
        let (tenant, user) = (self.id.as_str(), self.user.unwrap_or("USER"));
        let said = said(denied, tenant, user, Teller::Test(claims));
        if denied.reason != DenyReason::UnknownUser || denied.detail.is_some() {
            return said;
        }
        let admin = match user == tenant {
            true => format!(
                "; {user} is the name of the tenant's admin, whom `test` takes where no user is named"
            ),
            false => String::new(),
        };
        format!("{said}{admin}{}", without_row(self.context, tenant))
    }

    fn refused_with(&self, reason: &'static str, message: &str) -> anyhow::Result<()> {
        let &Self { context, id, user, .. } = self;
        let clean = |text: &str| without_secrets_but(text, self.known);
        let message = clean(message);
        Refused { tenant: id, user: user.map(clean), reason, message: &message }.print(context)?;
        Err(Clean(format!("{} is refused: {message}", clean(&self.who()))).into())
    }

    /// The refusal if the tenant has as many connections as it may, by the servers.
    async fn full(&self) -> anyhow::Result<Option<Denied>> {
        let tenant = find_tenant(self.context, self.id).await?;
        let Some(most) = tenant.limits.connections else { return Ok(None) };
        let connected = self.context.admin.connected(&tenant).await.map_err(explain)?;
        let connected = u64::try_from(connected)?;
        Ok((connected >= most).then(|| Denied::full(connected, most)))
    }

    /// The refusal if what it may do is more than a message to the server holds.
    async fn too_large(&self, granted: &Granted) -> Option<Denied> {
        let most = session::greeting(self.context.admin.config()).await?.max_payload;
        let bytes = granted.answer_bytes();
        (bytes > most - most / 50).then(|| Denied::too_large(&format!("about {bytes}"), most))
    }

    /// The table and the policy allow the login, and the server refused it.
    fn unexplained(&self, alive: usize, took: std::time::Duration) -> anyhow::Result<()> {
        let (reason, message) = if alive == 0 {
            (
                "no_service",
                "no instance of the service answers, so that the server got no answer: it is not \
                 running, or hangs; start `nats-callout serve`, or see its log and restart it"
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
        self.refused_with(reason, &message)
    }
}
