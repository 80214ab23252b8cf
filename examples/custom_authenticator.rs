//! An authenticator of your own: API keys out of a table in memory, with everything else (verified
//! requests, policies, minting, replies) as it comes.
//!
//! Needs a nats-server in config mode; `nats-callout init --mode config --dir demo` writes its
//! configuration and keys. Then `cargo run --example custom_authenticator -- demo`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use nats_callout::authn::{
    Attempt, Authentication, Authenticator, AuthnError, DenyReason, Principal,
};
use nats_callout::authorize::{Authorizer, Responder};
use nats_callout::clock::{Clock as _, SystemClock};
use nats_callout::keys::{KeyKind, SigningKey, XKey};
use nats_callout::mint::Mint;
use nats_callout::placement::{ConfigTargets, Placement};
use nats_callout::policy::rules::PolicySet;
use nats_callout::protocol::credentials::Credentials;
use nats_callout::protocol::envelope::Envelope;
use nats_callout::service::AuthCallout;
use nats_callout::store::{LoginRecord, TenantRecord, UserKind, UserRecord};
use tokio_util::sync::CancellationToken;

/// Takes tokens that begin with `key-`.
#[derive(Debug)]
struct ApiKeys(HashMap<String, Arc<LoginRecord>>);

impl Authenticator for ApiKeys {
    fn authenticate<'a>(
        &'a self,
        attempt: Attempt<'a>,
    ) -> BoxFuture<'a, Result<Authentication, AuthnError>> {
        let answer = match attempt.credentials {
            Credentials::Token(token) if token.expose().starts_with("key-") => {
                match self.0.get(token.expose()) {
                    None => Authentication::Refused(DenyReason::UnknownToken.into()),
                    Some(record) => {
                        Principal::new(Arc::clone(record), "api-key", None, SystemClock.now())
                            .map_or_else(Authentication::Refused, Authentication::Accepted)
                    }
                }
            }
            _ => Authentication::NotMine,
        };
        Box::pin(std::future::ready(Ok(answer)))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args().nth(1).ok_or("usage: custom_authenticator DIR")?;
    let key = |name: &str| std::fs::read_to_string(Path::new(&dir).join("keys").join(name));

    let billing = LoginRecord {
        tenant: TenantRecord::new("acme".parse()?),
        user: UserRecord {
            publish: vec!["invoices.*".to_owned()],
            subscribe: vec!["payments.*".to_owned()],
            ..UserRecord::new("billing", UserKind::Service)
        },
    };
    let keys = ApiKeys(HashMap::from([("key-4711".to_owned(), Arc::new(billing))]));

    let issuer = Arc::new(SigningKey::from_seed(&key("issuer.nk")?, KeyKind::Account)?);
    let authorizer = Authorizer::new(
        Envelope::new(vec![XKey::from_seed(&key("xkey.nk")?)?]),
        Placement::Config(ConfigTargets::new(
            "AUTH",
            vec!["USERS".to_owned()],
            Default::default(),
        )?),
        Arc::new(PolicySet::shipped()?),
        Mint::new(issuer.clone(), Duration::from_secs(900)),
        Responder { signer: issuer, issuer_account: None },
    )
    .with_authenticator(Arc::new(keys));

    let client = async_nats::ConnectOptions::with_nkey(key("auth.nk")?.trim().to_owned())
        .connect("nats://127.0.0.1:4222")
        .await?;
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.cancel();
        }
    });
    println!("connect with the token key-4711; Ctrl-C stops");
    AuthCallout::new(Arc::new(authorizer)).run(client, shutdown).await?;
    Ok(())
}
