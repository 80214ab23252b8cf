//! An application with a plain async-nats beside the library: one TLS provider is built in, so that no
//! connection panics, whichever of the two makes it.

#![cfg(test)]

use async_nats::ConnectOptions;
use nats_callout::callout::{Answer, Permit, Request};
use nats_callout::testing::NatsServer;
use rcgen::{CertifiedKey, generate_simple_self_signed};

#[tokio::test(flavor = "multi_thread")]
async fn logins_over_tls() {
    let folder = tempfile::tempdir().unwrap();
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("server.pem"), folder.path().join("server.key"));
    std::fs::write(&certificate, cert.pem()).unwrap();
    std::fs::write(&key, signing_key.serialize_pem()).unwrap();
    let server =
        NatsServer::start_with(&format!("tls {{ cert_file: {certificate:?}, key_file: {key:?} }}"))
            .await
            .unwrap();
    let trusting = |options: ConnectOptions| {
        options.add_root_certificates(certificate.clone()).require_tls(true)
    };
    let auth = trusting(server.auth_options()).connect(server.url()).await.unwrap();
    let rule = async |request: Request| {
        Ok(match request.token() {
            Some(token) if token.matches("key-4711") => {
                Permit::user("billing").publish("invoices.*").into()
            }
            _ => Answer::deny("no such key"),
        })
    };
    let running = server.callout().authorize(rule).unwrap().start(auth).await.unwrap();
    let login = |token: &str| {
        trusting(ConnectOptions::with_token(token.into())).connect(server.url().to_owned())
    };
    let app = login("key-4711").await.unwrap();
    app.publish("invoices.7", "paid".into()).await.unwrap();
    app.flush().await.unwrap();
    login("key-0").await.unwrap_err();
    running.stop().await;
}
