//! Results that are kept, and what comes after them.

use serde_json::{Value, json};

use super::leaves_nothing;
use crate::harness::deployment::{Deployment, Mode};

#[test]
fn a_result_is_compared_with_an_earlier_one() {
    let deployment = Deployment::start(Mode::Config);
    let path = |name: &str| deployment.dir().join(name).to_str().unwrap().to_owned();
    let (saved, changed) = (path("saved.json"), path("changed.json"));
    let run = ["bench", "-k", "token", "--count", "40", "-c", "4"];
    let printed =
        deployment.cli(&[&["--json"], &run[..], &["--save", &saved]].concat()).success().json();
    let kept: Value = serde_json::from_str(&std::fs::read_to_string(&saved).unwrap()).unwrap();
    assert_eq!(kept, printed);

    // Beside itself, as it would be on a machine that is so much slower or faster.
    let compare = |factor: f64, extra: &[&str]| {
        let mut earlier = kept.clone();
        let times =
            |value: &mut Value, factor: f64| *value = json!(value.as_f64().unwrap() * factor);
        times(&mut earlier["logins_per_second"], factor);
        for name in ["p50", "p90", "p99"] {
            times(&mut earlier["latency_ms"][name], 1.0 / factor);
        }
        std::fs::write(&changed, earlier.to_string()).unwrap();
        deployment.cli(&[&run[..], &["--compare", &changed], extra].concat())
    };
    let worse = compare(100.0, &["--tolerance", "50"]);
    assert_eq!(worse.status, 1, "{worse:?}");
    assert!(worse.stderr.contains("logins/s: ") && worse.stderr.contains("worse"), "{worse:?}");
    assert!(worse.stdout.contains("bottleneck  "), "the result is printed all the same: {worse:?}");
    let better = compare(0.01, &[]);
    assert_eq!(better.status, 0, "{better:?}");
    let other = compare(0.01, &["--hold", "1"]);
    assert_eq!(other.status, 2, "{other:?}");
    assert!(other.stderr.contains("its hold is 0, and this one's 1"), "{other:?}");
    let more = compare(0.01, &["--create", "12"]);
    assert_eq!(more.status, 2, "{more:?}");
    assert!(more.stderr.contains("its users is 10, and this one's 12"), "{more:?}");
    let mut interrupted = kept.clone();
    interrupted["interrupted"] = json!(true);
    std::fs::write(&changed, interrupted.to_string()).unwrap();
    let half = deployment.cli(&[&run[..], &["--compare", &changed]].concat());
    assert_eq!((half.status, half.stdout.as_str()), (2, ""), "{half:?}");
    assert!(half.stderr.contains("was interrupted"), "{half:?}");
    std::fs::write(&changed, "{}").unwrap();
    let none = deployment.cli(&[&run[..], &["--compare", &changed]].concat());
    assert_eq!((none.status, none.stdout.as_str()), (2, ""), "{none:?}");
    leaves_nothing(&deployment);
}
