//! `init`: writes a folder with a complete nats-server configuration, the service's own, and all
//! the keys that the two need, so that the pair runs as it is.

mod central;
mod cluster;
mod conf;
mod operator;
mod server;
mod service;
mod stage;

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;
use serde_json::json;

use self::cluster::Route;
use self::stage::Stage;
use super::output::Output;
use super::{Usage, warn};
use crate::clock::{Clock, SystemClock, UnixSeconds};
use crate::config::units::{format_size, parse_size};
use crate::config::{self, DatabaseUrl};

/// Writes a new deployment.
#[derive(Debug, clap::Args)]
pub(super) struct InitArgs {
    /// The folder to write: a new one, or an empty one
    #[arg(long, value_name = "DIR")]
    pub(super) dir: PathBuf,
    /// Do nothing, and succeed, where the folder holds a deployment already
    #[arg(long)]
    pub(super) if_missing: bool,
    #[command(flatten)]
    pub(super) options: InitOptions,
}

/// What `init` can be told beside the folder.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct InitOptions {
    /// How nats-server keeps accounts: as JWTs (an account per tenant), or in its configuration
    #[arg(long, value_enum, default_value_t = InitMode::Operator)]
    pub(super) mode: InitMode,
    /// The tenant table [default: sqlite://DIR/nats-callout.db]. Leave a password to the environment, or to
    /// a file that NATS_CALLOUT_DATABASE_URL_FILE names: every user of the machine can read command lines
    #[arg(long, value_name = "URL", env = DATABASE_VARIABLE, hide_env_values = true)]
    pub(super) database: Option<String>,
    /// Where nats-server listens for clients
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:4222")]
    pub(super) listen: HostPort,
    /// The hosts of a cluster of nats-servers, each with the port of its routes [default port: 6222];
    /// writes nats-server-1.conf, nats-server-2.conf, ... in place of nats-server.conf
    #[arg(long, value_name = "HOST[:PORT],...", value_delimiter = ',')]
    pub(super) cluster: Vec<Route>,
    /// Where nats-server serves monitoring
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8222")]
    pub(super) monitor: HostPort,
    /// Ceiling for the sum of the tenants' JetStream memory
    #[arg(long, value_name = "SIZE", default_value = "16GB", value_parser = ceiling)]
    pub(super) max_memory: u64,
    /// Ceiling for the sum of the tenants' JetStream storage
    #[arg(long, value_name = "SIZE", default_value = "1TB", value_parser = ceiling)]
    pub(super) max_storage: u64,
    /// Connections that nats-server takes, those of the service among them [default: its own]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(16..=1_000_000_000))]
    pub(super) max_connections: Option<u32>,
    /// The longest message that nats-server takes [default: its own]
    #[arg(long, value_name = "SIZE", value_parser = payload)]
    pub(super) max_payload: Option<u64>,
}

/// The variable in the place of `--database`, as it is in that of `[database] url`.
pub(super) const DATABASE_VARIABLE: &str = "NATS_CALLOUT_DATABASE_URL";

/// The variable that names a file with it, likewise.
const DATABASE_FILE_VARIABLE: &str = "NATS_CALLOUT_DATABASE_URL_FILE";

/// The database that is named: by `--database`, or by one of the two variables.
pub(super) fn named_database(option: Option<&str>) -> anyhow::Result<Option<String>> {
    let file = std::env::var_os(DATABASE_FILE_VARIABLE);
    match (option, file) {
        (Some(url), Some(_)) if std::env::var(DATABASE_VARIABLE).as_deref() == Ok(url) => {
            let what = "two variables say which database it is";
            let remedy = format!("set one of {DATABASE_VARIABLE} and {DATABASE_FILE_VARIABLE}");
            Err(Usage(format!("{what}; {remedy}")).into())
        }
        (Some(url), _) => Ok(Some(url.to_owned())),
        (None, Some(file)) => match config::value_in(Path::new(&file)) {
            Ok(url) => Ok(Some(url)),
            Err(config::Unread { what, remedy }) => {
                Err(Usage(format!("{DATABASE_FILE_VARIABLE}: {what}; {remedy}")).into())
            }
        },
        (None, None) => Ok(None),
    }
}

/// What `--database` names; a relative path starts at the working directory.
pub(super) fn database_url(url: &str) -> anyhow::Result<DatabaseUrl> {
    let here = std::env::current_dir().context("the working directory is gone")?;
    DatabaseUrl::parse(url, &here)
        .map_err(|what| Usage(format!("--database: {what}; {}", config::DATABASE_REMEDY)).into())
}

impl Default for InitOptions {
    /// Those of the command line.
    fn default() -> Self {
        let at = |port| HostPort { host: "127.0.0.1".to_owned(), port };
        Self {
            mode: InitMode::Operator,
            database: None,
            listen: at(4_222),
            cluster: Vec::new(),
            monitor: at(8_222),
            max_memory: 16 << 30,
            max_storage: 1 << 40,
            max_connections: None,
            max_payload: None,
        }
    }
}

/// Which of the server's two modes to write for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum InitMode {
    /// Decentralised.
    Operator,
    /// Centralised.
    Config,
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostPort {
    host: String,
    port: u16,
}

impl HostPort {
    /// The address to connect to: of a server that listens everywhere, this machine's own.
    pub(super) fn reachable(&self) -> String {
        let host = match self.host.as_str() {
            "0.0.0.0" => "127.0.0.1",
            "[::]" => "[::1]",
            host => host,
        };
        format!("{host}:{}", self.port)
    }
}

impl FromStr for HostPort {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (host, port) = text
            .rsplit_once(':')
            .ok_or_else(|| format!("`{text}` has no port; write HOST:PORT"))?;
        if matches!(port, "0" | "-1") {
            return Err("the server would pick a port that the other files cannot know; name one"
                .to_owned());
        }
        let port = port.parse().map_err(|_| format!("`{port}` is no port (1 to 65535)"))?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let sound = match bare {
            Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                !host.is_empty()
                    && host
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
            }
        };
        if !sound {
            return Err(format!("`{host}` is no host; write an IPv6 address as [::1]"));
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Leaves room for what the accounts AUTH and BB get on top.
fn ceiling(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        bytes if bytes > 1 << 60 => Err(format!("`{text}` is more than any server can hold")),
        bytes => Ok(bytes),
    }
}

fn payload(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        bytes @ 65_536..=67_108_864 => Ok(bytes),
        _ => Err(format!(
            "`{text}` is out of range: 64KB, since account JWTs are messages too, to 64MB"
        )),
    }
}

/// What is to be written, checked.
#[derive(Debug)]
struct Deployment {
    folder: PathBuf,
    database: String,
    options: InitOptions,
}

impl Deployment {
    fn new(dir: &Path, options: &InitOptions) -> anyhow::Result<Self> {
        let folder = absolute(dir)?;
        let text = folder.to_str().ok_or_else(|| {
            Usage(format!("{} is not UTF-8; name another folder", folder.display()))
        })?;
        if text.chars().any(char::is_control) {
            return Err(
                Usage(format!("{text:?} has a control character; name another folder")).into()
            );
        }
        if options.listen.reachable() == options.monitor.reachable() {
            return Err(Usage(format!(
                "--listen and --monitor are both {}; give them two ports",
                options.listen
            ))
            .into());
        }
        cluster::check(&options.cluster, &options.listen)?;
        let database = match &options.database {
            Some(url) => database_url(url)?,
            None => DatabaseUrl::sqlite(&folder.join("nats-callout.db")).map_err(Usage)?,
        };
        let database = database.expose().to_owned();
        Ok(Self { folder, database, options: options.clone() })
    }
}

/// Absolute and without links where the folder exists, so that it may be renamed onto.
fn absolute(dir: &Path) -> anyhow::Result<PathBuf> {
    if let Ok(folder) = dir.canonicalize() {
        return Ok(folder);
    }
    let folder = std::path::absolute(dir)
        .with_context(|| format!("`{}` is no folder; name one with --dir", dir.display()))?;
    match (folder.parent().map(Path::canonicalize), folder.file_name()) {
        (Some(Ok(parent)), Some(name)) => Ok(parent.join(name)),
        _ => Ok(folder),
    }
}

/// Writes the deployment, whole or not at all, and returns its absolute folder.
pub(super) fn write(
    dir: &Path,
    options: &InitOptions,
    now: UnixSeconds,
) -> anyhow::Result<PathBuf> {
    let deployment = Deployment::new(dir, options)?;
    let stage = Stage::begin(&deployment.folder)?;
    stage.folder("keys")?;
    match options.mode {
        InitMode::Operator => {
            stage.folder("keys/offline")?;
            operator::write(&deployment, &stage, now)?;
        }
        InitMode::Config => central::write(&deployment, &stage)?,
    }
    stage.commit()?;
    Ok(deployment.folder)
}

/// Runs the command.
pub(super) fn run(args: &InitArgs, output: Output) -> anyhow::Result<()> {
    warn(config::unknown_variables());
    if args.if_missing && args.dir.join(config::DEFAULT_FILE).is_file() {
        let folder = absolute(&args.dir)?;
        return output.print(&json!({ "folder": folder, "written": false }), || {
            format!("{} holds a deployment; nothing was written", folder.display())
        });
    }
    let database = named_database(args.options.database.as_deref())?;
    let options = InitOptions { database, ..args.options.clone() };
    let folder = write(&args.dir, &options, SystemClock.now())?;
    let toml = folder.join(config::DEFAULT_FILE);
    let confs: Vec<PathBuf> = match args.options.cluster.len() {
        0 => vec![folder.join("nats-server.conf")],
        nodes => (1..=nodes).map(|n| folder.join(format!("nats-server-{n}.conf"))).collect(),
    };
    let start =
        |conf: &PathBuf| format!("  nats-server -c {}\n", shell_quote(&conf.display().to_string()));
    output.print(
        &json!({
            "folder": folder,
            "written": true,
            "mode": match args.options.mode { InitMode::Operator => "operator", InitMode::Config => "config" },
            "server_config": confs.first(),
            "server_configs": confs,
            "config": toml,
            "keys": folder.join("keys"),
        }),
        || {
            let offline = match args.options.mode {
                InitMode::Operator => "\nMove keys/offline to a safe place: the service never reads it.",
                InitMode::Config => "",
            };
            let hosts = if confs.len() > 1 { "\n  # each on its host" } else { "" };
            format!(
                "Wrote {folder}, with room for {memory} of memory and {storage} of storage of JetStream.\n\
                 {hosts}\n{servers}  nats-callout serve --config {toml}\n\
                 \n\
                 Then add a tenant: nats-callout --config {toml} tenant add NAME{offline}",
                folder = folder.display(),
                memory = format_size(args.options.max_memory),
                storage = format_size(args.options.max_storage),
                servers = confs.iter().map(start).collect::<String>(),
                toml = shell_quote(&toml.display().to_string()),
            )
        },
    )
}

pub(super) use self::stage::random_name;

/// A word of a shell command line or of an env file.
pub(super) fn shell_quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-:@%+=,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests;
