//! Loads that come by the clock, at once, or stay: what becomes of clients that are not let in, and
//! of those that are. How long they wait is in [`within::under_load`](crate::within::under_load).

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use rcgen::CertificateParams;
use serde_json::{Value, json};

use super::{bench, false_server, leaves_nothing};
use crate::cli::{document, with_stdin};
use crate::harness::choice::either_mode;
use crate::harness::client::Login;
use crate::harness::deployment::{Deployment, Initialised, Mode};
use crate::harness::tls::{Authority, nameless};
use crate::harness::{eventually, ports, servers, service};

/// Runs a bench as one user of nobody's against a server, and gives its result.
fn against(url: &str, status: i32, extra: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let mut args = vec!["--json", "bench", "--users", "-", "--url", url];
    args.extend(extra);
    document(&service::cli_with_stdin(folder.path(), &args, "a:b\n"), status)
}

/// Nobody is in, and that is in the figures: each waited until it gave up.
#[test]
fn clients_that_nobody_lets_in_try_until_they_give_up() {
    let open = std::sync::Mutex::new(Vec::new());
    let silent = false_server(move |stream| open.lock().unwrap().push(stream));
    let patience = ["--timeout", "200ms", "--retry", "300ms", "--give-up", "1100ms"];
    let five = ["--rate", "10", "--count", "5"];
    let result = against(&silent, 1, &[&five[..], &patience[..]].concat());
    let clients = &result["clients"];
    assert_eq!((&clients["started"], &clients["not_in"]), (&5.into(), &5.into()), "{result}");
    // At 0, 0.5 and, on a machine with time, 1 s.
    let tries = result["errors"]["timeout"].as_u64().unwrap();
    assert!((5..=15).contains(&tries), "{result}");
    assert_eq!(result["failed"], tries);
    assert!(result["latency_ms"]["p50"].as_f64().unwrap() >= 600.0, "{result}");

    let never = ["--timeout", "200ms", "--retry", "never"];
    let result = against(&silent, 1, &[&five[..], &never[..]].concat());
    assert_eq!(result["errors"], json!({"timeout": 5}));

    let storm = against(&silent, 1, &[&["--storm", "7"], &patience[..]].concat());
    assert_eq!((&storm["clients"]["not_in"], &storm["logins"]), (&7.into(), &0.into()), "{storm}");
    assert_eq!(storm["clients"]["all_in_seconds"], Value::Null);
}

/// What those who are held meet until all of them are in is in no figure.
#[test]
fn those_who_are_held_come_in_before_others_are_measured() {
    let met = std::sync::Mutex::new((0, Vec::new()));
    let server = false_server(move |mut stream| {
        let _ = stream.read(&mut [0; 1_024]);
        let (count, open) = &mut *met.lock().unwrap();
        *count += 1;
        // The first ones are turned away.
        if *count > 4 {
            let _ = stream.write_all(b"PONG\r\n");
            open.push(stream);
        }
    });
    let load = ["--hold", "3", "--retry", "100ms", "--rate", "20", "--count", "4"];
    let result = against(&server, 0, &load);
    let held = &result["held"];
    assert_eq!((&held["connections"], &held["failed"]), (&3.into(), &0.into()), "{result}");
    assert_eq!((&held["closed"], &held["back"]), (&0.into(), &0.into()), "{result}");
    assert_eq!((&result["logins"], &result["failed"]), (&4.into(), &0.into()), "{result}");
}

/// In overload clients still come again when no more begin: rates are of the time until then.
#[test]
fn rates_are_of_the_time_while_clients_come() {
    let open = std::sync::Mutex::new(Vec::new());
    let silent = false_server(move |stream| open.lock().unwrap().push(stream));
    let load = ["--rate", "10", "--count", "5", "--timeout", "300ms"];
    let patience = ["--retry", "100ms", "--give-up", "3s"];
    let result = against(&silent, 1, &[&load[..], &patience[..]].concat());
    let figure = |value: &Value| value.as_f64().unwrap();
    let attempts = figure(&result["attempts"]);
    let within = figure(&result["connections_per_second"]) * figure(&result["seconds"]);
    assert!(within < attempts / 2.0, "{result}");
}

/// A server that takes one login after the other, each for so long.
fn slow_server(each: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"INFO {\"server_id\":\"N\"}\r\n");
            let _ = stream.read(&mut [0; 1_024]);
            std::thread::sleep(each);
            let _ = stream.write_all(b"PONG\r\n");
        }
    });
    url
}

#[test]
fn the_limit_of_a_server_that_takes_a_hundred_a_second_is_found() {
    let server = slow_server(Duration::from_millis(10));
    let args = ["--find-limit", "--p99", "500ms", "--duration", "2s"];
    let result = against(&server, 0, &args);
    let limit = &result["limit"];
    let rate = limit["logins_per_second"].as_f64().unwrap_or_else(|| panic!("{result}"));
    // A rate somewhat above can be borne for two seconds.
    assert!((20.0..=135.0).contains(&rate), "{limit}");
    let steps = limit["steps"].as_array().unwrap();
    let at = |passed: bool| {
        let rates = steps.iter().filter(move |step| step["passed"] == passed);
        rates.map(|step| step["rate"].as_f64().unwrap())
    };
    assert_eq!(at(true).fold(0.0, f64::max), rate, "{limit}");
    // A rate that is too much has failed twice, and is not far above.
    let above: Vec<f64> = at(false).filter(|failed| *failed > rate).collect();
    let lowest = above.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(lowest <= rate * 1.06, "{limit}");
    assert_eq!(above.iter().filter(|rate| **rate == lowest).count(), 2, "{limit}");
    // The figures are those of that rate.
    assert_eq!(result["failed"], 0, "{result}");
    assert!(result["latency_ms"]["p99"].as_f64().unwrap() <= 500.0, "{result}");
}

/// The process, and what it says on its way.
type Running = (Child, BufReader<ChildStderr>);

/// A bench that goes on, whose progress has been read until it measured.
pub(crate) fn launch(deployment: &Initialised, args: &[&str]) -> Running {
    let mut child = service::program()
        .args(["--json", "--config", deployment.config().to_str().unwrap(), "bench"])
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut progress = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    eventually("a bench that measures", || {
        line.clear();
        progress.read_line(&mut line).unwrap();
        line.contains("measuring:").then_some(())
    });
    (child, progress)
}

pub(crate) fn finish((child, mut progress): Running) -> Value {
    // Nobody may leave it with a full pipe.
    let drained = std::thread::spawn(move || {
        let _ = progress.read_to_end(&mut Vec::new());
    });
    let output = child.wait_with_output().unwrap();
    drained.join().unwrap();
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn those_who_are_held_come_back(deployment: &Deployment) {
    deployment.tenant_add("held", &[]);
    let made = deployment.user_add("held", "stays", &["--publish", "before"]);
    let Login::Password(user, password) = made else { panic!() };
    let file = deployment.dir().join("held.csv");
    std::fs::write(&file, format!("{user}:{password}\n")).unwrap();
    let args = ["--users", file.to_str().unwrap(), "--hold", "6", "--retry", "500ms"];
    let held = launch(deployment, &[&args[..], &["--rate", "0.1", "-d", "10m"]].concat());
    // They bear the mark.
    let there = || deployment.server.numbers_of("nats-callout bench");
    let before = there();
    assert!(before.len() >= 6, "{before:?}");
    deployment.sql("UPDATE users SET publish = '[\"after\"]' WHERE name = 'stays';");
    // One that is seen may not be in yet, but one that is seen again and again is.
    let (mut seen, mut looks) = (before.clone(), 0);
    eventually("all six are back, with other connections", || {
        let now = there();
        looks = if now == seen { looks + 1 } else { 0 };
        seen = now;
        (seen.len() >= 6 && seen.is_disjoint(&before) && looks >= 10).then_some(())
    });
    let pid = held.0.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let result = finish(held);
    let held = &result["held"];
    assert_eq!((&held["connections"], &held["closed"]), (&6.into(), &6.into()), "{result}");
    assert_eq!(held["back"], 6, "{result}");
    let rows = result["series"].as_array().unwrap();
    let sum = |name: &str| rows.iter().map(|row| row[name].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("closed"), sum("back")), (6, 6), "{result}");
    assert_eq!(result["clients"]["started"], sum("started"), "{result}");
    if cfg!(target_os = "linux") {
        assert!(held["server_kb_each"].is_number(), "{result}");
    }
    eventually("nobody is left", || there().is_empty().then_some(()));
    deployment.sql("DELETE FROM tenants WHERE id = 'held';");
}

fn a_storm_gets_in(deployment: &Deployment) {
    let csv = deployment.dir().join("storm.csv");
    let args =
        ["--storm", "120", "-k", "token", "--timeout", "20s", "--csv", csv.to_str().unwrap()];
    let result = bench(deployment, 0, &args);
    let clients = &result["clients"];
    assert_eq!((&clients["started"], &clients["not_in"]), (&120.into(), &0.into()), "{result}");
    assert_eq!(result["logins"], 120, "{result}");
    let all_in = clients["all_in_seconds"].as_f64().unwrap();
    let latest = result["latency_ms"]["max"].as_f64().unwrap();
    assert!((all_in * 1e3 - latest).abs() < 1.0, "{result}");
    // They stayed until all were in.
    let table = std::fs::read_to_string(csv).unwrap();
    let header: Vec<&str> = table.lines().next().unwrap().split(',').collect();
    let column = header.iter().position(|name| *name == "open").unwrap();
    let last = table.lines().last().unwrap().split(',').nth(column).unwrap();
    assert_eq!(last, "120", "{table}");
}

fn nkeys_and_first_logins_of_tenants(deployment: &Deployment) {
    let args = ["-k", "nkey", "--create", "3", "--count", "9", "-c", "3"];
    let result = bench(deployment, 0, &args);
    assert_eq!((&result["logins"], &result["failed"]), (&9.into(), &0.into()), "{result}");
    let args = ["-k", "token", "--tenants", "4", "--create", "8", "--count", "8", "-c", "2"];
    let result = bench(deployment, 0, &args);
    assert_eq!((&result["logins"], &result["users"]), (&8.into(), &8.into()), "{result}");
}

#[test]
fn storms_and_those_who_stay() {
    for mode in either_mode() {
        let deployment = Deployment::start(mode);
        a_storm_gets_in(&deployment);
        nkeys_and_first_logins_of_tenants(&deployment);
        those_who_are_held_come_back(&deployment);
        leaves_nothing(&deployment);
    }
}

/// With every listener in TLS, and a certificate asked for.
#[test]
fn over_every_transport() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::new(folder.path(), "authority");
    let service = authority.client("service", nameless());
    let (websocket, mqtt, block) = (ports::free(), ports::free(), authority.block(true));
    let mut deployment = Deployment::start_prepared(Mode::Operator, servers::version(), |init| {
        init.add_to_server_conf(&format!(
            "{block}\
             websocket {{ listen: \"127.0.0.1:{websocket}\"\n{block} }}\n\
             mqtt {{ listen: \"127.0.0.1:{mqtt}\"\n{block} }}\n"
        ));
        init.set("tls_ca", &format!("{:?}", authority.ca));
        init.set("tls_certificate", &format!("{:?}", service.certificate));
        init.set("tls_key", &format!("{:?}", service.key));
    });
    let tcp = deployment.init.port;
    let at = |scheme: &str, port: u16| format!("{scheme}://127.0.0.1:{port}");
    for (scheme, port, kind) in
        [("tls", tcp, "token"), ("wss", websocket, "nkey"), ("mqtts", mqtt, "token")]
    {
        let url = at(scheme, port);
        let args = ["--url", &url, "--count", "6", "-c", "2", "-k", kind, "--timeout", "20s"];
        let result = bench(&deployment, 0, &args);
        assert_eq!((&result["logins"], &result["failed"]), (&6.into(), &0.into()), "{result}");
        assert_eq!(result["transport"], scheme, "{result}");
    }

    deployment.tenant_add("shop", &[]);
    let name = "app.example.com".to_owned();
    deployment
        .cli(&["user", "add", "shop", "app", "--publish", "x", "--certificate", &name])
        .success();
    let app = authority.client("app", CertificateParams::new([name]).unwrap());
    let line = format!("{},{}\n", app.certificate.display(), app.key.display());
    let url = at("tls", tcp);
    let args = ["--json", "bench", "-k", "certificate", "--users", "-", "--count", "4", "-c", "2"];
    let result = with_stdin(&deployment, &[&args[..], &["--url", &url]].concat(), &line);
    // Without a configuration of its own the bench is told whom to trust.
    assert_eq!(document(&result, 1)["errors"], json!({"tls": 4}));
    let ca = authority.ca.to_str().unwrap();
    let args = [&args[..], &["--url", &url, "--tls-ca", ca]].concat();
    assert_eq!(document(&with_stdin(&deployment, &args, &line), 0)["logins"], 4);
    let plain = at("nats", tcp);
    let args = ["bench", "-k", "certificate", "--users", "-", "--url", &plain];
    let refused = with_stdin(&deployment, &args, &line);
    assert_eq!(refused.status, 2, "{refused:?}");

    // Without TLS the server takes nobody, and whom it does not know the bench does not trust.
    let result = bench(&deployment, 1, &["--url", &plain, "--count", "2", "-c", "1"]);
    assert_eq!(result["logins"], 0, "{result}");
    let stranger = Authority::new(folder.path(), "stranger");
    let ca = stranger.ca.to_str().unwrap();
    let args = ["--json", "bench", "--url", &url, "--tls-ca", ca, "--users", "-", "--count", "2"];
    let result = document(&with_stdin(&deployment, &args, "a:b\n"), 1);
    assert_eq!(result["errors"], json!({"tls": 2}), "{result}");
    // One that shows no certificate is not even asked who it is.
    let ca = authority.ca.to_str().unwrap();
    let args = ["--json", "bench", "--url", &url, "--tls-ca", ca, "--users", "-", "--count", "2"];
    let result = document(&with_stdin(&deployment, &args, "a:b\n"), 1);
    assert_eq!((&result["logins"], &result["failed"]), (&0.into(), &2.into()), "{result}");
    deployment.sql("DELETE FROM tenants WHERE id = 'shop';");

    deployment.service.stop();
    for (scheme, port) in [("tls", tcp), ("wss", websocket), ("mqtts", mqtt)] {
        let result = bench(&deployment, 1, &["--url", &at(scheme, port), "--count", "2"]);
        assert_eq!((&result["logins"], &result["failed"]), (&0.into(), &2.into()), "{result}");
    }
    leaves_nothing(&deployment);
}
