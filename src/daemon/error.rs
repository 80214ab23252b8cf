//! Why the service cannot start, or go on.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::isolation::Violation;
use crate::authn::hashing::HashingError;
use crate::authn::random::NoRandomness;
use crate::exposure::Exposure;
use crate::keyfile::KeyFileError;
use crate::keys::AccountId;
use crate::placement::TargetError;
use crate::policy::rules::PolicyError;
use crate::service::ServiceError;

/// Why the service cannot start, or go on. Every text says what to do.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(pub(super) DaemonError);

impl Error {
    /// Whether it was told to stop before it had begun, which is nothing to mend.
    #[must_use]
    pub fn is_stop(&self) -> bool {
        matches!(self.0, DaemonError::Stopped)
    }

    /// Whether the configuration, or a file that it names, has to be mended before it can start.
    #[must_use]
    pub fn is_misconfiguration(&self) -> bool {
        use DaemonError::{Exposed, Keys, Policy, Targets, Users};
        matches!(self.0, Keys(_) | Exposed(_) | Policy(_) | Targets(_) | Users(_))
    }
}

impl<T> From<T> for Error
where
    DaemonError: From<T>,
{
    fn from(error: T) -> Self {
        Self(error.into())
    }
}

/// What [`Error`] says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DaemonError {
    /// Key files are missing, unusable, or readable by others: all of them at once.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Keys(Vec<KeyFileError>),
    /// Others can change files that the service goes by: all that was found.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Exposed(Vec<Exposure>),
    /// A policy is malformed.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// `[placement]` names an account that must not be a target.
    #[error("[placement]: {0}")]
    Targets(#[from] TargetError),
    /// `[operator] users_account` names an account of the system.
    #[error(
        "[operator] users_account: {0} is one of SYS, AUTH, BB, ANSWERS, EVENTS and INTAKE; name the account USERS"
    )]
    Users(AccountId),
    /// Password hashing could not be set up.
    #[error(transparent)]
    Hashing(#[from] HashingError),
    /// The operating system gave no random bytes.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// The service could not begin on its connection.
    #[error(transparent)]
    Service(#[from] ServiceError),
    /// A subscription was not taken.
    #[error("cannot subscribe: {0}")]
    Subscribe(#[from] async_nats::SubscribeError),
    /// Health and metrics cannot be served where the configuration says.
    #[error(
        "cannot serve health and metrics on {listen}: {source}; another program or instance may \
         listen there: choose another address in [http] listen or NATS_CALLOUT_HTTP_LISTEN, or \
         \"\" to serve none"
    )]
    Http {
        /// The address.
        listen: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The metrics could not be set up.
    #[error("metrics: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    /// Others than the service are in AUTH, or can be: all that was found.
    #[error("{}", .0.iter().map(|it| format!("{it}; {}", it.remedy())).collect::<Vec<_>>().join("\n"))]
    Isolation(Vec<Violation>),
    /// Files hold logins, but in other accounts than they are for.
    #[error(
        "{}",
        .0.iter()
            .map(|(file, account)| {
                let file = file.display();
                format!(
                    "{file}: is no login in the account {account}, so that tenants' events would be lost; \
                     restore the one that `init` wrote"
                )
            })
            .collect::<Vec<_>>()
            .join("\n")
    )]
    Misplaced(Vec<(PathBuf, String)>),
    /// Servers on which tenants can use every account's JetStream.
    #[error("{}", .0.join("\n"))]
    OldServers(Vec<String>),
    /// Tenants' events cannot be taken from these servers.
    #[error(
        "[nats] url: tenants' events are taken over nats:// or tls:// alone; name such an address too"
    )]
    Intake,
    /// A part is down that does not begin again, and without which no login is answered.
    #[error(
        "the service's part {0} has ended by itself and does not begin again: start the service anew, as a \
         service manager does; the log says why"
    )]
    Fallen(String),
    /// It was told to stop before it had begun.
    #[error("stopped before it was ready")]
    Stopped,
}

impl From<KeyFileError> for DaemonError {
    fn from(error: KeyFileError) -> Self {
        Self::Keys(vec![error])
    }
}
