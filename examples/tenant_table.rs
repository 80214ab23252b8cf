//! An application that lets in the users of a tenant table, by the shipped policies.
//!
//! As with `own_users`; then `cargo run --example tenant_table -- demo`, and add tenants with
//! `nats-callout tenant add` or plain SQL.

use std::path::Path;
use std::sync::Arc;

use nats_callout::async_nats::{Client, ConnectOptions};
use nats_callout::callout::{BoxError, Callout, Running};
use nats_callout::keys::{KeyKind, SigningKey, XKey};
use nats_callout::store::{CredentialStore, StoreOptions, open};

pub(crate) async fn start(
    issuer: &str,
    xkey: &str,
    store: Arc<dyn CredentialStore>,
    client: Client,
) -> Result<Running, BoxError> {
    let issuer = SigningKey::from_seed(issuer, KeyKind::Account)?;
    let callout = Callout::config_mode(issuer).xkey(XKey::from_seed(xkey)?).account("USERS");
    Ok(callout.table(store)?.start(client).await?)
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let dir = std::env::args().nth(1).ok_or("usage: tenant_table DIR")?;
    let key = |name: &str| std::fs::read_to_string(Path::new(&dir).join("keys").join(name));
    let table = format!("sqlite://{dir}/nats-callout.db");
    let store = open(&table, &StoreOptions::default()).await?;
    let client = ConnectOptions::with_nkey(key("auth.nk")?.trim().to_owned())
        .connect("nats://127.0.0.1:4222")
        .await?;
    let running = start(&key("issuer.nk")?, &key("xkey.nk")?, store, client).await?;
    println!("Ctrl-C stops");
    tokio::signal::ctrl_c().await?;
    running.stop().await;
    Ok(())
}
