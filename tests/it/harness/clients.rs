//! Clients of other languages: installed once into the target folder by their own package
//! managers, in a folder named after what is to be installed. A language whose toolchain is not on
//! this machine is skipped with a line that nobody can overlook.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::client::Login;
use super::{loudly, target_dir, turn};

/// A language with a client program in `tests/clients`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Language {
    Python,
    Node,
    Go,
    Java,
    C,
    Php,
    Ruby,
}

/// What a client program does after its login.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) subscribe: String,
    pub(crate) publish: String,
    pub(crate) request: String,
    pub(crate) forbidden: Option<String>,
    pub(crate) inbox_prefix: Option<String>,
    pub(crate) jetstream: Option<Stream>,
}

/// A stream that holds a subject, and a durable consumer of it.
#[derive(Debug, Clone)]
pub(crate) struct Stream {
    pub(crate) stream: String,
    pub(crate) consumer: String,
    pub(crate) subject: String,
    /// Whether the program makes both.
    pub(crate) create: bool,
}

/// What a client program saw.
#[derive(Debug, Deserialize)]
pub(crate) struct Seen {
    pub(crate) connected: bool,
    pub(crate) error: Option<String>,
    pub(crate) received: Vec<String>,
    pub(crate) reply: Option<String>,
    pub(crate) violations: Vec<String>,
    pub(crate) jetstream: Option<Stored>,
}

/// What JetStream did: the sequence numbers of what was published, what was fetched and
/// acknowledged, and what the consumer has left.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Stored {
    pub(crate) acks: Vec<u64>,
    pub(crate) fetched: Vec<String>,
    pub(crate) pending: u64,
    pub(crate) ack_pending: u64,
}

/// Runs the scenario in a language; `None` where its toolchain is missing.
pub(crate) fn login(
    language: Language,
    url: &str,
    login: &Login,
    scenario: &Scenario,
) -> Option<Seen> {
    let options = match login {
        Login::Password(user, password) => vec!["--user", user, "--password", password],
        Login::Token(token) => vec!["--token", token],
        Login::Nothing => vec![],
    };
    login_by(language, url, &options, scenario)
}

/// [`login`] with the program's own options, for what is no [`Login`].
pub(crate) fn login_by(
    language: Language,
    url: &str,
    options: &[&str],
    scenario: &Scenario,
) -> Option<Seen> {
    let mut command = program(language, "login")?;
    command.arg(url).args(options);
    if let Some(prefix) = &scenario.inbox_prefix {
        command.args(["--inbox-prefix", prefix]);
    }
    command.args(["--subscribe", &scenario.subscribe, "--publish", &scenario.publish]);
    command.args(["--request", &scenario.request]);
    if let Some(forbidden) = &scenario.forbidden {
        command.args(["--forbidden", forbidden]);
    }
    if let Some(Stream { stream, consumer, subject, create }) = &scenario.jetstream {
        command.args(["--stream", stream, "--consumer", consumer, "--store", subject]);
        if *create {
            command.arg("--create");
        }
    }
    Some(report(&mut command))
}

/// Runs a program that prints one JSON document, and reads that.
pub(crate) fn report<T: DeserializeOwned>(command: &mut Command) -> T {
    turn::take();
    let output = command.stdin(Stdio::null()).output().expect("the client starts");
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{stdout}\n{stderr}", output.status);
    serde_json::from_str(stdout.trim())
        .unwrap_or_else(|error| panic!("{command:?}: {error}\n{stdout}\n{stderr}"))
}

/// `go` with its caches in the target folder; `None` where it is missing.
pub(crate) fn go() -> Option<Command> {
    if !works("go") {
        return None;
    }
    let cache = target_dir().join("clients/go-cache");
    let mut command = Command::new("go");
    command
        .env("GOFLAGS", "-mod=readonly -modcacherw -buildvcs=false")
        .env("GOPATH", cache.join("path"))
        .env("GOMODCACHE", cache.join("mod"))
        .env("GOCACHE", cache.join("build"))
        .env("CGO_ENABLED", "0")
        // A compiler that lives for seconds need not tidy up.
        .env("GOGC", "400");
    Some(command)
}

/// A Go program of this repository, built; `None` where Go is missing.
pub(crate) fn go_program(source: &'static str) -> Option<PathBuf> {
    installed(&["go"], source, |source, folder| {
        run(go()
            .expect("it works")
            .args(["build", "-trimpath", "-o"])
            .arg(folder.join("program"))
            .arg(".")
            .current_dir(source));
    })
    .map(|folder| folder.join("program"))
}

/// Whether a tool is on this machine, or what C includes or Ruby requires.
fn works(tool: &str) -> bool {
    let (program, arguments): (&str, &[&str]) = match tool {
        "go" => ("go", &["version"]),
        "libnats" => ("cc", &["-E", "-x", "c", "-include", "nats/nats.h", "/dev/null"]),
        "ruby-bcrypt" => ("ruby", &["-e", "require 'bcrypt'"]),
        other => (other, &["--version"]),
    };
    let answer = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    answer.is_ok_and(|output| output.status.success())
}

/// One of a language's programs in `tests/clients`; `None` where its toolchain is missing. Go has
/// `login`, `presets`, `staying` and `hashes`; Java has `staying` and `hashes`, C `staying`, PHP and Ruby `hashes`.
pub(crate) fn program(language: Language, name: &str) -> Option<Command> {
    match language {
        Language::Python => {
            let folder = installed(&["python3"], "tests/clients/python", |source, folder| {
                run(Command::new("python3")
                    .args(["-m", "pip", "install", "--quiet", "--no-input"])
                    .args(["--disable-pip-version-check", "--root-user-action=ignore"])
                    .arg("--target")
                    .arg(folder)
                    .arg("-r")
                    .arg(source.join("requirements.txt")));
            })?;
            let mut command = Command::new("python3");
            command.arg(source("tests/clients/python").join(name).with_extension("py"));
            command.env("PYTHONPATH", folder);
            Some(command)
        }
        Language::Node => {
            let folder = installed(&["npm"], "tests/clients/node", |source, folder| {
                for file in files(source) {
                    let name = file.file_name().expect("a name");
                    std::fs::copy(&file, folder.join(name)).expect("a copy");
                }
                npm_install(folder);
            })?;
            let mut command = Command::new("node");
            command.arg(folder.join(name).with_extension("mjs"));
            Some(command)
        }
        Language::Go => {
            let mut command = go_program("tests/clients/go").map(Command::new)?;
            if name != "login" {
                command.arg(name);
            }
            Some(command)
        }
        Language::Java => {
            let tools = ["javac", "mvn"];
            let folder = installed(&tools, "tests/clients/java", |source, folder| {
                run(Command::new("mvn")
                    .args(["--quiet", "--batch-mode", "dependency:copy-dependencies"])
                    .arg(format!("-Dmaven.repo.local={}", folder.join("repository").display()))
                    .arg(format!("-DoutputDirectory={}", folder.join("lib").display()))
                    .current_dir(source));
                run(Command::new("javac")
                    .arg("-cp")
                    .arg(folder.join("lib/*"))
                    .arg("-d")
                    .arg(folder)
                    .args(["Staying.java", "Hashes.java"].map(|file| source.join(file))));
            })?;
            let mut command = Command::new("java");
            // Small, and quick to begin; a hundred connections have buffers of some megabytes each.
            command.args([
                "-Xmx1g",
                "-Xss256k",
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
                "-cp",
            ]);
            let class = if name == "hashes" { "Hashes" } else { "Staying" };
            command.arg(format!("{0}:{0}/lib/*", folder.display())).arg(class);
            Some(command)
        }
        Language::C => {
            let tools = ["cc", "libnats"];
            let folder = installed(&tools, "tests/clients/c", |source, folder| {
                run(Command::new("cc")
                    .args(["-Wall", "-Werror", "-O1", "-o"])
                    .arg(folder.join("staying"))
                    .arg(source.join("staying.c"))
                    .args(["-lnats", "-lpthread"]));
            })?;
            Some(Command::new(folder.join(name)))
        }
        // What they need is Debian's.
        Language::Php => {
            installed(&["php"], "tests/clients/php", |_, _| {})?;
            let mut command = Command::new("php");
            command.arg(source("tests/clients/php").join(name).with_extension("php"));
            Some(command)
        }
        Language::Ruby => {
            installed(&["ruby-bcrypt"], "tests/clients/ruby", |_, _| {})?;
            let mut command = Command::new("ruby");
            command.arg(source("tests/clients/ruby").join(name).with_extension("rb"));
            Some(command)
        }
    }
}

/// The folder of the page for browsers, with its library bundled; `None` where npm is missing.
pub(crate) fn page() -> Option<PathBuf> {
    installed(&["npm"], "tests/clients/browser", |source, folder| {
        for file in ["package.json", "index.html", "page.mjs"] {
            std::fs::copy(source.join(file), folder.join(file)).expect("a copy");
        }
        npm_install(folder);
        run(Command::new(folder.join("node_modules/.bin/esbuild"))
            .args(["page.mjs", "--bundle", "--format=esm", "--outfile=page.js"])
            .args(["--target=es2022", "--log-level=warning"])
            .current_dir(folder));
    })
}

/// The folder of an issuer that others wrote; `None` where npm is missing.
pub(crate) fn issuer() -> Option<PathBuf> {
    installed(&["npm"], "tests/clients/issuer", |source, folder| {
        for file in ["package.json", "issuer.mjs"] {
            std::fs::copy(source.join(file), folder.join(file)).expect("a copy");
        }
        npm_install(folder);
    })
}

/// The home of a Keycloak, with its realm and its database in memory.
pub(crate) fn keycloak() -> Option<PathBuf> {
    let folder = installed(&["java", "mvn", "tar"], "tests/clients/keycloak", |source, folder| {
        run(Command::new("mvn")
            .args(["--quiet", "--batch-mode", "dependency:copy-dependencies"])
            .arg("-Dmdep.stripVersion=true")
            .arg(format!("-Dmaven.repo.local={}", folder.join("repository").display()))
            .arg(format!("-DoutputDirectory={}", folder.display()))
            .current_dir(source));
        run(Command::new("tar")
            .args(["-xzf", "keycloak-quarkus-dist.tar.gz", "--strip-components=1"])
            .current_dir(folder));
        let import = folder.join("data/import");
        std::fs::create_dir_all(&import).expect("a folder");
        std::fs::copy(source.join("realm.json"), import.join("realm.json")).expect("a copy");
        run(Command::new("bash").args(["bin/kc.sh", "build", "--db=dev-mem"]).current_dir(folder));
        std::fs::remove_dir_all(folder.join("repository")).expect("is there");
        std::fs::remove_file(folder.join("keycloak-quarkus-dist.tar.gz")).expect("is there");
    })?;
    Some(folder)
}

fn npm_install(folder: &Path) {
    run(Command::new("npm")
        .args(["install", "--no-package-lock", "--no-audit", "--no-fund"])
        .args(["--no-update-notifier", "--ignore-scripts", "--loglevel=error"])
        .current_dir(folder));
}

fn source(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
}

/// The folder into which `install` has put what belongs to `source`, done once for each state of
/// the source: in this process behind a lock, between processes by the first rename.
fn installed(
    tools: &[&'static str],
    from: &'static str,
    install: impl FnOnce(&Path, &Path),
) -> Option<PathBuf> {
    type Slot = Arc<OnceLock<Option<PathBuf>>>;
    static INSTALLED: OnceLock<Mutex<HashMap<&'static str, Slot>>> = OnceLock::new();
    turn::take();
    let slot = INSTALLED
        .get_or_init(Mutex::default)
        .lock()
        .expect("no install has panicked")
        .entry(from)
        .or_default()
        .clone();
    slot.get_or_init(|| {
        if let Some(tool) = tools.iter().find(|tool| !works(tool)) {
            loudly(&format!("SKIPPED: `{tool}` is not on this machine, {from} is not tested"));
            return None;
        }
        let source = source(from);
        let clients = target_dir().join("clients");
        let name = from.replace('/', "-").trim_start_matches("tests-").to_owned();
        let done = clients.join(format!("{name}-{:016x}", fingerprint(&source)));
        if !done.is_dir() {
            let fresh = done.with_extension(format!("{}.tmp", std::process::id()));
            let _ = std::fs::remove_dir_all(&fresh);
            std::fs::create_dir_all(&fresh).expect("a folder");
            install(&source, &fresh);
            if std::fs::rename(&fresh, &done).is_err() {
                let _ = std::fs::remove_dir_all(&fresh);
            }
        }
        assert!(done.is_dir(), "{} is not there", done.display());
        Some(done)
    })
    .clone()
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("a source folder")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files
}

/// A hash of a folder's files.
fn fingerprint(folder: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    for file in files(folder) {
        file.file_name().hash(&mut hasher);
        std::fs::read(&file).expect("a source file").hash(&mut hasher);
    }
    hasher.finish()
}

fn run(command: &mut Command) {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The programs themselves, on a server that needs no service.
#[test]
fn every_client_reports_what_a_server_does() {
    use super::{ports, servers};

    let dir = tempfile::tempdir().expect("a folder");
    let port = ports::free();
    let conf = dir.path().join("nats.conf");
    let permissions = "permissions { publish: [\"echo\", \"_INBOX_1.>\"], \
                       subscribe: [\"echo\", \"_INBOX_1.>\"] }";
    std::fs::write(
        &conf,
        format!(
            "listen: 127.0.0.1:{port}\nauthorization {{ users: [\n  \
             {{ user: alice, password: secret, {permissions} }}\n] }}\n"
        ),
    )
    .expect("a configuration");
    let server = servers::NatsServer::start(servers::version(), &conf, port, None).expect("starts");
    let scenario = Scenario {
        subscribe: "echo".to_owned(),
        publish: "echo".to_owned(),
        request: "echo".to_owned(),
        forbidden: Some("forbidden".to_owned()),
        inbox_prefix: Some("_INBOX_1".to_owned()),
        jetstream: None,
    };
    for language in [Language::Python, Language::Node, Language::Go] {
        let alice = Login::password("alice", "secret");
        let Some(seen) = login(language, &server.url(), &alice, &scenario) else { continue };
        assert!(seen.connected, "{language:?}: {seen:?}");
        assert_eq!(seen.error, None, "{language:?}");
        assert_eq!(seen.received, ["hello"], "{language:?}");
        assert_eq!(seen.reply.as_deref(), Some("pong:ping"), "{language:?}");
        assert_eq!(seen.violations.len(), 2, "{language:?}: {seen:?}");

        let stranger = Login::password("alice", "wrong");
        let seen = login(language, &server.url(), &stranger, &scenario).expect("the toolchain");
        assert!(!seen.connected, "{language:?}: {seen:?}");
        let error = seen.error.expect("an error").to_lowercase();
        assert!(error.contains("authorization"), "{language:?}: {error}");
    }
}
