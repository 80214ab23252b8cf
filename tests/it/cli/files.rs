//! What the service goes by is nobody else's: configuration, policies, key sets and the database's file
//! that others can change, or a password that they can read, are refused by `serve` and named by
//! `doctor`. What Kubernetes and compose mount is no fault; keys that they mount are in `containers`.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use super::document;
use crate::harness::deployment::{Initialised, Mode, Table};
use crate::harness::{loudly, service};

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A deployment with a policy, and a key set of an issuer.
fn with_files(table: Table) -> Initialised {
    let init = Initialised::on(Mode::Config, table);
    let folder = init.dir().join("policies");
    fs::create_dir(&folder).unwrap();
    chmod(&folder, 0o755);
    fs::write(folder.join("own.toml"), "[account]\n[shared]\n").unwrap();
    fs::write(init.dir().join("jwks.json"), "{\"keys\":[]}").unwrap();
    for file in ["policies/own.toml", "jwks.json"] {
        chmod(&init.dir().join(file), 0o644);
    }
    init.set("folder", "\"policies\"");
    let text = fs::read_to_string(init.config()).unwrap();
    let more = "\n[issuers.one]\nissuer = \"https://id.example\"\n\
                audience = [\"nats\"]\njwks_file = \"jwks.json\"\nuser_claim = \"sub\"\n";
    fs::write(init.config(), text + more).unwrap();
    init
}

/// The lines of doctor's check, by state.
fn found(init: &Initialised) -> Vec<(String, String)> {
    let output = init.cli(&["--json", "doctor"]);
    let json = document(&output, output.status);
    let lines = json["checks"].as_array().unwrap().iter();
    let lines = lines.filter(|line| line["check"] == "other files");
    let text = |line: &serde_json::Value, key: &str| line[key].as_str().unwrap().to_owned();
    lines.map(|line| (text(line, "state"), text(line, "what"))).collect()
}

#[track_caller]
fn sound(init: &Initialised) {
    let found = found(init);
    assert!(found.iter().all(|(state, _)| state == "ok") && found.len() == 1, "{found:?}");
}

/// Panics unless both refuse `path`, with this remedy, and nothing else.
#[track_caller]
fn refused(init: &Initialised, path: &Path, remedy: &str) {
    let found = found(init);
    let [(state, what)] = &found[..] else { panic!("{found:?}") };
    let command = format!("{remedy} {}`", path.display());
    assert!(state == "fail" && what.contains(&command), "no {command} in {what}");
    let log = init.serve().expect_err("serve starts");
    assert!(log.contains(&command), "no {command} in {log}");
    assert!(!log.contains("connected to NATS"), "{log}");
}

#[test]
fn what_others_can_change_is_refused() {
    let init = with_files(Table::Default);
    sound(&init);
    let dir = init.dir();
    for (file, wrong, right, remedy) in [
        ("nats-callout.toml", 0o666, 0o600, "chmod go-w"),
        ("policies/own.toml", 0o646, 0o644, "chmod go-w"),
        ("policies", 0o777, 0o755, "chmod go-w"),
        ("jwks.json", 0o602, 0o644, "chmod go-w"),
    ] {
        let path = dir.join(file);
        chmod(&path, wrong);
        refused(&init, &path, remedy);
        chmod(&path, right);
    }
    init.cli(&["list"]).success();
    let database = dir.join("nats-callout.db");
    chmod(&database, 0o662);
    refused(&init, &database, "chmod o-w");
    // A group may write tenants.
    chmod(&database, 0o660);
    sound(&init);
    chmod(&dir, 0o777);
    assert!(found(&init).iter().any(|(state, what)| {
        state == "fail" && what.contains(&format!("chmod go-w {}", dir.display()))
    }));
}

#[test]
fn a_password_that_others_can_read_is_refused() {
    let init = with_files(Table::Default);
    chmod(&init.config(), 0o644);
    sound(&init);
    let text = fs::read_to_string(init.config()).unwrap();
    let line = text.lines().find(|line| line.starts_with("url = \"sqlite:")).unwrap();
    let url = "url = \"postgres://me:s3cret@127.0.0.1:1/none\"";
    fs::write(init.config(), text.replace(line, url)).unwrap();
    refused(&init, &init.config(), "chmod 600");
    chmod(&init.config(), 0o600);
    sound(&init);
}

/// A ConfigMap is a folder of links with every right, behind a link to a folder, on a file system that
/// is mounted read-only; a Secret's is sticky besides.
#[test]
fn what_kubernetes_and_compose_mount_is_no_fault() {
    let init = with_files(Table::Default);
    let mounted = init.dir().join("mounted");
    let data = mounted.join("..2026_01_02_03_04_05.1");
    fs::create_dir_all(&data).unwrap();
    fs::copy(init.dir().join("policies/own.toml"), data.join("own.toml")).unwrap();
    symlink("..2026_01_02_03_04_05.1", mounted.join("..data")).unwrap();
    symlink("..data/own.toml", mounted.join("own.toml")).unwrap();
    chmod(&data, 0o755);
    chmod(&mounted, 0o1777);
    let text = fs::read_to_string(init.config()).unwrap();
    fs::write(init.config(), text.replace("folder = \"policies\"", "folder = \"mounted\""))
        .unwrap();
    sound(&init);

    // Without the sticky bit, and files for everybody: well only where nobody can write at all.
    chmod(&mounted, 0o777);
    chmod(&data.join("own.toml"), 0o666);
    assert!(found(&init).iter().all(|(state, _)| state == "fail"));
    let script = "mount --bind \"$0\" \"$0\" && mount -o remount,ro,bind \"$0\" && exec \"$@\"";
    let program = service::program();
    let output = std::process::Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .arg(&mounted)
        .arg(program.get_program())
        .args(["--json", "--config"])
        .arg(init.config())
        .arg("doctor")
        .output();
    match output {
        Ok(output) if !output.stdout.is_empty() => {
            let text = String::from_utf8(output.stdout).unwrap();
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            let checks = json["checks"].as_array().unwrap();
            let line = checks.iter().find(|line| line["check"] == "other files").unwrap();
            assert_eq!(line["state"], "ok", "{line}");
        }
        _ => loudly("SKIPPED: this user may mount nothing, read-only or otherwise"),
    }
}

/// An edit that may be somebody else's is not taken while the service runs.
#[test]
fn a_policy_that_others_can_change_meanwhile_is_not_taken() {
    use crate::harness::deployment::Deployment;
    use crate::harness::{eventually, servers};

    let deployment = Deployment::start_prepared(Mode::Config, servers::version(), |init| {
        let folder = init.dir().join("policies");
        fs::create_dir(&folder).unwrap();
        chmod(&folder, 0o1777);
        init.set("folder", "\"policies\"");
    });
    let file = deployment.dir().join("policies/bb.toml");
    fs::write(&file, "[account]\n[shared]\npublish = [\"user.{{tenant.id}}.x\"]\n").unwrap();
    chmod(&file, 0o666);
    eventually("the refusal of the edit", || {
        let log = deployment.service.log();
        (log.contains("the old ones stay in use") && log.contains("chmod go-w")).then_some(())
    });
    chmod(&file, 0o644);
    eventually("the edit", || {
        deployment.service.log().contains("were edited and are in use").then_some(())
    });
}
