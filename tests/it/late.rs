//! An answer that came too late is no success: whoever was not let in is never counted, logged or told of as
//! granted. And how long answers are on their way is measured all the time.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::ConnectOptions;
use nats_callout::callout::{
    Answer, BoxError, Late, Lateness, Observer, Outcome, Permit, Request, Settings,
};
use nats_callout::testing;
use serde_json::{Value, json};

use crate::events::{Stored, login, stored};
use crate::harness::choice::{either_mode, lacks};
use crate::harness::client;
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::issuer::Issuer;
use crate::harness::raw::{self, Verdict};
use crate::harness::{eventually, eventually_async, http, servers};
use crate::http::{readiness, until_failed, value};
use crate::jwt::add_to_config;

/// Servers wait for 2 s.
const TOO_LONG: Duration = Duration::from_millis(2_500);

const LONGEST: &str = "nats_callout_reply_way_longest_seconds";

fn metrics(deployment: &Deployment) -> String {
    http::get(deployment.http(), "/metrics").expect("an answer").body
}

fn decided(deployment: &Deployment, outcome: &str, reason: &str) -> f64 {
    let labels = format!("{{outcome=\"{outcome}\",reason=\"{reason}\"}}");
    value(&metrics(deployment), &format!("nats_callout_decisions_total{labels}"))
}

/// Logs in; a busy machine may be too slow the first time.
fn log_in(port: u16, fields: &Value) {
    eventually("a login", || (raw::connect(port, fields).0 == Verdict::Admitted).then_some(()));
}

/// A service that hangs for longer than its server waits finds requests of clients who are gone.
async fn nobody_waits(mode: Mode) {
    let deployment = Deployment::start(mode);
    let auth = login(&deployment, mode, "auth").await;
    for tenant in ["one", "two"] {
        deployment.tenant_add(tenant, &[]);
    }
    let by_token = |tenant| json!({ "auth_token": deployment.token_add(tenant, tenant) });
    let (right, wrong) = (by_token("one"), by_token("two"));
    deployment.cli(&["tenant", "suspend", "two", "--yes"]).success();
    let port = deployment.server.port();
    log_in(port, &right);
    eventually("a grant", || (decided(&deployment, "granted", "") > 0.0).then_some(()));
    let all = || {
        let kinds = [
            ("granted", ""),
            ("denied", "tenant_suspended"),
            ("late", "granted"),
            ("late", "denied"),
        ];
        kinds.map(|(outcome, reason)| decided(&deployment, outcome, reason))
    };
    let before = all();

    deployment.freeze(&deployment.service);
    let clients = [right, wrong]
        .map(|fields| tokio::task::spawn_blocking(move || raw::connect_numbered(port, &fields)));
    let mut numbers = Vec::new();
    for client in clients {
        let (verdict, number) = client.await.unwrap();
        assert!(matches!(verdict, Verdict::Refused(_)), "{verdict:?}");
        numbers.push(number);
    }
    deployment.service.thaw();

    let [granted, denied, ..] = before;
    let expected = [granted, denied, before[2] + 1.0, before[3] + 1.0];
    eventually("both counted as late", || (all()[2..] == expected[2..]).then_some(()));
    for ((number, decision), user) in numbers.iter().zip(["granted", "denied"]).zip(["one", "two"])
    {
        let log = deployment.service.log();
        let about = |line: &&str| line.contains(&format!(" cid={number} "));
        let lines: Vec<&str> = log.lines().filter(about).collect();
        let [line] = &lines[..] else { panic!("one line: {lines:?}") };
        let who = format!("user=\"{user}\" tenant=\"{user}\" server=\"nats-1\"");
        for word in ["WARN", " late: ", &who, decision] {
            assert!(line.contains(word), "no {word} in {line}");
        }
        let event = eventually_async("its event", || async {
            let about = |it: &Stored| it.event["data"]["cid"] == *number;
            let mut events = stored(&auth, "AUTH_DECISIONS").await;
            events.retain(about);
            let [Stored { event, .. }] = &events[..] else {
                assert!(events.is_empty(), "{events:?}");
                return None;
            };
            Some(event.clone())
        });
        let event = event.await;
        assert_eq!(event["type"], "auth.decision.late", "{event}");
        assert_eq!((&event["subject"], &event["organizationid"]), (&json!(user), &json!(user)));
        let data = &event["data"];
        assert_eq!(
            (&data["decision"], &data["reason"]),
            (&json!(decision), &json!("server")),
            "{event}"
        );
    }
    assert_eq!(all(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_not_let_in_is_late_and_not_granted() {
    for mode in either_mode() {
        nobody_waits(mode).await;
    }
}

/// The server has less time for the account of a tenant whose first login took its issuer so long, and is not
/// blamed for it.
#[test]
fn a_slow_issuer_is_no_fault_of_the_server() {
    if lacks(Mode::Operator) {
        return;
    }
    let issuer = Issuer::start(&[]);
    let introspection = format!("introspection_url = \"{}\"\n", issuer.introspection_url())
        + "client_id = \"nats\"\nclient_secret = \"secret\"\n";
    let table = issuer.table("asked", &introspection);
    let deployment = Deployment::start_prepared(Mode::Operator, servers::version(), |init| {
        add_to_config(init, &table);
    });
    issuer.takes(Duration::from_millis(1_600));
    let mut number = 0;
    let line = eventually("a login that took its issuer nearly all of the time", || {
        number += 1;
        let (tenant, token) = (format!("tenant-{number}"), format!("opaque-token-{number:04}"));
        deployment.tenant_add(&tenant, &[]);
        let mut said = issuer.claims(&tenant);
        said["active"] = json!(true);
        issuer.says_of(&token, said);
        raw::connect(deployment.server.port(), &json!({ "auth_token": token }));
        let log = deployment.service.log();
        log.lines().find(|line| line.contains("authentication took ")).map(str::to_owned)
    });
    let left = "ms, which left the server 0 ms to take the tenant's account";
    assert!(line.contains("reason=\"deadline\"") && line.contains(left), "{line}");
    let log = deployment.service.log();
    assert!(!log.contains("did not acknowledge"), "{log}");
}

/// A server that hangs shows in the way of replies, and a healthy one has a small number.
fn the_way_is_shown(mode: Mode) {
    let deployment = Deployment::start(mode);
    let one = deployment.tenant_add("one", &[]);
    let (http, port) = (deployment.http(), deployment.server.port());
    log_in(port, &one.connect_fields());
    let quick = || {
        let metrics = metrics(&deployment);
        let count = value(&metrics, "nats_callout_reply_way_seconds_count");
        let mean = value(&metrics, "nats_callout_reply_way_seconds_sum") / count;
        (count >= 6.0 && mean < 0.5 && value(&metrics, LONGEST) < 0.5).then_some(())
    };
    eventually("a short way", quick);
    assert_eq!(readiness(http).1["parts"]["replies"], "ok");

    deployment.server.freeze();
    let report = eventually("replies that are slow", || {
        let (_, report) = readiness(http);
        (report["parts"]["replies"] != "ok").then_some(report)
    });
    let words = report["parts"]["replies"].as_str().unwrap();
    assert!(words.contains("nats-server") && words.contains("bottleneck"), "{words}");
    // Nobody gets in who waits for 2 s.
    until_failed(http, &["nats"]);
    assert!(value(&metrics(&deployment), LONGEST) >= 2.0);
    assert_eq!(value(&metrics(&deployment), "nats_callout_part_up{part=\"replies\"}"), 0.0);

    deployment.server.thaw();
    until_failed(http, &[]);
    eventually("a short way again", || (value(&metrics(&deployment), LONGEST) < 0.5).then_some(()));
    assert_eq!(readiness(http).1["parts"]["replies"], "ok");
}

#[test]
fn a_server_that_hangs_shows_in_the_way_of_replies() {
    for mode in either_mode() {
        the_way_is_shown(mode);
    }
}

/// What counts as granted is who was let in, while the service hangs again and again for about as long as its
/// server waits.
fn only_who_is_in_counts(mode: Mode) {
    const CLIENTS: usize = 4;
    let deployment = Deployment::start(mode);
    deployment.tenant_add("one", &[]);
    let fields = json!({ "auth_token": deployment.token_add("one", "one") });
    let port = deployment.server.port();
    let (over, admitted) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    if raw::connect(port, &fields).0 == Verdict::Admitted {
                        admitted.fetch_add(1, Relaxed);
                    }
                }
            });
        }
        for pause in [1_900, 2_000, 2_100] {
            deployment.freeze(&deployment.service);
            std::thread::sleep(Duration::from_millis(pause));
            deployment.service.thaw();
            let before = admitted.load(Relaxed);
            eventually("logins go on", || (admitted.load(Relaxed) > before + 20).then_some(()));
        }
        over.store(true, Relaxed);
    });
    let admitted = admitted.load(Relaxed) as f64;
    eventually("as many grants as were let in", || {
        let shown = "nats_callout_grants_rejected_total{reason=\"late\"}";
        let corrected = value(&metrics(&deployment), shown);
        (decided(&deployment, "granted", "") - corrected == admitted).then_some(())
    });
    assert!(decided(&deployment, "late", "granted") >= CLIENTS as f64);
}

#[test]
fn what_is_counted_as_granted_is_who_was_let_in() {
    for mode in either_mode() {
        only_who_is_in_counts(mode);
    }
}

/// A few grants are looked after: whether their clients are there.
#[test]
fn a_sample_of_the_grants_is_looked_after() {
    let deployment = Deployment::start(Mode::Config);
    let one = deployment.tenant_add("one", &[]);
    let (runtime, url) = (tokio::runtime::Runtime::new().unwrap(), deployment.url());
    let log_in = || {
        let connecting = || runtime.block_on(client::connect(&url, &one, "_INBOX_one")).ok();
        eventually("a login", connecting)
    };
    let mut clients = vec![log_in()];
    let sampled = |outcome| {
        let series = format!("nats_callout_grants_sampled_total{{outcome=\"{outcome}\"}}");
        value(&metrics(&deployment), &series)
    };
    let mut unknown = 0.0;
    eventually("a grant that stands for a connection", || {
        if sampled("unknown") > unknown {
            // Its server was too busy to say.
            unknown = sampled("unknown");
            clients.push(log_in());
        }
        (sampled("connected") > 0.0).then_some(())
    });
    assert_eq!(["left", "gone", "refused"].map(sampled), [0.0; 3]);
}

/// `doctor` and `serve` compare what each server says with what the service is told.
#[test]
fn it_is_said_where_a_server_waits_for_too_short() {
    let says = |deployment: &Deployment| {
        let said = deployment.cli(&["doctor"]).stdout;
        let lines = said.lines().filter(|line| line[5..].starts_with("auth timeout"));
        let lines: Vec<String> = lines.map(str::to_owned).collect();
        let [line] = &lines[..] else { panic!("one server: {said}") };
        line.clone()
    };
    let line = says(&Deployment::start(Mode::Config));
    assert!(line.starts_with("ok ") && line.contains("nats-1 waits for 2s"), "{line}");

    let waiting_for = |time: &str| {
        Deployment::start_prepared(Mode::Config, servers::version(), |init| {
            let conf = std::fs::read_to_string(init.server_conf()).expect("a configuration");
            let shorter = conf.replacen("timeout: 2\n", &format!("timeout: {time}\n"), 1);
            assert_ne!(shorter, conf);
            std::fs::write(init.server_conf(), shorter).expect("is written");
        })
    };
    let line = says(&waiting_for("0.5"));
    let whole = "waits for 500ms (`authorization.timeout`), and tells so in whole seconds";
    assert!(line.starts_with("warn ") && line.contains(whole), "{line}");
    let deployment = waiting_for("1");
    let line = says(&deployment);
    assert!(
        line.starts_with("warn ")
            && line.contains("has 900ms")
            && line.contains("nats-1 waits for 1s"),
        "{line}"
    );
    eventually("a line of the service's", || {
        let log = deployment.service.log();
        log.lines().find(|line| line.contains("WARN") && line.contains("waits for 1s")).map(drop)
    });
}

/// Notes what it is told, and how each decision ended.
#[derive(Debug, Default)]
struct Seen {
    granted: Mutex<Vec<u64>>,
    late: Mutex<Vec<Late>>,
}

impl Observer for Seen {
    fn observe(&self, outcome: &Outcome, _: Duration) {
        let Outcome::Reply(reply) = outcome else { panic!("{outcome:?}") };
        self.granted.lock().unwrap().push(reply.connection.id);
    }

    fn late(&self, late: &Late) {
        self.late.lock().unwrap().push(late.clone());
    }
}

fn permit() -> Answer {
    Permit::user("eve").account("USERS").publish(">").subscribe(">").into()
}

/// A rule that takes longer than the server waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_is_too_slow_lets_nobody_in() {
    let program = servers::binary(servers::version());
    let server = testing::NatsServer::start_program(&program, "").await.expect("starts");
    let seen = Arc::new(Seen::default());
    let slow = async |request: Request| -> Result<Answer, BoxError> {
        if request.token().is_some_and(|token| token.matches("slow")) {
            // In a thread of the runtime, so that no deadline cuts it short.
            std::thread::sleep(TOO_LONG);
        }
        Ok(permit())
    };
    let settings = Settings { deadline: TOO_LONG * 4, ..Settings::default() };
    let callout = server.callout().observer(seen.clone()).settings(settings);
    let callout = callout.authorize(slow).unwrap();
    let running = callout.start(server.auth().await.unwrap()).await.expect("starts");
    let connect = async |token: &str| -> Result<async_nats::Client, String> {
        let options = ConnectOptions::with_token(token.to_owned());
        let client = options.connect(server.url()).await.map_err(|error| error.to_string())?;
        // Of one that its server closes meanwhile, the library may not hear again.
        let flushed = tokio::time::timeout(TOO_LONG * 4, client.flush()).await;
        flushed.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        Ok(client)
    };
    let _quick = connect("quick").await.expect("in time");
    connect("slow").await.expect_err("the server has given up");
    let late = eventually("one that is late", || {
        let late = seen.late.lock().unwrap();
        (!late.is_empty()).then(|| late[0].clone())
    });
    assert_eq!((late.user.as_deref(), late.why), (Some("eve"), Lateness::Server));
    assert!(late.is_grant && !late.was_shown && late.took >= TOO_LONG, "{late:?}");
    running.stop().await;
    assert_eq!(seen.granted.lock().unwrap().len(), 1);
}
