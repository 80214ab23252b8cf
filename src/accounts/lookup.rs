//! Answers a server that asks for an account's JWT, because it missed the push: it was down, cut
//! off, or is new.

use std::sync::Arc;

use async_nats::{Client, Message, SubscribeError, Subscriber};
use futures_util::StreamExt as _;

use super::account::AccountIssuer;
use crate::clock::Clock;
use crate::keys::AccountId;
use crate::store::ProvisioningStore;

/// Where servers ask; the fourth token is the account.
const SUBJECT: &str = "$SYS.REQ.ACCOUNT.*.CLAIMS.LOOKUP";

/// Look-ups answered at once, so that a server which asks for all of them is not refused.
const CONCURRENT: usize = 16;

/// Answers look-ups on a connection of the system account. Accounts that belong to no tenant get no
/// answer: an empty one would end the look-up for the peers that know them.
pub(crate) struct Lookups {
    store: Arc<dyn ProvisioningStore>,
    issuer: Arc<AccountIssuer>,
    clock: Arc<dyn Clock>,
    system: Client,
    requests: Subscriber,
}

impl Lookups {
    /// Subscribes.
    pub(crate) async fn subscribe(
        store: Arc<dyn ProvisioningStore>,
        issuer: Arc<AccountIssuer>,
        clock: Arc<dyn Clock>,
        system: Client,
    ) -> Result<Self, SubscribeError> {
        let requests = system.queue_subscribe(SUBJECT, "nats-callout".to_owned()).await?;
        Ok(Self { store, issuer, clock, system, requests })
    }

    /// Answers for as long as there is the connection. May be called again.
    pub(crate) async fn answer(&mut self) {
        let Self { store, issuer, clock, system, requests } = self;
        let answer = |request| answer_one(&**store, issuer, &**clock, system, request);
        requests.for_each_concurrent(CONCURRENT, answer).await;
    }
}

async fn answer_one(
    store: &dyn ProvisioningStore,
    issuer: &AccountIssuer,
    clock: &dyn Clock,
    system: &Client,
    request: Message,
) {
    let Some(reply) = request.reply else { return };
    let asked = request.subject.split('.').nth(3);
    let Some(account) = asked.and_then(|token| token.parse::<AccountId>().ok()) else { return };
    let tenant = match store.tenant_of_account(&account).await {
        Ok(Some(tenant)) => tenant,
        Ok(None) => return,
        Err(error) => {
            tracing::error!(%account, %error, "an account look-up cannot be answered");
            return;
        }
    };
    // A server that does not know the account has nobody in it whom a limit could close.
    let standing = issuer.standing(&tenant, clock.now());
    match issuer.issue(&tenant, account, standing).await {
        Ok(jwt) => {
            tracing::debug!(tenant = %tenant.id, %account, "answering an account look-up");
            // If the connection is gone, the server asks again.
            let _ = system.publish(reply, jwt.into()).await;
        }
        Err(error) => tracing::error!(%account, %error, "an account JWT cannot be signed"),
    }
}
