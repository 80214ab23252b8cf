//! What a principal may do: a [`Policy`] turns a [`Principal`] into a [`Grant`], or refuses.
//!
//! [`PolicySet`] is the policy of the shipped files; an application may bring another.

mod admission;
pub(crate) mod explain;
mod file;
#[cfg(test)]
mod isolation;
mod preset;
mod rule;
pub(crate) mod rules;
pub(crate) mod subject;
pub(crate) mod table;
mod template;
mod times;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

pub use self::admission::ConnectionType;
pub use self::rules::{PolicyError, PolicySet};
pub use self::subject::{Pattern, SubjectError};
use crate::authn::DenyReason;
pub use crate::authn::{Claims, Denied, Principal};
use crate::clock::UnixSeconds;
pub use crate::problem::Origin;
use crate::protocol::claims::ClientInfo;
use crate::store::Isolation;

/// What a policy may look at besides the principal.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionContext<'a> {
    /// How the tenant is kept apart.
    pub isolation: Isolation,
    /// What the server knows of the client.
    pub client: &'a ClientInfo,
    /// The time of the decision.
    pub now: UnixSeconds,
}

/// A policy's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// The principal may do this.
    Permit(Grant),
    /// The principal may not connect.
    Deny(Denied),
}

impl Decision {
    /// A refusal by the policy, with its reason for the log. Write no secret there.
    pub fn deny(why: impl Into<String>) -> Self {
        Self::Deny(Denied::from(DenyReason::Policy).with_detail(why))
    }
}

/// The right to answer the reply subject of a request that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Responses {
    /// How many answers to each request.
    pub max: u32,
    /// For how long after it.
    pub expires: Duration,
}

/// What a user may publish, subscribe and answer. An empty list grants nothing: the mint turns it
/// into an explicit denial, since a server would take it for "everything".
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grant {
    /// Subjects to publish.
    pub publish: Vec<Pattern>,
    /// Subjects to subscribe.
    pub subscribe: Vec<Pattern>,
    /// Subjects not to publish, although allowed.
    pub deny_publish: Vec<Pattern>,
    /// Subjects not to subscribe, although allowed.
    pub deny_subscribe: Vec<Pattern>,
    /// Answers to requests; never given out in a shared account.
    pub responses: Option<Responses>,
    /// A life shorter than the configured one.
    pub ttl: Option<Duration>,
    /// When it ends at the latest.
    pub until: Option<UnixSeconds>,
    /// Lets an MQTT client into an account that tenants share, where whoever comes with another's
    /// client id ends that one's session.
    pub dangerous_shared_mqtt: bool,
    /// Whether the connection is left alone until the grant ends, and its server closes it then. The
    /// configured service renews the others before.
    pub no_renewal: bool,
    /// Which rule it comes from.
    pub rule: Option<Arc<RuleName>>,
}

/// A rule of a policy, as the log names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleName {
    /// The policy.
    pub policy: String,
    /// Where the rule begins.
    pub at: Origin,
}

/// Decides what a principal may do. Called once for each login, and must not block.
///
/// What it grants is signed as it stands, but for three things: nobody comes into an account of the
/// system's; leaf nodes and, unless the grant says so, MQTT clients do not come into an account that
/// tenants share; and there is no answer where a grant has `responses` in such an account. So in a
/// shared account the subjects alone keep tenants apart: let each begin with what is the tenant's own,
/// and put nothing into one that may be a wildcard or have a dot. A tenant's id never is or has; a user's
/// name may.
///
/// ```
/// use nats_callout::policy::{ConnectionContext, Decision, Grant, Policy, Principal};
///
/// #[derive(Debug)]
/// struct OwnSubjects;
///
/// impl Policy for OwnSubjects {
///     fn decide(&self, principal: &Principal, _: &ConnectionContext<'_>) -> Decision {
///         let own = format!("from.{}.>", principal.record().tenant.id);
///         match own.parse() {
///             Ok(own) => Decision::Permit(Grant { publish: vec![own], ..Grant::default() }),
///             Err(error) => Decision::deny(error.to_string()),
///         }
///     }
/// }
/// ```
pub trait Policy: Debug + Send + Sync {
    /// Permits or refuses.
    fn decide(&self, principal: &Principal, context: &ConnectionContext<'_>) -> Decision;
}
