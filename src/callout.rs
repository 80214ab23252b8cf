//! For applications: a service in a few lines, with users of their own ([`CalloutBuilder::authorize`])
//! or with those of a tenant table ([`CalloutBuilder::table`]).
//!
//! ```no_run
//! use nats_callout::callout::{Answer, Callout, Permit, Request};
//! use nats_callout::keys::{KeyKind, SigningKey, XKey};
//!
//! # async fn start(issuer: &str, xkey: &str, client: nats_callout::async_nats::Client)
//! #     -> Result<(), Box<dyn std::error::Error>> {
//! let running = Callout::config_mode(SigningKey::from_seed(issuer, KeyKind::Account)?)
//!     .xkey(XKey::from_seed(xkey)?)
//!     .account("USERS")
//!     .authorize(async |request: Request| {
//!         Ok(match request.token() {
//!             Some(token) if token.matches("key-4711") => {
//!                 Permit::user("billing").publish("invoices.*").subscribe("payments.*").into()
//!             }
//!             _ => Answer::deny("no such key"),
//!         })
//!     })?
//!     .start(client)
//!     .await?;
//! # running.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! Accounts that are made on the fly, connections that end with a change, and events come with the service of
//! a configuration, `daemon`.

mod callout_account;
mod existing;
mod rule;
mod uncounted;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::Client;
/// What stops [`Callout::run`] and `daemon::run`.
pub use tokio_util::sync::CancellationToken;

use self::existing::Existing;
pub use self::rule::{Answer, Authorize, BoxError, Permit, Request};
use self::rule::{AsAuthorized, ByRule, SHORTEST};
use self::uncounted::Uncounted;
use crate::audit::Observers;
pub use crate::audit::{Kick, Late, Lateness, Observer, Rejection};
pub use crate::authn::hashing::{HashingError, hash as hash_password};
use crate::authn::password::{PasswordAuthenticator, PasswordSettings};
pub use crate::authn::random::NoRandomness;
pub use crate::authn::token::Token;
use crate::authn::{self, Authenticator};
use crate::authorize::{Authorizer, CalloutMessage, Responder};
pub use crate::authorize::{Connection, Fault, NoReply, Outcome, Reply, Verdict, Who};
use crate::clock::{Clock, SystemClock};
use crate::keys::{AccountId, KeyError, Signer, XKey};
use crate::mint::Mint;
use crate::placement::{
    Accounts, ChosenTargets, ConfigTargets, OperatorTargets, Placement, SystemAccounts, TargetError,
};
use crate::policy::Policy;
use crate::policy::rules::{PolicyError, PolicySet};
pub use crate::protocol::claims::ClientInfo;
pub use crate::protocol::credentials::Secret;
use crate::protocol::envelope::Envelope;
use crate::service::AuthCallout;
pub use crate::service::{Running, ServiceError, Settings};
use crate::store::{CredentialStore, Isolation};

/// How long a grant lives, where nothing else is said.
const TTL: Duration = Duration::from_secs(900);

/// A service that is ready to start.
pub struct Callout {
    authorizer: Authorizer,
    settings: Settings,
    observers: Observers,
    /// The callout account: a name in config mode, a public key in operator mode.
    auth: String,
}

/// The keys of operator mode, where accounts are JWTs.
#[derive(Debug, Clone)]
pub struct OperatorKeys {
    /// The callout account, AUTH.
    pub auth: AccountId,
    /// The system account.
    pub system: AccountId,
    /// Signs users: a signing key of every account that they are placed in.
    pub users: Arc<dyn Signer>,
    /// Signs answers: a signing key of the callout account, or that account's own key.
    pub responses: Arc<dyn Signer>,
}

/// A service that has yet to learn who its users are.
pub struct CalloutBuilder {
    mode: Mode,
    xkeys: Vec<XKey>,
    account: Option<String>,
    ttl: Duration,
    settings: Settings,
    observers: Observers,
    clock: Arc<dyn Clock>,
}

enum Mode {
    Config { issuer: Arc<dyn Signer>, auth: String, system: String },
    Operator(OperatorKeys),
}

/// Why a service cannot be made or started.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct CalloutError(#[from] NoCallout);

/// What a [`CalloutError`] says.
#[derive(Debug, thiserror::Error)]
enum NoCallout {
    /// A key of the wrong kind.
    #[error("{what}: {source}")]
    Key {
        /// Which.
        what: &'static str,
        /// Why.
        source: KeyError,
    },
    /// The default account is not one that users may be placed in, or not one at all.
    #[error("the account {account:?}: {problem}")]
    Account {
        /// The account.
        account: String,
        /// What is wrong with it.
        problem: String,
    },
    /// No account was named.
    #[error("no account is named that users are placed in: say .account(..)")]
    NoAccount,
    /// A policy is malformed.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// No grant may live for so short a time.
    #[error("ttl = {0:?}: a grant lives for at least {SHORTEST:?}")]
    Ttl(Duration),
    /// Password hashing could not be set up.
    #[error(transparent)]
    Hashing(#[from] HashingError),
}

impl Callout {
    /// For servers with accounts in their configuration, and `issuer` as theirs: the account key whose
    /// public half stands in `authorization.auth_callout.issuer` of nats-server.conf.
    #[must_use]
    pub fn config_mode(issuer: impl Signer + 'static) -> CalloutBuilder {
        CalloutBuilder::new(Mode::Config {
            issuer: Arc::new(issuer),
            auth: "AUTH".to_owned(),
            system: "$SYS".to_owned(),
        })
    }

    /// For servers whose accounts are JWTs, with `keys`.
    #[must_use]
    pub fn operator_mode(keys: OperatorKeys) -> CalloutBuilder {
        CalloutBuilder::new(Mode::Operator(keys))
    }

    /// What decides about requests, for a test without a server.
    #[cfg(feature = "testing")]
    pub(crate) async fn authorize(&self, message: CalloutMessage<'_>) -> Outcome {
        let begun = Instant::now();
        let outcome = self.authorizer.authorize(message).await;
        self.observers.observe(&outcome, begun.elapsed());
        outcome
    }

    /// Starts on `client`, which is logged in to the callout account. Returns once the server has taken
    /// the subscription. [`Running::stop`] ends it without losing a request.
    ///
    /// Whether the issuer and the curve key are those of the servers shows with the first client: see
    /// [`Observer::rejected`], and the log.
    pub async fn start(self, client: Client) -> Result<Running, ServiceError> {
        callout_account::check(&client, &self.auth).await?;
        self.service().start(client).await
    }

    /// Runs on `client` until `shutdown`, and stops without losing a request.
    pub async fn run(
        self,
        client: Client,
        shutdown: CancellationToken,
    ) -> Result<(), ServiceError> {
        callout_account::check(&client, &self.auth).await?;
        self.service().run(client, shutdown).await
    }

    fn service(self) -> AuthCallout {
        AuthCallout::new(Arc::new(self.authorizer))
            .with_settings(self.settings)
            .with_observers(self.observers)
    }
}

impl CalloutBuilder {
    fn new(mode: Mode) -> Self {
        Self {
            mode,
            xkeys: Vec::new(),
            account: None,
            ttl: TTL,
            settings: Settings::default(),
            observers: Observers::default(),
            clock: Arc::new(SystemClock),
        }
    }

    /// The curve key that servers seal requests for, `xkey` of `auth_callout`; a second one while they
    /// change over from one to the next. Without any, requests and the passwords in them travel as they
    /// are, and sealed ones get no answer.
    #[must_use]
    pub fn xkey(mut self, xkey: XKey) -> Self {
        self.xkeys.push(xkey);
        self
    }

    /// The account that users are placed in where nothing else is said: a name in config mode, a public
    /// key (`A...`) in operator mode. Never SYS, AUTH or another of the system's.
    #[must_use]
    pub fn account(mut self, account: impl Into<String>) -> Self {
        self.account = Some(account.into());
        self
    }

    /// The account that the service itself is in, where that is not `AUTH` (config mode): nobody is
    /// placed in it.
    #[must_use]
    pub fn auth_account(mut self, name: impl Into<String>) -> Self {
        if let Mode::Config { auth, .. } = &mut self.mode {
            *auth = name.into();
        }
        self
    }

    /// The system account of the servers, where that is not `$SYS` or `SYS` (config mode): nobody is placed
    /// in it.
    #[must_use]
    pub fn system_account(mut self, name: impl Into<String>) -> Self {
        if let Mode::Config { system, .. } = &mut self.mode {
            *system = name.into();
        }
        self
    }

    /// How long a grant lives at most, 15 minutes where nothing else is said: the server closes the
    /// connection then, and the client logs in again.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Deadline and bounds.
    #[must_use]
    pub fn settings(mut self, settings: Settings) -> Self {
        self.settings = settings;
        self
    }

    /// Has every outcome shown to `observer`, besides the log.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observers.push(observer);
        self
    }

    /// Replaces the clock of all parts.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Asks `rule` about each client: the users are the application's own.
    pub fn authorize(self, rule: impl Authorize) -> Result<Callout, CalloutError> {
        let targets = self.targets();
        if let Some(account) = &self.account {
            targets.target(account).map_err(|error| refused(account, &error))?;
        }
        let (account, clock) = (self.account.clone(), Arc::clone(&self.clock));
        let rule = ByRule::new(rule, targets.clone(), account, clock);
        self.finish(vec![Arc::new(rule)], Placement::Chosen(targets), Arc::new(AsAuthorized))
    }

    /// Finds the users in `store`, with their passwords, tokens, nkeys and certificates, and decides by
    /// the shipped policies what they may do. Each login reads the store anew, so that a row counts at
    /// once.
    ///
    /// In operator mode a tenant that is not in the default account needs its own in its row, and servers
    /// have to know that account already. Connections are not counted: users of a tenant that shares an
    /// account and has `max_connections` get no answer.
    pub fn table(self, store: Arc<dyn CredentialStore>) -> Result<Callout, CalloutError> {
        let policies = PolicySet::shipped().map_err(NoCallout::from)?;
        self.table_with(store, Arc::new(policies))
    }

    /// [`CalloutBuilder::table`] by other policies.
    pub fn table_with(
        self,
        store: Arc<dyn CredentialStore>,
        policy: Arc<dyn Policy>,
    ) -> Result<Callout, CalloutError> {
        let account = self.account.clone().ok_or(NoCallout::NoAccount)?;
        let refused = |error: TargetError| refused(&account, &error);
        self.targets().target(&account).map_err(refused)?;
        let placement = match &self.mode {
            Mode::Config { auth, .. } => Placement::Config(
                ConfigTargets::new(auth, vec![account.clone()], Default::default())
                    .map_err(refused)?,
            ),
            Mode::Operator(keys) => {
                let users = account.parse().map_err(|error: KeyError| NoCallout::Account {
                    account: account.clone(),
                    problem: error.to_string(),
                })?;
                let accounts: Arc<dyn Accounts> = Arc::new(Existing);
                let system = keys.system_accounts();
                let targets = OperatorTargets::new(accounts, users, Isolation::Shared, system);
                Placement::Operator(targets.map_err(refused)?)
            }
        };
        let Settings { deadline, max_in_flight, .. } = self.settings;
        let settings = PasswordSettings { deadline, max_in_flight, ..PasswordSettings::default() };
        let (users, clock) = (Arc::clone(&store), Arc::clone(&self.clock));
        let password =
            PasswordAuthenticator::new(settings, users, clock).map_err(NoCallout::from)?;
        let authenticators = authn::of_table(password, &store, &self.clock);
        let mut callout = self.finish(authenticators, placement, policy)?;
        callout.authorizer = callout.authorizer.with_entrance(Arc::new(Uncounted));
        Ok(callout)
    }

    fn targets(&self) -> ChosenTargets {
        match &self.mode {
            Mode::Config { auth, system, .. } => ChosenTargets::named(auth, system),
            Mode::Operator(keys) => ChosenTargets::ids(keys.system_accounts()),
        }
    }

    fn finish(
        self,
        authenticators: Vec<Arc<dyn Authenticator>>,
        placement: Placement,
        policy: Arc<dyn Policy>,
    ) -> Result<Callout, CalloutError> {
        let (users, responder, auth) = match self.mode {
            Mode::Config { issuer, auth, .. } => {
                account_key("the issuer", &*issuer)?;
                (Arc::clone(&issuer), Responder { signer: issuer, issuer_account: None }, auth)
            }
            Mode::Operator(OperatorKeys { auth, users, responses, .. }) => {
                account_key("the key that signs users", &*users)?;
                account_key("the key that signs answers", &*responses)?;
                let answers = Responder { signer: responses, issuer_account: Some(auth) };
                (users, answers, auth.to_string())
            }
        };
        if self.ttl < SHORTEST {
            return Err(NoCallout::Ttl(self.ttl).into());
        }
        let envelope = Envelope::new(self.xkeys);
        let mint = Mint::new(users, self.ttl);
        let authorizer = Authorizer::new(envelope, placement, policy, mint, responder);
        let authorizer =
            authenticators.into_iter().fold(authorizer, Authorizer::with_authenticator);
        Ok(Callout {
            authorizer: authorizer.with_clock(self.clock),
            settings: self.settings,
            observers: self.observers,
            auth,
        })
    }
}

impl OperatorKeys {
    fn system_accounts(&self) -> SystemAccounts {
        SystemAccounts::new(self.system, self.auth, [])
    }
}

fn refused(account: &str, error: &TargetError) -> NoCallout {
    NoCallout::Account { account: account.to_owned(), problem: error.to_string() }
}

/// A server takes users and answers of account keys alone.
fn account_key(what: &'static str, signer: &dyn Signer) -> Result<(), NoCallout> {
    let parsed = signer.public_key().parse::<AccountId>();
    parsed.map(drop).map_err(|source| NoCallout::Key { what, source })
}

impl fmt::Debug for Callout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callout").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl fmt::Debug for CalloutBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CalloutBuilder").field("account", &self.account).finish_non_exhaustive()
    }
}
