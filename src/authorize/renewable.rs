//! A grant that another may follow before it ends.

use std::sync::Arc;
use std::time::Duration;

use super::{Authorizer, unplaced};
use crate::authn::{Denied, DenyReason, Proof, Rejected};
use crate::keys::ServerId;
use crate::policy::ConnectionContext;
use crate::protocol::claims::ClientInfo;
use crate::store::LoginRecord;

/// What is known of a connection whose grant ends for no other reason than that each grant does.
#[derive(Debug)]
pub(crate) struct Renewable {
    /// The server.
    pub(crate) server: ServerId,
    /// The connection id on that server.
    pub(crate) cid: u64,
    /// The account that it is in: its name in config mode, its public key in operator mode.
    pub(crate) account: String,
    /// Whose it is.
    pub(crate) login: Arc<LoginRecord>,
    /// How long its grant lives.
    pub(crate) life: Duration,
    /// What a policy may look at.
    pub(super) client: ClientInfo,
    pub(super) proof: Arc<dyn Proof>,
}

impl Renewable {
    /// As much of the client as is kept: how it is connected, and from where.
    pub(crate) fn client(&self) -> &ClientInfo {
        &self.client
    }

    /// The client's address.
    pub(crate) fn host(&self) -> &str {
        &self.client.host
    }
}

#[cfg(test)]
impl Renewable {
    /// Somebody whose login proves nothing.
    pub(crate) fn fake(server: ServerId, cid: u64, life: Duration) -> Arc<Self> {
        use crate::authn::Principal;
        use crate::store::{TenantRecord, UserKind, UserRecord};

        #[derive(Debug)]
        struct Nobody;

        #[async_trait::async_trait]
        impl Proof for Nobody {
            async fn again(&self) -> Result<Principal, Rejected> {
                Err(DenyReason::UnknownUser.into())
            }
        }

        let tenant = TenantRecord::new(crate::store::TenantId::none());
        let user = UserRecord::new("nobody", UserKind::Service);
        Arc::new(Self {
            server,
            cid,
            account: "USERS".to_owned(),
            login: Arc::new(LoginRecord { tenant, user }),
            life,
            client: ClientInfo::default(),
            proof: Arc::new(Nobody),
        })
    }
}

/// As much of a client as tells whether it would be let in again.
pub(super) fn in_short(client: &ClientInfo) -> ClientInfo {
    ClientInfo {
        host: client.host.clone(),
        kind: client.kind.clone(),
        connection_type: client.connection_type.clone(),
        ..ClientInfo::default()
    }
}

impl Authorizer {
    /// Whether this client would be let in again right now, with another grant of this kind, if it came
    /// with the credential that it came with before.
    pub(crate) async fn would_renew(&self, it: &Renewable) -> Result<(), Rejected> {
        let principal = it.proof.again().await?;
        let login = principal.login();
        let is_same =
            login.user.name == it.login.user.name && login.tenant.id == it.login.tenant.id;
        if !is_same {
            return Err(Denied::from(DenyReason::UnknownUser).of(login).into());
        }
        let site = self.placement.site(&login.tenant).ok_or_else(|| unplaced(login))?;
        let (client, now) = (&it.client, self.clock.now());
        let context = ConnectionContext { isolation: site.isolation, client, now };
        self.decider.permit(&principal, &context)?;
        Ok(())
    }
}
