//! Leaf nodes whose remote has a user and a password, or a token, in its URL: a tenant with an
//! account of its own can bind one to it.

use std::path::PathBuf;

use nkeys::KeyPair;
use serde_json::Value;

use super::wire::{Wire, verdict};
use super::{Row, Scene, tokens};
use crate::harness::client::{self, Connected, Login};
use crate::harness::deployment::Mode;
use crate::harness::servers::{self, NatsServer};
use crate::harness::{eventually, eventually_async, http, ports};

/// A leaf node's server, connected or trying to.
struct Leaf {
    server: NatsServer,
    _folder: tempfile::TempDir,
}

impl Leaf {
    /// Starts one of this name that logs in to `hub` as `user_info` says, with a creds file besides.
    fn start(hub: u16, name: &str, user_info: &str, creds: Option<&str>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = ports::free();
        let file: Option<PathBuf> = creds.map(|text| {
            let path = folder.path().join("leaf.creds");
            std::fs::write(&path, text).expect("is written");
            path
        });
        let credentials = file.map(|path| format!("credentials: {:?}", path.display().to_string()));
        let conf = folder.path().join("leaf.conf");
        let text = format!(
            "listen: 127.0.0.1:{port}\nserver_name: {name}\nleafnodes {{ remotes [ {{\n  \
             url: \"nats://{user_info}@127.0.0.1:{hub}\"\n  {}\n}} ] }}\n",
            credentials.unwrap_or_default()
        );
        std::fs::write(&conf, text).expect("is written");
        let server = NatsServer::start(servers::version(), &conf, port, None);
        Self { server: server.unwrap_or_else(|log| panic!("{log}")), _folder: folder }
    }
}

/// The accounts of the leaf nodes that are connected.
fn connected(scene: &Scene) -> String {
    let address = format!("127.0.0.1:{}", scene.deployment.monitor);
    let report = http::get(&address, "/leafz").expect("a report").body;
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let leafs = report["leafs"].as_array().cloned().unwrap_or_default();
    let accounts: Vec<String> =
        leafs.iter().filter_map(|leaf| Some(scene.named(leaf["account"].as_str()?))).collect();
    if accounts.is_empty() { "none".to_owned() } else { accounts.join(" ") }
}

/// The words of a request through the leaf node to the tenant's account behind it.
async fn through(leaf: &Leaf) -> String {
    let inside = client::connect(&leaf.server.url(), &Login::Nothing, "_INBOX").await;
    let inside = inside.expect("a server without logins");
    eventually_async("an answer from behind the leaf node", || async {
        let answer = inside.client.request("foo", "hello".into()).await.ok()?;
        Some(String::from_utf8_lossy(&answer.payload).into_owned())
    })
    .await
}

/// A tenant's admin that answers `foo`.
async fn answering(scene: &Scene) -> Connected {
    use futures_util::StreamExt as _;
    let admin = client::connect(&scene.deployment.url(), &scene.one.admin, "_INBOX").await;
    let admin = admin.expect("logs in");
    let mut requests = admin.client.subscribe("foo").await.expect("subscribes");
    admin.settled().await;
    let client = admin.client.clone();
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            if let Some(reply) = request.reply {
                let _ = client.publish(reply, "here".into()).await;
            }
        }
    });
    admin
}

fn user_info(login: &Login) -> String {
    match login {
        Login::Password(user, password) => format!("{user}:{password}"),
        Login::Token(token) => token.clone(),
        Login::Nothing => unreachable!("a login"),
    }
}

/// A user of AUTH to whom nothing is forbidden, as a leaf node's operator would have one.
fn creds(scene: &Scene, seed_of_another: bool) -> String {
    let (auth, user) = (tokens::key(&scene.deployment, "offline/auth.nk"), KeyPair::new_user());
    let mut claims = tokens::user("auth-leaf", &user, &auth.public_key(), &auth);
    for list in ["pub", "sub"] {
        claims["nats"][list] = serde_json::json!({});
    }
    let token = tokens::sign(claims, &auth);
    tokens::creds(&token, if seed_of_another { &auth } else { &user })
}

pub(super) async fn logins(scene: &mut Scene, hub: u16) -> Row {
    let scenario = match scene.mode() {
        Mode::Operator => "LeafNodeAndOperatorMode",
        Mode::Config => "LeafNodeAndConfigMode",
    };
    let mut row = Row::of(scenario, scene.mode());
    let _answering = answering(scene).await;
    let account = match scene.mode() {
        Mode::Operator => scene.home(&scene.one),
        Mode::Config => "BAZ".to_owned(),
    };
    let token = Login::Token(scene.deployment.token_add("one", "one"));
    let mut ways = vec![("plain", None)];
    if scene.mode() == Mode::Operator {
        ways.push(("with creds", Some(creds(scene, false))));
    }
    for (way, creds) in ways {
        let Login::Password(user, _) = &scene.one.admin else { unreachable!("a password") };
        let refused = [
            ("bad token", Login::Token("tokenx".to_owned())),
            ("bad password", Login::password(user, "pwdx")),
        ];
        for (what, login) in refused {
            let name = format!("{what}, {way}").replace([' ', ','], "-");
            let leaf = Leaf::start(hub, &name, &user_info(&login), creds.as_deref());
            let (_, answered) = scene.tap.exchange(&name).await;
            row.saw(what, "access denied", answered.error());
            row.saw("leaf nodes", "none", connected(scene));
            drop(leaf);
        }
        for (what, login) in [("token", &token), ("password", &scene.one.admin)] {
            let leaf = Leaf::start(hub, "LEAF", &user_info(login), creds.as_deref());
            row.saw(what, "here", through(&leaf).await);
            row.saw(way, &account, connected(scene));
            drop(leaf);
            eventually("the end of the leaf node", || (connected(scene) == "none").then_some(()));
        }
    }
    if scene.mode() == Mode::Config {
        let leaf = Leaf::start(hub, "SHARED", &user_info(&scene.two.admin), None);
        let (_, answered) = scene.tap.exchange("SHARED").await;
        row.saw("in the shared account", "access denied", answered.error());
        row.saw("leaf nodes", "none", connected(scene));
        drop(leaf);
    }
    row
}

pub(super) fn mismatched(scene: &mut Scene, hub: u16) -> Row {
    let mut row = Row::of("LeafNodeOperatorModeMismatchedCreds", scene.mode());
    let good = Leaf::start(hub, "GOOD", &user_info(&scene.one.admin), Some(&creds(scene, false)));
    let account = scene.home(&scene.one);
    eventually("the leaf node", || (connected(scene) == account).then_some(()));
    let bad = Leaf::start(hub, "BAD", &user_info(&scene.one.admin), Some(&creds(scene, true)));
    eventually("a refusal", || {
        bad.server.log().to_lowercase().contains("authorization violation").then_some(())
    });
    row.saw("leaf nodes", &account, connected(scene));
    row.saw("logins go on", "admitted", verdict(scene.port(), "after", &scene.one.app));
    let mut client = Wire::tcp(scene.port());
    client.login("open", &scene.one.app.connect_fields());
    row.saw("server is there", true, client.is_open());
    drop((good, bad));
    row
}
