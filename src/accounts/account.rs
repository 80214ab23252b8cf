//! What a tenant's account JWT says: its limits, who may sign its users, and the mapping of
//! `Events` and `Notifications` to and from `user.<id>` of the BB account. Of a tenant that is over
//! (suspended, expired, or no longer in an account of its own), its JetStream limits are left.
//!
//! The account's private key exists nowhere: users are signed by a signing key that all tenants'
//! accounts list, and which can be rotated.

use std::sync::Arc;

use crate::clock::UnixSeconds;
use crate::keys::{AccountId, Signer};
use crate::placement::NOTIFICATIONS;
use crate::protocol::claims::{
    AccountBody, AccountDeletion, AccountLimits, Export, ExportType, Import, NO_LIMIT,
};
use crate::protocol::jwt::{Claims, JwtError};
use crate::store::{Isolation, Limits, TenantId, TenantRecord};

/// The one name under which notifications arrive in a tenant's own account; a server silently
/// drops a second import of the same stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Notifications {
    /// `Notifications`
    #[default]
    Short,
    /// `user.<id>.Notifications`
    Full,
}

/// What a tenant's account is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// All that its row says.
    Open,
    /// The tenant is over since then: nothing in the account reaches another one. How many may be
    /// connected is not limited, since a server closes whom it finds above a limit with an error,
    /// after which some clients never come back.
    Closing(UnixSeconds),
    /// The same, and nobody may be connected. JetStream's limits stay, or its data would go.
    Closed(UnixSeconds),
}

impl Standing {
    /// The same for as long as those who are connected have yet to be closed.
    #[must_use]
    pub(crate) fn before_closing(self) -> Self {
        match self {
            Self::Closed(since) => Self::Closing(since),
            other => other,
        }
    }
}

/// Why no account JWT was made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IssueError {
    /// The account is the system's own.
    #[error(
        "{0} is one of SYS, AUTH, BB, ANSWERS, EVENTS, INTAKE and USERS; correct the table tenant_accounts"
    )]
    Reserved(AccountId),
    /// Signing failed.
    #[error(transparent)]
    Jwt(#[from] JwtError),
}

/// Signs tenants' account JWTs.
#[derive(Debug)]
pub(crate) struct AccountIssuer {
    /// An operator's signing key.
    pub(crate) operator: Arc<dyn Signer>,
    /// The keys that may sign users, of both generations.
    pub(crate) user_signing: Vec<AccountId>,
    /// The BB account.
    pub(crate) bb: AccountId,
    /// The account INTAKE; without one, as in older deployments, BB takes events itself.
    pub(crate) intake: Option<AccountId>,
    /// The accounts of the system (SYS, AUTH, BB, ANSWERS, EVENTS, INTAKE, USERS), of which no JWT is ever
    /// made from a tenant's row, whatever the tenant table says.
    pub(crate) reserved: Vec<AccountId>,
    /// How notifications are named.
    pub(crate) notifications: Notifications,
    /// The isolation of tenants whose row names none.
    pub(crate) default_isolation: Isolation,
}

impl AccountIssuer {
    /// What a tenant's own account is good for at this time.
    pub(crate) fn standing(&self, tenant: &TenantRecord, now: UnixSeconds) -> Standing {
        let isolation = tenant.isolation.unwrap_or(self.default_isolation);
        if isolation == Isolation::Account && !tenant.is_over(now) {
            return Standing::Open;
        }
        // An end to come is nobody's.
        let ended = tenant.expires_at.filter(|end| *end <= now);
        Standing::Closed(ended.unwrap_or_default().max(tenant.updated_at))
    }

    /// The claims of a tenant's account. The same row and standing give the same claims, so that a
    /// server that has them already has nothing to do. Each step is a second younger than the one
    /// before: among themselves, servers keep the youngest.
    pub(crate) fn claims(
        &self,
        tenant: &TenantRecord,
        account: AccountId,
        standing: Standing,
    ) -> Claims<AccountBody> {
        let (issued_at, body) = match standing {
            Standing::Open => (tenant.updated_at, self.open(tenant)),
            Standing::Closing(since) => (since, over(&tenant.limits, NO_LIMIT)),
            Standing::Closed(since) => (since.saturating_add(1), over(&tenant.limits, 0)),
        };
        // Those of a deployment with an intake are younger than the same tenant's were before.
        let issued_at = issued_at.saturating_add(i64::from(self.intake.is_some()));
        let body = AccountBody { signing_keys: self.user_signing.clone(), ..body };
        Claims::new(account, tenant.id.as_str(), issued_at, body)
    }

    fn open(&self, tenant: &TenantRecord) -> AccountBody {
        let full = |subject: &str| format!("user.{}.{subject}", tenant.id);
        let (taker, events) = match self.intake {
            Some(intake) => (intake, format!("own.{}.Events", tenant.id)),
            None => (self.bb, full("Events")),
        };
        let take = |local| Import::new(ExportType::Service, taker, events.clone(), local);
        let mut imports = vec![take("Events".to_owned()), take(full("Events"))];
        let mut exports = Vec::new();
        // Notifications come one way or the other: with both, each would come twice.
        if tenant.answers {
            exports.push(Export::new(self.notified(&tenant.id), ExportType::Service));
        } else {
            let (subject, local) = (full("Notifications"), self.notified(&tenant.id));
            imports.push(Import::new(ExportType::Stream, self.bb, subject, local));
        }
        AccountBody { imports, exports, limits: limits(&tenant.limits), ..AccountBody::default() }
    }

    /// The subject of notifications in a tenant's own account.
    fn notified(&self, tenant: &TenantId) -> String {
        match self.notifications {
            Notifications::Short => "Notifications".to_owned(),
            Notifications::Full => format!("user.{tenant}.Notifications"),
        }
    }

    /// The claims of the account ANSWERS: what it offers to USERS, and the tenants' accounts that
    /// it passes requests to.
    pub(crate) fn answers(
        &self,
        account: AccountId,
        tenants: &[(TenantId, AccountId)],
        issued_at: UnixSeconds,
    ) -> Claims<AccountBody> {
        let import = |(tenant, account): &(TenantId, AccountId)| {
            let (subject, full) = (self.notified(tenant), format!("user.{tenant}.Notifications"));
            Import::new(ExportType::Service, *account, subject, full)
        };
        let body = AccountBody {
            imports: tenants.iter().map(import).collect(),
            exports: vec![Export::new(NOTIFICATIONS.to_owned(), ExportType::Service)],
            ..AccountBody::default()
        };
        Claims::new(account, "ANSWERS", issued_at, body)
    }

    /// The signed JWT of a tenant's account.
    pub(crate) async fn issue(
        &self,
        tenant: &TenantRecord,
        account: AccountId,
        standing: Standing,
    ) -> Result<String, IssueError> {
        if self.reserved.contains(&account) {
            return Err(IssueError::Reserved(account));
        }
        Ok(self.claims(tenant, account, standing).encode(&*self.operator).await?)
    }

    /// The signed order to forget these accounts, which only an operator's key may give.
    pub(crate) async fn deletion(
        &self,
        accounts: &[AccountId],
        now: UnixSeconds,
    ) -> Result<String, IssueError> {
        if let Some(account) = accounts.iter().find(|account| self.reserved.contains(account)) {
            return Err(IssueError::Reserved(*account));
        }
        let claims = Claims {
            issued_at: now,
            subject: self.operator.public_key().to_owned(),
            body: AccountDeletion { accounts: accounts.to_vec() },
            ..Claims::default()
        };
        Ok(claims.encode(&*self.operator).await?)
    }
}

fn over(of: &Limits, conn: i64) -> AccountBody {
    AccountBody { limits: AccountLimits { conn, leaf: 0, ..limits(of) }, ..AccountBody::default() }
}

fn limits(limits: &Limits) -> AccountLimits {
    let bytes = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let count = |value: Option<u64>| value.map_or(NO_LIMIT, bytes);
    let connections = count(limits.connections);
    // Servers refuse a client for the leaf nodes that are there, and leaf nodes for these alone.
    let mut claims =
        AccountLimits { conn: connections, leaf: connections, ..AccountLimits::default() };
    if limits.jetstream() {
        claims.mem_storage = bytes(limits.memory);
        claims.disk_storage = bytes(limits.storage);
        claims.streams = count(limits.streams);
        claims.consumer = count(limits.consumers);
    }
    claims
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{KeyKind, SigningKey, random_account_id};
    use crate::store::Status;

    const NOW: UnixSeconds = 1_000;

    fn issuer(default_isolation: Isolation) -> AccountIssuer {
        let (operator, _seed) = SigningKey::generate(KeyKind::Operator).unwrap();
        AccountIssuer {
            operator: Arc::new(operator),
            user_signing: vec![random_account_id().unwrap()],
            bb: random_account_id().unwrap(),
            intake: None,
            reserved: Vec::new(),
            notifications: Notifications::Short,
            default_isolation,
        }
    }

    fn tenant() -> TenantRecord {
        let limits = Limits { storage: 5, connections: Some(7), ..Limits::default() };
        let id = "42".parse().unwrap();
        TenantRecord { limits, updated_at: 900, ..TenantRecord::new(id) }
    }

    #[test]
    fn a_tenant_is_over_by_its_status_its_end_or_its_place() {
        let issuer = issuer(Isolation::Account);
        let standing = |tenant: &TenantRecord| issuer.standing(tenant, NOW);
        let with = |change: fn(&mut TenantRecord)| {
            let mut tenant = tenant();
            change(&mut tenant);
            standing(&tenant)
        };
        let (open, closed) = (Standing::Open, Standing::Closed(900));
        assert_eq!(with(|_| {}), open);
        assert_eq!(with(|it| it.expires_at = Some(NOW + 1)), open);
        assert_eq!(with(|it| it.isolation = Some(Isolation::Account)), open);
        assert_eq!(with(|it| it.status = Status::Suspended), closed);
        assert_eq!(with(|it| it.isolation = Some(Isolation::Shared)), closed);
        assert_eq!(with(|it| it.expires_at = Some(0)), closed, "an end that is long past");
        assert_eq!(with(|it| it.expires_at = Some(NOW)), Standing::Closed(NOW));
        let both = |it: &mut TenantRecord| {
            (it.status, it.expires_at) = (Status::Suspended, Some(NOW + 500));
        };
        assert_eq!(with(both), closed, "an end to come is nobody's");
        let shared = self::issuer(Isolation::Shared);
        assert_eq!(shared.standing(&tenant(), NOW), closed, "by the configuration");
    }

    #[test]
    fn what_is_over_keeps_its_data_and_nothing_else() {
        let (issuer, account) = (issuer(Isolation::Account), random_account_id().unwrap());
        let mut tenant = tenant();
        tenant.answers = true;
        let claims = |standing| issuer.claims(&tenant, account, standing);
        let open = claims(Standing::Open);
        assert_eq!((open.body.imports.len(), open.body.exports.len()), (2, 1));
        assert_eq!((open.issued_at, open.body.limits.conn), (900, 7));
        let closing = claims(Standing::Closed(NOW).before_closing());
        let closed = claims(Standing::Closed(NOW));
        assert_eq!((closing.issued_at, closing.body.limits.conn), (NOW, NO_LIMIT));
        assert_eq!((closed.issued_at, closed.body.limits.conn), (NOW + 1, 0));
        for over in [closing, closed] {
            assert!(over.body.imports.is_empty() && over.body.exports.is_empty());
            assert_eq!((over.body.limits.leaf, over.body.limits.disk_storage), (0, 5));
            assert_eq!(over.body.signing_keys, open.body.signing_keys);
        }
    }
}
