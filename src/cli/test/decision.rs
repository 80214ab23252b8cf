//! What the service decides about a login, worked out here with the same authenticators and the
//! same policy on the same table: the server tells a client one fixed text for every refusal.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::super::Context;
use super::super::user::shares_account;
use crate::authn::lane::HashingLane;
use crate::authn::password::PasswordAuthenticator;
use crate::authn::token::TokenAuthenticator;
use crate::authn::verified::{VerifiedLimits, VerifiedPasswords};
use crate::authn::{Attempt, Authentication, Authenticator, DenyReason, Principal};
use crate::clock::{Clock as _, SystemClock};
use crate::config::Mode;
use crate::credentials::Credentials;
use crate::placement::ConfigTargets;
use crate::policy::rules::PolicySet;
use crate::policy::{ConnectionContext, Decision, Form, Grant, Policy as _};
use crate::protocol::claims::ClientInfo;
use crate::store::TenantRecord;

/// How long one password hash may take here.
const PATIENCE: Duration = Duration::from_secs(30);

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
    pub(super) form: Form,
}

/// Decides as the service does.
pub(super) async fn decide(
    context: &Context,
    credentials: &Credentials,
) -> anyhow::Result<Decided> {
    let clock = Arc::new(SystemClock);
    let store = &context.database.credentials;
    let verified = VerifiedPasswords::new(VerifiedLimits::default())?;
    let lane = Arc::new(HashingLane::new(1, 1)?);
    let chain: [Box<dyn Authenticator>; 2] = [
        Box::new(PasswordAuthenticator::new(store.clone(), lane, verified, clock.clone())),
        Box::new(TokenAuthenticator::new(store.clone(), clock)),
    ];
    let client = ClientInfo {
        kind: "Client".to_owned(),
        connection_type: "nats".to_owned(),
        ..ClientInfo::default()
    };
    let attempt = Attempt { credentials, client: &client, deadline: Instant::now() + PATIENCE };
    for authenticator in chain {
        match authenticator.authenticate(attempt).await? {
            Authentication::NotMine => {}
            Authentication::Refused(reason) => return Ok(Decided::Refused(reason)),
            Authentication::Accepted(principal) => return grant(context, principal, &client),
        }
    }
    Ok(Decided::Refused(DenyReason::UnsupportedCredentials))
}

fn grant(context: &Context, principal: Principal, client: &ClientInfo) -> anyhow::Result<Decided> {
    let policy = match &context.config.policies {
        Some(folder) => PolicySet::with_folder(folder)?,
        None => PolicySet::shipped()?,
    };
    let Some(form) = form(context, &principal.record().tenant)? else {
        return Ok(Decided::Refused(DenyReason::Placement));
    };
    let connection = ConnectionContext { form, client, now: SystemClock.now() };
    Ok(match policy.decide(&principal, &connection) {
        Decision::Permit(grant) => Decided::Granted(Box::new(Granted { principal, grant, form })),
        Decision::Deny(reason) => Decided::Refused(reason),
    })
}

/// How the tenant is kept apart; `None` if it has no place.
fn form(context: &Context, tenant: &TenantRecord) -> anyhow::Result<Option<Form>> {
    match &context.config.mode {
        Mode::Operator(_) if shares_account(tenant, &context.config) => Ok(Some(Form::Shared)),
        Mode::Operator(_) => Ok(Some(Form::Own)),
        Mode::Config(mode) => {
            let dedicated = mode
                .dedicated
                .iter()
                .map(|(account, tenant)| (account.clone(), tenant.to_string()))
                .collect();
            let targets =
                ConfigTargets::new(mode.accounts.clone(), dedicated).context("[placement]")?;
            Ok(crate::placement::Placement::Config(targets).form(tenant))
        }
    }
}

/// Why, and what to do about it.
pub(super) fn words(reason: DenyReason, tenant: &str, user: &str) -> String {
    match reason {
        DenyReason::UnknownUser => {
            format!("there is no user {user}; see `nats-callout show {tenant}`")
        }
        DenyReason::WrongPassword => format!(
            "the password is not {user}'s; make a new one with `nats-callout user passwd {tenant} \
             {user}`"
        ),
        DenyReason::UnknownToken => format!(
            "there is no such token of {user}; make one with `nats-callout token add {tenant} \
             {user}`"
        ),
        DenyReason::TokenExpired => "the token has ended; make another".to_owned(),
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
             one that does not exist, the policy cannot be filled in for this name, or it refuses \
             plain clients"
        ),
        DenyReason::Placement => format!(
            "no account may be given to {tenant}: the column `account` names none of [placement]"
        ),
        DenyReason::UnsupportedCredentials => {
            "it is neither a password nor a token of this service".to_owned()
        }
        other => other.code().replace('_', " "),
    }
}
