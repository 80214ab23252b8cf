//! What a tenant's account JWT says: its limits, who may sign its users, and the mapping of
//! `Events` and `Notifications` to and from `user.<id>` of the BB account.
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
use crate::store::{Limits, TenantId, TenantRecord};

/// The one name under which notifications arrive in a tenant's own account; a server silently
/// drops a second import of the same stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Notifications {
    /// `Notifications`
    #[default]
    Short,
    /// `user.<id>.Notifications`
    Full,
}

/// Why no account JWT was made.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The account is the system's own.
    #[error("{0} is one of SYS, AUTH, BB and USERS; correct the table tenant_accounts")]
    Reserved(AccountId),
    /// Signing failed.
    #[error(transparent)]
    Jwt(#[from] JwtError),
}

/// Signs tenants' account JWTs.
#[derive(Debug)]
pub struct AccountIssuer {
    /// An operator's signing key.
    pub operator: Arc<dyn Signer>,
    /// The keys that may sign users, of both generations.
    pub user_signing: Vec<AccountId>,
    /// The BB account.
    pub bb: AccountId,
    /// The accounts of the system (SYS, AUTH, BB, USERS), of which no JWT is ever made here,
    /// whatever the tenant table says.
    pub reserved: Vec<AccountId>,
    /// How notifications are named.
    pub notifications: Notifications,
}

impl AccountIssuer {
    /// The claims of a tenant's account. The same row gives the same claims, so that a server
    /// that has them already has nothing to do.
    #[must_use]
    pub fn claims(&self, tenant: &TenantRecord, account: AccountId) -> Claims<AccountBody> {
        let full = |subject: &str| format!("user.{}.{subject}", tenant.id);
        let import = |subject: &str, local: Option<&str>, kind| Import {
            name: None,
            subject: full(subject),
            account: self.bb,
            local_subject: local.map(str::to_owned),
            kind,
        };
        let notifications = match self.notifications {
            Notifications::Short => Some("Notifications"),
            Notifications::Full => None,
        };
        let mut imports = vec![
            import("Events", Some("Events"), ExportType::Service),
            import("Events", None, ExportType::Service),
        ];
        let mut exports = Vec::new();
        // Notifications come one way or the other: with both, each would come twice.
        if tenant.answers {
            exports.push(service(self.notified(&tenant.id)));
        } else {
            imports.push(import("Notifications", notifications, ExportType::Stream));
        }
        Claims {
            audience: None,
            expires: None,
            issued_at: tenant.updated_at,
            name: Some(tenant.id.to_string()),
            not_before: None,
            subject: account.to_string(),
            body: AccountBody {
                imports,
                exports,
                limits: limits(&tenant.limits),
                signing_keys: self.user_signing.clone(),
                ..AccountBody::default()
            },
        }
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
    #[must_use]
    pub fn answers(
        &self,
        account: AccountId,
        tenants: &[(TenantId, AccountId)],
        issued_at: UnixSeconds,
    ) -> Claims<AccountBody> {
        let import = |(tenant, account): &(TenantId, AccountId)| {
            let (subject, full) = (self.notified(tenant), format!("user.{tenant}.Notifications"));
            Import {
                name: None,
                local_subject: (subject != full).then_some(full),
                subject,
                account: *account,
                kind: ExportType::Service,
            }
        };
        Claims {
            audience: None,
            expires: None,
            issued_at,
            name: Some("ANSWERS".to_owned()),
            not_before: None,
            subject: account.to_string(),
            body: AccountBody {
                imports: tenants.iter().map(import).collect(),
                exports: vec![service(NOTIFICATIONS.to_owned())],
                ..AccountBody::default()
            },
        }
    }

    /// The signed JWT of a tenant's account.
    pub async fn issue(
        &self,
        tenant: &TenantRecord,
        account: AccountId,
    ) -> Result<String, IssueError> {
        if self.reserved.contains(&account) {
            return Err(IssueError::Reserved(account));
        }
        Ok(self.claims(tenant, account).encode(&*self.operator).await?)
    }

    /// The signed order to forget these accounts, which only an operator's key may give.
    pub async fn deletion(
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

fn service(subject: String) -> Export {
    Export { name: None, subject, kind: ExportType::Service, token_req: false, response_type: None }
}

fn limits(limits: &Limits) -> AccountLimits {
    let bytes = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let count = |value: Option<u64>| value.map_or(NO_LIMIT, bytes);
    let connections = count(limits.connections);
    // Servers count clients and leaf nodes apart.
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
