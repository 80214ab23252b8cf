//! An application with users of its own: it says who a client is and what it may do, and everything
//! else (requests that are verified, accounts, JWTs, replies) comes with the library.
//!
//! `nats-callout init --mode config --dir demo` writes what a nats-server and this need; start
//! `nats-server -c demo/nats-server.conf`, then `cargo run --example own_users -- demo`.

use std::path::Path;

use nats_callout::async_nats::{Client, ConnectOptions};
use nats_callout::callout::{Answer, BoxError, Callout, Permit, Request, Running};
use nats_callout::keys::{KeyKind, SigningKey, XKey};

pub(crate) async fn start(issuer: &str, xkey: &str, client: Client) -> Result<Running, BoxError> {
    let issuer = SigningKey::from_seed(issuer, KeyKind::Account)?;
    let callout = Callout::config_mode(issuer).xkey(XKey::from_seed(xkey)?).account("USERS");
    let callout = callout.authorize(async |request: Request| {
        Ok(match request.token() {
            Some(token) if token.matches("key-4711") => {
                Permit::user("billing").publish("invoices.*").subscribe("payments.*").into()
            }
            _ => Answer::deny("no such key"),
        })
    })?;
    Ok(callout.start(client).await?)
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let dir = std::env::args().nth(1).ok_or("usage: own_users DIR")?;
    let key = |name: &str| std::fs::read_to_string(Path::new(&dir).join("keys").join(name));
    let client = ConnectOptions::with_nkey(key("auth.nk")?.trim().to_owned())
        .connect("nats://127.0.0.1:4222")
        .await?;
    let running = start(&key("issuer.nk")?, &key("xkey.nk")?, client).await?;
    println!("connect with the token key-4711; Ctrl-C stops");
    tokio::signal::ctrl_c().await?;
    running.stop().await;
    Ok(())
}
