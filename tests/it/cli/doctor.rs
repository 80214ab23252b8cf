//! `doctor` finds nothing wrong with what `init` wrote, and names whatever is broken in it.

mod dedicated;
mod frozen;
mod modes;
mod names;
mod powerless;
mod websocket;

use std::fs;

use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Executor as _};

use super::document;
use crate::bb::Backend;
use crate::harness::choice::on_both_databases;
use crate::harness::cluster::Cluster;
use crate::harness::deployment::{Deployment, Initialised, Mode, Table};
use crate::harness::{eventually, http, postgres, servers};

/// What doctor found.
struct Findings(Vec<(String, String, String)>);

impl Findings {
    #[track_caller]
    fn of(init: &Initialised) -> Self {
        let output = init.cli(&["--json", "doctor"]);
        let json = document(&output, output.status);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let findings: Vec<_> = json["checks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| {
                let what = format!("{}; {}", text(&it["what"]), text(&it["remedy"]));
                (text(&it["check"]), text(&it["state"]), what)
            })
            .collect();
        let fails = findings.iter().filter(|(_, state, _)| state == "fail").count();
        assert_eq!(output.status, i32::from(fails > 0), "{output:?}");
        assert_eq!(json["failed"], fails);
        assert_eq!(json["healthy"], fails == 0);
        Self(findings)
    }

    /// Panics unless a line of this check and state holds all of `words`.
    #[track_caller]
    fn has(&self, check: &str, state: &str, words: &[&str]) {
        let found = self.0.iter().any(|(name, in_state, what)| {
            name == check && in_state == state && words.iter().all(|word| what.contains(word))
        });
        assert!(found, "no {state} {check} with {words:?} in {:#?}", self.0);
    }

    /// How long the server took for the refusal that nobody else made, as the line says it.
    fn seconds_of_a_refusal(&self) -> f64 {
        let (.., what) = self.0.iter().find(|(check, ..)| check == "refusal").unwrap();
        let (before, _) = what.split_once(" s for its refusal").unwrap_or_else(|| panic!("{what}"));
        before.rsplit(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("{what}"))
    }

    /// Panics unless these checks failed, and no other.
    #[track_caller]
    fn fail_only(&self, checks: &[&str]) {
        let mut failed: Vec<&str> = self
            .0
            .iter()
            .filter(|(_, state, _)| state == "fail")
            .map(|(check, ..)| check.as_str())
            .collect();
        failed.dedup();
        assert_eq!(failed, checks, "{:#?}", self.0);
    }
}

/// Puts something else in a file's place while `check` runs.
fn replaced(init: &Initialised, file: &str, content: &[u8], check: impl FnOnce(Findings)) {
    let path = init.dir().join(file);
    let before = fs::read(&path).unwrap();
    fs::write(&path, content).unwrap();
    check(Findings::of(init));
    fs::write(&path, before).unwrap();
}

fn finds_nothing(mode: Mode) -> Deployment {
    let deployment = Deployment::start(mode);
    let findings = Findings::of(&deployment);
    findings.fail_only(&[]);
    for check in [
        "configuration",
        "key files",
        "other files",
        "database",
        "instances",
        "login AUTH",
        "login SYS",
        "servers",
        "version",
        "clock",
        "auth timeout",
        "JetStream",
        "events",
        "events reader",
        "refusal",
        "xkey",
        "AUTH isolation",
    ] {
        findings.has(check, "ok", &[]);
    }
    let operator = if mode == Mode::Operator { "ok" } else { "skip" };
    for check in ["operator", "account AUTH", "resolver", "JetStream limits"] {
        findings.has(check, operator, &[]);
    }
    let text = deployment.cli(&["doctor"]).success().stdout;
    assert_eq!(text.lines().count(), findings.0.len(), "a line each:\n{text}");
    assert!(
        text.lines()
            .all(|line| { ["ok ", "warn ", "skip "].iter().any(|state| line.starts_with(state)) })
    );
    deployment
}

/// A key of another deployment that has one of the same name.
fn key_of(other: &Initialised, file: &str) -> Vec<u8> {
    fs::read(other.dir().join(file)).unwrap()
}

#[test]
fn a_sound_deployment_and_what_can_break_in_operator_mode() {
    let mut deployment = finds_nothing(Mode::Operator);
    let other = Initialised::on(Mode::Operator, Table::Default);
    let keys = deployment.dir().join("keys");

    for (file, checks, words) in [
        ("keys/xkey.nk", &["account AUTH", "xkey"][..], &["xkey"][..]),
        ("keys/operator-signing.nk", &["operator"], &["operator_signing"]),
        ("keys/response-signing.nk", &["account AUTH"], &["response_signing"]),
        ("keys/user-signing.nk", &["resolver"], &["user_signing"]),
    ] {
        replaced(&deployment, file, &key_of(&other, file), |findings| {
            findings.fail_only(checks);
            findings.has(checks[0], "fail", words);
        });
        replaced(&deployment, file, b"garbage", |findings| {
            findings.has("key files", "fail", &[file]);
        });
    }
    let creds = key_of(&other, "keys/auth.creds");
    replaced(&deployment, "keys/auth.creds", &creds, |findings| {
        findings.has("login AUTH", "fail", &["same `init`"]);
        findings.has("account AUTH", "fail", &["auth_users"]);
        findings.has("callout", "skip", &[]);
    });

    let sys = keys.join("sys.creds");
    let away = keys.join("away");
    fs::rename(&sys, &away).unwrap();
    let findings = Findings::of(&deployment);
    findings.has("key files", "fail", &["sys.creds", "No such file"]);
    findings.has("login SYS", "fail", &["sys.creds"]);
    findings.has("servers", "skip", &["SYS"]);
    findings.has("refusal", "ok", &[]);
    fs::rename(&away, &sys).unwrap();

    let others = "not while others can get at its key file: see `key files`";
    let signing = "xkey and auth_users are the service's";
    modes::readable_keys(
        &deployment,
        &[
            ("xkey.nk", "xkey", "skip", "requests travel sealed; whether for our key is not known"),
            ("xkey.nk", "account AUTH", "ok", "auth_users and signing keys are the service's"),
            ("auth.creds", "login AUTH", "skip", others),
            ("sys.creds", "login SYS", "skip", others),
            ("operator-signing.nk", "operator", "skip", "not without [operator] operator_signing"),
            ("response-signing.nk", "account AUTH", "ok", signing),
            ("user-signing.nk", "resolver", "ok", ""),
            ("intake.creds", "intake", "skip", others),
            ("users.creds", "intake", "skip", others),
        ],
    );

    // The maxima of the tests are 1GB and 100GB.
    deployment.sql(
        "INSERT INTO tenants (id, name, js_storage, created_at) VALUES \
         ('first', 'x', 64424509440, '2024-01-01 00:00:00+00:00');\n\
         INSERT INTO tenants (id, name, js_storage, created_at) VALUES \
         ('another', 'x', 64424509440, '2025-01-01 00:00:00+00:00');",
    );
    let findings = Findings::of(&deployment);
    findings.fail_only(&["JetStream limits"]);
    let words = ["tenant another", "insufficient resources", "503", "60GB", "max_file"];
    findings.has("JetStream limits", "fail", &words);
    deployment.sql("DELETE FROM tenants;");

    deployment.service.stop();
    let findings = Findings::of(&deployment);
    findings.fail_only(&["instances", "refusal"]);
    findings.has("refusal", "fail", &["s for its refusal", "nats-callout serve"]);
    // It gives up after eight.
    assert!((2.0..8.0).contains(&findings.seconds_of_a_refusal()), "{:#?}", findings.0);
    findings.has("xkey", "ok", &[]);

    deployment.server.stop();
    let findings = Findings::of(&deployment);
    findings.fail_only(&["instances", "login AUTH", "login SYS"]);
    findings.has("login AUTH", "fail", &["start nats-server"]);
}

#[test]
fn a_sound_deployment_and_what_can_break_in_config_mode() {
    let deployment = finds_nothing(Mode::Config);
    let other = Initialised::on(Mode::Config, Table::Default);
    for (file, checks, words) in [
        ("keys/xkey.nk", &["auth_callout", "xkey"][..], &["xkey"][..]),
        ("keys/issuer.nk", &["auth_callout"], &["issuer"]),
    ] {
        replaced(&deployment, file, &key_of(&other, file), |findings| {
            findings.fail_only(checks);
            findings.has(checks[0], "fail", words);
        });
    }
    let others = "not while others can get at its key file: see `key files`";
    modes::readable_keys(
        &deployment,
        &[
            ("xkey.nk", "xkey", "skip", "requests travel sealed; whether for our key is not known"),
            ("auth.nk", "login AUTH", "skip", others),
            ("sys.nk", "login SYS", "skip", others),
            ("issuer.nk", "auth_callout", "ok", "nats-server.conf holds our xkey and auth_users"),
            ("users.nk", "intake", "skip", others),
        ],
    );
    modes::readable_secret(&deployment);
    let nkey = key_of(&other, "keys/auth.nk");
    replaced(&deployment, "keys/auth.nk", &nkey, |findings| {
        findings.has("login AUTH", "fail", &["same `init`"]);
        findings.has("auth_callout", "fail", &["auth_users"]);
    });
}

on_both_databases! {
    /// Of users whose hash is fine, nothing is said; the first one is of README's statements.
    fn hashes_that_nobody_can_log_in_with_and_slow_ones() {
        let init = Initialised::new(Mode::Config);
        init.tenant_add("42", &[]);
        let check = "password hashes";
        Findings::of(&init).has(check, "ok", &["1, none of which"]);
        let hash = "c2l4dGVlbiBieXRlcyBvaw$47Gi90ThMbJJbvqdZMRHE2BzJ9U8H2KA55pFdZspJio";
        let rows = [
            ("alice", "$2b$10$...".to_owned()),
            ("huge", format!("$argon2id$v=19$m=4194304,t=1,p=1${hash}")),
            ("eternal", format!("$pbkdf2-sha512$i=10000000,l=32${hash}")),
            ("slow", format!("$argon2id$v=19$m=65536,t=16,p=1${hash}")),
            ("fine", format!("$argon2id$v=19$m=19456,t=2,p=1${hash}")),
        ];
        // As rows from before the rule that refuses two of them.
        let table = if init.table.is_sqlite() { "" } else { " ON users" };
        init.sql(&format!("DROP TRIGGER users_insert_hash_check{table};"));
        for (user, hash) in &rows {
            init.sql(&format!(
                "INSERT INTO users (tenant_id, name, password_hash) VALUES ('42', '{user}', '{hash}');"
            ));
        }
        let findings = Findings::of(&init);
        let unusable = ["2 of 6 cannot be used", "\"alice\" of tenant 42", "malformed", "\"huge\""];
        findings.has(check, "warn", &unusable);
        findings.has(check, "warn", &["SELECT * FROM password_hash_flaws"]);
        let told = init.sql("SELECT user_name FROM password_hash_flaws ORDER BY user_name;");
        assert_eq!(told.split_whitespace().collect::<Vec<_>>(), ["alice", "huge"]);
        findings.has(check, "warn", &["longer", "\"eternal\" of tenant 42", "user passwd"]);
        // Among the slow ones, or, where this machine has much to do, among those that are too slow.
        findings.has(check, "warn", &["on this machine", "\"slow\" of tenant 42"]);
        let words = format!("{:?}", findings.0);
        assert!(!words.contains("fine") && !words.contains("47Gi90"), "{words}");
        let shown = init.cli(&["show", "42", "alice"]).success().stdout;
        assert!(shown.contains("none that a login can use: it is malformed"), "{shown}");
        let shown = init.cli(&["show", "42", "fine"]).success().stdout;
        assert!(shown.lines().any(|it| it.starts_with("password") && it.ends_with("yes")), "{shown}");

        init.sql(
            "INSERT INTO users (tenant_id, name, password_hash) \
             WITH RECURSIVE many (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM many WHERE n < 5000) \
             SELECT '42', 'user-' || n, '$2b$10$...' FROM many;",
        );
        Findings::of(&init).has(check, "warn", &["5002 of 5006 cannot be used", ", and 4999 more"]);
    }

    fn a_database_that_is_not_there() {
        let init = Initialised::new(Mode::Config);
        init.cli(&["list"]).success();
        let missing = |findings: Findings, words: &str| {
            findings.has("database", "fail", &[words, "does not exist"]);
            findings.has("instances", "skip", &[]);
        };
        if !init.table.is_sqlite() {
            let text = fs::read_to_string(init.config()).unwrap();
            let other = text.replace("/test_", "/no_such_");
            return replaced(&init, "nats-callout.toml", other.as_bytes(), |findings| {
                missing(findings, "no_such_");
            });
        }
        let database = init.dir().join("nats-callout.db");
        fs::rename(&database, init.dir().join("away.db")).unwrap();
        missing(Findings::of(&init), "nats-callout.db");
        assert!(!database.exists(), "a check makes no database");
    }
}

#[test]
fn a_configuration_that_cannot_be_read() {
    let init = Initialised::new(Mode::Operator);
    let text = fs::read_to_string(init.config()).unwrap();
    let broken = text.replace("mode = \"operator\"", "mode = \"operater\"");
    replaced(&init, "nats-callout.toml", broken.as_bytes(), |findings| {
        findings.fail_only(&["configuration"]);
        findings.has("configuration", "fail", &["operater"]);
    });
}

/// The deployment with its server's configuration changed.
fn changed(mode: Mode, change: impl Fn(&str) -> String) -> Deployment {
    Deployment::start_prepared(mode, servers::version(), |init| {
        let conf = init.server_conf();
        let text = fs::read_to_string(&conf).unwrap();
        let after = change(&text);
        assert_ne!(after, text);
        fs::write(&conf, after).unwrap();
    })
}

fn without_line(text: &str, key: &str) -> String {
    text.lines()
        .filter(|line| !line.trim_start().starts_with(key))
        .flat_map(|line| [line, "\n"])
        .collect()
}

#[test]
fn a_server_without_a_sentinel() {
    let deployment = changed(Mode::Operator, |text| without_line(text, "default_sentinel:"));
    let findings = Findings::of(&deployment);
    findings.fail_only(&["refusal"]);
    findings.has("refusal", "fail", &["default_sentinel"]);
}

/// It asks a client after two seconds whether it is there. That is no admission.
#[test]
fn a_server_that_waits_longer_than_it_takes_to_ask_a_client() {
    let mut deployment = changed(Mode::Config, |text| text.replace("timeout: 2\n", "timeout: 5\n"));
    deployment.service.stop();
    let findings = Findings::of(&deployment);
    findings.fail_only(&["instances", "refusal"]);
    findings.has("refusal", "fail", &["s for its refusal", "nats-callout serve"]);
}

#[test]
fn a_server_without_an_xkey() {
    let deployment = changed(Mode::Config, |text| without_line(text, "xkey:"));
    let findings = Findings::of(&deployment);
    findings.has("xkey", "fail", &["plain text"]);
    findings.has("auth_callout", "fail", &["xkey"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_in_auth() {
    let deployment = changed(Mode::Config, |text| {
        let (before, after) = text.split_once("auth_users: [ ").unwrap();
        let text = format!("{before}auth_users: [ spy, {after}");
        let (before, after) = text.split_once("    AUTH {").unwrap();
        let (inside, after) = after.split_once("users: [ ").unwrap();
        format!("{before}    AUTH {{{inside}users: [ {{ user: spy, password: spy }}, {after}")
    });
    let spy = async_nats::ConnectOptions::with_user_and_password("spy".into(), "spy".into())
        .connect(deployment.url())
        .await
        .unwrap();
    let findings = Findings::of(&deployment);
    findings.fail_only(&["AUTH isolation"]);
    findings.has("AUTH isolation", "fail", &["spy"]);
    drop(spy);
}

#[test]
fn old_servers() {
    let deployment = Deployment::start_with(Mode::Operator, "2.12.8");
    let findings = Findings::of(&deployment);
    findings.fail_only(&[]);
    findings.has("version", "warn", &["2.12.8", "no_auth_user"]);
    drop(deployment);

    let deployment = Deployment::start_with(Mode::Config, "2.10.26");
    let findings = Findings::of(&deployment);
    findings.fail_only(&[]);
    findings.has("version", "warn", &["2.10.26"]);
}

#[test]
fn every_server_of_a_cluster() {
    let mut cluster = Cluster::start(Mode::Operator, 3);
    let findings = Findings::of(&cluster.init);
    findings.fail_only(&[]);
    findings.has("servers", "ok", &["3 answer", "node-0, node-1, node-2"]);
    findings.has("resolver", "ok", &["3 servers"]);
    findings.has("JetStream limits", "skip", &["cluster"]);
    assert_eq!(findings.0.iter().filter(|(check, ..)| check == "version").count(), 3);
    assert_eq!(findings.0.iter().filter(|(check, ..)| check == "clock").count(), 3);
    cluster.nodes[2].stop();
    let findings = Findings::of(&cluster.init);
    findings.has("servers", "ok", &["2 answer"]);
}

/// BB's consumer is BB's own, and doctor says where it gives nothing out.
async fn bb_pauses_its_consumer(mode: Mode) {
    let mut deployment = Deployment::start(mode);
    let backend = Backend::connect(&deployment).await;
    let ask = async |what: &str, body: Value| {
        let subject = format!("$JS.API.CONSUMER.{what}.ReceivedEvents.ProcessEvents");
        backend.connected.jetstream(&subject, &body).await
    };
    let paused = ask("PAUSE", json!({ "pause_until": "2100-01-01T00:00:00Z" })).await;
    assert_eq!(paused["paused"], true, "{paused}");
    let found = Findings::of(&deployment);
    found.has("BB", "warn", &["ProcessEvents", "paused until 2100-01-01", "resume"]);
    found.fail_only(&[]);
    ask("PAUSE", json!({})).await;
    let found = Findings::of(&deployment);
    assert!(!found.0.iter().any(|(check, ..)| check == "BB"), "{:#?}", found.0);
    // A service that runs makes it anew.
    deployment.service.stop();
    assert_eq!(ask("DELETE", json!({})).await["success"], true);
    Findings::of(&deployment).has("BB", "warn", &["ProcessEvents", "is not there", "serve"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bb_pauses_its_consumer_in_operator_mode() {
    bb_pauses_its_consumer(Mode::Operator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bb_pauses_its_consumer_in_config_mode() {
    bb_pauses_its_consumer(Mode::Config).await;
}

/// Who holds others up is named, by doctor and in the metrics, and rows from before a rule are counted.
#[tokio::test(flavor = "multi_thread")]
async fn who_holds_others_up_and_which_rows_are_too_long() {
    let deployment = Deployment::start_on(Mode::Operator, || Table::Postgres(postgres::database()));
    let Table::Postgres(database) = &deployment.table else { unreachable!("PostgreSQL") };
    deployment.tenant_add("one", &[]);
    let found = Findings::of(&deployment);
    found.has("rows", "ok", &["no text is longer"]);
    found.has("locks", "ok", &["nobody waits"]);
    let role = format!("seller_{}", database.name());
    database.psql(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD 's'; GRANT SELECT, DELETE ON tenants, users, tokens TO {role};
         ALTER TABLE users DISABLE TRIGGER users_bound;
         UPDATE users SET publish = '[\"{}a\"]';
         ALTER TABLE users ENABLE TRIGGER users_bound",
        "a\",\"".repeat(20_000)
    ));
    let connect = async || {
        let options: PgConnectOptions = database.url_of(&role, "s").parse().unwrap();
        options.connect().await.unwrap()
    };
    let mut holder = connect().await;
    holder.execute("BEGIN; LOCK TABLE tokens IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut waiter = connect().await;
    let waiting = tokio::spawn(async move { waiter.execute("SELECT count(*) FROM tokens").await });
    let metric = |name: &str| {
        // A busy machine may be too late for one.
        let body = http::get(deployment.http(), "/metrics")?.body;
        let line = format!("nats_callout_database_{name}{{role=\"{role}\"}} ");
        body.lines().find_map(|it| it.strip_prefix(&line)?.parse::<f64>().ok())
    };
    eventually("who blocks", || metric("blocked").filter(|count| *count > 0.0));
    let found = Findings::of(&deployment);
    found.has("rows", "warn", &["1 texts are longer", "users.publish of one"]);
    found.has("locks", "fail", &[&role, "wait for", "pg_terminate_backend"]);
    found.fail_only(&["locks"]);
    let said = "a session holds others up in the database";
    eventually("a line of the log", || deployment.service.log().contains(said).then_some(()));
    holder.execute("ROLLBACK").await.unwrap();
    waiting.await.unwrap().unwrap();
    eventually("nobody blocks", || metric("blocked").filter(|count| *count == 0.0));
    // Nobody needs to wait but doctor itself.
    for lock in [
        "BEGIN; LOCK TABLE tenants IN ACCESS EXCLUSIVE MODE",
        "BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE",
    ] {
        holder.execute(lock).await.unwrap();
        Findings::of(&deployment).has(
            "locks",
            "fail",
            &[&role, "wait for", "pg_terminate_backend"],
        );
        holder.execute("ROLLBACK").await.unwrap();
    }
    let flood = "DO $$ BEGIN FOR n IN 1..10000 LOOP PERFORM pg_notify('nats_callout', n::TEXT); \
        END LOOP; END $$";
    let flooding = tokio::spawn(async move {
        loop {
            holder.execute(flood).await.unwrap();
        }
    });
    eventually("who floods", || metric("notices").filter(|count| *count > 2_000.0));
    flooding.abort();
    let _ = flooding.await;
    database.psql(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}
