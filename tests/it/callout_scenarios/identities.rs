//! Users who hold a key instead of a secret: the nonce signed by an nkey, and the client's
//! certificate, over TCP and over a WebSocket.

use std::sync::Arc;

use nkeys::KeyPair;
use rcgen::DnType;
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use super::basics::REFUSED;
use super::tap::{Asked, Tap};
use super::wire::Wire;
use super::{Row, Scene, report, tokens};
use crate::harness::choice::either_mode;
use crate::harness::deployment::Mode;
use crate::harness::ports;
use crate::harness::tls::{Authority, Identity, nameless, subject};

async fn signed_nonce(mode: Mode) {
    let mut scene = Scene::start(mode).await;
    let mut row = Row::of("VerifiedUserCalloutsWithSig", mode);
    let (user, stranger) = (KeyPair::new_user(), KeyPair::new_user());
    let nkey = user.public_key();
    scene
        .deployment
        .cli(&["user", "add", "one", "signer", "--kind", "bb", "--nkey", &nkey])
        .success();
    let port = scene.port();
    let signed = |client: &Wire, by: &KeyPair, nkey: &str| {
        let mut fields = tokens::signed("", by, &client.info);
        fields["nkey"] = json!(nkey);
        fields
    };
    let mut client = Wire::tcp(port);
    let fields = signed(&client, &user, &nkey);
    row.saw("its signature", "admitted", client.login("signer", &fields));
    row.saw("is", format!("signer in {}", scene.home(&scene.one)), scene.who("signer"));
    for (what, by, of) in [
        ("another's signature", &stranger, &nkey),
        ("a stranger's nkey", &stranger, &stranger.public_key()),
    ] {
        let mut client = Wire::tcp(port);
        let fields = signed(&client, by, of);
        row.saw(what, REFUSED, client.login("other", &fields));
    }
    // Of another connection's nonce.
    let mut client = Wire::tcp(port);
    row.saw("an old signature", REFUSED, client.login("old", &fields));
    let mut client = Wire::tcp(port);
    row.saw("no signature", REFUSED, client.login("bare", &json!({"nkey": nkey})));
    let (asked, answered) = scene.tap.exchange("signer").await;
    row.saw("nonce in the request", true, !asked.client("nonce").is_empty());
    row.saw("signature in it", true, !asked.sent("sig").is_empty());
    row.saw("service grants", true, answered.user().is_some());
    report(&[row]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_nonce() {
    for mode in either_mode() {
        signed_nonce(mode).await;
    }
}

/// TLS with a client's certificate, and none where there is none.
pub(crate) fn config(authority: &Authority, identity: Option<&Identity>) -> Arc<ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&authority.ca).expect("a file")).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().expect("versions");
    let builder = builder.with_root_certificates(roots);
    Arc::new(match identity {
        None => builder.with_no_client_auth(),
        Some(Identity { certificate, key }) => {
            let chain = vec![CertificateDer::from_pem_file(certificate).expect("a file")];
            let key = PrivateKeyDer::from_pem_file(key).expect("a file");
            builder.with_client_auth_cert(chain, key).expect("a pair")
        }
    })
}

fn count(asked: &Asked, what: &str) -> usize {
    asked.claims["nats"]["client_tls"][what].as_array().map_or(0, Vec::len)
}

async fn certificates(mode: Mode) {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(folder.path(), "authority");
    let named = |file: &str, name: &str| {
        let mut params = nameless();
        params.distinguished_name = subject(&[(DnType::CommonName, name)]);
        authority.client(file, params)
    };
    let service = named("service", "nats-callout");
    let websocket = ports::free();
    let deployment = crate::harness::deployment::Deployment::start_prepared(
        mode,
        crate::harness::servers::version(),
        |init| {
            init.add_to_server_conf(&authority.block(true));
            init.add_to_server_conf(&format!(
                "websocket {{ listen: \"127.0.0.1:{websocket}\"\n{} }}",
                authority.block(true)
            ));
            init.set("tls_ca", &format!("{:?}", authority.ca));
            init.set("tls_certificate", &format!("{:?}", service.certificate));
            init.set("tls_key", &format!("{:?}", service.key));
        },
    );
    deployment.tenant_add("one", &[]);
    let args = ["user", "add", "one", "dlc", "--kind", "bb", "--certificate", "CN=example.com"];
    deployment.cli(&args).success();
    let (port, url) = (deployment.server.port(), deployment.url());
    let options = |options: async_nats::ConnectOptions| {
        options
            .add_root_certificates(authority.ca.clone())
            .add_client_certificate(service.certificate.clone(), service.key.clone())
            .require_tls(true)
    };
    let mut tap = Tap::with(&deployment, mode, &url, options).await;

    let (client, other) = (named("client", "example.com"), named("other", "other.example.com"));
    let [by_client, by_other] = [&client, &other].map(|of| config(&authority, Some(of)));
    let nobody = config(&authority, None);
    let mut rows = Vec::new();
    for scenario in ["ClientTLSCerts", "WSClientTLSCerts"] {
        let mut row = Row::of(scenario, mode);
        let open = |config: &Arc<ClientConfig>| match scenario {
            "ClientTLSCerts" => Ok(Wire::tls(port, config)),
            _ => Wire::websocket(websocket, Some(config)),
        };
        let mut wire = open(&by_client).expect("a connection");
        row.saw("certificate", "admitted", wire.login(scenario, &json!({})));
        let login = |config: &Arc<ClientConfig>, fields: &Value| {
            open(config).expect("a connection").login("other", fields)
        };
        let (asked, answered) = tap.exchange(scenario).await;
        row.saw("chains that are verified", 1, count(&asked, "verified_chains"));
        row.saw("certificates that are not", 0, count(&asked, "certs"));
        let chain = &asked.claims["nats"]["client_tls"]["verified_chains"][0];
        row.saw("certificates in the chain", 2, chain.as_array().map_or(0, Vec::len));
        let user = answered.user().unwrap_or(Value::Null);
        row.saw("is", "dlc", user["name"].as_str().unwrap_or_default());
        row.saw("open", true, wire.is_open());
        row.saw("unknown name", REFUSED, login(&by_other, &json!({})));
        let fields = json!({"user": "dlc", "pass": "x"});
        row.saw("certificate, wrong password", REFUSED, login(&by_client, &fields));
        let refused = open(&nobody)
            .map_or_else(|_| "closed".to_owned(), |mut wire| wire.login("nobody", &json!({})));
        row.saw("no certificate", "closed", refused);
        rows.push(row);
    }
    report(&rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate() {
    for mode in either_mode() {
        certificates(mode).await;
    }
}
