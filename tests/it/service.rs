//! The service as a citizen of NATS: it retries its first connect, sends exactly one reply, and
//! answers look-ups. (That it stops without losing a login is in `within::under_load`.)

pub(crate) mod embedding;
mod failover;
mod keys;
mod reserved;
mod stale;
mod standby;
mod turns;
mod watchdog;

use std::collections::HashMap;
use std::time::Duration;

use async_nats::Client;
use futures_util::StreamExt as _;
use nats_callout::callout::Token;
use nats_callout::internals::{AccountBody, Parsed};
use nats_callout::keys::AccountId;
use serde_json::Value;

use crate::harness::choice::{either_mode, lacks, modes, on_both_databases};
use crate::harness::client::{self, Login};
use crate::harness::deployment::{Deployment, Initialised, Mode};
use crate::harness::http;
use crate::harness::raw::{self, Verdict};
use crate::harness::servers::{self, NatsServer};
use crate::harness::{PATIENCE, depth, eventually};

/// A connection with one of the logins that `init` wrote for the service or for BB.
async fn connect_with(deployment: &Deployment, key: &str) -> Client {
    let path = deployment.dir().join("keys").join(key);
    let options = if key.ends_with(".creds") {
        async_nats::ConnectOptions::with_credentials_file(path).await.expect("a creds file")
    } else {
        let seed = std::fs::read_to_string(path).expect("a seed");
        async_nats::ConnectOptions::with_nkey(seed.trim().to_owned())
    };
    options.connect(deployment.url()).await.expect("connects")
}

/// The server's own refusal, after it has waited for 2 s, and no decision.
const UNANSWERED: Duration = Duration::from_millis(1_950);

/// What the service says to a login. A machine may be too slow for many at once: then there is no
/// answer, and a client comes again.
fn decided(port: u16, fields: &Value) -> Verdict {
    eventually("a decision", || match raw::connect(port, fields) {
        (Verdict::Refused(_), took) if took > UNANSWERED => None,
        (verdict, _) => Some(verdict),
    })
}

fn auth_login(mode: Mode) -> &'static str {
    match mode {
        Mode::Operator => "auth.creds",
        Mode::Config => "auth.nk",
    }
}

#[test]
fn a_first_connect_that_fails_is_retried_with_a_line_that_says_why() {
    let init = Initialised::new(Mode::Config);
    let mut early = init.launch_service();
    eventually("the line", || {
        let log = early.log();
        let line = log.lines().find(|line| line.contains("cannot connect to NATS yet"))?;
        let said = line.contains(&init.port.to_string()) && line.to_lowercase().contains("refused");
        assert!(said, "{line}");
        Some(())
    });
    let server = NatsServer::start(servers::version(), &init.server_conf(), init.port, None);
    let server = server.unwrap_or_else(|log| panic!("{log}"));
    early.wait_until_ready().unwrap_or_else(|log| panic!("{log}"));
    let login = init.tenant_add("one", &[]);
    let verdict = raw::connect(server.port(), &login.connect_fields()).0;
    assert_eq!(verdict, Verdict::Admitted, "{}", early.log());
}

async fn one_reply(mode: Mode) {
    let deployment = Deployment::start(mode);
    let _second = deployment.another_service();
    let login = deployment.tenant_add("one", &[]);
    let bystander = connect_with(&deployment, auth_login(mode)).await;
    let mut requests = bystander.subscribe("$SYS.REQ.USER.AUTH").await.expect("subscribes");
    let mut everything = bystander.subscribe(">").await.expect("subscribes");
    let marker = bystander.new_inbox();
    let mut marked = bystander.subscribe(marker.clone()).await.expect("subscribes");
    bystander.publish(marker.clone(), "subscribed".into()).await.expect("publishes");
    marked.next().await.expect("the marker");

    const LOGINS: usize = 40;
    let port = deployment.server.port();
    let wrong = Login::password("one", "wrong").connect_fields();
    tokio::task::spawn_blocking(move || {
        for turn in 0..LOGINS {
            let fields = if turn % 4 == 0 { &wrong } else { &login.connect_fields() };
            raw::connect(port, fields);
        }
    })
    .await
    .expect("no panic");

    let mut replies: HashMap<String, usize> = HashMap::new();
    for _ in 0..LOGINS {
        let request = tokio::time::timeout(PATIENCE, requests.next()).await.expect("a request");
        let request = request.expect("the connection is open");
        assert!(request.payload.starts_with(b"xkv1"), "a request is sealed");
        replies.insert(request.reply.expect("a reply subject").to_string(), 0);
    }
    bystander.publish(marker.clone(), "end".into()).await.expect("publishes");
    let mut sealed = 0;
    loop {
        let message = tokio::time::timeout(PATIENCE, everything.next()).await.expect("a message");
        let message = message.expect("the connection is open");
        if message.subject.as_str() == marker && message.payload == "end" {
            break;
        }
        if let Some(count) = replies.get_mut(message.subject.as_str()) {
            *count += 1;
            sealed += usize::from(message.payload.starts_with(b"xkv1"));
        }
    }
    assert!(replies.values().all(|count| *count == 1), "{replies:?}");
    assert_eq!(sealed, LOGINS, "every reply is sealed");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_send_exactly_one_sealed_reply() {
    for mode in either_mode() {
        one_reply(mode).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_up_of_an_account_that_no_server_has_is_answered() {
    if lacks(Mode::Operator) {
        return;
    }
    let deployment = Deployment::start(Mode::Operator);
    let account = nkeys::KeyPair::new_account().public_key();
    deployment.sql(&format!(
        "INSERT INTO tenants (id, name, js_storage) VALUES ('42', 'Alice Ltd', 1024);\n\
         INSERT INTO tenant_accounts (tenant_id, account) VALUES ('42', '{account}');"
    ));
    let system = connect_with(&deployment, "sys.creds").await;
    let inbox = system.new_inbox();
    let mut answers = system.subscribe(inbox.clone()).await.expect("subscribes");
    let subject = format!("$SYS.REQ.ACCOUNT.{account}.CLAIMS.LOOKUP");
    system.publish_with_reply(subject, inbox, "".into()).await.expect("publishes");
    // The server itself answers with nothing, which says that it does not know the account.
    loop {
        let answer = tokio::time::timeout(PATIENCE, answers.next()).await.expect("an answer");
        let answer = answer.expect("the connection is open");
        if answer.payload.is_empty() {
            continue;
        }
        let token = std::str::from_utf8(&answer.payload).unwrap();
        let (claims, _) = Parsed::<AccountBody>::parse(token)
            .unwrap()
            .verify::<nats_callout::internals::OperatorId>()
            .unwrap();
        assert_eq!(claims.subject, account);
        assert_eq!(claims.body.limits.disk_storage, 1024);
        assert_eq!(claims.body.signing_keys.len(), 2, "both generations");
        return;
    }
}

/// The first login after a server was killed waits for the servers that are there, not for the
/// acknowledgement of the one that is gone.
#[test]
fn a_killed_server_is_not_waited_for() {
    if lacks(Mode::Operator) {
        return;
    }
    let mut deployment = Deployment::start(Mode::Operator);
    let login = deployment.tenant_add("one", &[]).connect_fields();
    let port = deployment.server.port();
    assert_eq!(raw::connect(port, &login).0, Verdict::Admitted);
    let monitor = format!("127.0.0.1:{}", deployment.monitor);
    let varz = http::get(&monitor, "/varz").expect("an answer");
    let varz: Value = serde_json::from_str(&varz.body).expect("json");
    let killed = varz["server_id"].as_str().expect("an id").to_owned();
    deployment.server.kill9();
    deployment.server.restart();
    eventually("a login", || (raw::connect(port, &login).0 == Verdict::Admitted).then_some(()));
    let log = deployment.service.log();
    let waited = |line: &str| line.contains("did not acknowledge") && line.contains(&killed);
    assert!(!log.lines().any(waited), "{log}");
}

/// The account that the table keeps for a tenant.
fn account_of(deployment: &Deployment, tenant: &str) -> AccountId {
    let text = deployment
        .sql(&format!("SELECT account FROM tenant_accounts WHERE tenant_id = '{tenant}';"));
    text.parse().unwrap_or_else(|error| panic!("{tenant}: {text:?}: {error}"))
}

#[test]
fn a_changed_password_has_replaced_the_old_one_when_the_command_returns() {
    for mode in modes() {
        let deployment = Deployment::start(mode);
        let _second = deployment.another_service();
        let Login::Password(user, mut old) = deployment.tenant_add("one", &[]) else {
            unreachable!("a password")
        };
        let port = deployment.server.port();
        let admitted = |password: &str| {
            let fields = Login::password(&user, password).connect_fields();
            decided(port, &fields) == Verdict::Admitted
        };
        for _ in 0..depth(2, 5) {
            assert!((0..4).all(|_| admitted(&old)), "cached by both instances");
            let made: Value =
                deployment.cli(&["--json", "user", "passwd", "one", &user]).success().json();
            let new = made["password"].as_str().expect("a password").to_owned();
            for _ in 0..4 {
                assert!(!admitted(&old), "the old one\n{}", deployment.service.log());
                assert!(admitted(&new), "the new one\n{}", deployment.service.log());
            }
            old = new;
        }
    }
}

fn a_last_login_is_noted(deployment: &Deployment) {
    let login = deployment.tenant_add("one", &[]);
    let query = "SELECT count(last_login_at) FROM users WHERE name = 'one';";
    assert_eq!(deployment.sql(query), "0");
    decided(deployment.server.port(), &login.connect_fields());
    eventually("the note", || (deployment.sql(query) == "1").then_some(()));
}

fn an_outdated_hash_is_replaced_at_a_login(deployment: &Deployment) {
    let hash = bcrypt::hash("s3cret", 5).expect("a hash");
    deployment.sql(&format!(
        "INSERT INTO tenants (id, name) VALUES ('42', 'Alice Ltd');\n\
         INSERT INTO users (tenant_id, name, password_hash) VALUES ('42', 'alice', '{hash}');"
    ));
    let alice = Login::password("alice", "s3cret").connect_fields();
    let port = deployment.server.port();
    assert_eq!(decided(port, &alice), Verdict::Admitted);
    eventually("the new hash", || {
        let hash = deployment.sql("SELECT password_hash FROM users WHERE name = 'alice';");
        hash.starts_with("$argon2id$").then_some(())
    });
    assert_eq!(decided(port, &alice), Verdict::Admitted);
    let wrong = Login::password("alice", "wrong").connect_fields();
    assert_ne!(decided(port, &wrong), Verdict::Admitted);
}

on_both_databases! {
    /// Tenants that no server has heard of log in at the same time, on a table whose every commit
    /// waits for the disk.
    async fn many_first_logins_at_once_all_succeed() {
        if lacks(Mode::Operator) {
            return;
        }
        let tenants = depth(50, 100);
        let deployment = Deployment::start(Mode::Operator);
        let tokens: Vec<Token> =
            (0..tenants).map(|_| Token::generate().expect("a token")).collect();
        let rows: String = tokens
            .iter()
            .enumerate()
            .map(|(n, token)| {
                format!(
                    "INSERT INTO tenants (id, name) VALUES ('t{n}', 'T');\n\
                     INSERT INTO users (tenant_id, name) VALUES ('t{n}', 'u{n}');\n\
                     INSERT INTO tokens (user_name, token_hash) VALUES ('u{n}', '{}');\n",
                    token.hash().to_hex()
                )
            })
            .collect();
        deployment.sql(&format!("BEGIN;\n{rows}COMMIT;"));
        let port = deployment.server.port();
        let logins = tokens.into_iter().map(|token| {
            let login = Login::Token(token.expose().to_owned()).connect_fields();
            tokio::task::spawn_blocking(move || decided(port, &login))
        });
        for login in futures_util::future::join_all(logins.collect::<Vec<_>>()).await {
            let verdict = login.expect("no panic");
            assert_eq!(verdict, Verdict::Admitted, "{}", deployment.service.log());
        }
        let accounts = deployment.sql("SELECT count(DISTINCT account) FROM tenant_accounts;");
        assert_eq!(accounts, tenants.to_string());
    }

    async fn an_account_is_stable_and_a_tenant_inserted_again_gets_another() {
        if lacks(Mode::Operator) {
            return;
        }
        let deployment = Deployment::start(Mode::Operator);
        let _second = deployment.another_service();
        let hash = bcrypt::hash("s3cret", 5).expect("a hash");
        let insert = format!(
            "INSERT INTO tenants (id, name) VALUES ('42', 'Alice Ltd');\n\
             INSERT INTO users (tenant_id, name, password_hash) VALUES ('42', 'alice', '{hash}');"
        );
        deployment.sql(&insert);
        let alice = Login::password("alice", "s3cret");
        let url = deployment.url();
        // Two instances race for the account at the first logins.
        let logins = (0..8).map(|_| client::connect(&url, &alice, "_INBOX"));
        for login in futures_util::future::join_all(logins).await {
            login.expect("logs in");
        }
        let first = account_of(&deployment, "42");
        client::connect(&url, &alice, "_INBOX").await.expect("logs in");
        assert_eq!(account_of(&deployment, "42"), first);

        deployment.sql("DELETE FROM tenants WHERE id = '42';");
        deployment.sql(&insert);
        client::connect(&url, &alice, "_INBOX").await.expect("the new tenant logs in at once");
        eventually("the new account", || {
            // A login within the notice of the change may still be placed in the old account; the
            // next one is not.
            let query = "SELECT account FROM tenant_accounts WHERE tenant_id = '42';";
            let account = deployment.sql(query);
            (!account.is_empty() && account != first.as_str()).then_some(()).or_else(|| {
                raw::connect(deployment.server.port(), &alice.connect_fields());
                None
            })
        });
    }

    fn a_last_login_is_noted_and_an_outdated_hash_is_replaced() {
        let deployment = Deployment::start(Mode::Config);
        a_last_login_is_noted(&deployment);
        an_outdated_hash_is_replaced_at_a_login(&deployment);
    }
}
