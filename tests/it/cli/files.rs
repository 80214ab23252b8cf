//! What the service goes by is nobody else's: configuration, policies, key sets and the database's file
//! that others can change, or a password that they can read, are refused by `serve` and named by
//! `doctor`. What Kubernetes and compose mount is no fault.

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

/// The user of a container, and the group that Kubernetes gives its volumes (`fsGroup`).
const USER: u32 = 47_111;
const GROUP: u32 = 47_112;

/// A deployment that the user of a container can read, with the program in it.
fn contained() -> (Initialised, std::path::PathBuf) {
    let init = Initialised::on(Mode::Config, Table::Default);
    let program = init.dir().join("program");
    fs::copy(service::program().get_program(), &program).unwrap();
    chmod(&init.dir(), 0o755);
    chmod(&init.config(), 0o644);
    (init, program)
}

/// What `doctor` says of the key files to that user, who runs in that group.
fn keys_in_container(init: &Initialised, program: &Path) -> (String, String) {
    let output = std::process::Command::new("setpriv")
        .args([format!("--reuid={USER}"), format!("--regid={USER}"), format!("--groups={GROUP}")])
        .arg(program)
        .args(["--json", "--config"])
        .arg(init.config())
        .arg("doctor")
        .output()
        .expect("setpriv");
    let text = String::from_utf8(output.stdout).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).expect(&text);
    let checks = json["checks"].as_array().unwrap().iter();
    let lines: Vec<_> = checks.filter(|line| line["check"] == "key files").collect();
    let word = |key: &str| lines[0][key].as_str().unwrap().to_owned();
    (word("state"), lines.iter().map(|line| line["what"].as_str().unwrap()).collect())
}

fn key_files(folder: &Path) -> Vec<std::path::PathBuf> {
    fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).filter(|it| it.is_file()).collect()
}

fn chown(path: &Path, user: u32, group: u32) {
    std::os::unix::fs::chown(path, Some(user), Some(group)).unwrap();
}

/// As systemd and `setfacl` do: the owner, and one more user. Says whether this file system has such lists.
fn let_in(path: &Path, user: u32) -> bool {
    let rights = if path.is_dir() { 5_u16 } else { 4 };
    let mut list = 2_u32.to_le_bytes().to_vec();
    let none = u32::MAX;
    for (tag, rights, id) in [
        (1_u16, rights, none),
        (2, rights, user),
        (4, 0, none),
        (0x10, rights, none),
        (0x20, 0, none),
    ] {
        list.extend(tag.to_le_bytes());
        list.extend(rights.to_le_bytes());
        list.extend(id.to_le_bytes());
    }
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::setxattr(path, "system.posix_acl_access", &list, flags).is_ok()
}

/// Each place that container platforms put secrets in, as they do it.
#[test]
fn keys_as_kubernetes_systemd_and_compose_mount_them() {
    if !rustix::process::geteuid().is_root() {
        return loudly("SKIPPED: only root makes what others run in");
    }
    let (init, program) = contained();
    let keys = init.dir().join("keys");
    let own = |mode: u32, folder: u32, (user, group): (u32, u32)| {
        chown(&keys, user, group);
        chmod(&keys, folder);
        for file in key_files(&keys) {
            chown(&file, user, group);
            chmod(&file, mode);
        }
    };
    let said = || keys_in_container(&init, &program);
    let ok = |what: &str| {
        let (state, words) = said();
        assert_eq!(state, "ok", "{what}: {words}");
        words
    };
    let refused = |what: &str, remedy: &str| {
        let (state, words) = said();
        assert!(state == "fail" && words.contains(remedy), "{what}: {words}");
    };

    own(0o600, 0o700, (USER, USER));
    assert!(ok("its own").ends_with("readable by the service's user alone"));
    own(0o660, 0o2770, (USER, GROUP));
    assert!(ok("a volume with fsGroup").contains(&format!("user and the group {GROUP} alone")));
    own(0o400, 0o755, (USER, USER));
    ok("a secret of swarm, with uid and mode, in a folder of root");
    own(0o444, 0o755, (0, 0));
    refused("a secret of compose at its default", "chmod 600");
    own(0o440, 0o755, (0, GROUP + 1));
    chmod(&keys, 0o755);
    let (state, words) = said();
    assert!(state == "fail" && !words.contains("chmod go-w"), "{words}");

    own(0o400, 0o500, (0, 0));
    if [&keys].into_iter().chain(&key_files(&keys)).all(|path| let_in(path, USER)) {
        ok("credentials of systemd");
        let_in(&key_files(&keys)[0], USER + 1);
        let (state, words) = said();
        assert!(state == "fail", "somebody else's: {words}");
    } else {
        loudly("SKIPPED: access control lists, which this file system has none of");
    }

    // A Secret: links to a folder beside, in a folder that all may write but for what is not theirs.
    for path in key_files(&keys).iter().chain([&keys]) {
        let _ = rustix::fs::removexattr(path, "system.posix_acl_access");
    }
    let data = keys.join("..2026_01_02_03_04_05.1");
    fs::create_dir(&data).unwrap();
    for file in key_files(&keys) {
        let name = file.file_name().unwrap();
        fs::rename(&file, data.join(name)).unwrap();
        symlink(Path::new("..data").join(name), &file).unwrap();
    }
    symlink(data.file_name().unwrap(), keys.join("..data")).unwrap();
    let projected = |mode: u32| {
        chown(&keys, 0, GROUP);
        chmod(&keys, 0o1777);
        chown(&data, 0, GROUP);
        chmod(&data, 0o2755);
        for file in key_files(&data) {
            chown(&file, 0, GROUP);
            chmod(&file, mode);
        }
    };
    projected(0o440);
    ok("a Secret with defaultMode 0440 and fsGroup");
    projected(0o644);
    refused("a Secret at its default mode", "chmod 600");
}
