//! What nats-server hands on of a client, transport by transport: the table in the documentation,
//! made anew on real connections and compared.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use async_nats::{ConnectOptions, Message};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::StreamExt as _;
use nats_callout::keys::{KeyKind, SigningKey};
use nkeys::XKey;
use serde_json::Value;

use super::leaf::Leaf;
use super::{Open, Tls};
use crate::harness::PATIENCE;
use crate::harness::client::connect_with;
use crate::harness::clients::{self, Language};
use crate::harness::deployment::Mode;
use crate::harness::tls::nameless;

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
        client.flush().await.expect("a server");
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
    version: &'static str,
    nkey: &'a str,
    rows: Vec<(&'static str, String)>,
}

impl Rows<'_> {
    async fn client(&mut self, what: &'static str, url: &str, options: &[&str]) {
        let mut program = clients::program(Language::Python, "login").expect("python3");
        program.arg(url).args(options);
        program.args(["--subscribe", "x", "--publish", "x", "--request", "x"]);
        self.note(what, program).await;
    }

    async fn mqtt(&mut self, what: &'static str, options: &[&str]) {
        let mut program = clients::program(Language::Python, "mqtt").expect("python3");
        program.args([&self.open.mqtt.to_string(), "--client-id", "probe"]).args(options);
        self.note(what, program).await;
    }

    async fn leaf(&mut self, what: &'static str, remote: &str) {
        let leaf = Leaf::start(remote);
        let request = self.spy.next().await;
        drop(leaf);
        self.rows.push((what, self.row(&request)));
    }

    /// Whether the client is let in does not matter: the server has asked about it by then.
    async fn note(&mut self, what: &'static str, program: std::process::Command) {
        let mut program = tokio::process::Command::from(program);
        program.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = program.kill_on_drop(true).spawn().expect("a client");
        let request = tokio::select! {
            request = self.spy.next() => Some(request),
            _ = child.wait() => {
                tokio::time::timeout(Duration::from_secs(2), self.spy.next()).await.ok()
            }
        };
        child.kill().await.expect("its end");
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
            (Mode::Config, ["auth_token"]) if self.version.starts_with("2.10.") => {
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

async fn rows(mode: Mode, version: &'static str) -> Vec<(&'static str, String)> {
    let (key, seed) = SigningKey::generate(KeyKind::User).expect("a key");
    let nkey = ["--nkey-seed", seed.as_str()];
    let (password, token) = (["--user", USER, "--password", SECRET], ["--token", SECRET]);
    let cookies = !version.starts_with("2.10.");

    let open = Open::start_with(mode, version, Tls::No, |_| {});
    let spy = Spy::start(&open).await;
    let mut rows = Rows { open: &open, spy, version, nkey: key.public_key(), rows: Vec::new() };
    let (tcp, ws) = (open.url(), format!("ws://127.0.0.1:{}", open.websocket));
    rows.client("TCP, user and password", &tcp, &password).await;
    rows.client("TCP, token", &tcp, &token).await;
    rows.client("TCP, nkey", &tcp, &nkey).await;
    rows.client("WebSocket, user and password", &ws, &password).await;
    rows.client("WebSocket, token", &ws, &token).await;
    rows.client("WebSocket, nkey", &ws, &nkey).await;
    if cookies {
        let (user, pass) = (format!("nats_user={USER}"), format!("nats_pass={SECRET}"));
        let both = ["--cookie", &user, "--cookie", &pass];
        rows.client("WebSocket, cookies of user and password", &ws, &both).await;
        let token = format!("nats_token={SECRET}");
        rows.client("WebSocket, cookie of a token", &ws, &["--cookie", &token]).await;
    }
    rows.mqtt("MQTT, user and password", &password).await;
    let hub = format!("127.0.0.1:{}", open.leafnodes);
    let url = |login: &str| format!("url: \"nats-leaf://{login}{hub}\"");
    rows.leaf("leaf node, user and password", &url(&format!("{USER}:{SECRET}@"))).await;
    rows.leaf("leaf node, token", &url(&format!("{SECRET}@"))).await;
    rows.leaf("leaf node, nkey", &format!("{}, nkey: {}", url(""), *seed)).await;
    let mut all = rows.rows;
    drop(open);

    let open = Open::start_with(mode, version, Tls::Verified, |_| {});
    let spy = Spy::start(&open).await;
    let mut rows = Rows { open: &open, spy, version, nkey: key.public_key(), rows: Vec::new() };
    let identity = open.authority.client("probe", nameless());
    let tls = open.tls_options(&identity);
    let tls: Vec<&str> = tls.iter().map(String::as_str).collect();
    let tcp = open.url().replace("nats://", "tls://");
    let ws = format!("wss://127.0.0.1:{}", open.websocket);
    rows.client("TLS, user and password", &tcp, &[&tls[..], &password].concat()).await;
    rows.client("TLS, certificate", &tcp, &tls).await;
    rows.client("WebSocket, certificate", &ws, &tls).await;
    rows.mqtt("MQTT, certificate", &tls).await;
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

async fn is_documented(mode: Mode, version: &'static str) {
    let mut found = Vec::new();
    for (what, row) in rows(mode, version).await {
        if row == NOT_ASKED {
            // 2.11 takes the password of MQTT for a JWT wherever it has a sentinel.
            let known = (mode, version.starts_with("2.11."), what);
            assert_eq!(known, (Mode::Operator, true, "MQTT, user and password"));
            continue;
        }
        found.push(format!("| {what} | {row}").replace("|  |", "| |").replace("|  |", "| |"));
    }
    let documented = documented();
    let all = !version.starts_with("2.10.") && !version.starts_with("2.11.");
    for row in &found {
        assert!(documented.contains(row), "{row}\nis not documented; found:\n{}", found.join("\n"));
    }
    assert!(!all || documented.len() == found.len(), "found:\n{}", found.join("\n"));
}

macro_rules! versions {
    ($($name:ident: $mode:ident on $version:literal;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                is_documented(Mode::$mode, $version).await;
            }
        )*
    };
}

versions! {
    in_operator_mode_on_the_main_version: Operator on "2.15.1";
    in_config_mode_on_the_main_version: Config on "2.15.1";
    in_config_mode_on_2_10: Config on "2.10.26";
    in_operator_mode_on_2_11: Operator on "2.11.11";
    in_operator_mode_on_2_12: Operator on "2.12.8";
    in_config_mode_on_2_14: Config on "2.14.6";
}
