//! How an application's answer becomes a decision.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Answer, Authorize, Permit, Request};
use crate::authn::password::MAX_USER_CHARS;
use crate::authn::{
    Attempt, Authentication, Authenticator, AuthnError, Denied, DenyReason, Principal, certificate,
};
use crate::causes::quoted;
use crate::clock::Clock;
use crate::placement::ChosenTargets;
use crate::policy::{ConnectionContext, ConnectionType, Decision, Grant, Policy};
use crate::protocol::credentials::Credentials;
use crate::redact::shortened;
use crate::store::{LoginRecord, TenantId, TenantRecord, UserKind, UserRecord};

/// The word for the log.
const METHOD: &str = "application";

/// Asks a rule who a client is; what it may do comes along for [`AsAuthorized`].
pub(in super::super) struct ByRule<A> {
    rule: A,
    targets: ChosenTargets,
    account: Option<String>,
    clock: Arc<dyn Clock>,
}

impl<A: Authorize> ByRule<A> {
    /// Places users in `targets`; without an account in the permit, in `account`.
    pub(in super::super) fn new(
        rule: A,
        targets: ChosenTargets,
        account: Option<String>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { rule, targets, account, clock }
    }

    /// The user as a row would be. The tenant is called as its account is, where that can be an id.
    fn record(&self, permit: &Permit) -> Result<LoginRecord, String> {
        let name = &permit.user;
        if name.is_empty() || name.chars().nth(MAX_USER_CHARS).is_some() {
            return Err(format!(
                "names its user with none or more than {MAX_USER_CHARS} characters"
            ));
        }
        let account = permit.account.as_ref().or(self.account.as_ref());
        let account = account.ok_or("names no account")?;
        let target = self.targets.target(account);
        target.map_err(|error| format!("names the account {}: {error}", quoted(account)))?;
        let id = account.parse().unwrap_or_else(|_| TenantId::none());
        Ok(LoginRecord {
            tenant: TenantRecord { placement: Some(account.clone()), ..TenantRecord::new(id) },
            user: UserRecord {
                expires_at: permit.expires_at,
                ..UserRecord::new(permit.user.as_str(), UserKind::Service)
            },
        })
    }
}

impl<A> fmt::Debug for ByRule<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByRule").field("account", &self.account).finish_non_exhaustive()
    }
}

#[async_trait]
impl<A: Authorize> Authenticator for ByRule<A> {
    async fn authenticate(&self, attempt: Attempt<'_>) -> Result<Authentication, AuthnError> {
        let Attempt { credentials, client, deadline, .. } = attempt;
        let request =
            Request { credentials: credentials.clone(), client: client.clone(), deadline };
        let answer = self.rule.authorize(request).await;
        let permit = match answer.map_err(|error| AuthnError::Other(error.to_string()))? {
            Answer::Permit(permit) => permit,
            Answer::Deny(why) => {
                let denied = Denied::from(DenyReason::Refused).with_detail(why);
                return Ok(Authentication::Refused(denied));
            }
        };
        let ends = match credentials {
            Credentials::Certificate(tls) => certificate::verified(tls).map(|(_, ends)| ends),
            _ => None,
        };
        let user = quoted(shortened(&permit.user));
        let fault = |what| AuthnError::Other(format!("the permit of {user} {what}"));
        let record = Arc::new(self.record(&permit).map_err(fault)?);
        let grant = permit.grant().map_err(fault)?;
        let permitted = Permitted { grant, dangerous: permit.dangerous };
        let principal = Principal::new(record, METHOD, ends, self.clock.now());
        Ok(match principal {
            Ok(it) => Authentication::Accepted(it.with_extension(Arc::new(permitted))),
            Err(denied) => Authentication::Refused(denied),
        })
    }
}

/// What a rule has permitted.
#[derive(Debug)]
struct Permitted {
    grant: Grant,
    dangerous: Vec<ConnectionType>,
}

/// Grants what the rule has permitted.
#[derive(Debug)]
pub(in super::super) struct AsAuthorized;

impl Policy for AsAuthorized {
    fn decide(&self, principal: &Principal, context: &ConnectionContext<'_>) -> Decision {
        let Some(permitted) = principal.extension::<Permitted>() else {
            return Decision::Deny(DenyReason::Policy.into());
        };
        let found = ConnectionType::of(context.client);
        let mut usual = [ConnectionType::Nats, ConnectionType::Websocket].into_iter();
        if found.is_some_and(|found| {
            usual.any(|it| it == found) || permitted.dangerous.contains(&found)
        }) {
            return Decision::Permit(permitted.grant.clone());
        }
        let by = found.map_or("something that is not known here", ConnectionType::as_str);
        let denied = Denied::from(DenyReason::ConnectionType);
        Decision::Deny(denied.with_detail(format!("the permit is none for a connection by {by}")))
    }
}
