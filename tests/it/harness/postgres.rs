//! Real PostgreSQL servers: the one of the machine, else one out of a PyPI wheel. All tests of the
//! process share one server and have a [`database`] each; a test that stops or freezes its server
//! starts one of its own.
//!
//! A server is the child of a shell that reads commands from a pipe of this process. However this
//! process ends, the pipe ends with it, and then the shell stops the server and removes its folder.
//! PostgreSQL refuses to run as root, so root's tests run all that as another user. `initdb` takes
//! longer than anything else here, so it runs once, and each server has a copy of what it made.

mod programs;
mod supervisor;

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

pub(crate) use self::programs::programs;
use self::programs::user;
use self::supervisor::{Supervisor, Template};
use super::{eventually, ports};

/// The superuser and its password.
const SUPERUSER: &str = "postgres";
const PASSWORD: &str = "of-the-tests";

/// The server that all tests share.
pub(crate) fn shared() -> &'static PostgresServer {
    super::turn::take();
    static SHARED: OnceLock<PostgresServer> = OnceLock::new();
    SHARED.get_or_init(PostgresServer::start_shared)
}

/// A fresh, empty database on that server.
pub(crate) fn database() -> PostgresDatabase<'static> {
    shared().database()
}

/// A database, dropped with the value.
#[derive(Debug)]
pub(crate) struct PostgresDatabase<'s> {
    server: &'s PostgresServer,
    name: String,
}

impl PostgresDatabase<'_> {
    /// Its URL for the superuser, over TCP, with the password.
    pub(crate) fn url(&self) -> String {
        self.server.url(SUPERUSER, PASSWORD, &self.name)
    }

    /// Its URL for another login.
    pub(crate) fn url_of(&self, user: &str, password: &str) -> String {
        self.server.url(user, password, &self.name)
    }

    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A copy of it on the same server, while nobody is connected to it.
    pub(crate) fn copy(&self) -> PostgresDatabase<'_> {
        self.server.create(&format!("TEMPLATE {}", self.name))
    }

    /// Runs statements that must work, with psql; the rows, columns parted by `|`.
    pub(crate) fn psql(&self, sql: &str) -> String {
        psql(&self.url(), sql).unwrap_or_else(|error| panic!("{sql}\n{error}"))
    }
}

impl Drop for PostgresDatabase<'_> {
    fn drop(&mut self) {
        // A server that is stopped or frozen takes its databases with it.
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let url = format!("{}?connect_timeout=2", self.server.admin_url());
        let _ = psql(&url, &sql);
    }
}

/// The real psql, which prints rows without ornament and ends with the first error.
pub(crate) fn shell(url: &str) -> Command {
    let mut command = Command::new(programs().join("psql"));
    command.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align"]);
    command.args(["--set=ON_ERROR_STOP=1", "--dbname", url]);
    command
}

/// Runs statements with the real psql as it is when somebody types into it, up to the first that
/// fails. An error is what psql says.
pub(crate) fn psql(url: &str, sql: &str) -> Result<String, String> {
    let mut child = shell(url)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("psql");
    // One that cannot connect does not read.
    let _ = child.stdin.take().expect("its input").write_all(sql.as_bytes());
    let output = child.wait_with_output().expect("its output");
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).expect("UTF-8"))
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// A PostgreSQL server.
#[derive(Debug)]
pub(crate) struct PostgresServer {
    port: u16,
    pid: u32,
    supervisor: Supervisor,
}

impl PostgresServer {
    /// Starts a server that is nobody else's.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// [`Self::start`] with settings, such as `max_connections=5`.
    pub(crate) fn start_with(settings: &[&str]) -> Self {
        let mut server = Self::copied("/tmp", settings);
        server.launch();
        server
    }

    /// Starts a standby of another, which streams from it: none where PostgreSQL came without the program that
    /// makes one.
    pub(crate) fn standby_of(primary: &Self) -> Option<Self> {
        if !programs().join("pg_basebackup").is_file() {
            super::loudly("SKIPPED: no pg_basebackup; that a standby takes over is not tried");
            return None;
        }
        let mut standby = Self::copied("/tmp", &[]);
        standby.supervisor.tell(&format!("follow {}", primary.admin_url()));
        assert_eq!(standby.supervisor.answer(), "made", "a standby: {}", standby.log());
        standby.launch();
        Some(standby)
    }

    /// The one with hundreds of databases. Their files, 300 each, are in memory where it has room,
    /// and the superuser is believed: its password costs a client without optimisation more than
    /// what it asks. Every other role, and every server of a test's own, has what `initdb` chooses.
    fn start_shared() -> Self {
        const MEMORY: &str = "/dev/shm";
        const ROOM: u64 = 4 << 30;
        let room = rustix::fs::statvfs(MEMORY).map_or(0, |at| at.f_bavail * at.f_frsize);
        let within = if room < ROOM { "/tmp" } else { MEMORY };
        let mut server = Self::copied(within, &["autovacuum=off"]);
        let who = format!(
            "host all {SUPERUSER} 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        );
        server.give("pg_hba.conf", who.as_bytes());
        server.launch();
        server
    }

    fn copied(within: &str, settings: &[&str]) -> Self {
        super::turn::take();
        let port = ports::free();
        let mut arguments = vec!["-p".to_owned(), port.to_string()];
        for setting in ["fsync=off", "max_connections=500", "timezone=UTC"].iter().chain(settings) {
            arguments.extend(["-c".to_owned(), (*setting).to_owned()]);
        }
        let supervisor = Template::get().copy(within, &arguments);
        Self { port, pid: 0, supervisor }
    }

    /// A fresh, empty database on this server.
    pub(crate) fn database(&self) -> PostgresDatabase<'_> {
        self.create("")
    }

    fn create(&self, options: &str) -> PostgresDatabase<'_> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.psql(&format!("CREATE DATABASE {name} {options}"));
        PostgresDatabase { server: self, name }
    }

    /// Runs statements that must work, with psql, in the database `postgres`.
    pub(crate) fn psql(&self, sql: &str) -> String {
        psql(&self.admin_url(), sql).unwrap_or_else(|error| panic!("{sql}\n{error}"))
    }

    /// The URL of a database of it.
    pub(crate) fn url(&self, user: &str, password: &str, database: &str) -> String {
        format!("postgres://{user}:{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// What its superuser has in the environment.
    pub(crate) fn environment(&self) -> [(&'static str, String); 4] {
        [
            ("PGHOST", Ipv4Addr::LOCALHOST.to_string()),
            ("PGPORT", self.port.to_string()),
            ("PGUSER", SUPERUSER.to_owned()),
            ("PGPASSWORD", PASSWORD.to_owned()),
        ]
    }

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its folder, with `data` and, for what is to be seen when a test fails, `log`.
    pub(crate) fn folder(&self) -> &Path {
        &self.supervisor.folder
    }

    /// Writes a file of its data folder that nobody else may read.
    pub(crate) fn give(&self, name: &str, content: &[u8]) {
        let path = self.folder().join("data").join(name);
        std::fs::write(&path, content).expect("a file for the server");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("its mode");
        if let Some((uid, gid)) = user() {
            std::os::unix::fs::chown(&path, Some(uid), Some(gid)).expect("its owner");
        }
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        self.supervisor.log()
    }

    fn admin_url(&self) -> String {
        self.url(SUPERUSER, PASSWORD, "postgres")
    }

    /// Ends it in order, with all its connections.
    pub(crate) fn stop(&mut self) {
        self.signal("-INT", &[self.pid]);
        self.wait_for_the_end();
    }

    /// `kill -9`; its other processes notice it.
    pub(crate) fn kill9(&mut self) {
        self.signal("-KILL", &[self.pid]);
        self.wait_for_the_end();
    }

    /// Starts it again, on the same port.
    pub(crate) fn restart(&mut self) {
        if self.pid != 0 {
            self.stop();
        }
        self.launch();
    }

    /// SIGSTOP for all its processes: it hangs, with all its connections open.
    pub(crate) fn freeze(&self) {
        self.signal("-STOP", &[self.pid]);
        eventually("PostgreSQL to hang", || {
            let children = self.children();
            self.signal("-STOP", &children);
            let all = [&[self.pid], &children[..]].concat();
            states(&all).lines().all(|state| state.starts_with(['T', 'Z'])).then_some(())
        });
    }

    /// SIGCONT: it goes on.
    pub(crate) fn thaw(&self) {
        self.signal("-CONT", &self.children());
        self.signal("-CONT", &[self.pid]);
    }

    /// Reads its configuration files again.
    pub(crate) fn reload(&self) {
        self.signal("-HUP", &[self.pid]);
    }

    fn children(&self) -> Vec<u32> {
        let output = Command::new("pgrep").args(["-P", &self.pid.to_string()]).output();
        let output = output.expect("pgrep").stdout;
        String::from_utf8_lossy(&output).lines().map(|pid| pid.parse().expect("an id")).collect()
    }

    fn signal(&self, signal: &str, pids: &[u32]) {
        // Some may just have ended.
        let _ = Command::new("kill")
            .arg(signal)
            .args(pids.iter().map(u32::to_string))
            .stderr(Stdio::null())
            .status()
            .expect("kill");
    }

    fn launch(&mut self) {
        self.supervisor.tell("start");
        self.pid = self.supervisor.answer().parse().expect("its id");
        let what = format!("PostgreSQL on port {}", self.port);
        eventually(&what, || {
            let listens = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok();
            if listens && psql(&self.admin_url(), "SELECT 1").is_ok() {
                return Some(());
            }
            if self.has_ended() {
                // It does not start before the last process of one that was killed has ended.
                self.wait_for_the_end();
                self.supervisor.tell("start");
                self.pid = self.supervisor.answer().parse().expect("its id");
            }
            None
        });
    }

    fn has_ended(&self) -> bool {
        let state = states(&[self.pid]);
        state.is_empty() || state.starts_with('Z')
    }

    fn wait_for_the_end(&mut self) {
        self.supervisor.tell("await");
        assert_eq!(self.supervisor.answer(), "ended");
        self.pid = 0;
    }
}

/// A line for each of these processes that is there: what it is doing, as ps says it.
fn states(pids: &[u32]) -> String {
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    let output = Command::new("ps").args(["-o", "stat=", "-p", &pids.join(",")]).output();
    String::from_utf8(output.expect("ps").stdout).expect("text")
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- PostgreSQL on port {} ----\n{}", self.port, self.log());
        }
    }
}

#[test]
fn a_database_of_its_own() {
    let (one, other) = (database(), database());
    one.psql("CREATE TABLE t (n INT); INSERT INTO t VALUES (1)");
    assert_eq!(one.psql("SELECT n FROM t"), "1\n");
    let copy = one.copy();
    copy.psql("UPDATE t SET n = 2");
    assert_eq!(
        (one.psql("SELECT n FROM t"), copy.psql("SELECT n FROM t")),
        ("1\n".into(), "2\n".into())
    );
    assert!(psql(&other.url(), "SELECT n FROM t").unwrap_err().contains("does not exist"));
}

#[test]
fn a_server_that_is_stopped_killed_and_frozen() {
    let mut server = PostgresServer::start();
    server.psql("CREATE TABLE t (n INT)");
    server.stop();
    assert!(psql(&server.admin_url(), "SELECT 1").is_err());
    server.restart();
    server.kill9();
    server.restart();
    server.freeze();
    let url = format!("{}?connect_timeout=2", server.admin_url());
    assert!(psql(&url, "SELECT 1").is_err());
    server.thaw();
    assert_eq!(server.psql("SELECT count(*) FROM t"), "0\n");
    server.freeze();
    let folder = server.folder().to_owned();
    drop(server);
    assert!(!folder.exists());
}
