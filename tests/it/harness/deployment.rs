//! A whole deployment: what `init` wrote in a temporary directory, a nats-server that runs it, and
//! the service.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::choice::uses_postgres;
use super::client::Login;
use super::postgres::{self, PostgresDatabase};
use super::servers::{self, NatsServer};
use super::service::{self, Output, Service};
use super::{eventually, ports};

/// How accounts come to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// JWTs, an own account for each tenant.
    Operator,
    /// A configuration file, tenants share an account.
    Config,
}

impl Mode {
    /// As `init --mode` takes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Config => "config",
        }
    }
}

/// Where the tenant table of a deployment is.
#[derive(Debug)]
pub(crate) enum Table {
    /// In `init`'s own SQLite file.
    Default,
    /// In another SQLite file.
    Sqlite(PathBuf),
    /// On the server that all tests share.
    Postgres(PostgresDatabase<'static>),
    /// On a PostgreSQL server of the test's own, by URL.
    OwnPostgres(String),
}

impl Table {
    /// A fresh one, in the database that this test uses in this mode.
    pub(crate) fn fresh(mode: Mode) -> Self {
        if uses_postgres(mode) { Self::Postgres(postgres::database()) } else { Self::Default }
    }

    /// Whether it is an SQLite file.
    pub(crate) fn is_sqlite(&self) -> bool {
        matches!(self, Self::Default | Self::Sqlite(_))
    }

    fn url(&self) -> Option<String> {
        match self {
            Self::Default => None,
            Self::Sqlite(path) => Some(format!("sqlite://{}", path.display())),
            Self::Postgres(database) => Some(database.url()),
            Self::OwnPostgres(url) => Some(url.clone()),
        }
    }
}

/// What `init` wrote, with nothing running.
#[derive(Debug)]
pub(crate) struct Initialised {
    pub(crate) mode: Mode,
    pub(crate) table: Table,
    dir: TempDir,
    pub(crate) port: u16,
    pub(crate) monitor: u16,
    http: String,
}

impl Initialised {
    /// Runs `init` on free ports.
    pub(crate) fn new(mode: Mode) -> Self {
        Self::on(mode, Table::fresh(mode))
    }

    /// [`Self::new`] with this tenant table.
    pub(crate) fn on(mode: Mode, table: Table) -> Self {
        let mut dir = tempfile::tempdir().expect("a temporary directory");
        if std::env::var_os("KEEP_DEPLOYMENTS").is_some() {
            dir.disable_cleanup(true);
            super::loudly(&format!("kept: {}", dir.path().display()));
        }
        let (port, monitor) = (ports::free(), ports::free());
        let database = table.url();
        let initialised =
            Self { mode, table, dir, port, monitor, http: format!("127.0.0.1:{}", ports::free()) };
        let folder = initialised.dir();
        let (listen, monitoring) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{monitor}"));
        let mut args = vec![
            "init",
            "--dir",
            folder.to_str().expect("a utf-8 path"),
            "--mode",
            mode.name(),
            "--listen",
            &listen,
            "--monitor",
            &monitoring,
            "--max-memory",
            "1GB",
            "--max-storage",
            "100GB",
        ];
        args.extend(database.iter().flat_map(|url| ["--database", url]));
        let output = service::cli(initialised.dir.path(), &args).success();
        for file in [initialised.server_conf(), initialised.config()] {
            assert!(file.is_file(), "init wrote no {}: {output:?}", file.display());
        }
        initialised
    }

    /// The directory that `init` made.
    pub(crate) fn dir(&self) -> PathBuf {
        self.dir.path().join("deployment")
    }

    /// nats-server's configuration.
    pub(crate) fn server_conf(&self) -> PathBuf {
        self.dir().join("nats-server.conf")
    }

    /// The service's configuration.
    pub(crate) fn config(&self) -> PathBuf {
        self.dir().join("nats-callout.toml")
    }

    /// Adds blocks to nats-server's configuration.
    pub(crate) fn add_to_server_conf(&self, blocks: &str) {
        let conf = std::fs::read_to_string(self.server_conf()).expect("a configuration");
        std::fs::write(self.server_conf(), format!("{conf}\n{blocks}")).expect("a configuration");
    }

    /// Sets a key of the service's configuration that `init` wrote as a comment.
    pub(crate) fn set(&self, key: &str, value: &str) {
        let config = std::fs::read_to_string(self.config()).expect("a configuration");
        let is_key = |line: &&str| line.starts_with(&format!("# {key} ="));
        let line = config.lines().find(is_key).unwrap_or_else(|| panic!("no {key} in {config}"));
        let config = config.replacen(line, &format!("{key} = {value}"), 1);
        std::fs::write(self.config(), config).expect("a configuration");
    }

    /// Where the service that [`Self::serve`] starts serves health and metrics.
    pub(crate) fn http(&self) -> &str {
        &self.http
    }

    /// Starts the service.
    pub(crate) fn serve(&self) -> Result<Service, String> {
        self.serve_set(&[])
    }

    fn serve_set(&self, settings: &[(&str, &str)]) -> Result<Service, String> {
        let mut all = vec![("NATS_CALLOUT_HTTP_LISTEN", self.http.as_str())];
        all.extend(settings);
        Service::serve(&self.config(), &all)
    }

    /// Starts the service without waiting for it.
    pub(crate) fn launch_service(&self) -> Service {
        Service::launch(&self.config(), &[("NATS_CALLOUT_HTTP_LISTEN", &self.http)])
    }

    /// Starts another instance beside the one that runs.
    pub(crate) fn another_service(&self) -> Service {
        self.another(&[])
    }

    /// Starts another instance that connects to these servers.
    pub(crate) fn another_service_at(&self, urls: &str) -> Service {
        self.another(&[("NATS_CALLOUT_NATS_URL", urls)])
    }

    fn another(&self, settings: &[(&str, &str)]) -> Service {
        let http = format!("127.0.0.1:{}", ports::free());
        let mut all = vec![("NATS_CALLOUT_HTTP_LISTEN", http.as_str())];
        all.extend(settings);
        Service::serve(&self.config(), &all).unwrap_or_else(|log| panic!("{log}"))
    }

    /// Runs one command on this deployment.
    pub(crate) fn cli(&self, args: &[&str]) -> Output {
        let config = self.config();
        let mut all = vec!["--config", config.to_str().expect("a utf-8 path")];
        all.extend(args);
        service::cli(self.dir.path(), &all)
    }

    /// Adds a tenant with an own or shared account and JetStream; gives its admin's password login.
    pub(crate) fn tenant_add(&self, id: &str, extra: &[&str]) -> Login {
        let mut args = vec!["--json", "tenant", "add", id];
        args.extend(extra);
        let made = self.cli(&args).success().json();
        assert_eq!(made["tenant"]["id"], id, "{made}");
        login(&made)
    }

    /// Adds a user; gives its password login.
    pub(crate) fn user_add(&self, tenant: &str, user: &str, extra: &[&str]) -> Login {
        let mut args = vec!["--json", "user", "add", tenant, user];
        args.extend(extra);
        let made = self.cli(&args).success().json();
        assert_eq!(made["user"]["name"], user, "{made}");
        login(&made)
    }

    /// Adds a token.
    pub(crate) fn token_add(&self, tenant: &str, user: &str) -> String {
        let made = self.cli(&["--json", "token", "add", tenant, user]).success().json();
        made["token"].as_str().unwrap_or_else(|| panic!("no token in {made}")).to_owned()
    }

    /// Runs plain SQL, as another program would: psql, or the sqlite3 shell with its default
    /// settings but a time to wait for locks, else Python's module. Gives what a query printed,
    /// columns parted by `|`.
    pub(crate) fn sql(&self, statements: &str) -> String {
        self.try_sql(statements).unwrap_or_else(|error| panic!("{statements}\n{error}"))
    }

    /// [`Self::sql`] that the database may refuse, and says why.
    pub(crate) fn try_sql(&self, statements: &str) -> Result<String, String> {
        self.sql_within(Duration::from_secs(30), statements)
    }

    /// [`Self::try_sql`] that waits so long for the lock of SQLite's file.
    fn sql_within(&self, time: Duration, statements: &str) -> Result<String, String> {
        let printed = match &self.table {
            Table::Default => sqlite(&self.dir().join("nats-callout.db"), time, statements),
            Table::Sqlite(path) => sqlite(path, time, statements),
            Table::Postgres(database) => postgres::psql(&database.url(), statements),
            Table::OwnPostgres(url) => postgres::psql(url, statements),
        };
        Ok(printed?.trim_end().to_owned())
    }

    /// SIGSTOP for an instance, at a moment when it writes nothing: in the midst of a transaction it
    /// would keep the table's locks.
    pub(crate) fn freeze(&self, instance: &Service) {
        eventually("an instance that hangs and holds no lock", || {
            instance.freeze();
            let free = self.is_unlocked();
            if !free {
                instance.thaw();
            }
            free.then_some(())
        });
    }

    fn is_unlocked(&self) -> bool {
        const IN_TRANSACTIONS: &str = "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND state LIKE 'idle in transaction%';";
        if self.table.is_sqlite() {
            return self
                .sql_within(Duration::from_millis(100), "BEGIN IMMEDIATE;\nROLLBACK;")
                .is_ok();
        }
        self.sql(IN_TRANSACTIONS) == "0"
    }
}

impl Drop for Initialised {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mode = self.mode.name();
            let database = if self.table.is_sqlite() { "sqlite" } else { "postgres" };
            eprintln!("---- it was with TEST_MODE={mode} TEST_DATABASE={database} ----");
        }
    }
}

impl Initialised {
    /// Takes away what the service reads changes from; gives the statements that bring it back.
    pub(crate) fn hide_changes(&self) -> String {
        if self.table.is_sqlite() {
            return self.drop_view("change_records");
        }
        self.sql("ALTER TABLE changes RENAME TO hidden_changes;");
        "ALTER TABLE hidden_changes RENAME TO changes;".to_owned()
    }

    /// Drops a view; gives the statements that bring it back.
    pub(crate) fn drop_view(&self, view: &str) -> String {
        let definition = if self.table.is_sqlite() {
            self.sql(&format!("SELECT sql FROM sqlite_schema WHERE name = '{view}';"))
        } else {
            let query = self.sql(&format!("SELECT pg_get_viewdef('{view}');"));
            format!("CREATE VIEW {view} AS {}", query.trim_end_matches(';'))
        };
        self.sql(&format!("DROP VIEW {view};"));
        format!("{definition};")
    }
}

fn login(made: &Value) -> Login {
    let user = made["user"]["name"].as_str().expect("a user name");
    let password = made["password"].as_str().expect("a password");
    Login::password(user, password)
}

fn sqlite(database: &Path, time: Duration, statements: &str) -> Result<String, String> {
    const PYTHON: &str = "
import sqlite3, sys
database, statements, milliseconds = sys.argv[1:]
connection = sqlite3.connect(database, timeout=int(milliseconds) / 1000, isolation_level=None)
for statement in statements.split(';\\n'):
    for row in connection.execute(statement):
        print('|'.join('' if value is None else str(value) for value in row))
";
    static HAS_SHELL: OnceLock<bool> = OnceLock::new();
    let has_shell =
        *HAS_SHELL.get_or_init(|| Command::new("sqlite3").arg("-version").output().is_ok());
    let milliseconds = time.as_millis().to_string();
    let mut command;
    if has_shell {
        command = Command::new("sqlite3");
        command.args(["-cmd", &format!(".timeout {milliseconds}")]).arg(database).arg(statements);
    } else {
        command = Command::new("python3");
        command.args(["-c", PYTHON]).arg(database).args([statements, &milliseconds]);
    }
    let output = command.output().expect("sqlite3 or python3");
    let stderr = String::from_utf8_lossy(&output.stderr);
    if output.status.success() && stderr.is_empty() {
        Ok(String::from_utf8(output.stdout).expect("utf-8"))
    } else {
        Err(stderr.into_owned())
    }
}

/// A running deployment: one server, one service.
#[derive(Debug)]
pub(crate) struct Deployment {
    // Dropped in this order: the service must not meet a dead server, nor either a missing folder.
    pub(crate) service: Service,
    pub(crate) server: NatsServer,
    pub(crate) init: Initialised,
}

impl Deployment {
    /// A deployment on the main version.
    pub(crate) fn start(mode: Mode) -> Self {
        Self::start_with(mode, servers::version())
    }

    /// A deployment whose service has these settings too.
    pub(crate) fn start_set(mode: Mode, settings: &[(&str, &str)]) -> Self {
        Self::start_initialised(servers::version(), settings, || Initialised::new(mode))
    }

    /// A deployment on a version of nats-server. Tries again on other ports where a stranger has
    /// taken one of ours in between.
    pub(crate) fn start_with(mode: Mode, version: &'static str) -> Self {
        Self::start_initialised(version, &[], || Initialised::new(mode))
    }

    /// A deployment on the main version, with this tenant table.
    pub(crate) fn start_on(mode: Mode, table: impl Fn() -> Table) -> Self {
        Self::start_initialised(servers::version(), &[], || Initialised::on(mode, table()))
    }

    /// A deployment of which `prepare` changes what `init` wrote before anything runs.
    pub(crate) fn start_prepared(
        mode: Mode,
        version: &'static str,
        prepare: impl Fn(&Initialised),
    ) -> Self {
        Self::start_initialised(version, &[], || {
            let init = Initialised::new(mode);
            prepare(&init);
            init
        })
    }

    /// A deployment out of what this makes, and tries again to make, with these settings of the service.
    pub(crate) fn start_initialised(
        version: &'static str,
        settings: &[(&str, &str)],
        initialise: impl Fn() -> Initialised,
    ) -> Self {
        for _ in 0..3 {
            let init = initialise();
            let started =
                NatsServer::start(version, &init.server_conf(), init.port, Some(init.monitor));
            match started {
                Ok(server) => {
                    let service = init.serve_set(settings).unwrap_or_else(|log| panic!("{log}"));
                    return Self { service, server, init };
                }
                Err(log) if log.contains("address already in use") => {}
                Err(log) => panic!("{log}"),
            }
        }
        panic!("no free ports in three attempts");
    }

    /// Where clients connect.
    pub(crate) fn url(&self) -> String {
        self.server.url()
    }
}

impl std::ops::Deref for Deployment {
    type Target = Initialised;

    fn deref(&self) -> &Initialised {
        &self.init
    }
}
