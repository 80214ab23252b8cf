//! The load test measures what it says, and costs far less than what it measures.

use std::time::Duration;

use serde_json::Value;

use crate::cli::bench::loads::{finish, launch};
use crate::cli::bench::{bench, leaves_nothing};
use crate::harness::choice::either_mode;
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::depth;
use crate::harness::turn::alone;

fn measures(mode: Mode) {
    alone();
    let deployment = Deployment::start(mode);
    for kind in ["password", "token"] {
        let args = ["--kind", kind, "--count", "200", "-c", "8", "--create", "4"];
        let result = bench(&deployment, 0, &args);
        assert_eq!(result["logins"], 200, "{result}");
        assert_eq!(result["failed"], 0, "{result}");
        assert_eq!(result["errors"], serde_json::json!({}), "{result}");
        assert_eq!((&result["kind"], &result["users"]), (&kind.into(), &4.into()));
        let rate = result["logins_per_second"].as_f64().unwrap();
        let seconds = result["seconds"].as_f64().unwrap();
        assert!((rate * seconds - 200.0).abs() < 5.0, "{result}");
        let latency = |key: &str| result["latency_ms"][key].as_f64().unwrap();
        let order = ["p50", "p90", "p99", "p99_9", "max"].map(latency);
        assert!(order[0] > 0.0 && order.is_sorted(), "{result}");
        leaves_nothing(&deployment);
    }
    // But for the one publication that the service makes in order to be refused it, and for what
    // nats-server says where two threads register the same account's system imports at once: it
    // looks and adds without a lock (`registerSystemImports`, server/events.go), and the second
    // finds the first's.
    let expected = |line: &str| {
        line.contains("$SYS.REQ.USER.AUTH")
            || (line.contains("Error setting up system service import")
                && line.contains("duplicate service import subject"))
    };
    let unasked = |line: &&str| line.contains("[ERR]") && !expected(line);
    assert_eq!(deployment.server.log().lines().find(unasked), None);
    if cfg!(target_os = "linux") {
        let (time, seconds) = depth(("1s", 1.0..7.0), ("2s", 2.0..8.0));
        let result = bench(&deployment, 0, &["-d", time, "-c", "20", "--warm-up", "200ms"]);
        let cpu = |key: &str| result["cpu"][key].as_f64().unwrap_or_else(|| panic!("{result}"));
        assert!(cpu("server_seconds") > 0.0 && cpu("service_seconds") > 0.0, "{result}");
        assert!(cpu("bench_share") < 0.3, "the bench costs far less than its object: {result}");
        assert!(seconds.contains(&result["seconds"].as_f64().unwrap()), "{result}");
    }
}

/// What a run with one second in it in which the service hangs says of nine of ten clients.
fn p90_with_a_service_that_hangs(deployment: &Deployment, load: &[&str]) -> (f64, Value) {
    let args =
        [load, &["-k", "token", "-d", "4s", "--timeout", "5s", "--metrics", deployment.http()]];
    let running = launch(deployment, &args.concat());
    deployment.init.freeze(&deployment.service);
    std::thread::sleep(Duration::from_secs(1));
    deployment.service.thaw();
    let result = finish(running);
    (result["latency_ms"]["p90"].as_f64().unwrap(), result)
}

/// In a closed loop nobody comes while nobody is let in, so that hardly anybody waits.
#[test]
fn who_would_have_come_waits_in_the_open_model_alone() {
    alone();
    let deployment = Deployment::start(Mode::Config);
    let (closed, loops) = p90_with_a_service_that_hangs(&deployment, &["-c", "2"]);
    let (open, result) = p90_with_a_service_that_hangs(&deployment, &["--rate", "50"]);
    // 50 of 200 clients come in that second, and wait for what is left of it.
    assert!(open > 400.0, "{result}");
    assert!(closed < open / 2.0, "{loops}");
    assert!(loops["latency_ms"]["max"].as_f64().unwrap() > 700.0, "it did hang: {loops}");
    assert_eq!(result["clients"]["started"], 200, "{result}");
    let rows = result["series"].as_array().unwrap();
    assert!(rows.len() >= 4, "{result}");
    let waiting = rows.iter().map(|row| row["waiting"].as_u64().unwrap()).max();
    assert!(waiting >= Some(5), "{result}");
    // It is seen whose time it was.
    let decided = result["decisions"]["count"].as_f64().unwrap();
    assert!(decided >= 190.0, "{result}");
    let who = result["bottleneck"]["who"].as_str().unwrap();
    // Unless the machine was somebody else's.
    assert!(["service", "others"].contains(&who), "{result}");
    leaves_nothing(&deployment);
}

#[test]
fn logins_are_measured() {
    for mode in either_mode() {
        measures(mode);
    }
}
