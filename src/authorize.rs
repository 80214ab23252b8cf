//! START HERE. The whole path of a request, top to bottom, with no NATS I/O in it:
//!
//! ```text
//! CalloutMessage -> open -> verify -> VerifiedRequest -> authenticate -> Principal -> site -> policy
//!   -> Grant -> ready -> entrances -> mint -> UserJwt -> respond -> seal -> Reply
//! ```
//!
//! A [`VerifiedRequest`], a [`TargetAccount`](crate::placement::TargetAccount) and a [`UserJwt`] are made
//! by nothing but the check that they stand for. On the way a client may be refused ([`Denied`]), which
//! is a reply as well, or there is a [`Fault`] and no reply.

mod decider;
mod gate;
mod outcome;
mod renewable;
mod response;
mod timings;

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;

pub(crate) use self::decider::{Decider, unplaced};
pub(crate) use self::gate::{Gate, NotAudited};
pub(crate) use self::outcome::{Abort, Asker};
pub use self::outcome::{Connection, Fault, NoReply, Outcome, Reply, Verdict, Who};
use self::outcome::{Known, claimed, name_of};
pub(crate) use self::renewable::Renewable;
use self::response::AuthorizationResponse;
pub(crate) use self::timings::Stage;
use self::timings::Stopwatch;
use crate::authn::{Attempt, Authenticator, Denied, DenyReason, Principal, Rejected};
use crate::clock::{Clock, SystemClock};
use crate::keys::{AccountId, Signer};
use crate::mint::{Mint, MintError, UserJwt};
use crate::placement::{
    AccountError, Arrival, Entrance, Objection, Placed, Placement, TargetAccount,
};
use crate::policy::{ConnectionContext, Policy, RuleName};
use crate::protocol::envelope::{Envelope, Sealer};
use crate::protocol::replay::SpentKeys;
use crate::protocol::request::VerifiedRequest;
use crate::redact::shortened;
use crate::store::LoginRecord;

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

/// Decides about requests. Shared by all of them.
#[derive(Debug)]
pub struct Authorizer {
    envelope: Envelope,
    spent: SpentKeys,
    decider: Decider,
    placement: Placement,
    mint: Mint,
    responder: Responder,
    issuers: Vec<Arc<dyn Signer>>,
    entrances: Vec<Arc<dyn Entrance>>,
    renews: bool,
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

/// What a grant comes to before it is signed into an answer.
struct Granted {
    jwt: UserJwt,
    principal: Principal,
    rule: Option<Arc<RuleName>>,
    account: TargetAccount,
    loads_account: bool,
}

/// Why there is no grant.
enum NoGrant {
    /// A refusal, which is an answer.
    Denied(Denied),
    /// No answer.
    Fault(Abort),
}

impl<T: Into<Denied>> From<T> for NoGrant {
    fn from(denied: T) -> Self {
        Self::Denied(denied.into())
    }
}

impl From<Abort> for NoGrant {
    fn from(fault: Abort) -> Self {
        Self::Fault(fault)
    }
}

impl From<Rejected> for NoGrant {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::Denied(denied) => Self::Denied(denied),
            Rejected::Fault(fault) => Self::Fault(fault.into()),
        }
    }
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
        Self {
            envelope,
            spent: SpentKeys::default(),
            decider: Decider { authenticators: Vec::new(), policy },
            placement,
            mint,
            responder,
            issuers: Vec::new(),
            entrances: Vec::new(),
            renews: false,
            clock: Arc::new(SystemClock),
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

    /// Has each grant say what has to be known to renew its connection.
    #[must_use]
    pub(crate) fn with_renewals(mut self) -> Self {
        self.renews = true;
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
        self.decider.authenticators.push(authenticator);
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
        self.authorize_in_turn(message, async |_| Some(message.deadline)).await
    }

    /// [`Self::authorize`], but for the request's turn: it is waited for once the request is known to be
    /// good, and gives the decision's deadline; `None` is that the request is dropped.
    pub(crate) async fn authorize_in_turn(
        &self,
        message: CalloutMessage<'_>,
        turn: impl AsyncFnOnce(&VerifiedRequest) -> Option<Instant>,
    ) -> Outcome {
        let deadline = tokio::time::Instant::from_std(message.deadline);
        let known = Known::default();
        let decision = AssertUnwindSafe(self.decide(message, turn, &known)).catch_unwind();
        let fault = match tokio::time::timeout_at(deadline, decision).await {
            Ok(Ok(Ok(reply))) => return Outcome::Reply(reply),
            Ok(Ok(Err(fault))) => fault,
            Ok(Err(_)) => Abort::Panicked,
            Err(_) => Abort::Deadline,
        };
        Outcome::NoReply(NoReply { fault: fault.into(), who: known.who() })
    }

    async fn decide(
        &self,
        message: CalloutMessage<'_>,
        turn: impl AsyncFnOnce(&VerifiedRequest) -> Option<Instant>,
        known: &Known,
    ) -> Result<Reply, Abort> {
        let mut watch = Stopwatch::start();
        let opened = self.envelope.open(message.payload, message.server_xkey)?;
        let (request, sealer) = VerifiedRequest::verify(opened, &self.spent, self.clock.now())?;
        known.request(&request);
        watch.note(Stage::Verify);
        let until = Instant::now() + request.time_to_decide();
        let turn = tokio::time::timeout_at(until.into(), turn(&request)).await;
        watch.note(Stage::Turn);
        let deadline = turn.map_err(|_| Abort::Deadline)?.ok_or(Abort::Shed)?.min(until);
        let granting = async {
            match self.grant(&request, deadline, &mut watch, known).await {
                // The tenant was deleted in between; another may have its id by now, with this user.
                Err(NoGrant::Fault(Abort::Account(AccountError::Gone))) => {
                    self.grant(&request, deadline, &mut watch, known).await
                }
                granted => granted,
            }
        };
        let granted = tokio::time::timeout_at(deadline.into(), granting).await;
        let granted = granted.unwrap_or(Err(NoGrant::Fault(Abort::Deadline)));
        let granted = match granted {
            Ok(granted) => granted,
            Err(NoGrant::Denied(denied)) => {
                return self.refuse(&request, &sealer, denied, &mut watch).await;
            }
            Err(NoGrant::Fault(fault)) => return Err(fault),
        };
        let login = Arc::clone(granted.principal.login());
        let reply = self.admit(&request, &sealer, granted, &mut watch).await?;
        let (bytes, most) = (reply.payload.len(), message.max_reply);
        if bytes <= most {
            return Ok(reply);
        }
        let denied = Denied::too_large(&bytes.to_string(), most).of(&login);
        self.refuse(&request, &sealer, denied, &mut watch).await
    }

    async fn grant(
        &self,
        request: &VerifiedRequest,
        deadline: Instant,
        watch: &mut Stopwatch,
        known: &Known,
    ) -> Result<Granted, NoGrant> {
        let (credentials, client) = (request.credentials(), request.client());
        let attempt = Attempt { credentials, client, deadline, found: &known.found };
        let authenticated = self.decider.authenticate(attempt).await;
        watch.note(Stage::Authenticate);
        let principal = authenticated?;
        let login = principal.login();
        known.found.note(login);
        let tenant = &login.tenant;
        let site = self.placement.site(tenant).ok_or_else(|| unplaced(login))?;
        let isolation = site.isolation;
        let context = ConnectionContext { isolation, client, now: self.clock.now() };
        let grant = self.decider.permit(&principal, &context)?;
        watch.note(Stage::Policy);
        let server = request.server();
        let placed = site.ready(tenant, server, deadline).await.map_err(|error| match error {
            AccountError::Hurried(left) => {
                let took = |stage| watch.timings().of(stage).unwrap_or_default();
                let (turn, authentication) = (took(Stage::Turn), took(Stage::Authenticate));
                Abort::Hurried { turn, authentication, left }
            }
            error => error.into(),
        })?;
        for entrance in &self.entrances {
            let arrival = Arrival { tenant, isolation, server, cid: client.id, deadline };
            match entrance.enters(arrival).await {
                Ok(()) => {}
                Err(Objection::Refusal(denied)) => return Err(denied.of(login).into()),
                Err(Objection::Uncounted(why)) => return Err(Abort::Uncounted(why).into()),
            }
        }
        watch.note(Stage::Account);
        let rule = grant.rule.clone();
        let (connection, now) = (request.user_nkey(), self.clock.now());
        let issuer = self.issuer_of(request);
        let minted = self.mint.mint(issuer, connection, &principal, grant, &placed, now).await;
        watch.note(Stage::Mint);
        let jwt = minted.map_err(|error| match error {
            MintError::Expired => Denied::from(DenyReason::UserExpired).of(login).into(),
            MintError::Closed => Denied::from(DenyReason::Time).of(login).into(),
            error => NoGrant::Fault(Abort::Mint(error)),
        })?;
        let Placed { account, loads: loads_account, .. } = placed;
        Ok(Granted { jwt, principal, rule, account, loads_account })
    }

    async fn admit(
        &self,
        request: &VerifiedRequest,
        sealer: &Sealer,
        granted: Granted,
        watch: &mut Stopwatch,
    ) -> Result<Reply, Abort> {
        let Granted { jwt, principal, rule, account, loads_account } = granted;
        let LoginRecord { user, tenant } = principal.record();
        let life = Duration::from_secs(jwt.expires().abs_diff(self.clock.now()));
        let renews = self.renews && jwt.is_renewable();
        let renewable = principal.proof().filter(|_| renews).map(|proof| {
            Arc::new(Renewable {
                server: *request.server(),
                cid: request.client().id,
                account: account.to_string(),
                user: user.name.clone(),
                tenant: Some(tenant.id.clone()),
                begun: Instant::now(),
                life: life..=life,
                client: renewable::in_short(request.client()),
                proof: Arc::clone(proof),
            })
        });
        let verdict = Verdict::Granted {
            user: user.name.clone(),
            tenant: tenant.id.to_string(),
            method: principal.method(),
            ttl: life,
            rule,
        };
        let response = AuthorizationResponse::Granted(jwt);
        let reply = self.respond(request, sealer, response, verdict, watch).await?;
        Ok(Reply { loads_account, renewable, ..reply })
    }

    async fn refuse(
        &self,
        request: &VerifiedRequest,
        sealer: &Sealer,
        denied: Denied,
        watch: &mut Stopwatch,
    ) -> Result<Reply, Abort> {
        let found = denied.login.as_deref().map(name_of);
        let named = || denied.named.as_ref().map(|named| shortened(&named.user).to_owned());
        let user = found.or_else(named).or_else(|| claimed(request));
        let verdict = Verdict::Denied { user, denied };
        self.respond(request, sealer, AuthorizationResponse::Refused, verdict, watch).await
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
        response: AuthorizationResponse,
        verdict: Verdict,
        watch: &mut Stopwatch,
    ) -> Result<Reply, Abort> {
        let Responder { signer, issuer_account } = &self.responder;
        let signer = self.issuer_of(request).unwrap_or(&**signer);
        let token = response.encode(request, signer, *issuer_account, self.clock.now()).await?;
        let payload = sealer.seal(token)?;
        watch.note(Stage::Seal);
        let connection = Connection::of(request);
        let timings = watch.timings();
        let (loads_account, renewable) = (false, None);
        let asker = Some(Asker { server: *request.server(), patience: request.patience() });
        Ok(Reply { payload, verdict, connection, loads_account, renewable, timings, asker })
    }
}
