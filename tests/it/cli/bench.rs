//! The load test runs on whoever it is pointed at, says what failed, and leaves nothing behind. What
//! it measures is in [`within::under_load`](crate::within::under_load).

mod compared;
pub(crate) mod loads;
mod suite;

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{document, with_stdin};
use crate::harness::choice::either_mode;
use crate::harness::client::Login;
use crate::harness::deployment::{Deployment, Initialised, Mode};
use crate::harness::{depth, eventually, service};

pub(crate) fn leaves_nothing(init: &Initialised) {
    assert_eq!(init.sql("SELECT id FROM tenants UNION SELECT name FROM users;"), "");
    assert_eq!(init.sql("SELECT id FROM tokens;"), "");
}

pub(crate) fn bench(init: &Initialised, status: i32, extra: &[&str]) -> Value {
    let mut args = vec!["--json", "bench"];
    args.extend(extra);
    document(&init.cli(&args), status)
}

#[test]
fn users_of_a_file_log_in_and_wrong_ones_are_counted() {
    let deployment = Deployment::start(Mode::Config);
    let Login::Password(user, password) = deployment.tenant_add("shop", &[]) else { panic!() };
    let token = deployment.token_add("shop", "shop");

    let lines = format!("# the shop\n{user}:{password}\n{user},{password}\n{user}:wrong\n");
    let file = deployment.dir().join("users.csv");
    std::fs::write(&file, &lines).unwrap();
    let path = file.to_str().unwrap();
    let (count, right, wrong) = depth(("12", 8, 4), ("30", 20, 10));
    let result = bench(&deployment, 0, &["--users", path, "--count", count, "-c", "3"]);
    assert_eq!((&result["logins"], &result["errors"]["refused"]), (&right.into(), &wrong.into()));

    let args = ["--json", "bench", "-k", "token", "--users", "-", "--count", "9", "-c", "2"];
    let result = document(&with_stdin(&deployment, &args, &format!("{token}\n")), 0);
    assert_eq!(result["logins"], 9);

    let args = ["--json", "bench", "--users", "-", "--count", "4"];
    let refused = with_stdin(&deployment, &args, "shop:wrong\n");
    assert_eq!(document(&refused, 1)["errors"]["refused"], 4);
    assert!(refused.stderr.contains("not one login succeeded"), "{}", refused.stderr);

    let wrong: [(&[&str], &str, &str); 7] = [
        (&["--users", "nowhere.csv"], "", "nowhere.csv"),
        (&["--users", "-"], "no colon\n", "line 1 is not USER:PASSWORD"),
        (&["--users", "-"], "", "no users"),
        (&["--url", "http://127.0.0.1:1"], "", "bench speaks with"),
        (&["--metrics", "http://127.0.0.1:1/metrics"], "", "write HOST:PORT"),
        (&["--kind", "jwt"], "", "bench makes no jwt"),
        (&["--concurrency", "1000000"], "", "ulimit -n"),
    ];
    for (args, stdin, words) in wrong {
        let mut all = vec!["bench"];
        all.extend(args);
        let output = with_stdin(&deployment, &all, stdin);
        assert_eq!((output.status, output.stdout.as_str()), (2, ""), "{args:?}: {output:?}");
        assert!(output.stderr.contains(words), "{args:?}: {}", output.stderr);
    }
    assert_eq!(deployment.sql("SELECT id FROM tenants;"), "shop");
}

#[test]
fn an_address_with_a_secret_in_it_is_refused_and_not_shown() {
    let init = Initialised::new(Mode::Config);
    let credentials = "--url: credentials do not belong into the address; name a server with";
    for (url, words) in [
        ("nats://u:pw123secret@127.0.0.1:4222", credentials),
        ("nats://pw123secret@127.0.0.1:4222", credentials),
        ("http://u:pw123secret@127.0.0.1:4222", credentials),
        ("tls://127.0.0.1:4222?token=pw123secret", "--url: `?` behind `tls://127.0.0.1:4222`: "),
    ] {
        let output = init.cli(&["bench", "--url", url]);
        assert_eq!((output.status, output.stdout.as_str()), (2, ""), "{output:?}");
        assert!(output.stderr.contains(words), "{output:?}");
        for word in ["pw123secret", "DATABASE", "cannot find the host"] {
            assert!(!output.stderr.contains(word), "{output:?}");
        }
    }
}

/// A server that greets and then does as `after` does.
fn false_server(after: impl Fn(std::net::TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"INFO {\"server_id\":\"N\"}\r\n");
            after(stream);
        }
    });
    url
}

#[test]
fn failures_are_told_apart() {
    let init = Initialised::new(Mode::Operator);
    let within = |timeout: &str, url: &str, count: &str| {
        let args = ["--json", "bench", "--users", "-", "--count", count, "--timeout", timeout];
        let mut args = args.to_vec();
        args.extend(["-c", "2", "--url", url]);
        document(&with_stdin(&init, &args, "a:b\n"), 1)["errors"].clone()
    };
    let run = |url: &str, count: &str| within("30s", url, count);
    // Another machine than the deployment's needs no configuration.
    let elsewhere = tempfile::tempdir().unwrap();
    let silent_url = false_server(|_| {});
    let args = ["--json", "bench", "--users", "-", "--count", "2", "--url", &silent_url];
    let output = service::cli_with_stdin(elsewhere.path(), &args, "a:b\n");
    assert_eq!(document(&output, 1)["failed"], 2);

    let nobody = format!("nats://127.0.0.1:{}", init.port);
    assert_eq!(run(&nobody, "5"), serde_json::json!({"connection_refused": 5}));

    let open = std::sync::Mutex::new(Vec::new());
    let silent = false_server(move |stream| open.lock().unwrap().push(stream));
    assert_eq!(within("300ms", &silent, "4"), serde_json::json!({"timeout": 4}));

    let leaving = false_server(|mut stream| {
        let _ = stream.read(&mut [0; 1_024]);
    });
    assert_eq!(run(&leaving, "4"), serde_json::json!({"connection_closed": 4}));

    let full = false_server(|mut stream| {
        let _ = stream.read(&mut [0; 1_024]);
        let _ = stream.write_all(b"-ERR 'maximum connections exceeded'\r\n");
    });
    assert_eq!(run(&full, "4"), serde_json::json!({"limit_exceeded": 4}));
    // A deployment that is not there costs no tenant either.
    let output = init.cli(&["bench", "--count", "3"]);
    assert_eq!(output.status, 1, "{output:?}");
    leaves_nothing(&init);
}

fn without_the_service_every_login_is_refused(deployment: &mut Deployment) {
    deployment.service.stop();
    let result = bench(deployment, 1, &["--count", "3", "-c", "3"]);
    assert_eq!(result["logins"], 0);
    assert_eq!(result["errors"]["refused"], 3, "{result}");
    leaves_nothing(deployment);
}

fn an_interrupted_bench_reports_and_cleans_up(deployment: &Deployment) {
    let mut child = service::program()
        .args(["--json", "--config", deployment.config().to_str().unwrap()])
        .args(["bench", "--duration", "10m", "-c", depth("2", "5")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut progress = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    eventually("logins in the progress", || {
        line.clear();
        std::io::BufRead::read_line(&mut progress, &mut line).unwrap();
        (line.contains("measuring:") && !line.contains(" 0 logins")).then_some(())
    });
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    drop(progress);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["interrupted"], true, "{result}");
    assert!(result["logins"].as_u64().unwrap() > 0, "{result}");
    leaves_nothing(deployment);
}

fn leaves_nothing_in(mode: Mode) {
    let mut deployment = Deployment::start(mode);
    an_interrupted_bench_reports_and_cleans_up(&deployment);
    without_the_service_every_login_is_refused(&mut deployment);
}

#[test]
fn interrupted_or_refused_it_leaves_nothing() {
    for mode in either_mode() {
        leaves_nothing_in(mode);
    }
}
