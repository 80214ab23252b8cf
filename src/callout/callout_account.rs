//! In which account a service is.

use std::time::Duration;

use async_nats::Client;
use serde::Deserialize;

use crate::service::{CannotServe, ServiceError};

/// Where a server says who one is (`userInfoReq` in nats-server's server/events.go).
const USER_INFO: &str = "$SYS.REQ.USER.INFO";

/// How long it may take; a login that may not ask gets no answer.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
struct Info {
    data: User,
}

#[derive(Deserialize)]
struct User {
    account: String,
}

/// Refuses a connection to another account than `expected`, as far as its server says: requests would
/// never come there, and nobody would be let in.
pub(super) async fn check(client: &Client, expected: &str) -> Result<(), ServiceError> {
    let asking = client.request(USER_INFO, "".into());
    let Ok(Ok(answer)) = tokio::time::timeout(PATIENCE, asking).await else { return Ok(()) };
    match serde_json::from_slice::<Info>(&answer.payload) {
        Ok(Info { data: User { account } }) if account != expected => {
            Err(CannotServe::Account { expected: expected.to_owned(), found: account }.into())
        }
        _ => Ok(()),
    }
}
