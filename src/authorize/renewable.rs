//! A grant that another may follow before it ends.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Authorizer, unplaced};
use crate::authn::{Denied, DenyReason, Proof, Rejected};
use crate::keys::ServerId;
use crate::mint::{self, JITTER};
use crate::policy::ConnectionContext;
use crate::protocol::claims::ClientInfo;
use crate::store::TenantId;

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
    pub(crate) user: String,
    /// The user's tenant, where that is known.
    pub(crate) tenant: Option<TenantId>,
    /// When its grant began.
    pub(crate) begun: Instant,
    /// How long its grant lives, at least and at most.
    pub(crate) life: RangeInclusive<Duration>,
    /// What a policy may look at.
    pub(super) client: ClientInfo,
    pub(super) proof: Arc<dyn Proof>,
}

impl Renewable {
    /// A client that is connected, whoever let it in, and by what.
    pub(crate) fn of_before(
        server: ServerId,
        account: String,
        user: String,
        client: ClientInfo,
        begun: Instant,
        proof: Arc<dyn Proof>,
    ) -> Self {
        let (cid, life) = (client.id, Duration::ZERO..=Duration::ZERO);
        Self { server, cid, account, user, tenant: None, begun, life, client, proof }
    }

    /// The same, with a grant such as this, whose life a jitter has shortened.
    pub(crate) fn granted(self, again: &Again) -> Self {
        let tenant = Some(again.tenant.clone());
        let life = again.life.mul_f64(1.0 - JITTER)..=again.life;
        Self { tenant, life, ..self }
    }

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
    pub(crate) fn fake(
        server: ServerId,
        cid: u64,
        begun: Instant,
        life: RangeInclusive<Duration>,
    ) -> Arc<Self> {
        use crate::authn::Principal;

        #[derive(Debug)]
        struct Nobody;

        #[async_trait::async_trait]
        impl Proof for Nobody {
            async fn again(&self) -> Result<Principal, Rejected> {
                Err(DenyReason::UnknownUser.into())
            }
        }

        Arc::new(Self {
            server,
            cid,
            account: "USERS".to_owned(),
            user: "nobody".to_owned(),
            tenant: None,
            begun,
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

/// The grant that a client would get now.
#[derive(Debug)]
pub(crate) struct Again {
    /// Its tenant.
    pub(crate) tenant: TenantId,
    /// How long it would live, without the jitter, and without what its user or its policy ends with.
    pub(crate) life: Duration,
    /// Whether one of these would end it before.
    pub(crate) is_bounded: bool,
}

impl Authorizer {
    /// Whether this client would be let in again right now, with another grant of this kind, if it came
    /// with the credential that it came with before. None where a policy leaves connections alone.
    pub(crate) async fn would_renew(&self, it: &Renewable) -> Result<Option<Again>, Rejected> {
        let principal = it.proof.again().await?;
        let login = principal.login();
        let (user, tenant) = (&login.user.name, &login.tenant.id);
        if *user != it.user || it.tenant.as_ref().is_some_and(|before| before != tenant) {
            return Err(Denied::from(DenyReason::UnknownUser).of(login).into());
        }
        let site = self.placement.site(&login.tenant).ok_or_else(|| unplaced(login))?;
        if site.account(&login.tenant).is_none_or(|account| account != it.account) {
            return Err(Denied::from(DenyReason::Placement).of(login).into());
        }
        let (client, now) = (&it.client, self.clock.now());
        let context = ConnectionContext { isolation: site.isolation, client, now };
        let grant = self.decider.permit(&principal, &context)?;
        if grant.no_renewal {
            return Ok(None);
        }
        let life = self.mint.life(&grant);
        let (_, is_bounded) = mint::end(life, principal.expires_at(), &grant, now);
        Ok(Some(Again { tenant: tenant.clone(), life, is_bounded }))
    }
}
