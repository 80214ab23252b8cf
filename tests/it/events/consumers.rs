//! The consumers that others copy, in Rust, Python and Node: they handle every event once, try
//! again what fails, set it aside in the end, and go on where they were when they are killed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::{holds, login};
use crate::harness::choice::lacks;
use crate::harness::clients::{Language, program};
use crate::harness::deployment::{Deployment, Initialised, Mode};
use crate::harness::process::Process;
use crate::harness::{eventually, servers, target_dir};

/// Starts an example; nothing where its language is not on this machine.
type Program = fn() -> Option<Command>;

/// The examples, and the consumer that each reads.
const EXAMPLES: [(&str, Program); 3] = [
    ("events", rust),
    ("python", || program(Language::Python, "event_consumer")),
    ("node", || program(Language::Node, "event_consumer")),
];

/// A deployment of config mode with the consumers of all examples, by the lines that deploy/README.md
/// says: each that names the consumer `events` again, with another name.
fn with_more_consumers(init: &Initialised) {
    let consumers = EXAMPLES.map(|(consumer, _)| consumer);
    init.set("changes_consumers", &format!("{consumers:?}"));
    let conf = std::fs::read_to_string(init.server_conf()).expect("a configuration");
    let again = |line: &str| {
        let name =
            |consumer| line.replace("AUTH_EVENTS.events", &format!("AUTH_EVENTS.{consumer}"));
        if line.contains("AUTH_EVENTS.events") {
            consumers.map(name).join("\n")
        } else {
            line.to_owned()
        }
    };
    let conf: Vec<String> = conf.lines().map(again).collect();
    std::fs::write(init.server_conf(), conf.join("\n")).expect("a configuration");
}

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
    /// Starts it with the login of the events' reader.
    fn start(
        deployment: &Deployment,
        name: &'static str,
        folder: &Path,
        command: Program,
    ) -> Option<Self> {
        let mut command = command()?;
        for of in ["auth.tenant.created", "auth.user.created", "auth.user.updated", "parked"] {
            std::fs::create_dir_all(folder.join(of)).expect("a folder");
        }
        let key = deployment.dir().join(match deployment.mode {
            Mode::Operator => "keys/events.creds",
            Mode::Config => "keys/events.nk",
        });
        command.arg(deployment.url()).arg(key).arg(folder).arg(name);
        let log = deployment.dir().join(format!("consumer-{name}.log"));
        let process = Process::spawn(name, &mut command, &log);
        Some(Self { name, folder: folder.to_owned(), process })
    }

    /// Starts all of them.
    fn start_all(deployment: &Deployment) -> Vec<Self> {
        let started = EXAMPLES.map(|(name, command)| {
            let folder = deployment.dir().join("handled").join(name);
            Self::start(deployment, name, &folder, command)
        });
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

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_in_rust_python_and_node() {
    let version = servers::version();
    let mut deployment = Deployment::start_prepared(Mode::Config, version, with_more_consumers);
    let auth = login(&deployment, Mode::Config, "auth").await;
    deployment.sql(
        "INSERT INTO tenants (id, name) VALUES ('1', 'One');\n\
         INSERT INTO users (tenant_id, name) VALUES ('1', 'a'), ('1', 'b');\n\
         UPDATE users SET status = 'suspended' WHERE name = 'a';\n\
         DELETE FROM users WHERE name = 'b'",
    );
    holds(&auth, "AUTH_EVENTS", 5).await;
    let consumers = Consumer::start_all(&deployment);
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
    let consumers = Consumer::start_all(&deployment);
    let wanted = [(tenants, 2), (users, 2), ("auth.user.updated", 1), ("parked", 1)];
    consumers.iter().for_each(|consumer| consumer.has_handled(&wanted));

    // All over again, by consumers that are made anew: what was handled is not handled twice.
    drop(consumers);
    for (name, _) in EXAMPLES {
        let consumer = format!("$JS.API.CONSUMER.DELETE.AUTH_EVENTS.{name}");
        auth.jetstream(&consumer, &serde_json::json!({})).await;
    }
    deployment.service.restart();
    for consumer in Consumer::start_all(&deployment) {
        consumer.has_said("again auth.", 5);
        consumer.has_said("parked auth.", 2);
        consumer.has_handled(&wanted);
    }
}

/// Operator mode: the login is a creds file, and a seed in the other. The examples share a consumer,
/// of which each goes on where another ended.
#[tokio::test(flavor = "multi_thread")]
async fn the_examples_log_in_with_a_creds_file() {
    if lacks(Mode::Operator) {
        return;
    }
    let deployment = Deployment::start(Mode::Operator);
    let kinds = ["auth.tenant.created", "auth.user.created", "auth.user.updated", "parked"];
    for (at, (_, command)) in EXAMPLES.into_iter().enumerate() {
        let name = format!("one-{at}");
        deployment.sql(&format!("INSERT INTO tenants (id, name) VALUES ('{name}', 'One')"));
        let folder = deployment.dir().join("handled").join(&name);
        let Some(consumer) = Consumer::start(&deployment, "events", &folder, command) else {
            continue;
        };
        consumer.has_said(&format!("handled auth.tenant.created {name} "), 1);
        consumer.has_handled(&kinds.map(|kind| (kind, usize::from(kind == kinds[0]))));
    }
}
