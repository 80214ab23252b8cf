//! A suite of measurements, and the tables and charts that are made of it.

use serde_json::Value;

use super::leaves_nothing;
use crate::harness::deployment::{Deployment, Mode};

#[test]
fn everything_is_measured_and_drawn() {
    let deployment = Deployment::start(Mode::Config);
    let folder = deployment.dir().join("results");
    let path = folder.to_str().unwrap();
    let http = deployment.http().replace("127.0.0.1", "localhost");
    let http = http.as_str();
    let suite = ["bench", "suite", path, "-d", "500ms", "--storms", "30", "--hold", "20"];
    let args = [&["--json"], &suite[..], &["--create", "5", "--metrics", http]].concat();
    let made = deployment.cli(&args).success().json();
    let files = made["files"].as_array().unwrap();
    assert_eq!(files.len(), 19, "{made}");
    for file in files {
        let result: Value =
            serde_json::from_str(&std::fs::read_to_string(file.as_str().unwrap()).unwrap())
                .unwrap();
        assert_eq!(result["mode"], "config", "{file}");
        assert!(result["logins"].as_u64().unwrap() > 0, "{file}: {result}");
        assert!(result["decisions"]["count"].as_f64().unwrap() > 0.0, "{file}: {result}");
    }
    leaves_nothing(&deployment);

    let drawn = deployment.cli(&["bench", "report", path]).success().stdout;
    let kept = std::fs::read_to_string(folder.join("report.md")).unwrap();
    assert_eq!(drawn.trim_end(), kept.trim_end());
    // What was measured is what stands there.
    let peak: Value =
        serde_json::from_str(&std::fs::read_to_string(folder.join("peak-nkey.json")).unwrap())
            .unwrap();
    let rate = format!("| {:.0} |", peak["logins_per_second"].as_f64().unwrap());
    let row = kept.lines().find(|line| line.starts_with("| config | nkey |"));
    assert!(row.is_some_and(|row| row.contains(&rate)), "{rate}: {kept}");
    for title in ["Logins, by credential", "First logins", "The highest rate", "at once", "Memory"]
    {
        assert!(kept.contains(title), "{title}: {kept}");
    }
    for chart in ["overload.svg", "storm.svg"] {
        let svg = std::fs::read_to_string(folder.join(chart)).unwrap();
        assert!(svg.contains("<polyline") && svg.contains(">config"), "{chart}: {svg}");
        assert!(kept.contains(chart), "{kept}");
    }
    if cfg!(target_os = "linux") {
        assert!(kept.contains("cpu.svg") && folder.join("cpu.svg").is_file(), "{kept}");
    }
    let none = deployment.cli(&["bench", "report", "nowhere"]);
    assert_eq!(none.status, 2, "{none:?}");
}
