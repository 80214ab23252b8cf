//! `/healthz`, `/readyz` and `/metrics` of the real program.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::Stdio;

use serde_json::Value;

use crate::harness::choice::either_mode;
use crate::harness::client::Login;
use crate::harness::deployment::{Deployment, Initialised, Mode};
use crate::harness::http::{Answer, get, request};
use crate::harness::raw::{self, Verdict};
use crate::harness::{eventually, ports, servers, service};

#[track_caller]
fn answer(address: &str, path: &str) -> Answer {
    get(address, path).unwrap_or_else(|| panic!("no answer at {address}{path}"))
}

pub(crate) fn readiness(address: &str) -> (u16, Value) {
    let answer = answer(address, "/readyz");
    (answer.status, serde_json::from_str(&answer.body).expect("JSON"))
}

/// Waits until `/readyz` names exactly these parts as failing.
pub(crate) fn until_failed(address: &str, parts: &[&str]) -> Value {
    eventually(&format!("a report that {parts:?} fail"), || {
        let (status, report) = readiness(address);
        let failed = report["failed"].as_array().expect("a list");
        let as_wanted = failed.iter().map(|part| part.as_str().unwrap()).eq(parts.iter().copied());
        assert_eq!(status == 200, failed.is_empty(), "{report}");
        assert_eq!(report["ready"], failed.is_empty(), "{report}");
        as_wanted.then_some(report)
    })
}

/// The value of a series, written as Prometheus does.
#[track_caller]
pub(crate) fn value(metrics: &str, series: &str) -> f64 {
    let line = metrics
        .lines()
        .find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
    let line = line.unwrap_or_else(|| panic!("no {series} in\n{metrics}"));
    line.rsplit(' ').next().unwrap().parse().expect("a number")
}

/// What `doctor` says of the instance that listens there.
fn doctor(deployment: &Deployment, listen: &str) -> String {
    let mut command = service::program();
    command.arg("--config").arg(deployment.config()).arg("doctor");
    let output = command.env("NATS_CALLOUT_HTTP_LISTEN", listen).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let line = said.lines().find(|line| line[5..].starts_with("http ")).map(str::to_owned);
    line.unwrap_or_else(|| panic!("{said}"))
}

/// As on one machine with two deployments of the same port, one of which is down.
#[test]
fn the_health_of_another_deployment_is_none_of_this_one() {
    for mode in either_mode() {
        let (mut down, other) = (Deployment::start(mode), Deployment::start(mode));
        let (_, report) = readiness(other.http());
        let instance = report["instance"].as_str().expect("an id");
        assert!(other.service.log().contains(instance), "{report}");
        down.service.stop();
        let said = doctor(&down, other.http());
        assert!(said.starts_with("warn ") && said.contains("another deployment's"), "{said}");
        assert!(said.contains("[http] listen"), "{said}");
        let said = doctor(&other, other.http());
        assert!(said.starts_with("ok "), "{said}");
    }
}

fn decisions(mode: Mode) {
    let deployment = Deployment::start(mode);
    let login = deployment.tenant_add("one", &[]);
    let port = deployment.server.port();
    for _ in 0..3 {
        assert_eq!(raw::connect(port, &login.connect_fields()).0, Verdict::Admitted);
    }
    let wrong = Login::password("one", "a-wrong-password").connect_fields();
    assert_ne!(raw::connect(port, &wrong).0, Verdict::Admitted);
    let nobody = Login::password("nobody", "a-wrong-password").connect_fields();
    assert_ne!(raw::connect(port, &nobody).0, Verdict::Admitted);

    let http = deployment.http();
    let health = answer(http, "/healthz");
    assert_eq!((health.status, health.body.as_str()), (200, "ok\n"));
    let (status, report) = readiness(http);
    assert_eq!(status, 200, "{report}");
    for part in ["service", "nats", "system", "intake", "database", "replies"] {
        assert_eq!(report["parts"][part], "ok", "{report}");
    }
    // A decision counts once its server has read the answer.
    let metrics = eventually("all decisions", || {
        let metrics = answer(http, "/metrics");
        assert_eq!(metrics.status, 200);
        let metrics = metrics.body;
        (value(&metrics, "nats_callout_decision_seconds_count") == 5.0).then_some(metrics)
    });
    let decided = |outcome: &str, reason: &str| {
        let labels = format!("{{outcome=\"{outcome}\",reason=\"{reason}\"}}");
        value(&metrics, &format!("nats_callout_decisions_total{labels}"))
    };
    assert_eq!(decided("granted", ""), 3.0);
    assert_eq!(decided("denied", "wrong_password"), 1.0);
    assert_eq!(decided("denied", "unknown_user"), 1.0);
    assert_eq!(decided("aborted", "deadline"), 0.0);
    for (stage, count) in [("verify", 5.0), ("authenticate", 5.0), ("mint", 3.0), ("seal", 5.0)] {
        let series = format!("nats_callout_stage_seconds_count{{stage=\"{stage}\"}}");
        assert_eq!(value(&metrics, &series), count, "{stage}");
    }
    // One hash for the first login, none for the two after it, one for each refusal.
    assert_eq!(value(&metrics, "nats_callout_hashing_done_total"), 3.0);
    assert!(value(&metrics, "nats_callout_cache_misses_total") >= 2.0, "{metrics}");
    for connection in ["main", "replies-1", "loading", "events", "system"] {
        let series = format!("nats_callout_nats_connected{{connection=\"{connection}\"}}");
        assert_eq!(value(&metrics, &series), 1.0);
    }
    assert_eq!(value(&metrics, "nats_callout_ready"), 1.0);
    assert_eq!(value(&metrics, "nats_callout_instances"), 1.0);
    let pushed = value(&metrics, "nats_callout_accounts_pushed_total");
    assert_eq!(pushed > 0.0, mode == Mode::Operator, "{pushed}");
    assert!(!metrics.contains("a-wrong-password") && !metrics.contains("nobody"), "{metrics}");

    eventually("the events of the tenant and its user", || {
        let metrics = answer(http, "/metrics").body;
        let published = value(&metrics, "nats_callout_outbox_published_total");
        (published == 2.0 && value(&metrics, "nats_callout_outbox_pending") == 0.0).then_some(())
    });
    assert_eq!(value(&metrics, "nats_callout_events_dropped_total"), 0.0);
    // A busy machine may read changes too late for a cached record to be trusted.
    eventually("a record found in memory", || {
        assert_eq!(raw::connect(port, &login.connect_fields()).0, Verdict::Admitted);
        let metrics = answer(http, "/metrics").body;
        (value(&metrics, "nats_callout_cache_hits_total") > 0.0).then_some(())
    });
    let said = doctor(&deployment, http);
    assert!(said.starts_with("ok ") && said.ends_with("/readyz: ready"), "{said}");
    assert!(doctor(&deployment, "").starts_with("skip "));
    let nats = format!("127.0.0.1:{port}");
    let said = doctor(&deployment, &nats);
    assert!(said.starts_with("warn ") && said.contains("is not nats-callout"), "{said}");

    for (method, path, status) in
        [("HEAD", "/healthz", 200), ("POST", "/readyz", 405), ("GET", "/", 404)]
    {
        let answer = request(http, method, path).expect("an answer");
        assert_eq!(answer.status, status, "{method} {path}");
    }
}

#[test]
fn decisions_are_counted_and_timed() {
    for mode in either_mode() {
        decisions(mode);
    }
}

#[test]
fn readiness_names_the_part_that_fails() {
    let init = Initialised::new(Mode::Config);
    let mut service = init.launch_service();
    let http = init.http();
    eventually("an answer", || get(http, "/healthz").filter(|answer| answer.status == 200));
    until_failed(http, &["service"]);
    assert_eq!(answer(http, "/metrics").status, 200);

    let server =
        servers::NatsServer::start(servers::version(), &init.server_conf(), init.port, None)
            .unwrap_or_else(|log| panic!("{log}"));
    service.wait_until_ready().unwrap_or_else(|log| panic!("{log}"));
    until_failed(http, &[]);

    server.freeze();
    let report = until_failed(http, &["nats"]);
    let said = "a request to itself did not come back in time";
    assert_eq!(report["parts"]["nats"], said, "the connection itself is open: {report}");
    assert_eq!(answer(http, "/healthz").status, 200, "the process itself is well");
    server.thaw();
    until_failed(http, &[]);

    let view = init.drop_view("schema_version");
    let report = until_failed(http, &["database"]);
    assert_eq!(report["parts"]["nats"], "ok", "{report}");
    init.sql(&view);
    until_failed(http, &[]);

    // A stop waits for what is on its way, which a frozen server never sends.
    server.freeze();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            eventually("a report that it stops", || {
                let report: Value = serde_json::from_str(&get(http, "/readyz")?.body).ok()?;
                (report["parts"]["service"] == "stopping").then_some(())
            });
            server.thaw();
        });
        assert!(service.stop().success());
    });
    assert!(get(http, "/healthz").is_none(), "nothing answers any more");
}

#[test]
fn a_taken_port_is_named_and_an_empty_one_serves_nothing() {
    let init = Initialised::new(Mode::Operator);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let serve = |listen: &str| {
        let mut command = service::program();
        command.args(["serve", "--config"]).arg(init.config());
        command.env("NATS_CALLOUT_HTTP_LISTEN", listen).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let output = serve(&address).wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    for word in [address.as_str(), "[http] listen", "NATS_CALLOUT_HTTP_LISTEN", "already in use"] {
        assert!(said.contains(word), "no {word:?} in {said}");
    }
    let output = serve("nonsense").wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2));

    let mut silent = serve("");
    let mut lines = BufReader::new(silent.stderr.take().unwrap()).lines();
    let line = lines.find(|line| line.as_ref().unwrap().contains("cannot connect to NATS yet"));
    assert!(line.is_some(), "it got past the place where it would listen");
    silent.kill().unwrap();
    silent.wait().unwrap();
}

/// A second deployment on the machine, or any other program, may have the default port. That
/// nobody reads the log any more is no reason to fail either.
#[test]
fn up_begins_although_the_port_is_taken() {
    let init = Initialised::new(Mode::Operator);
    let taken = TcpListener::bind(("127.0.0.1", ports::free())).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut child = service::program()
        .args(["up", "--dir", init.dir().to_str().unwrap(), "--nats-server"])
        .arg(servers::binary(servers::version()))
        .env("NATS_CALLOUT_HTTP_LISTEN", &address)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        said.push_str(&line);
        said.push('\n');
        if line.contains("nats-callout: ready") {
            break;
        }
    }
    assert!(said.contains(&format!("{address} ([http] listen) is taken")), "{said}");
    let begins = said.find("http://127.0.0.1:").expect("the address") + "http://".len();
    let other = said[begins..].split('/').next().unwrap();
    assert_ne!(other, address);
    eventually("readiness", || get(other, "/readyz").filter(|answer| answer.status == 200));
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert!(child.wait().unwrap().success());
}
