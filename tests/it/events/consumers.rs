//! The consumers that others copy, in Rust, Python and Node: they handle every event once, try
//! again what fails, set it aside in the end, and go on where they were when they are killed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::{holds, login};
use crate::harness::choice::either_mode;
use crate::harness::clients::{Language, program};
use crate::harness::deployment::{Deployment, Mode};
use crate::harness::process::Process;
use crate::harness::{eventually, target_dir};

/// Starts an example; nothing where its language is not on this machine.
type Program = fn() -> Option<Command>;

/// The examples, by the name in their consumers'.
const EXAMPLES: [(&str, Program); 3] = [
    ("rust", rust),
    ("python", || program(Language::Python, "event_consumer")),
    ("node", || program(Language::Node, "event_consumer")),
];

/// The example, which `cargo test` has built, and `cargo test --test it` has not.
fn rust() -> Option<Command> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let program = BUILT.get_or_init(|| {
        let (target, sources) = (target_dir(), Path::new(env!("CARGO_MANIFEST_DIR")));
        let program = target.join("debug/examples/event_consumer");
        let changed = |path: &Path| path.metadata().and_then(|it| it.modified()).ok();
        if changed(&program) < changed(&sources.join("examples/event_consumer.rs")) {
            let built = Command::new(env!("CARGO"))
                .args(["build", "--quiet", "--example", "event_consumer", "--target-dir"])
                .arg(&target)
                .current_dir(sources)
                .status()
                .expect("cargo");
            assert!(built.success(), "{built}");
        }
        program
    });
    Some(Command::new(program))
}

/// One of the examples at work, and where it puts what it has handled.
struct Consumer {
    name: &'static str,
    folder: PathBuf,
    process: Process,
}

impl Consumer {
    /// Starts it with a login of BB.
    fn start(deployment: &Deployment, name: &'static str, command: Program) -> Option<Self> {
        let mut command = command()?;
        let folder = deployment.dir().join("handled").join(name);
        for of in ["auth.tenant.created", "auth.user.created", "auth.user.updated", "parked"] {
            std::fs::create_dir_all(folder.join(of)).expect("a folder");
        }
        let key = deployment.dir().join(match deployment.mode {
            Mode::Operator => "keys/bb.creds",
            Mode::Config => "keys/bb.nk",
        });
        command.arg(deployment.url()).arg(key).arg(&folder);
        let log = deployment.dir().join(format!("consumer-{name}.log"));
        Some(Self { name, folder, process: Process::spawn(name, &mut command, &log) })
    }

    /// Starts all of them.
    fn start_all(deployment: &Deployment) -> Vec<Self> {
        let started = EXAMPLES.map(|(name, command)| Self::start(deployment, name, command));
        started.into_iter().flatten().collect()
    }

    /// Waits until so many events lie in the folders of their kinds, and no others.
    fn has_handled(&self, wanted: &[(&str, usize)]) {
        let wanted: BTreeMap<String, usize> =
            wanted.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect();
        eventually(&format!("{wanted:?} in {}", self.name), || {
            (handled(&self.folder) == wanted).then_some(())
        });
    }

    /// Waits until it has said so, this often, since its first start.
    fn has_said(&self, words: &str, times: usize) {
        eventually(&format!("{times} times {words:?} by {}", self.name), || {
            (self.process.log().matches(words).count() == times).then_some(())
        });
    }
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

async fn consume(mode: Mode) {
    let deployment = Deployment::start(mode);
    let bb = login(&deployment, mode, "bb").await;
    let start = || Consumer::start_all(&deployment);
    deployment.sql(
        "INSERT INTO tenants (id, name) VALUES ('1', 'One');\n\
         INSERT INTO users (tenant_id, name) VALUES ('1', 'a'), ('1', 'b');\n\
         UPDATE users SET status = 'suspended' WHERE name = 'a';\n\
         DELETE FROM users WHERE name = 'b'",
    );
    holds(&bb, "AUTH_EVENTS", 5).await;
    let consumers = start();
    // There is no folder for what was removed, so that this one is tried five times.
    let (tenants, users) = ("auth.tenant.created", "auth.user.created");
    let wanted = [(tenants, 1), (users, 2), ("auth.user.updated", 1), ("parked", 1)];
    for consumer in &consumers {
        consumer.has_handled(&wanted);
        consumer.has_said("parked auth.", 1);
        let log = consumer.process.log();
        assert_eq!(log.matches("failed auth.user.removed b ").count(), 4, "{log}");
        assert_eq!(log.matches("parked auth.user.removed b ").count(), 1, "{log}");
        assert_eq!(log.matches("handled auth.").count(), 4, "{log}");
    }

    // Killed, and started again: it goes on where it was.
    drop(consumers);
    deployment.sql("INSERT INTO tenants (id, name) VALUES ('2', 'Two')");
    let consumers = start();
    let wanted = [(tenants, 2), (users, 2), ("auth.user.updated", 1), ("parked", 1)];
    consumers.iter().for_each(|consumer| consumer.has_handled(&wanted));

    // All over again: what was handled is not handled twice.
    let names: Vec<&str> = consumers.iter().map(|consumer| consumer.name).collect();
    drop(consumers);
    for name in names {
        let consumer = format!("$JS.API.CONSUMER.DELETE.AUTH_EVENTS.example-{name}");
        bb.jetstream(&consumer, &serde_json::json!({})).await;
    }
    for consumer in start() {
        consumer.has_said("again auth.", 5);
        consumer.has_said("parked auth.", 2);
        consumer.has_handled(&wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_in_rust_python_and_node() {
    for mode in either_mode() {
        consume(mode).await;
    }
}

/// Operator mode: BB's login is a creds file, and a seed in the other.
#[tokio::test(flavor = "multi_thread")]
async fn the_examples_log_in_with_a_creds_file() {
    let deployment = Deployment::start(Mode::Operator);
    let bb = login(&deployment, Mode::Operator, "bb").await;
    deployment.sql("INSERT INTO tenants (id, name) VALUES ('1', 'One')");
    holds(&bb, "AUTH_EVENTS", 1).await;
    let (tenants, users) = ("auth.tenant.created", "auth.user.created");
    let wanted = [(tenants, 1), (users, 0), ("auth.user.updated", 0), ("parked", 0)];
    for consumer in Consumer::start_all(&deployment) {
        consumer.has_handled(&wanted);
    }
}
