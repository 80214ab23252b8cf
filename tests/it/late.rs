//! An answer that came too late is no success: whoever was not let in is never counted, logged or told of as
//! granted. And how long answers are on their way is measured all the time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::ConnectOptions;
use nats_callout::callout::{
    Answer, BoxError, Late, Lateness, Observer, Outcome, Permit, Request, Settings,
};
use nats_callout::testing;

use crate::events::{Stored, holds, login};
use crate::harness::choice::either_mode;
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::raw::{self, Verdict};
use crate::harness::{eventually, http, servers};
use crate::http::{readiness, until_failed, value};

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

/// A service that hangs for longer than its server waits finds requests of clients who are gone.
async fn nobody_waits(mode: Mode) {
    let deployment = Deployment::start(mode);
    let auth = login(&deployment, mode, "auth").await;
    let one = deployment.tenant_add("one", &[]);
    let port = deployment.server.port();
    let (right, wrong) = (one.connect_fields(), serde_json::json!({ "user": "one", "pass": "no" }));
    assert_eq!(raw::connect(port, &right).0, Verdict::Admitted);
    eventually("a grant", || (decided(&deployment, "granted", "") == 1.0).then_some(()));

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

    eventually("both counted as late", || {
        let late = ["granted", "denied"].map(|reason| decided(&deployment, "late", reason));
        (late == [1.0, 1.0]).then_some(())
    });
    assert_eq!(decided(&deployment, "granted", ""), 1.0);
    assert_eq!(decided(&deployment, "denied", "wrong_password"), 0.0);
    let metrics = metrics(&deployment);
    assert_eq!(value(&metrics, "nats_callout_grants_rejected_total{reason=\"late\"}"), 0.0);
    for (number, decision) in numbers.iter().zip(["granted", "denied"]) {
        let log = deployment.service.log();
        let about = |line: &&str| line.contains(&format!(" cid={number} "));
        let lines: Vec<&str> = log.lines().filter(about).collect();
        let [line] = &lines[..] else { panic!("one line: {lines:?}") };
        for word in
            ["WARN", " late: ", "user=\"one\"", "tenant=\"one\"", "server=\"nats-1\"", decision]
        {
            assert!(line.contains(word), "no {word} in {line}");
        }
    }
    let events = holds(&auth, "AUTH_DECISIONS", 3).await;
    let late: Vec<&Stored> =
        events.iter().filter(|it| it.event["type"] == "auth.decision.late").collect();
    assert_eq!(late.len(), 2, "{events:?}");
    for Stored { event, .. } in late {
        let place = numbers.iter().position(|number| event["data"]["cid"] == *number);
        let decision = ["granted", "denied"][place.unwrap_or_else(|| panic!("{event}"))];
        assert_eq!(event["data"]["decision"], decision, "{event}");
        assert_eq!((&event["subject"], &event["organizationid"]), (&"one".into(), &"one".into()));
        assert_eq!(event["data"]["reason"], "server", "{event}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_not_let_in_is_late_and_not_granted() {
    for mode in either_mode() {
        nobody_waits(mode).await;
    }
}

/// A server that hangs shows in the way of replies, and a healthy one has a small number.
fn the_way_is_shown(mode: Mode) {
    let deployment = Deployment::start(mode);
    let one = deployment.tenant_add("one", &[]);
    let (http, port) = (deployment.http(), deployment.server.port());
    assert_eq!(raw::connect(port, &one.connect_fields()).0, Verdict::Admitted);
    let quick = || {
        let metrics = metrics(&deployment);
        let count = value(&metrics, "nats_callout_reply_way_seconds_count");
        let mean = value(&metrics, "nats_callout_reply_way_seconds_sum") / count;
        (count >= 6.0 && mean < 0.1 && value(&metrics, LONGEST) < 0.1).then_some(())
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
    eventually("a short way again", || (value(&metrics(&deployment), LONGEST) < 0.1).then_some(()));
    assert_eq!(readiness(http).1["parts"]["replies"], "ok");
}

#[test]
fn a_server_that_hangs_shows_in_the_way_of_replies() {
    for mode in either_mode() {
        the_way_is_shown(mode);
    }
}

/// A few grants are looked after: who is connected, who has left, who did not even begin.
#[test]
fn a_sample_of_the_grants_is_looked_after() {
    let deployment = Deployment::start(Mode::Config);
    let one = deployment.tenant_add("one", &[]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _client = runtime
        .block_on(crate::harness::client::connect(&deployment.url(), &one, "_INBOX_one"))
        .expect("logs in");
    eventually("a grant that stands for a connection", || {
        let sampled = "nats_callout_grants_sampled_total{outcome=\"connected\"}";
        (value(&metrics(&deployment), sampled) == 1.0).then_some(())
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
            tokio::time::sleep(TOO_LONG).await;
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
        client.flush().await.map_err(|error| error.to_string())?;
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
