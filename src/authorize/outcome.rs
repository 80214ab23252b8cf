//! What becomes of a request.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::gate::NotAudited;
use super::renewable::Renewable;
use super::timings::Timings;
use crate::authn::{AuthnError, Denied, Found};
use crate::keys::ServerId;
use crate::mint::MintError;
use crate::placement::AccountError;
use crate::policy::RuleName;
use crate::protocol::claims::ClientInfo;
use crate::protocol::credentials::Credentials;
use crate::protocol::envelope::{EnvelopeError, SealError};
use crate::protocol::jwt::JwtError;
use crate::protocol::request::{RequestError, VerifiedRequest};
use crate::redact::{self, shortened, shown};
use crate::store::LoginRecord;

/// What servers count times in.
const SECOND: Duration = Duration::from_secs(1);

/// What becomes of a request.
#[derive(Debug)]
pub enum Outcome {
    /// Exactly this is published as the reply.
    Reply(Reply),
    /// There is none: the request is not to be trusted, or a fault of ours must not look like a refusal.
    NoReply(NoReply),
}

/// A signed and sealed answer.
#[derive(Debug)]
pub struct Reply {
    /// The payload of the reply.
    pub(crate) payload: Vec<u8>,
    /// What it says, for the log and the metrics.
    pub verdict: Verdict,
    /// Whom it is about, for the log.
    pub connection: Connection,
    /// Whether the server will load an account because of it, while everything behind it on the
    /// same connection waits.
    pub(crate) loads_account: bool,
    /// What has to be known to renew the connection before its grant ends, where that may be.
    pub(crate) renewable: Option<Arc<Renewable>>,
    /// How long its stages took.
    pub(crate) timings: Timings,
    /// Who asked for it; none where it was made by hand.
    pub(crate) asker: Option<Asker>,
}

/// A server that waits for an answer about one connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker {
    /// The server.
    pub(crate) server: ServerId,
    /// How long it waits, to a second.
    pub(crate) patience: Duration,
}

impl Asker {
    /// Who comes within so long after the request is in time for certain, or nearly so where the time-out
    /// is no whole second.
    pub(crate) fn surely(&self) -> Duration {
        self.patience.max(SECOND) / 2
    }

    /// When the server has given up for certain.
    pub(crate) fn longest(&self) -> Duration {
        self.patience + SECOND
    }
}

impl Reply {
    /// One that was made by hand, for tests of those who look at it.
    #[must_use]
    pub(crate) fn of(verdict: Verdict, connection: Connection) -> Self {
        let (payload, timings) = (Vec::new(), Timings::default());
        let (loads_account, renewable, asker) = (false, None, None);
        Self { payload, verdict, connection, loads_account, renewable, timings, asker }
    }

    /// No reply in the place of this one.
    pub(crate) fn withheld(self, fault: Abort) -> NoReply {
        NoReply { fault: fault.into(), who: Some(self.who()) }
    }

    /// Whom it is about.
    pub(crate) fn who(self) -> Who {
        let (user, tenant) = match self.verdict {
            Verdict::Granted { user, tenant, .. } => (Some(user), Some(tenant)),
            Verdict::Denied { user, denied } => (user, denied.tenant().map(str::to_owned)),
        };
        Who { connection: self.connection, user, tenant }
    }
}

/// The client's connection, as its server names it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Connection {
    /// The server's name.
    pub server: String,
    /// The client's address.
    pub host: String,
    /// The connection id on that server.
    pub id: u64,
    /// What the client calls itself, shortened; empty if it says nothing.
    pub name: String,
    /// The client's library by its language and version, shortened; empty where it is not known.
    pub library: String,
    /// What the client offers, in a word: `password`, `token`, `nkey`, `certificate` or `none`; empty where it
    /// is not known.
    pub offers: &'static str,
}

impl Connection {
    pub(super) fn of(request: &VerifiedRequest) -> Self {
        let ClientInfo { host, id, name, .. } = request.client();
        let unknown = Self::new(request.server_name().to_owned(), host.clone(), *id, name);
        let library = shortened(&request.library()).to_owned();
        Self { library, offers: request.credentials().kind(), ..unknown }
    }

    pub(crate) fn new(server: String, host: String, id: u64, name: &str) -> Self {
        let name = shortened(name).to_owned();
        Self { server, host, id, name, library: String::new(), offers: "" }
    }
}

/// What an answer says.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// The client may connect.
    #[non_exhaustive]
    Granted {
        /// The login name.
        user: String,
        /// Its tenant's id.
        tenant: String,
        /// How it was authenticated.
        method: &'static str,
        /// How long the grant lives.
        ttl: Duration,
        /// The rule that its permissions come from; none where a custom policy names none.
        rule: Option<Arc<RuleName>>,
    },
    /// It may not.
    #[non_exhaustive]
    Denied {
        /// Why, for the log alone.
        denied: Denied,
        /// The name of the row that was found; else the one that a token of an issuer names, or that the client
        /// claimed, if any, cut where it is long or a secret.
        user: Option<String>,
    },
}

/// A client that is let go after its server's time-out.
#[derive(Debug)]
#[non_exhaustive]
pub struct NoReply {
    /// Why.
    pub fault: Fault,
    /// Who it is; none where the request could not be verified.
    pub who: Option<Who>,
}

/// A client, as far as it is known.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Who {
    /// Its connection.
    pub connection: Connection,
    /// The name of the row that was found; else the one that the client claimed, if any, cut where it is
    /// long or a secret.
    pub user: Option<String>,
    /// The tenant's id, if a row was found.
    pub tenant: Option<String>,
}

/// What has become known of a client on the way, however that ends.
#[derive(Debug, Default)]
pub(super) struct Known {
    client: OnceLock<(Connection, Option<String>)>,
    pub(super) found: Found,
}

impl Known {
    pub(super) fn request(&self, request: &VerifiedRequest) {
        self.client.get_or_init(|| (Connection::of(request), claimed(request)));
    }

    pub(super) fn who(self) -> Option<Who> {
        let (connection, claimed) = self.client.into_inner()?;
        let login = self.found.login();
        let user = login.as_deref().map(name_of).or(claimed);
        Some(Who { connection, user, tenant: login.map(|login| login.tenant.id.to_string()) })
    }
}

/// The name in a row, as it is shown.
pub(super) fn name_of(login: &LoginRecord) -> String {
    shown(&login.user.name).to_owned()
}

/// The name that a client claims, which may be of any length, or a secret in the wrong place.
pub(super) fn claimed(request: &VerifiedRequest) -> Option<String> {
    match request.credentials() {
        Credentials::Password { user, .. } | Credentials::Token { user: Some(user), .. } => {
            Some(redact::claimed(user))
        }
        _ => None,
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Fault(#[from] pub(super) Abort);

/// What a [`Fault`] says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Abort {
    /// The envelope cannot be opened.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The request is not to be trusted.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// Authentication could not be carried out.
    #[error("authentication is impossible at the moment: {0}")]
    Authentication(#[from] AuthnError),
    /// The tenant's account cannot be used.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// Whether the tenant has room for one more connection cannot be said.
    #[error(
        "the tenant's connections cannot be counted, and it is not known that there is room for more: {0}"
    )]
    Uncounted(String),
    /// The grant was not fit to be minted.
    #[error("nothing minted: {0}")]
    Mint(MintError),
    /// The response could not be signed.
    #[error("response: {0}")]
    Response(#[from] JwtError),
    /// The response could not be encrypted.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The grant was not recorded, and has to be first.
    #[error(transparent)]
    Audit(#[from] NotAudited),
    /// Too many wait, and this one would have been the last to be of use.
    #[error("dropped: too many logins wait for their turn")]
    Shed,
    /// The answer would come too late.
    #[error("no decision before the deadline")]
    Deadline,
    /// So does the tenant's account, since what came before has left a server too little time to take it.
    #[error(
        "no decision before the deadline: authentication took {} ms and the wait for its turn {} ms, which \
         left the server {} ms to take the tenant's account",
        .authentication.as_millis(),
        .turn.as_millis(),
        .left.as_millis()
    )]
    Hurried {
        /// How long it waited to be looked at.
        turn: Duration,
        /// How long it took to find out who it is.
        authentication: Duration,
        /// What was left.
        left: Duration,
    },
    /// An authenticator, a policy or something else on the way of the decision has panicked.
    #[error("the decision panicked")]
    Panicked,
}

impl Fault {
    /// All that [`Self::code`] may be.
    pub(crate) const CODES: [&str; 14] = [
        "envelope",
        "request",
        "authentication",
        "overloaded",
        "slow_hash",
        "throttled",
        "account",
        "uncounted",
        "mint",
        "response",
        "audit",
        "shed",
        "deadline",
        "panicked",
    ];

    /// The reason's code in logs and metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match &self.0 {
            Abort::Envelope(_) => "envelope",
            Abort::Request(_) => "request",
            Abort::Authentication(AuthnError::Overloaded) => "overloaded",
            Abort::Authentication(AuthnError::SlowHash { .. }) => "slow_hash",
            Abort::Authentication(AuthnError::Throttled | AuthnError::UnknownTokens) => "throttled",
            Abort::Authentication(_) => "authentication",
            Abort::Account(_) => "account",
            Abort::Uncounted(_) => "uncounted",
            Abort::Mint(_) => "mint",
            Abort::Response(_) | Abort::Seal(_) => "response",
            Abort::Audit(_) => "audit",
            Abort::Shed => "shed",
            Abort::Deadline | Abort::Hurried { .. } => "deadline",
            Abort::Panicked => "panicked",
        }
    }

    /// Whether the request itself is bad, rather than something of ours.
    #[must_use]
    pub fn is_bad_request(&self) -> bool {
        matches!(self.0, Abort::Envelope(_) | Abort::Request(_))
    }

    /// Whether it is for what its user's row holds: whoever wrote that mends it, and nothing of the service is wrong.
    pub(crate) fn is_of_row(&self) -> bool {
        matches!(self.0, Abort::Authentication(AuthnError::SlowHash { .. }))
    }

    /// Whether it was dropped untried, among guesses or tokens that nobody has, of which there may be thousands a
    /// second. It may have been right.
    #[must_use]
    pub(crate) fn is_untried(&self) -> bool {
        matches!(self.0, Abort::Authentication(AuthnError::Throttled | AuthnError::UnknownTokens))
    }
}
