//! Who a client is and what it may do, for a login and for the dry decision of one.

use std::sync::Arc;

use crate::authn::{
    Attempt, Authentication, Authenticator, Denied, DenyReason, Principal, Rejected,
};
use crate::causes::quoted;
use crate::policy::{ConnectionContext, ConnectionType, Decision, Grant, Policy};
use crate::protocol::credentials::Credentials;
use crate::store::{Isolation, LoginRecord};

/// Decides who a client is and what it may do: at a login, and where it is asked how one would end.
#[derive(Debug)]
pub(crate) struct Decider {
    pub(crate) authenticators: Vec<Arc<dyn Authenticator>>,
    pub(crate) policy: Arc<dyn Policy>,
}

impl Decider {
    /// Who it is: the first authenticator whose kind of credential it is for certain decides.
    pub(crate) async fn authenticate(&self, attempt: Attempt<'_>) -> Result<Principal, Rejected> {
        if matches!(attempt.credentials, Credentials::None) {
            return Err(Denied::from(DenyReason::NoCredentials).with_detail(NOTHING).into());
        }
        let mut perhaps = None;
        for authenticator in &self.authenticators {
            match authenticator.authenticate(attempt).await? {
                Authentication::NotMine => {}
                Authentication::Perhaps(why) => perhaps = Some(why),
                Authentication::Refused(denied) => {
                    let denied = match perhaps {
                        Some(first) => first?.and_refused(&denied),
                        None => explained(denied, attempt.credentials),
                    };
                    return Err(denied.into());
                }
                Authentication::Accepted(principal) => return Ok(principal),
            }
        }
        Err(perhaps.unwrap_or(Ok(DenyReason::UnsupportedCredentials.into()))?.into())
    }

    /// What it may do, where its tenant lives.
    pub(crate) fn permit(
        &self,
        principal: &Principal,
        context: &ConnectionContext<'_>,
    ) -> Result<Grant, Denied> {
        let is_shared = context.isolation == Isolation::Shared;
        let found = ConnectionType::of(context.client);
        let refused = |what: &str| {
            let denied = Denied::from(DenyReason::ConnectionType).of(principal.login());
            Err(denied.with_detail(format!("{what} in an account that tenants share")))
        };
        // Permissions do not hold a leaf node to its tenant's own subjects.
        if is_shared && found == Some(ConnectionType::Leafnode) {
            return refused("a leaf node");
        }
        match self.policy.decide(principal, context) {
            Decision::Permit(grant)
                if is_shared
                    && found == Some(ConnectionType::Mqtt)
                    && !grant.dangerous_shared_mqtt =>
            {
                refused("an MQTT client")
            }
            Decision::Permit(grant) => Ok(grant),
            Decision::Deny(denied) => Err(denied.of(principal.login())),
        }
    }
}

/// What is said of a client that sends nothing that counts.
const NOTHING: &str = "the client sends no user name, token, nkey or certificate; a JWT has to be its token or its password";

/// What is nobody's says so where it was meant as something else.
#[cfg(feature = "jwt")]
fn explained(denied: Denied, credentials: &Credentials) -> Denied {
    let is_unexplained =
        denied.detail.as_deref().is_none_or(|it| it == crate::authn::token::NO_TOKEN);
    let is_of_credential = denied.reason.is_of_credential() && is_unexplained;
    if is_of_credential && crate::authn::jwt::was_meant(credentials) {
        denied.with_detail(crate::authn::jwt::NEARLY_JWT)
    } else {
        denied
    }
}

#[cfg(not(feature = "jwt"))]
fn explained(denied: Denied, _: &Credentials) -> Denied {
    denied
}

/// A tenant without a place is let in nowhere.
pub(crate) fn unplaced(login: &Arc<LoginRecord>) -> Denied {
    let named = login.tenant.placement.as_deref().unwrap_or_default();
    Denied::from(DenyReason::Placement).of(login).with_detail(format!(
        "tenants.account names {}, which is neither shared nor the tenant's own",
        quoted(named)
    ))
}
