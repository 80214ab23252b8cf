//! What nats-server hands on of a client, transport by transport: the table in the documentation,
//! made anew on real connections and compared.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{ConnectOptions, Message};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::StreamExt as _;
use nats_callout::keys::{KeyKind, SigningKey};
use nkeys::XKey;
use serde_json::{Value, json};

use super::leaf::Leaf;
use super::{Open, Tls, wire};
use crate::harness::choice::modes;
use crate::harness::client::{connect_with, settled};
use crate::harness::clients::{self, Language};
use crate::harness::deployment::Mode;
use crate::harness::tls::{Identity, nameless};
use crate::harness::{PATIENCE, raw, servers};

/// Reads along in the account AUTH, beside the service.
struct Spy {
    requests: async_nats::Subscriber,
    _client: async_nats::Client,
    xkey: XKey,
}

impl Spy {
    async fn start(open: &Open) -> Self {
        let key = |name: &str| {
            let path = open.dir().join("keys").join(name);
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        let options = match open.mode {
            Mode::Operator => {
                ConnectOptions::with_credentials(&key("auth.creds")).expect("a creds file")
            }
            Mode::Config => ConnectOptions::with_nkey(key("auth.nk").trim().to_owned()),
        };
        let certificate = open.authority.client("spy", nameless());
        let options = options
            .add_root_certificates(open.authority.ca.clone())
            .add_client_certificate(certificate.certificate, certificate.key);
        let client = connect_with(&open.url(), options, "_INBOX").await.expect("logs in").client;
        let requests = client.subscribe("$SYS.REQ.USER.AUTH").await.expect("subscribes");
        settled(&client).await;
        let xkey = XKey::from_seed(key("xkey.nk").trim()).expect("a curve seed");
        Self { requests, _client: client, xkey }
    }

    /// The next request's `nats` claim.
    async fn next(&mut self) -> Value {
        let next = tokio::time::timeout(PATIENCE, self.requests.next()).await;
        let Message { payload, headers, .. } = next.expect("a request").expect("a connection");
        let headers = headers.expect("an encrypted request");
        let server = headers.get("Nats-Server-Xkey").expect("its key").as_str();
        let server = XKey::from_public_key(server).expect("a curve key");
        let token = self.xkey.open(&payload, &server).expect("sealed for us");
        let token = String::from_utf8(token).expect("utf-8");
        let claims = token.split('.').nth(1).expect("three parts");
        let claims = URL_SAFE_NO_PAD.decode(claims).expect("base64url");
        serde_json::from_slice::<Value>(&claims).expect("json")["nats"].take()
    }
}

/// What no request was made of: the server refused by itself.
const NOT_ASKED: &str = "(the server refuses by itself)";

const USER: &str = "alice";
const SECRET: &str = "a-secret";

/// Makes one connection after another, and notes what the server asked about each.
struct Rows<'a> {
    open: &'a Open,
    spy: Spy,
    nkey: &'a str,
    rows: Vec<(&'static str, String)>,
}

impl Rows<'_> {
    /// A bare connection, with CONNECT options that may answer the server's nonce.
    async fn tcp(
        &mut self,
        what: &'static str,
        fields: impl FnOnce(&str) -> Value + Send + 'static,
    ) {
        let port = self.open.server.port();
        self.note(what, bare(move || drop(raw::connect_signed(port, fields)))).await;
    }

    async fn websocket(
        &mut self,
        what: &'static str,
        cookies: &'static [(&'static str, &'static str)],
        fields: impl FnOnce(&str) -> Value + Send + 'static,
    ) {
        let port = self.open.websocket;
        let fields = |info: &Value| fields(info["nonce"].as_str().expect("a nonce"));
        self.note(what, bare(move || drop(wire::websocket(port, cookies, fields)))).await;
    }

    async fn mqtt(&mut self, what: &'static str) {
        let port = self.open.mqtt;
        let login = move || {
            wire::mqtt(port, "probe", USER, SECRET);
        };
        self.note(what, bare(login)).await;
    }

    async fn tls(&mut self, what: &'static str, options: ConnectOptions, by: &Identity) {
        let options = options
            .add_root_certificates(self.open.authority.ca.clone())
            .add_client_certificate(by.certificate.clone(), by.key.clone())
            .require_tls(true);
        let url = self.open.url();
        self.note(what, async move { drop(connect_with(&url, options, "_INBOX").await) }).await;
    }

    /// One of the programs in `tests/clients/python`, with these options.
    async fn program(&mut self, what: &'static str, name: &str, options: &[&str]) {
        let program = clients::program(Language::Python, name).expect("python3");
        let mut program = tokio::process::Command::from(program);
        program.args(options).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = program.kill_on_drop(true).spawn().expect("a client");
        self.note(what, async move { drop(child.wait().await) }).await;
    }

    async fn leaf(&mut self, what: &'static str, remote: &str) {
        let leaf = Leaf::start(remote);
        let request = self.spy.next().await;
        drop(leaf);
        self.rows.push((what, self.row(&request)));
    }

    /// Whether the client is let in does not matter: the server has asked about it by then.
    async fn note(&mut self, what: &'static str, login: impl Future<Output = ()>) {
        let request = tokio::select! {
            request = self.spy.next() => Some(request),
            () = login => {
                tokio::time::timeout(Duration::from_secs(2), self.spy.next()).await.ok()
            }
        };
        let row = request.map_or_else(|| NOT_ASKED.to_owned(), |request| self.row(&request));
        self.rows.push((what, row));
    }

    /// What a request says, in the columns of the table.
    fn row(&self, request: &Value) -> String {
        let (info, sent) = (&request["client_info"], &request["connect_opts"]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        assert_eq!(info["host"], "127.0.0.1", "{request}");
        assert!(info["id"].as_u64().is_some_and(|id| id > 0), "{request}");
        let fields: Vec<&str> = ["user", "pass", "auth_token", "nkey", "sig"]
            .into_iter()
            .filter(|name| !text(&sent[*name]).is_empty())
            .collect();
        // The sentinel stands in for whoever brings no JWT. Old servers take the password of MQTT
        // for one.
        if info["type"] != "mqtt" {
            assert_eq!(text(&sent["jwt"]).is_empty(), self.open.mode == Mode::Config, "{request}");
        }
        let nameless = match (self.open.mode, &fields[..]) {
            (Mode::Operator, _) => text(&info["user"]).starts_with('U'),
            (Mode::Config, ["auth_token"]) if servers::is(servers::version(), "2.10") => {
                info["user"] == SECRET
            }
            (Mode::Config, ["auth_token"]) => info["user"] == "[REDACTED]",
            (Mode::Config, _) => text(&info["user"]).is_empty(),
        };
        let user = match text(&info["user"]).as_str() {
            USER => "the user",
            nkey if nkey == self.nkey => "the nkey",
            SECRET if fields == ["user", "auth_token"] => "the token",
            _ if nameless => "",
            other => panic!("{other}: {request}"),
        };
        let count = |name: &str| request["client_tls"][name].as_array().map_or(0, Vec::len);
        let tls = (request["client_tls"].is_object(), count("verified_chains"), count("certs"));
        let tls = match tls {
            (false, 0, 0) => "",
            (true, 1, 0) => "verified chain",
            other => panic!("{other:?}: {request}"),
        };
        let nonce = if text(&info["nonce"]).is_empty() { "" } else { "yes" };
        let code = |text: &str| if text.is_empty() { String::new() } else { format!("`{text}`") };
        let fields: Vec<String> = fields.into_iter().map(code).collect();
        let (kind, client) = (code(&text(&info["kind"])), code(&text(&info["type"])));
        format!("{kind} | {client} | {user} | {} | {nonce} | {tls} |", fields.join(", "))
    }
}

/// A login that blocks, on a thread of its own.
async fn bare(login: impl FnOnce() + Send + 'static) {
    tokio::task::spawn_blocking(login).await.expect("no panic");
}

async fn rows(mode: Mode) -> Vec<(&'static str, String)> {
    let version = servers::version();
    let (key, seed) = SigningKey::generate(KeyKind::User).expect("a key");
    let key = Arc::new(key);
    let by_password = |_: &str| json!({"user": USER, "pass": SECRET});
    let by_token = |_: &str| json!({"auth_token": SECRET});
    let by_nkey = || {
        let key = Arc::clone(&key);
        move |nonce: &str| {
            let signature = URL_SAFE_NO_PAD.encode(key.sign_now(nonce.as_bytes()));
            json!({"nkey": key.public_key(), "sig": signature})
        }
    };

    let open = Open::start_with(mode, version, Tls::No, |_| {});
    let spy = Spy::start(&open).await;
    let mut rows = Rows { open: &open, spy, nkey: key.public_key(), rows: Vec::new() };
    rows.tcp("TCP, user and password", by_password).await;
    rows.tcp("TCP, token", by_token).await;
    rows.tcp("TCP, nkey", by_nkey()).await;
    rows.websocket("WebSocket, user and password", &[], by_password).await;
    rows.websocket("WebSocket, token", &[], by_token).await;
    rows.websocket("WebSocket, nkey", &[], by_nkey()).await;
    if !servers::is(version, "2.10") {
        let both = &[("nats_user", USER), ("nats_pass", SECRET)];
        rows.websocket("WebSocket, cookies of user and password", both, |_| json!({})).await;
        let token = &[("nats_token", SECRET)];
        rows.websocket("WebSocket, cookie of a token", token, |_| json!({})).await;
    }
    rows.mqtt("MQTT, user and password").await;
    let hub = format!("127.0.0.1:{}", open.leafnodes);
    let url = |login: &str| format!("url: \"nats-leaf://{login}{hub}\"");
    rows.leaf("leaf node, user and password", &url(&format!("{USER}:{SECRET}@"))).await;
    rows.leaf("leaf node, token", &url(&format!("{SECRET}@"))).await;
    rows.leaf("leaf node, nkey", &format!("{}, nkey: {}", url(""), *seed)).await;
    let mut all = rows.rows;
    drop(open);

    let open = Open::start_with(mode, version, Tls::Verified, |_| {});
    let spy = Spy::start(&open).await;
    let mut rows = Rows { open: &open, spy, nkey: key.public_key(), rows: Vec::new() };
    let identity = open.authority.client("probe", nameless());
    let by_password = ConnectOptions::with_user_and_password(USER.to_owned(), SECRET.to_owned());
    rows.tls("TLS, user and password", by_password, &identity).await;
    rows.tls("TLS, certificate", ConnectOptions::new(), &identity).await;
    let tls = open.tls_options(&identity);
    let tls: Vec<&str> = tls.iter().map(String::as_str).collect();
    let ws = format!("wss://127.0.0.1:{}", open.websocket);
    let ws = [&[ws.as_str(), "--subscribe", "x", "--publish", "x", "--request", "x"], &tls[..]];
    rows.program("WebSocket, certificate", "login", &ws.concat()).await;
    let mqtt = open.mqtt.to_string();
    let mqtt = [&[mqtt.as_str(), "--client-id", "probe"], &tls[..]];
    rows.program("MQTT, certificate", "mqtt", &mqtt.concat()).await;
    let remote = format!(
        "url: \"tls://127.0.0.1:{}\", tls {{ ca_file: {:?}, cert_file: {:?}, key_file: {:?} }}",
        open.leafnodes, open.authority.ca, identity.certificate, identity.key
    );
    rows.leaf("leaf node, certificate", &remote).await;
    all.extend(rows.rows);
    all
}

/// The rows of the table in the documentation.
fn documented() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/README.md");
    let text = std::fs::read_to_string(path).expect("the documentation");
    let (_, table) = text.split_once("| connection | kind |").expect("the table");
    table.lines().skip(2).take_while(|line| line.starts_with('|')).map(str::to_owned).collect()
}

async fn is_documented(mode: Mode) {
    let version = servers::version();
    let mut found = Vec::new();
    for (what, row) in rows(mode).await {
        if row == NOT_ASKED {
            let known = (mode, servers::takes_mqtt_passwords_for_jwts(version), what);
            assert_eq!(known, (Mode::Operator, true, "MQTT, user and password"));
            continue;
        }
        found.push(format!("| {what} | {row}").replace("|  |", "| |").replace("|  |", "| |"));
    }
    let documented = documented();
    let all = !servers::is(version, "2.10") && !servers::takes_mqtt_passwords_for_jwts(version);
    for row in &found {
        assert!(documented.contains(row), "{row}\nis not documented; found:\n{}", found.join("\n"));
    }
    assert!(!all || documented.len() == found.len(), "found:\n{}", found.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_hands_on_is_documented() {
    for mode in modes() {
        is_documented(mode).await;
    }
}
