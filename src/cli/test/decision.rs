//! What the service decides about a login, worked out here with the same authenticators and the
//! same policy on the same table: the server tells a client one fixed text for every refusal.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::ServerAddr;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::super::Context;
use crate::authn::jwt::is_jwt;
use crate::authn::lane::HashingLane;
use crate::authn::password::PasswordAuthenticator;
use crate::authn::verified::{VerifiedLimits, VerifiedPasswords};
use crate::authn::{Attempt, Authentication, DenyReason, Found, Principal};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::daemon::logins;
use crate::deployment::isolation_of;
use crate::policy::rules::PolicySet;
use crate::policy::{ConnectionContext, ConnectionType, Decision, Grant, Policy as _};
use crate::protocol::claims::ClientInfo;
use crate::protocol::credentials::Credentials;
use crate::store::{CredentialStore, Isolation};

/// How long one password hash may take here.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a server may take to greet, and with how much.
const GREETING: Duration = Duration::from_secs(2);
const GREETING_BYTES: u64 = 64 * 1024;

/// What the table and the policy say.
#[derive(Debug)]
pub(super) enum Decided {
    Granted(Box<Granted>),
    Refused(DenyReason),
}

/// A login that should succeed.
#[derive(Debug)]
pub(super) struct Granted {
    pub(super) principal: Principal,
    pub(super) grant: Grant,
    pub(super) isolation: Isolation,
}

/// Decides as the service does.
pub(super) async fn decide(
    context: &Context,
    credentials: &Credentials,
) -> anyhow::Result<Decided> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let store = Arc::clone(context.admin.store()) as Arc<dyn CredentialStore>;
    let verified = VerifiedPasswords::new(VerifiedLimits::default())?;
    let lane = Arc::new(HashingLane::new(1, 1)?);
    let issuers = logins::open_issuers(context.admin.config())?;
    let stop = CancellationToken::new();
    let _stop_on_return = stop.clone().drop_guard();
    if offers_jwt(credentials) {
        for issuer in &issuers {
            tokio::spawn(Arc::clone(issuer).keep(stop.clone()));
        }
    }
    let password = PasswordAuthenticator::new(store.clone(), lane, verified, Arc::clone(&clock));
    let chain = logins::chain(issuers, password, &store, &clock);
    let host = own_address(context.admin.config()).await.unwrap_or_default();
    let client = ClientInfo { host, ..ConnectionType::Nats.client() };
    let (deadline, found) = (Instant::now() + PATIENCE, Found::default());
    let attempt = Attempt { credentials, client: &client, deadline, found: &found };
    for authenticator in chain {
        match authenticator.authenticate(attempt).await? {
            Authentication::NotMine => {}
            Authentication::Refused(denied) => return Ok(Decided::Refused(denied.reason)),
            Authentication::Accepted(principal) => return grant(context, principal, &client),
        }
    }
    Ok(Decided::Refused(DenyReason::UnsupportedCredentials))
}

/// Whether the keys of issuers may be needed.
pub(super) fn offers_jwt(credentials: &Credentials) -> bool {
    match credentials {
        Credentials::Token(sent) | Credentials::Password { password: sent, .. } => {
            is_jwt(sent.expose())
        }
        _ => false,
    }
}

fn grant(context: &Context, principal: Principal, client: &ClientInfo) -> anyhow::Result<Decided> {
    let policy = PolicySet::configured(context.admin.config().policies.as_deref())?;
    let Some(isolation) = isolation_of(context.admin.config(), &principal.record().tenant) else {
        return Ok(Decided::Refused(DenyReason::Placement));
    };
    let connection = ConnectionContext { isolation, client, now: SystemClock.now() };
    Ok(match policy.decide(&principal, &connection) {
        Decision::Permit(grant) => {
            Decided::Granted(Box::new(Granted { principal, grant, isolation }))
        }
        Decision::Deny(denied) => Decided::Refused(denied.reason),
    })
}

/// This machine's address as the server sees it, from the first words that it says to anybody.
async fn own_address(config: &Config) -> Option<String> {
    for url in &config.nats.urls {
        let Ok(server) = url.parse::<ServerAddr>() else { continue };
        let greeting = async {
            let stream = TcpStream::connect((server.host(), server.port())).await.ok()?;
            let mut line = String::new();
            BufReader::new(stream.take(GREETING_BYTES)).read_line(&mut line).await.ok()?;
            let info: Value = serde_json::from_str(line.strip_prefix("INFO ")?).ok()?;
            Some(info.get("client_ip")?.as_str()?.to_owned())
        };
        if let Ok(Some(address)) = tokio::time::timeout(GREETING, greeting).await {
            return Some(address);
        }
    }
    None
}

/// Why, and what to do about it.
pub(in super::super) fn words(reason: DenyReason, tenant: &str, user: &str) -> String {
    match reason {
        DenyReason::UnknownUser => {
            format!("there is no user {user}; see `nats-callout show {tenant}`")
        }
        DenyReason::WrongPassword => format!(
            "the password is not {user}'s; make a new one with `nats-callout user passwd {tenant} \
             {user}`"
        ),
        DenyReason::UnusableHash => format!(
            "no password can be verified against the hash in {user}'s row, which `nats-callout \
             doctor` says more about; make a new password with `nats-callout user passwd {tenant} \
             {user}`"
        ),
        DenyReason::UnknownToken => format!(
            "there is no such token of {user}; make one with `nats-callout token add {tenant} \
             {user}`"
        ),
        DenyReason::TokenExpired => "the token has ended; make another".to_owned(),
        DenyReason::InvalidToken => "the JWT is refused by the rules of its issuer: another \
             signature or key, another audience, not valid yet, no end, no claim that names the \
             user or its tenant, or another user than the one beside it; compare it with [issuers] \
             in the configuration"
            .to_owned(),
        DenyReason::UnknownIssuer => "the JWT's `iss` is no `issuer` of [issuers] in the \
             configuration, letter by letter"
            .to_owned(),
        DenyReason::UserSuspended => {
            format!("{user} is suspended; end it with `nats-callout user resume {tenant} {user}`")
        }
        DenyReason::UserExpired => {
            format!("{user} has ended: users.expires_at lies in the past")
        }
        DenyReason::TenantSuspended => format!(
            "the tenant {tenant} is suspended; end it with `nats-callout tenant resume {tenant}`"
        ),
        DenyReason::TenantExpired => {
            format!("the licence of {tenant} has ended: tenants.expires_at lies in the past")
        }
        DenyReason::Policy => format!(
            "the policy of {user} refuses it: the column `policy` of the user or the tenant names \
             one that does not exist, or the policy cannot be filled in for this name; see \
             `nats-callout policy explain {user}`"
        ),
        DenyReason::ConnectionType => format!(
            "its policy lets {user} in by other types of connection alone; see `nats-callout policy \
             explain {user}`"
        ),
        DenyReason::Address => format!(
            "its policy lets {user} in from other addresses alone; see `nats-callout policy explain \
             {user} --address ADDRESS`"
        ),
        DenyReason::Time => format!(
            "its policy lets {user} in at other times alone; see `nats-callout policy explain {user} \
             --at TIME`"
        ),
        DenyReason::Placement => format!(
            "no account may be given to {tenant}: the column `account` names none of [placement] that is \
             shared, or dedicated to it"
        ),
        DenyReason::AmbiguousCertificate => "names of the certificate are those of several users, so \
             that it logs in as none; take the column `certificate` from all but one (the log names \
             two)"
            .to_owned(),
        DenyReason::TooLarge => format!(
            "what {user} would be granted is larger than a message to nats-server may be; shorten \
             its lists or its policy, or raise max_payload in nats-server.conf"
        ),
        DenyReason::Connections => {
            format!("{tenant} has as many connections as tenants.max_connections allows")
        }
        DenyReason::UnsupportedCredentials => {
            "it is neither a password nor a token of this service, nor a JWT".to_owned()
        }
        other => other.code().replace('_', " "),
    }
}
