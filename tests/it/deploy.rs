//! What `deploy/` holds is true: the servers' configurations are what `init` writes and start a
//! cluster, the commands are the program's, PostgreSQL is set up by the lines as they are printed,
//! and the metrics on dashboard and alerts are there.

mod postgres;
mod servers;
mod unit;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::deployment::Mode;
use crate::harness::{http, loudly, service};

/// A file of `deploy/`.
fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The metrics that a text names, without what Prometheus adds to a histogram's name.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    text.split(word)
        .filter(|word| word.starts_with("nats_callout_") || word.starts_with("process_"))
        // A role of PostgreSQL.
        .filter(|word| *word != "nats_callout_owner")
        .map(|word| {
            let plain = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end));
            plain.unwrap_or(word).to_owned()
        })
        .collect()
}

#[test]
fn dashboard_and_alerts_name_metrics_that_there_are() {
    // An issuer has metrics where there is one, whether it answers or not.
    let issuer = "\n[issuers.kc]\nissuer = \"http://127.0.0.1:1\"\naudience = [\"nats\"]\n";
    let deployment = crate::jwt::deployment(Mode::Operator, issuer);
    let exported = http::get(deployment.http(), "/metrics").expect("an answer").body;
    let exported: BTreeSet<String> = exported
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .filter_map(|line| line.split(' ').next())
        .map(str::to_owned)
        .collect();
    let dashboard = read("grafana/nats-callout.json");
    serde_json::from_str::<Value>(&dashboard).expect("JSON");
    let (shown, alerted) = (metrics_in(&dashboard), metrics_in(&read("prometheus/alerts.yaml")));
    assert!(shown.len() > 20 && alerted.len() > 4, "{shown:?} {alerted:?}");
    let explained = metrics_in(&read("README.md"));
    let named: BTreeSet<String> =
        [&shown, &alerted, &explained].into_iter().flatten().cloned().collect();
    let unknown: Vec<_> = named.difference(&exported).collect();
    assert!(unknown.is_empty(), "nobody exports {unknown:?}");
    let unseen: Vec<_> = exported.difference(&shown).collect();
    assert!(unseen.is_empty(), "the dashboard does not show {unseen:?}");
}

#[test]
fn every_alert_is_explained() {
    let alerts = read("prometheus/alerts.yaml");
    let alerts: BTreeSet<&str> =
        alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let page = read("README.md");
    let rows = page.lines().filter(|line| line.starts_with("| `NatsCallout"));
    let names = rows.filter_map(|row| row.split('|').nth(1)).flat_map(|cell| cell.split('`'));
    let explained: BTreeSet<&str> = names.filter(|name| name.starts_with("NatsCallout")).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    assert_eq!(alerts, explained);
}

/// A command in a YAML file, written as a list over one or more lines.
fn command_of(yaml: &str, service: &str) -> Vec<String> {
    let (_, service) = yaml.split_once(&format!("\n  {service}:\n")).expect("the service");
    let (_, command) = service.split_once("command:").expect("its command");
    let end = command.find(']').expect("the end of a list");
    serde_json::from_str(command[..=end].trim()).expect("a list of strings")
}

#[test]
fn compose_gives_commands_that_the_program_takes() {
    let compose = read("compose.yaml");
    let folder = tempfile::tempdir().unwrap();
    let deployment = folder.path().join("deployment");
    let deployment = deployment.to_str().unwrap();
    let compose = compose.replace("${DATABASE_PASSWORD:?export it}", "p4ss-w_rd");
    let (_, url) = compose.split_once("NATS_CALLOUT_DATABASE_URL: ").expect("the table");
    let url = url.lines().next().unwrap();
    let init = || -> Value {
        let args = command_of(&compose, "init");
        assert!(args.iter().all(|word| !word.contains("p4ss")), "in a command line: {args:?}");
        let args = args.iter().map(|word| word.replace("/var/lib/nats-callout", deployment));
        let mut command = service::program();
        command.arg("--json").args(args).env("NATS_CALLOUT_DATABASE_URL", url);
        let output = command.current_dir(folder.path()).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    assert_eq!(init()["written"], true);
    let toml = fs::read_to_string(format!("{deployment}/nats-callout.toml")).unwrap();
    assert!(toml.contains("postgres://nats_callout:p4ss-w_rd@postgres/nats_callout"), "{toml}");
    assert_eq!(init()["written"], false, "a container that starts again changes nothing");
    assert_eq!(fs::read_to_string(format!("{deployment}/nats-callout.toml")).unwrap(), toml);

    let nats = command_of(&compose, "nats");
    assert_eq!(nats[0], "-c");
    let conf = nats[1].replace("/var/lib/nats-callout", deployment);
    assert!(Path::new(&conf).is_file(), "{conf}");
    for variable in compose.lines().filter_map(|line| line.trim().split_once(": ")) {
        let (name, value) = variable;
        if name.starts_with("NATS_CALLOUT_") && name != "NATS_CALLOUT_PASSWORD" {
            let mut command = service::program();
            command.args(["--config", &format!("{deployment}/nats-callout.toml"), "doctor"]);
            let output = command.env(name, value).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(said.contains("ok   configuration"), "{name}: {said}");
            assert!(!said.contains("overrides no key"), "{name}: {said}");
        }
    }
}

#[test]
fn yaml_is_yaml() {
    const PARSE: &str = "import sys, yaml; yaml.safe_load(open(sys.argv[1]))";
    let has_yaml = Command::new("python3").args(["-c", "import yaml"]).output();
    if !has_yaml.is_ok_and(|output| output.status.success()) {
        loudly("SKIPPED: the YAML of deploy/ is not checked, since Python has no module yaml");
        return;
    }
    for name in ["compose.yaml", "prometheus/alerts.yaml"] {
        let output = Command::new("python3").args(["-c", PARSE]).arg(path(name)).output().unwrap();
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }
}
