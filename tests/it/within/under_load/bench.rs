//! The load test measures what it says, and costs far less than what it measures.

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

#[test]
fn logins_are_measured() {
    for mode in either_mode() {
        measures(mode);
    }
}
