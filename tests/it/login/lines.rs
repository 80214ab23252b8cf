//! Who is refused, or gets no answer, is in one line of the log at its default level: why, who, where,
//! and what exactly is wrong.

use serde_json::{Value, json};

use super::{Bench, admitted};
use crate::harness::choice::{either_mode, lacks};
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::eventually;
use crate::harness::http;
use crate::harness::raw::{self, Verdict};

/// The lines about a connection that was refused with these fields.
fn lines_of(bench: &Bench, fields: &Value) -> Vec<String> {
    let port = bench.deployment.server.port();
    let (verdict, number) = raw::connect_numbered(port, fields);
    assert!(matches!(verdict, Verdict::Refused(_)), "{verdict:?}");
    let is_one = |line: &&str| line.contains(&format!(" cid={number} "));
    eventually("its line", || {
        let log = bench.deployment.service.log();
        let lines: Vec<String> = log.lines().filter(is_one).map(str::to_owned).collect();
        (!lines.is_empty()).then_some(lines)
    })
}

fn each_has_its_line(bench: &Bench) {
    let deployment = &bench.deployment;
    let [one, two] = [&bench.one, &bench.two];
    let user =
        |tenant: &str| format!("user=\"{tenant}-app\" tenant=\"{tenant}\" server=\"nats-1\"");
    let from = "host=\"127.0.0.1\"";
    let wrong = json!({ "user": "one-app", "pass": "wrong" });
    // As long as a name may be, and one that is longer.
    let long = "n".repeat(128);
    deployment.user_add("one", &long, &["--publish", "a"]);
    let (longer, cut) = ("m".repeat(129), format!("user=\"{}\" server=", "m".repeat(64)));
    let whole = format!("user=\"{long}\" tenant=\"one\"");
    deployment.sql(
        "UPDATE users SET status = 'suspended' WHERE name = 'two-app';
         UPDATE users SET policy = 'nowhere' WHERE name = 'one-app';",
    );
    let port = deployment.server.port();
    for fields in [one.user.connect_fields(), two.user.connect_fields()] {
        eventually("the change", || {
            (raw::connect(port, &fields).0 != Verdict::Admitted).then_some(())
        });
    }
    let suspended = "reason=\"user_suspended\"";
    let missing = "which does not exist; add its file `<name>.toml`";
    for (fields, level, says) in [
        (wrong, "INFO", ["reason=\"wrong_password\"", &user("one"), from]),
        (json!({ "auth_token": two.token }), "INFO", [suspended, &user("two"), from]),
        (one.user.connect_fields(), "WARN", ["reason=\"policy\"", &user("one"), missing]),
        (
            json!({ "user": long, "pass": "wrong" }),
            "INFO",
            ["reason=\"wrong_password\"", &whole, from],
        ),
        (json!({ "user": longer, "pass": "x" }), "INFO", ["reason=\"unknown_user\"", &cut, from]),
    ] {
        let lines = lines_of(bench, &fields);
        let [line] = &lines[..] else { panic!("one line: {lines:?}") };
        for word in [level, " refused ", says[0], says[1], says[2]] {
            assert!(line.contains(word), "no {word} in {line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_refusal_is_one_line_that_says_who_and_why() {
    for mode in either_mode() {
        let bench = Bench::start(mode);
        each_has_its_line(&bench);
        if mode == Mode::Config {
            no_place(&bench);
        }
    }
}

/// Of a row that names an account which is nobody's to be in.
fn no_place(bench: &Bench) {
    let deployment = &bench.deployment;
    deployment.sql(
        "UPDATE users SET status = 'active' WHERE name = 'two-app';
         UPDATE tenants SET account = 'INTAKE' WHERE id = 'two';",
    );
    let fields = bench.two.user.connect_fields();
    let placement = || lines_of(bench, &fields).into_iter().find(|it| it.contains("placement"));
    let line = eventually("the change", placement);
    let names = "tenants.account names `INTAKE`, which is neither shared nor the tenant's own";
    for word in ["WARN", "reason=\"placement\"", "tenant=\"two\"", names] {
        assert!(line.contains(word), "no {word} in {line}");
    }
    let shown = deployment.cli(&["--json", "show", "two"]).success().json();
    assert_eq!(shown["tenant"]["isolation"], "none");
}

/// Servers count the connections of a tenant's own account, and refuse by themselves who is granted here.
#[tokio::test(flavor = "multi_thread")]
async fn whom_a_server_does_not_let_in_is_a_line_too() {
    if lacks(Mode::Operator) {
        return;
    }
    let bench = Bench::start(Mode::Operator);
    let deployment = &bench.deployment;
    deployment.sql("UPDATE tenants SET max_connections = 1 WHERE id = 'one'");
    let _first = admitted(deployment, &bench.one.user, "one").await;
    // By token, so that the server does not know the name either.
    let lines = lines_of(&bench, &json!({ "auth_token": bench.one.token }));
    let [line] = &lines[..] else { panic!("one line: {lines:?}") };
    for word in [
        "INFO",
        " granted, and not let in by its server ",
        "user=\"one-app\" tenant=\"one\" server=\"nats-1\"",
        "host=\"127.0.0.1\"",
        "maximum account active connections exceeded",
    ] {
        assert!(line.contains(word), "no {word} in {line}");
    }
    let metrics = http::get(deployment.http(), "/metrics").expect("metrics").body;
    for (reason, count) in [("connections", 1), ("answer", 0)] {
        let line = format!("nats_callout_grants_rejected_total{{reason=\"{reason}\"}} {count}");
        assert!(metrics.contains(&line), "no {line} in\n{metrics}");
    }
}

/// At the level `debug`; its words are those of a refusal.
#[test]
fn each_grant_is_one_line_at_debug() {
    for (mode, format) in either_mode().flat_map(|mode| [(mode, "text"), (mode, "json")]) {
        let settings = [("NATS_CALLOUT_LOG_LEVEL", "debug"), ("NATS_CALLOUT_LOG_FORMAT", format)];
        let deployment = Deployment::start_set(mode, &settings);
        let fields = deployment.tenant_add("one", &[]).connect_fields();
        let (verdict, number) = raw::connect_numbered(deployment.server.port(), &fields);
        assert_eq!(verdict, Verdict::Admitted);
        let number =
            if format == "json" { format!("\"cid\":{number},") } else { format!(" cid={number} ") };
        let line = eventually("its line", || {
            let log = deployment.service.log();
            let is_it = |line: &&str| line.contains("granted") && line.contains(&number);
            let lines: Vec<&str> = log.lines().filter(is_it).collect();
            assert!(lines.len() < 2, "{lines:?}");
            lines.first().map(|&line| line.to_owned())
        });
        assert!(!line.contains("Some(") && !line.contains('\\'), "{line}");
        let user = fields["user"].as_str().unwrap();
        if format == "json" {
            let line: Value = serde_json::from_str(&line).unwrap();
            let of = ["level", "message", "user", "tenant", "method", "server", "host", "policy"];
            let words =
                ["DEBUG", "granted", user, "one", "password", "nats-1", "127.0.0.1", "admin"];
            assert_eq!(of.map(|key| &line[key]), words, "{line}");
        } else {
            let who = format!("user=\"{user}\" tenant=\"one\" method=\"password\" ttl_s=");
            for word in ["DEBUG", " granted ", &who, "policy=\"admin\"", "host=\"127.0.0.1\""] {
                assert!(line.contains(word), "no {word} in {line}");
            }
        }
    }
}
