//! Lets tenants' own accounts answer BB: keeps the JWT of the account ANSWERS, which passes BB's
//! requests on `user.<id>.Notifications` to those accounts whose tenants have `answers`.
//!
//! A request needs an import for each account that may answer it. These stand in an account of
//! their own: BB's JWT stays as it is however many tenants there are, and a change of the list
//! touches no tenant's subscription but the ones that it is about. nats-server imports anew all that
//! ANSWERS imports, and drops the old afterwards (`updateAccountClaimsWithRefresh` in
//! `server/accounts.go`): what is sent in between to a tenant that stays comes twice.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;

use super::account::{AccountIssuer, Standing};
use super::resolver::{self, ResolverError};
use crate::causes::BoxError;
use crate::clock::{Clock, UnixSeconds};
use crate::keys::{AccountId, OperatorId};
use crate::protocol::claims::{AccountBody, Import};
use crate::protocol::jwt::{Claims, Parsed};
use crate::servers::Cluster;
use crate::store::{ProvisioningStore, TenantId};

/// How often the table is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// How often servers are asked what they hold although nothing has changed: another instance may
/// have been killed between the reading of an old list and its delivery.
const RECHECK: Duration = Duration::from_secs(30);

/// When an account is delivered once more: later than the end of any login that was under way.
const AGAIN: Duration = Duration::from_secs(3);

/// The list of tenants that answer, with their accounts, by id.
type List = Vec<(TenantId, AccountId)>;

/// What a server holds of the account.
struct HeldList {
    imports: Vec<Import>,
    issued_at: UnixSeconds,
}

impl HeldList {
    fn accounts(&self) -> impl Iterator<Item = AccountId> {
        self.imports.iter().map(|import| import.account)
    }
}

/// What an instance knows of its own work.
#[derive(Default)]
pub(crate) struct State {
    /// What the table said when servers were last written to, or found up to date.
    list: Option<List>,
    /// The accounts that were listed then.
    listed: Option<HashSet<AccountId>>,
    /// When servers last held just that.
    settled: Option<Instant>,
    /// Accounts to be delivered once more: a login that had read the row before it changed may
    /// deliver it as it was.
    again: Vec<(Instant, AccountId)>,
}

impl State {
    fn again(&mut self, accounts: impl Iterator<Item = AccountId>) {
        let at = Instant::now() + AGAIN;
        self.again.extend(accounts.map(|account| (at, account)));
    }

    /// One whose time has come.
    fn due(&mut self) -> Option<AccountId> {
        let now = Instant::now();
        self.again.extract_if(.., |(at, _)| *at <= now).next().map(|(_, account)| account)
    }
}

/// Keeps the JWT of ANSWERS. Instances do not agree among themselves: each puts right what differs
/// from the table, and has done so only once the servers, asked afterwards, hold what the table
/// then says. So the last to write has read the table after everyone else.
pub(crate) struct AnswersKeeper {
    /// The tenant table.
    pub(crate) store: Arc<dyn ProvisioningStore>,
    /// What signs accounts.
    pub(crate) issuer: Arc<AccountIssuer>,
    /// The servers.
    pub(crate) cluster: Cluster,
    /// The time.
    pub(crate) clock: Arc<dyn Clock>,
    /// The account ANSWERS.
    pub(crate) account: AccountId,
}

impl AnswersKeeper {
    /// Works on and on. May be called again, with the same state.
    pub(crate) async fn keep(&self, state: &mut State) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last_fault = None;
        loop {
            looks.tick().await;
            match self.look(state).await {
                Ok(()) => last_fault = None,
                Err(error) => {
                    let fault = error.to_string();
                    if last_fault.as_ref() != Some(&fault) {
                        tracing::error!(
                            error = %fault,
                            "requests of BB do not reach the accounts that answer as they should"
                        );
                    }
                    last_fault = Some(fault);
                }
            }
        }
    }

    /// Puts right what differs. An account that joins has to offer its answers before it is
    /// listed, and one that leaves has to take notifications the other way after; those that stay
    /// are not touched.
    async fn look(&self, state: &mut State) -> Result<(), BoxError> {
        let list = self.list().await?;
        while let Some(account) = state.due() {
            self.deliver(&account).await;
        }
        let settled = state.settled.is_some_and(|at| at.elapsed() < RECHECK);
        if settled && state.list.as_ref() == Some(&list) {
            return Ok(());
        }
        state.settled = None;
        let held = self.held().await?;
        let fitting = self.fitting(&list, &held).await?;
        let listed: HashSet<AccountId> = fitting.iter().map(|(_, account)| *account).collect();
        let before: HashSet<AccountId> = state
            .listed
            .take()
            .unwrap_or_else(|| held.iter().flat_map(HeldList::accounts).collect());
        let joined: Vec<AccountId> = listed.difference(&before).copied().collect();
        let left: Vec<AccountId> = before.difference(&listed).copied().collect();
        for account in &joined {
            self.deliver(account).await;
        }
        let wanted = self.issuer.answers(self.account, &fitting, 0).body.imports;
        if held.iter().all(|held| held.imports == wanted) {
            state.settled = Some(Instant::now());
        } else {
            self.replace(&fitting, &held).await?;
        }
        for account in &left {
            self.deliver(account).await;
        }
        state.again(joined.into_iter().chain(left));
        state.list = Some(list);
        state.listed = Some(listed);
        Ok(())
    }

    async fn list(&self) -> Result<List, BoxError> {
        let tenants = self.store.answering().await?;
        let now = self.clock.now();
        let open = tenants
            .into_iter()
            .filter(|tenant| self.issuer.standing(tenant, now) == Standing::Open);
        Ok(open.filter_map(|tenant| Some((tenant.id, tenant.account?))).collect())
    }

    /// As much of the list as servers take in one message, those first that are there already: an
    /// account that leaves has to leave even if others find no room.
    async fn fitting(&self, list: &List, held: &[HeldList]) -> Result<List, BoxError> {
        let most = self.cluster.max_payload();
        let there: HashSet<AccountId> = held.iter().flat_map(HeldList::accounts).collect();
        let mut fitting = list.clone();
        fitting.sort_by_key(|(_, account)| !there.contains(account));
        loop {
            let claims = self.issuer.answers(self.account, &fitting, self.clock.now());
            let bytes = claims.encode(&*self.issuer.operator).await?.len();
            if bytes <= most {
                break;
            }
            let room = fitting.len().saturating_mul(most) / bytes;
            fitting.truncate(room.min(fitting.len().saturating_sub(1)));
        }
        if fitting.len() < list.len() {
            tracing::error!(
                answering = fitting.len(),
                left_out = list.len() - fitting.len(),
                "more tenants have `answers` than fit into the account ANSWERS of at most {most} \
                 bytes: raise max_payload of nats-server, or give `answers` to fewer"
            );
        }
        fitting.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(fitting)
    }

    async fn replace(&self, list: &List, held: &[HeldList]) -> Result<(), BoxError> {
        let now = self.clock.now();
        let after = held.iter().map(|held| held.issued_at.saturating_add(1)).max();
        let claims = self.issuer.answers(self.account, list, after.unwrap_or(now).max(now));
        let jwt = claims.encode(&*self.issuer.operator).await?;
        let bytes = jwt.len();
        self.push(jwt).await?;
        tracing::info!(tenants = list.len(), bytes, "tenants' accounts that answer BB");
        Ok(())
    }

    /// Brings a tenant's account to the servers as its row says, also after a row that another
    /// instance had read before. A fault is not the list's: the tenant's next login repeats it. One
    /// that is over is the [`Revoker`](crate::revoke::Revoker)'s.
    async fn deliver(&self, account: &AccountId) {
        let mut delivered = None;
        loop {
            let tenant = match self.store.tenant_of_account(account).await {
                Ok(Some(tenant)) if delivered != Some(tenant.answers) => tenant,
                Ok(_) => return,
                Err(error) => {
                    tracing::warn!(%account, %error, "a tenant's account cannot be read");
                    return;
                }
            };
            if self.issuer.standing(&tenant, self.clock.now()) != Standing::Open {
                return;
            }
            delivered = Some(tenant.answers);
            let pushed = match self.issuer.issue(&tenant, *account, Standing::Open).await {
                Ok(jwt) => self.push(jwt).await,
                Err(error) => Err(error.into()),
            };
            if let Err(error) = pushed {
                tracing::warn!(tenant = %tenant.id, %error, "a tenant's account was not delivered");
                return;
            }
        }
    }

    /// What each server holds.
    async fn held(&self) -> Result<Vec<HeldList>, BoxError> {
        let subject = format!("$SYS.REQ.ACCOUNT.{}.CLAIMS.LOOKUP", self.account);
        let answers = self.cluster.gather_all(&subject, b"").await?;
        let held: Vec<HeldList> = answers.iter().filter_map(|answer| held(answer)).collect();
        if held.is_empty() {
            Err("no server says what it holds of the account ANSWERS".into())
        } else {
            Ok(held)
        }
    }

    async fn push(&self, jwt: String) -> Result<(), BoxError> {
        // A server that is silent holds what it held, and is asked again.
        match resolver::hold(&self.cluster, &jwt).await {
            Err(ResolverError::Silent(_)) => Ok(()),
            pushed => {
                pushed.map_err(|error| format!("the account ANSWERS, or one in it: {error}").into())
            }
        }
    }
}

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn read_answer(payload: &[u8]) {
    let _ = held(payload);
}

fn held(answer: &[u8]) -> Option<HeldList> {
    let parsed = Parsed::<AccountBody>::parse(std::str::from_utf8(answer).ok()?).ok()?;
    let (claims, _): (Claims<AccountBody>, OperatorId) = parsed.verify().ok()?;
    Some(HeldList { imports: claims.body.imports, issued_at: claims.issued_at })
}
