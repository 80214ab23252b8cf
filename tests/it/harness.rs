//! What the tests stand on: real nats-servers, the real program, and clients of several languages.
//!
//! START HERE: [`deployment::Deployment`] is a directory that `init` wrote, with its server and its
//! service running. Everything is in a temporary directory, on ports of its own, and gone when the
//! value is dropped; a test that fails shows the logs of what it started. With `KEEP_DEPLOYMENTS`
//! in the environment the directories stay, and their names are printed.

pub(crate) mod accounts;
pub(crate) mod choice;
pub(crate) mod client;
pub(crate) mod clients;
pub(crate) mod cluster;
pub(crate) mod deployment;
pub(crate) mod guesses;
pub(crate) mod http;
pub(crate) mod issuer;
pub(crate) mod keycloak;
pub(crate) mod ports;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod provider;
pub(crate) mod raw;
pub(crate) mod servers;
pub(crate) mod service;
pub(crate) mod staying;
pub(crate) mod tls;
pub(crate) mod turn;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a condition that must come true may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at a condition: often at first, and then seldom enough for the others.
fn pause(elapsed: Duration) -> Duration {
    (elapsed / 8).clamp(Duration::from_millis(5), Duration::from_millis(100))
}

/// Polls until `condition` gives a value; panics with `what` when it takes longer than
/// [`PATIENCE`].
pub(crate) fn eventually<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    eventually_in(PATIENCE, what, condition)
}

/// [`eventually`] for what may take longer.
pub(crate) fn eventually_in<T>(
    patience: Duration,
    what: &str,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(start.elapsed() < patience, "waited {patience:?} in vain for: {what}");
        std::thread::sleep(pause(start.elapsed()));
    }
}

/// [`eventually`] for a condition that awaits something.
pub(crate) async fn eventually_async<T, F>(what: &str, condition: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    eventually_within(PATIENCE, what, condition).await
}

/// [`eventually_async`] for what may take longer, or has to come sooner.
pub(crate) async fn eventually_within<T, F>(
    patience: Duration,
    what: &str,
    mut condition: impl FnMut() -> F,
) -> T
where
    F: Future<Output = Option<T>>,
{
    let start = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(start.elapsed() < patience, "waited {patience:?} in vain for: {what}");
        tokio::time::sleep(pause(start.elapsed())).await;
    }
}

/// How much of something a test does: what a commit can break is seen with the first number;
/// `.ci/nightly` sets `TEST_DEPTH=nightly`, for the second.
pub(crate) fn depth<T>(commit: T, nightly: T) -> T {
    match std::env::var("TEST_DEPTH").as_deref() {
        Ok("nightly") => nightly,
        Ok("commit") | Err(_) => commit,
        Ok(other) => panic!("TEST_DEPTH={other}: write commit or nightly"),
    }
}

/// The build's target folder, where what tests fetch is kept for the next run.
pub(crate) fn target_dir() -> PathBuf {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    tmp.parent().expect("the target folder").to_owned()
}

/// Writes a file that its owner alone may read, as the service wants its keys.
pub(crate) fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;

    std::fs::write(path, text).expect("a file");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("its mode");
}

/// A line that the test runner does not capture: what was skipped must be seen in a green run.
pub(crate) fn loudly(line: &str) {
    let _ = writeln!(std::io::stderr(), "\n==== {line} ====");
}

/// A row of a table below such a line.
pub(crate) fn row(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// All that is fetched from elsewhere, and how long that takes. Each other test fetches what it needs, or waits for
/// whoever does.
#[test]
fn what_the_tests_need_is_there() {
    use self::clients::Language;

    let fetch = |what: String, fetch: &dyn Fn()| {
        let begun = Instant::now();
        fetch();
        loudly(&format!("{what}: {:.0?}", begun.elapsed()));
    };
    std::thread::scope(|scope| {
        for version in [servers::version(), "2.10.26", "2.11.11", "2.12.8"] {
            scope.spawn(move || {
                fetch(format!("nats-server {version}"), &|| drop(servers::binary(version)));
            });
        }
        scope.spawn(move || fetch("PostgreSQL".to_owned(), &|| drop(postgres::programs())));
        let all = [Language::Python, Language::Node, Language::Go, Language::Java, Language::C];
        for language in all {
            scope.spawn(move || {
                let staying = || drop(clients::program(language, "staying"));
                fetch(format!("clients in {language:?}"), &staying);
            });
        }
        scope.spawn(move || fetch("a browser's page".to_owned(), &|| drop(clients::page())));
        scope.spawn(move || fetch("an issuer".to_owned(), &|| drop(clients::issuer())));
    });
}
