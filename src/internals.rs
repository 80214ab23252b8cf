//! What this crate's own tests, benchmarks and fuzz targets reach beside the interface. It is no part of
//! it, and may change with any version.

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;

use std::path::Path;

pub use crate::authn::password::{PasswordAuthenticator, PasswordSettings, Rehash};
pub use crate::authn::{Attempt, Authentication, Authenticator, AuthnError, DenyReason};
use crate::authorize::Reply;
pub use crate::authorize::{Authorizer, CalloutMessage, Responder};
pub use crate::keys::public::{OperatorId, ServerId, random_account_id, verify};
pub use crate::mint::Mint;
pub use crate::placement::{ConfigTargets, Placement};
use crate::policy::rules::PolicyError;
pub use crate::policy::subject::MAX_SUBJECT_BYTES;
use crate::policy::table::Report;
pub use crate::protocol::claims::{
    AccountBody, AccountLimits, AuthorizationRequestBody, AuthorizationResponseBody, ClientTls,
    ConnectOptions, Export, ExportType, ExternalAuthorization, Import, NO_LIMIT, OperatorBody,
    Permission, Permissions, ResponsePermission, ServerInfo, UserBody,
};
pub use crate::protocol::credentials::Credentials;
pub use crate::protocol::envelope::Envelope;
pub use crate::protocol::jwt::{Body, Claims, IssuerKey, JwtError, Parsed};
pub use crate::service::{AuthCallout, CALLOUT_SUBJECT};
pub use crate::store::cache::{CacheOptions, Cached};
pub use crate::store::changes::{Change, Closes, Coordination, Effect, EffectOn, Hindrance, News};
pub use crate::store::outbox::{Outbox, OutboxEvent};
#[cfg(feature = "postgres")]
pub use crate::store::postgres::PostgresStore;
pub use crate::store::provisioning::{Misfit, ProvisioningStore};
pub use crate::store::record::{HashListing, LoginListing, NewTenant, NewToken, NewUser};
#[cfg(feature = "sqlite")]
pub use crate::store::sqlite::SqliteStore;

/// All that [`Fault::code`](crate::callout::Fault::code) may be.
pub const FAULT_CODES: [&str; 14] = crate::authorize::Fault::CODES;

/// Runs the test tables of a folder, or those that are built in.
pub fn test_policies(folder: Option<&Path>) -> Result<Report, PolicyError> {
    crate::policy::table::run(folder, None)
}

/// Why no password can be verified against a stored hash, if none can.
pub fn unusable_hash(text: &str) -> Option<String> {
    crate::authn::hashing::unusable(text).map(|why| why.to_string())
}

/// What is published as the answer, which observers are not shown.
pub fn payload(reply: &Reply) -> &[u8] {
    &reply.payload
}

/// Names in certificates.
pub mod certificate {
    pub use crate::authn::certificate::name::check;
    pub use crate::authn::certificate::names;
}

/// Events of decisions.
#[cfg(feature = "daemon")]
pub mod decisions {
    use std::time::Duration;

    use crate::authorize::{Connection, Outcome, Reply, Verdict};
    use crate::config::Config;
    pub use crate::events::decisions::queue;
    use crate::events::publisher::Publisher;

    /// A grant for `user` that nobody has asked for.
    pub fn granted(user: &str) -> Outcome {
        let (user, tenant) = (user.to_owned(), "one".to_owned());
        let ttl = Duration::from_secs(9);
        let verdict = Verdict::Granted { user, tenant, method: "password", ttl, rule: None };
        let connection = Connection::new("s".to_owned(), "h".to_owned(), 1, "");
        Outcome::Reply(Reply::of(verdict, connection))
    }

    /// What publishes events, with the limits of a configuration.
    pub fn publisher(client: async_nats::Client, source: String, config: &Config) -> Publisher {
        Publisher::new(client, source, config.streams.clone())
    }
}

/// The intake of events.
#[cfg(feature = "daemon")]
pub mod intake {
    pub use crate::intake::{
        HeaderFault, Intake, Login, Place, Refusal, Running, Servers, Settings,
    };
}

/// Keys in files.
pub mod keyfile {
    pub use crate::keyfile::{account_of_creds, generations, read_secret, signing_key, xkey};
}
