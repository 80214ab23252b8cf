//! Deletes the streams of a tenant's account before it is removed, as a user of that account that is
//! made for this alone. Afterwards nobody could: a server that has forgotten an account
//! keeps its files, and knows nobody who may delete them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::{Client, ConnectError, RequestError};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Admin;
use crate::accounts::resolver;
use crate::causes::BoxError;
use crate::config::OperatorMode;
use crate::deployment::creds::user_claims;
use crate::deployment::{account_issuer, with_tls};
use crate::keyfile;
use crate::keys::{AccountId, KeyKind, SigningKey};
use crate::protocol::claims::{AccountLimits, NO_LIMIT, Permissions, UserBody};
use crate::protocol::jwt::Claims;
use crate::servers::Cluster;
use crate::store::TenantRecord;

/// How long the purging user lives.
const LIFE_SECONDS: i64 = 300;

/// How long JetStream has to answer, and how long all of it is tried.
const ANSWER: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(20);

/// After how long it is tried again to delete what is left.
const AGAIN: Duration = Duration::from_millis(200);

/// Why streams of a tenant are left, where the cause alone does not say it.
#[derive(Debug, thiserror::Error)]
enum PurgeError {
    #[error("cannot log in to the tenant's account to delete its streams")]
    Login(#[source] ConnectError),
    #[error("JetStream does not answer to {what}")]
    Unanswered { what: String, source: RequestError },
}

/// Deletes all streams of the tenant, whose other connections are closed, and says how many.
pub(super) async fn purge(
    admin: &Admin,
    mode: &OperatorMode,
    cluster: &Cluster,
    tenant: &TenantRecord,
    account: AccountId,
) -> Result<usize, BoxError> {
    // Whatever its limits were: this one user has to get in, to data that may be there although
    // nothing more may be stored. A tenant without a limit reserves nothing of a server's room.
    let issuer = account_issuer(&admin.config, mode)?;
    let standing = issuer.standing(tenant, admin.now());
    let mut claims = issuer.claims(tenant, account, standing);
    claims.body.limits = AccountLimits {
        mem_storage: NO_LIMIT,
        disk_storage: NO_LIMIT,
        streams: NO_LIMIT,
        consumer: NO_LIMIT,
        leaf: 0,
        ..AccountLimits::default()
    };
    let token = claims.encode(&*issuer.operator).await?;
    let until = Instant::now() + PATIENCE;
    let mut found = BTreeSet::new();
    loop {
        resolver::hold(cluster, &token).await?;
        match delete_all(admin, mode, account, &mut found).await {
            // To the running instances the tenant is over: they may bring the account back to that, which
            // may have no JetStream.
            Err(_) if Instant::now() < until => tokio::time::sleep(AGAIN).await,
            result => return result.map(|()| found.len()),
        }
    }
}

/// Deletes what streams are left, and adds their names to those that were found before.
async fn delete_all(
    admin: &Admin,
    mode: &OperatorMode,
    account: AccountId,
    found: &mut BTreeSet<String>,
) -> Result<(), BoxError> {
    let client = login(admin, mode, account).await?;
    loop {
        let names = names(&client).await?;
        if names.is_empty() {
            break;
        }
        found.extend(names.iter().cloned());
        for name in names {
            let answer = api(&client, &format!("STREAM.DELETE.{name}"), json!({})).await;
            // In a cluster nobody answers for a stream that had stopped, as with its account's
            // limits at zero, though it is deleted.
            if let Err(error) = answer
                && self::names(&client).await?.contains(&name)
            {
                return Err(error);
            }
        }
    }
    client.drain().await?;
    Ok(())
}

/// The names of streams, a page of them.
async fn names(client: &Client) -> Result<Vec<String>, BoxError> {
    let names: Names = serde_json::from_value(api(client, "STREAM.NAMES", json!({})).await?)?;
    Ok(names.streams.unwrap_or_default())
}

#[derive(Deserialize)]
struct Names {
    #[serde(default)]
    streams: Option<Vec<String>>,
}

async fn login(admin: &Admin, mode: &OperatorMode, account: AccountId) -> Result<Client, BoxError> {
    let signing = keyfile::generations::<AccountId>(&mode.user_signing, "[operator] user_signing")?;
    let (user, _seed) = SigningKey::generate(KeyKind::User)?;
    let body = UserBody { issuer_account: Some(account), ..UserBody::new(Permissions::default()) };
    let now = admin.now();
    let expires = Some(now.saturating_add(LIFE_SECONDS));
    let token = Claims { expires, ..user_claims("nats-callout purge", &user, body, now) }
        .encode_now(&signing.signing)?;
    let user = Arc::new(user);
    let options = async_nats::ConnectOptions::with_jwt(token, move |nonce| {
        let user = Arc::clone(&user);
        async move { Ok(user.sign_now(&nonce).to_vec()) }
    })
    .name("nats-callout purge")
    .connection_timeout(Duration::from_secs(3))
    .request_timeout(Some(ANSWER));
    let nats = &admin.config.nats;
    Ok(with_tls(nats, options).connect(nats.urls.as_slice()).await.map_err(PurgeError::Login)?)
}

/// A request to the JetStream API.
async fn api(client: &Client, what: &str, body: Value) -> Result<Value, BoxError> {
    let asked = client.request(format!("$JS.API.{what}"), body.to_string().into()).await;
    let unanswered = |source| PurgeError::Unanswered { what: what.to_owned(), source };
    let answer = asked.map_err(unanswered)?;
    let answer: Value = serde_json::from_slice(&answer.payload)?;
    match answer.get("error") {
        Some(error) => Err(format!("JetStream refused {what}: {}", error["description"]).into()),
        None => Ok(answer),
    }
}
