//! START HERE. The whole path of a request, top to bottom, with no NATS I/O in it:
//!
//! ```text
//! CalloutMessage -> open -> verify -> Credentials -> authenticate -> Principal -> place -> policy
//!   -> Grant -> mint -> UserJwt -> AuthorizationResponse -> seal -> Outcome
//! ```
//!
//! Each arrow consumes its input, and each type can only be made by the check that it stands for.

mod gate;
mod response;
mod timings;

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;

pub use self::gate::{Gate, NotAudited};
use self::response::AuthorizationResponse;
use self::timings::Stopwatch;
pub use self::timings::{Stage, Timings};
use crate::authn::{Attempt, Authentication, Authenticator, AuthnError, DenyReason, Principal};
use crate::clock::{Clock, SystemClock};
use crate::keys::{AccountId, Signer};
use crate::mint::{Mint, MintError, UserJwt};
use crate::placement::{AccountError, Arrival, Entrance, Objection, Placement};
use crate::policy::{ConnectionContext, ConnectionType, Decision, Policy};
use crate::protocol::credentials::Credentials;
use crate::protocol::envelope::{Envelope, EnvelopeError, SealError, Sealer};
use crate::protocol::jwt::JwtError;
use crate::protocol::replay::SpentKeys;
use crate::protocol::request::{RequestError, VerifiedRequest};
use crate::store::Isolation;

/// A request as it came in. Unless it is sealed, it holds the client's password: shown by no
/// `Debug`.
#[derive(Clone, Copy)]
pub struct CalloutMessage<'a> {
    /// The payload: a JWT, or one in an envelope.
    pub payload: &'a [u8],
    /// The header `Nats-Server-Xkey`.
    pub server_xkey: Option<&'a str>,
    /// When the answer is of no use any more.
    pub deadline: Instant,
    /// How many bytes the answer may have.
    pub max_reply: usize,
}

impl fmt::Debug for CalloutMessage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CalloutMessage")
            .field("bytes", &self.payload.len())
            .field("server_xkey", &self.server_xkey)
            .field("deadline", &self.deadline)
            .field("max_reply", &self.max_reply)
            .finish()
    }
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Outcome {
    /// Exactly this is published as the reply.
    Reply(Reply),
    /// No reply: the request is not to be trusted, or a fault of ours must not look like a refusal.
    Abort(Abort),
}

/// A signed and sealed answer.
#[derive(Debug)]
pub struct Reply {
    /// The payload of the reply.
    pub payload: Vec<u8>,
    /// What it says, for the log and the metrics.
    pub verdict: Verdict,
    /// Whom it is about, for the log.
    pub connection: Connection,
    /// Whether the server will load an account because of it, while everything behind it on the
    /// same connection waits.
    pub loads_account: bool,
    /// How long its stages took.
    pub timings: Timings,
}

/// The client's connection, as its server names it.
#[derive(Debug, Clone)]
pub struct Connection {
    /// The server's name.
    pub server: String,
    /// The client's address.
    pub host: String,
    /// The connection id on that server.
    pub id: u64,
}

/// What an answer says.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// The client may connect.
    Granted {
        /// The login name.
        user: String,
        /// Its tenant's id.
        tenant: String,
        /// How it was authenticated.
        method: &'static str,
        /// How long the grant lives.
        ttl: Duration,
    },
    /// It may not.
    Denied {
        /// Why, for the log alone.
        reason: DenyReason,
        /// The name that the client claimed, if any.
        user: Option<String>,
    },
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Abort {
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
    #[error("the tenant's connections cannot be counted: {0}")]
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
    /// The answer would come too late.
    #[error("no decision before the deadline")]
    Deadline,
    /// An authenticator, a policy or something else on the way of the decision has panicked.
    #[error("the decision panicked")]
    Panicked,
}

impl Abort {
    /// All that [`Self::code`] may be.
    pub const CODES: [&str; 12] = [
        "envelope",
        "request",
        "authentication",
        "overloaded",
        "throttled",
        "account",
        "uncounted",
        "mint",
        "response",
        "audit",
        "deadline",
        "panicked",
    ];

    /// The reason's code in metrics.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Envelope(_) => "envelope",
            Self::Request(_) => "request",
            Self::Authentication(AuthnError::Overloaded) => "overloaded",
            Self::Authentication(AuthnError::Throttled) => "throttled",
            Self::Authentication(_) => "authentication",
            Self::Account(_) => "account",
            Self::Uncounted(_) => "uncounted",
            Self::Mint(_) => "mint",
            Self::Response(_) | Self::Seal(_) => "response",
            Self::Audit(_) => "audit",
            Self::Deadline => "deadline",
            Self::Panicked => "panicked",
        }
    }

    /// Whether the request itself is bad, rather than something of ours.
    #[must_use]
    pub fn is_bad_request(&self) -> bool {
        matches!(self, Self::Envelope(_) | Self::Request(_))
    }

    /// Whether it is a guess that was dropped, of which there may be thousands a second.
    #[must_use]
    pub fn is_guess(&self) -> bool {
        matches!(self, Self::Authentication(AuthnError::Throttled))
    }
}

/// Decides about requests. Shared by all of them.
#[derive(Debug)]
pub struct Authorizer {
    envelope: Envelope,
    spent: SpentKeys,
    authenticators: Vec<Arc<dyn Authenticator>>,
    placement: Placement,
    policy: Arc<dyn Policy>,
    mint: Mint,
    responder: Responder,
    issuers: Vec<Arc<dyn Signer>>,
    entrances: Vec<Arc<dyn Entrance>>,
    clock: Arc<dyn Clock>,
}

/// Who signs responses.
#[derive(Debug)]
pub struct Responder {
    /// The key.
    pub signer: Arc<dyn Signer>,
    /// The callout account, where the key is one of its signing keys (operator mode).
    pub issuer_account: Option<AccountId>,
}

/// What a decision comes to before it is signed.
enum Answer {
    Grant { jwt: UserJwt, principal: Principal, loads_account: bool },
    Deny(DenyReason),
}

impl Authorizer {
    /// An authorizer without authenticators, which refuses everybody.
    #[must_use]
    pub fn new(
        envelope: Envelope,
        placement: Placement,
        policy: Arc<dyn Policy>,
        mint: Mint,
        responder: Responder,
    ) -> Self {
        let authenticators = Vec::new();
        let clock = Arc::new(SystemClock);
        let (issuers, spent) = (Vec::new(), SpentKeys::default());
        Self {
            envelope,
            spent,
            authenticators,
            placement,
            policy,
            mint,
            responder,
            issuers,
            entrances: Vec::new(),
            clock,
        }
    }

    /// Adds further issuers (config mode). A server takes users and answers of one issuer alone and
    /// names it in its requests; while servers are changed over from one to the next, each is
    /// answered by the one that it names. Without it, or where it names another, the mint's and
    /// the responder's sign.
    #[must_use]
    pub fn with_issuers(mut self, issuers: Vec<Arc<dyn Signer>>) -> Self {
        self.issuers = issuers;
        self
    }

    /// Appends an entrance, which whoever is to be let in has to pass.
    #[must_use]
    pub fn with_entrance(mut self, entrance: Arc<dyn Entrance>) -> Self {
        self.entrances.push(entrance);
        self
    }

    /// Appends an authenticator to the chain; the first one that takes a credential decides.
    #[must_use]
    pub fn with_authenticator(mut self, authenticator: Arc<dyn Authenticator>) -> Self {
        self.authenticators.push(authenticator);
        self
    }

    /// Replaces the clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Decides about one request. A panic on the way is an outcome like others: it is counted and
    /// logged, and no client is told of it.
    pub async fn authorize(&self, message: CalloutMessage<'_>) -> Outcome {
        let deadline = tokio::time::Instant::from_std(message.deadline);
        let decision = AssertUnwindSafe(self.decide(message)).catch_unwind();
        match tokio::time::timeout_at(deadline, decision).await {
            Ok(Ok(Ok(reply))) => Outcome::Reply(reply),
            Ok(Ok(Err(abort))) => Outcome::Abort(abort),
            Ok(Err(_)) => Outcome::Abort(Abort::Panicked),
            Err(_) => Outcome::Abort(Abort::Deadline),
        }
    }

    async fn decide(&self, message: CalloutMessage<'_>) -> Result<Reply, Abort> {
        let mut watch = Stopwatch::start();
        let opened = self.envelope.open(message.payload, message.server_xkey)?;
        let (request, sealer) = VerifiedRequest::verify(opened, &self.spent, self.clock.now())?;
        watch.note(Stage::Verify);
        let answer = match self.answer(&request, message.deadline, &mut watch).await {
            // The tenant was deleted in between; another may have its id by now, with this user.
            Err(Abort::Account(AccountError::Gone)) => {
                self.answer(&request, message.deadline, &mut watch).await?
            }
            answer => answer?,
        };
        let reply = self.respond(&request, &sealer, answer, &mut watch).await?;
        let (bytes, most) = (reply.payload.len(), message.max_reply);
        match &reply.verdict {
            Verdict::Granted { user, .. } if bytes > most => {
                tracing::warn!(
                    user,
                    bytes,
                    max_payload = most,
                    "a grant is larger than a message to nats-server may be: shorten the user's \
                     lists or its policy, or raise max_payload"
                );
                let refusal = Answer::Deny(DenyReason::TooLarge);
                self.respond(&request, &sealer, refusal, &mut watch).await
            }
            _ => Ok(reply),
        }
    }

    async fn answer(
        &self,
        request: &VerifiedRequest,
        deadline: Instant,
        watch: &mut Stopwatch,
    ) -> Result<Answer, Abort> {
        let authenticated = self.authenticate(request, deadline).await?;
        watch.note(Stage::Authenticate);
        match authenticated {
            Ok(principal) => self.grant(request, principal, deadline, watch).await,
            Err(reason) => Ok(Answer::Deny(reason)),
        }
    }

    async fn authenticate(
        &self,
        request: &VerifiedRequest,
        deadline: Instant,
    ) -> Result<Result<Principal, DenyReason>, AuthnError> {
        let (credentials, client) = (request.credentials(), request.client());
        if matches!(credentials, Credentials::None) {
            return Ok(Err(DenyReason::NoCredentials));
        }
        for authenticator in &self.authenticators {
            match authenticator.authenticate(Attempt { credentials, client, deadline }).await? {
                Authentication::NotMine => {}
                Authentication::Refused(reason) => return Ok(Err(reason)),
                Authentication::Accepted(principal) => return Ok(Ok(principal)),
            }
        }
        Ok(Err(DenyReason::UnsupportedCredentials))
    }

    async fn grant(
        &self,
        request: &VerifiedRequest,
        principal: Principal,
        deadline: Instant,
        watch: &mut Stopwatch,
    ) -> Result<Answer, Abort> {
        let tenant = &principal.record().tenant;
        let Some(site) = self.placement.site(tenant) else {
            return Ok(Answer::Deny(DenyReason::Placement));
        };
        let isolation = site.isolation;
        // Permissions do not hold a leaf node to its tenant's own subjects.
        if isolation == Isolation::Shared
            && ConnectionType::of(request.client()) == Some(ConnectionType::Leafnode)
        {
            return Ok(Answer::Deny(DenyReason::ConnectionType));
        }
        let now = self.clock.now();
        let context = ConnectionContext { isolation, client: request.client(), now };
        let grant = match self.policy.decide(&principal, &context) {
            Decision::Permit(grant) => grant,
            Decision::Deny(reason) => return Ok(Answer::Deny(reason)),
        };
        watch.note(Stage::Policy);
        let placed = site.ready(tenant, request.server(), deadline).await?;
        let (server, cid) = (request.server(), request.client().id);
        for entrance in &self.entrances {
            let arrival = Arrival { tenant, isolation, server, cid, deadline };
            match entrance.enters(arrival).await {
                Ok(()) => {}
                Err(Objection::Refusal(reason)) => return Ok(Answer::Deny(reason)),
                Err(Objection::Uncounted(why)) => return Err(Abort::Uncounted(why)),
            }
        }
        watch.note(Stage::Account);
        let connection = request.user_nkey();
        let now = self.clock.now();
        let issuer = self.issuer_of(request);
        let minted = self.mint.mint(issuer, connection, &principal, grant, &placed, now).await;
        watch.note(Stage::Mint);
        match minted {
            Ok(jwt) => Ok(Answer::Grant { jwt, principal, loads_account: placed.loads }),
            Err(MintError::Expired) => Ok(Answer::Deny(DenyReason::UserExpired)),
            Err(MintError::Closed) => Ok(Answer::Deny(DenyReason::Time)),
            Err(error) => Err(Abort::Mint(error)),
        }
    }

    /// The further issuer that the server expects, if it is one.
    fn issuer_of(&self, request: &VerifiedRequest) -> Option<&dyn Signer> {
        let named = |issuer: &&Arc<dyn Signer>| issuer.public_key() == request.addressee();
        self.issuers.iter().find(named).map(|issuer| &**issuer)
    }

    async fn respond(
        &self,
        request: &VerifiedRequest,
        sealer: &Sealer,
        answer: Answer,
        watch: &mut Stopwatch,
    ) -> Result<Reply, Abort> {
        let now = self.clock.now();
        let (response, verdict, loads_account) = match answer {
            Answer::Grant { jwt, principal, loads_account } => {
                let record = principal.record();
                let verdict = Verdict::Granted {
                    user: record.user.name.clone(),
                    tenant: record.tenant.id.to_string(),
                    method: principal.method(),
                    ttl: Duration::from_secs(jwt.expires().abs_diff(now)),
                };
                (AuthorizationResponse::Granted(jwt), verdict, loads_account)
            }
            Answer::Deny(reason) => {
                let user = match request.credentials() {
                    Credentials::Password { user, .. } => Some(user.clone()),
                    _ => None,
                };
                (AuthorizationResponse::Refused, Verdict::Denied { reason, user }, false)
            }
        };
        let Responder { signer, issuer_account } = &self.responder;
        let signer = self.issuer_of(request).unwrap_or(&**signer);
        let token = response.encode(request, signer, *issuer_account, now).await?;
        let client = request.client();
        let connection = Connection {
            server: request.server_name().to_owned(),
            host: client.host.clone(),
            id: client.id,
        };
        let payload = sealer.seal(token)?;
        watch.note(Stage::Seal);
        Ok(Reply { payload, verdict, connection, loads_account, timings: watch.timings() })
    }
}
