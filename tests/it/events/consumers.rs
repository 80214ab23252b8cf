//! The consumers that others copy, in Rust, Python and Node: they handle every event once, try
//! again what fails, set it aside in the end, and go on where they were when they are killed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{holds, login};
use crate::harness::clients::{Language, program};
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::process::Process;
use crate::harness::{eventually, target_dir};

/// The example, built: `cargo test --test it` alone builds none.
fn rust() -> Command {
    let target = target_dir();
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--example", "event_consumer", "--target-dir"])
        .arg(&target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo");
    assert!(built.success(), "{built}");
    Command::new(target.join("debug/examples/event_consumer"))
}

/// What is in each folder: how many events were handled there.
fn handled(folder: &Path) -> BTreeMap<String, usize> {
    let entries = |folder: &Path| {
        let entries = std::fs::read_dir(folder).expect("a folder");
        entries.map(|entry| entry.expect("an entry").path()).collect::<Vec<_>>()
    };
    let folders = entries(folder).into_iter().filter(|path| path.is_dir());
    let named = |path: &PathBuf| path.file_name().expect("a name").to_string_lossy().into_owned();
    folders.map(|path| (named(&path), entries(&path).len())).collect()
}

fn expect(folder: &Path, process: &Process, wanted: &[(&str, usize)]) {
    let wanted: BTreeMap<String, usize> =
        wanted.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
    eventually(&format!("{wanted:?}, so far {:?}\n{}", handled(folder), process.log()), || {
        (handled(folder) == wanted).then_some(())
    });
}

async fn consumes(mode: Mode, name: &str, command: impl Fn() -> Option<Command>) {
    let Some(mut first) = command() else { return };
    let deployment = Deployment::start(mode);
    let bb = login(&deployment, mode, "bb").await;
    let folder = deployment.dir().join("handled");
    for of in ["auth.tenant.created", "auth.user.created", "auth.user.updated", "parked"] {
        std::fs::create_dir_all(folder.join(of)).expect("a folder");
    }
    let key = deployment.dir().join(match mode {
        Mode::Operator => "keys/bb.creds",
        Mode::Config => "keys/bb.nk",
    });
    let start = |command: &mut Command| {
        command.arg(deployment.url()).arg(&key).arg(&folder);
        Process::spawn(name, command, &deployment.dir().join("consumer.log"))
    };
    deployment.sql(
        "INSERT INTO tenants (id, name) VALUES ('1', 'One');\n\
         INSERT INTO users (tenant_id, name) VALUES ('1', 'a'), ('1', 'b');\n\
         UPDATE users SET status = 'suspended' WHERE name = 'a';\n\
         DELETE FROM users WHERE name = 'b'",
    );
    holds(&bb, "AUTH_EVENTS", 5).await;
    let mut process = start(&mut first);
    // There is no folder for what was removed, so that this one is tried five times.
    let (tenants, users) = ("auth.tenant.created", "auth.user.created");
    let wanted = [(tenants, 1), (users, 2), ("auth.user.updated", 1), ("parked", 1)];
    expect(&folder, &process, &wanted);
    eventually("the last word on it", || process.log().contains("parked auth.").then_some(()));
    let log = process.log();
    assert_eq!(log.matches("failed auth.user.removed b ").count(), 4, "{log}");
    assert_eq!(log.matches("parked auth.user.removed b ").count(), 1, "{log}");
    assert_eq!(log.matches("handled auth.").count(), 4, "{log}");

    // Killed, and started again: it goes on where it was.
    process.kill9();
    deployment.sql("INSERT INTO tenants (id, name) VALUES ('2', 'Two')");
    let mut process = start(&mut command().expect("as before"));
    let wanted = [(tenants, 2), (users, 2), ("auth.user.updated", 1), ("parked", 1)];
    expect(&folder, &process, &wanted);
    process.kill9();

    // All over again: what was handled is not handled twice.
    let consumer = format!("$JS.API.CONSUMER.DELETE.AUTH_EVENTS.example-{name}");
    bb.jetstream(&consumer, &serde_json::json!({})).await;
    let process = start(&mut command().expect("as before"));
    eventually("every event again", || {
        (process.log().matches("again auth.").count() == 5).then_some(())
    });
    eventually("the failing one's end", || {
        (process.log().matches("parked auth.").count() == 2).then_some(())
    });
    expect(&folder, &process, &wanted);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_in_rust() {
    for mode in [Mode::Operator, Mode::Config] {
        consumes(mode, "rust", || Some(rust())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_in_python() {
    for mode in [Mode::Operator, Mode::Config] {
        consumes(mode, "python", || program(Language::Python, "event_consumer")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_in_node() {
    for mode in [Mode::Operator, Mode::Config] {
        consumes(mode, "node", || program(Language::Node, "event_consumer")).await;
    }
}
