//! A real nats-server in config mode, for one test.

use std::ffi::OsString;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use async_nats::{Client, ConnectOptions};
use serde::Deserialize;

use super::builder;
use crate::callout::{BoxError, CalloutBuilder};
use crate::keys::{KeyKind, SigningKey, XKey};

/// The program where nothing else is said.
const PROGRAM: &str = "nats-server";

/// Names the program.
const VARIABLE: &str = "NATS_SERVER";

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(15);

/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(20);

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct StartError {
    what: String,
    source: Option<BoxError>,
}

impl StartError {
    fn new(what: String) -> Self {
        Self { what, source: None }
    }
}

impl From<std::io::Error> for StartError {
    fn from(error: std::io::Error) -> Self {
        let what = format!("cannot write the files of nats-server: {error}");
        Self { what, source: Some(error.into()) }
    }
}

impl From<async_nats::ConnectError> for StartError {
    fn from(error: async_nats::ConnectError) -> Self {
        let what = format!("cannot log in to AUTH: {error}");
        Self { what, source: Some(error.into()) }
    }
}

/// A nats-server on a free port of 127.0.0.1, with the accounts AUTH and USERS, which asks about each
/// client. It is stopped, and its files are removed, when this is dropped.
///
/// ```no_run
/// # async fn test(rule: impl nats_callout::callout::Authorize)
/// #     -> Result<(), Box<dyn std::error::Error>> {
/// use nats_callout::testing::NatsServer;
///
/// let server = NatsServer::start().await?;
/// let running = server.callout().authorize(rule)?.start(server.auth().await?).await?;
/// let app = async_nats::ConnectOptions::with_token("key-4711".into()).connect(server.url()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct NatsServer {
    process: Child,
    folder: PathBuf,
    url: String,
    auth: String,
    seeds: [String; 2],
}

/// What nats-server writes of its ports.
#[derive(Deserialize)]
struct Ports {
    nats: Vec<String>,
}

impl NatsServer {
    /// Starts `nats-server`, or what the variable `NATS_SERVER` names.
    pub async fn start() -> Result<Self, StartError> {
        Self::start_with("").await
    }

    /// Starts it with further lines of configuration, such as `tls { .. }`.
    pub async fn start_with(lines: &str) -> Result<Self, StartError> {
        let program = std::env::var_os(VARIABLE).unwrap_or_else(|| OsString::from(PROGRAM));
        Self::start_program(Path::new(&program), lines).await
    }

    /// Starts this program, with further lines of configuration.
    pub async fn start_program(program: &Path, lines: &str) -> Result<Self, StartError> {
        let keys = |error: &dyn std::fmt::Display| {
            StartError::new(format!("cannot make its keys: {error}"))
        };
        let (issuer, issuer_seed) =
            SigningKey::generate(KeyKind::Account).map_err(|error| keys(&error))?;
        let (xkey, xkey_seed) = XKey::generate().map_err(|error| keys(&error))?;
        let (auth, auth_seed) =
            SigningKey::generate(KeyKind::User).map_err(|error| keys(&error))?;
        let folder = std::env::temp_dir().join(format!("nats-callout-{}", issuer.public_key()));
        std::fs::DirBuilder::new().mode(0o700).create(&folder)?;
        let conf = format!(
            "listen: \"127.0.0.1:-1\"\n\
             ports_file_dir: {folder:?}\n\
             accounts {{ AUTH {{ users: [ {{ nkey: {auth} }} ] }}, USERS {{}} }}\n\
             authorization {{ auth_callout {{\n\
               issuer: {issuer}, xkey: {xkey}, account: AUTH, auth_users: [ {auth} ]\n\
             }} }}\n\
             {lines}\n",
            auth = auth.public_key(),
            issuer = issuer.public_key(),
            xkey = xkey.public_key(),
        );
        std::fs::write(folder.join("nats-server.conf"), conf)?;
        let log = std::fs::File::create(folder.join("log"))?;
        let process = Command::new(program)
            .arg("-c")
            .arg(folder.join("nats-server.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let process = process.map_err(|source: std::io::Error| {
            drop(std::fs::remove_dir_all(&folder));
            let what = format!(
                "cannot start {program:?}: {source}; install nats-server, or say where it is in \
                 {VARIABLE}"
            );
            StartError { what, source: Some(source.into()) }
        })?;
        let mut server = Self {
            process,
            folder,
            url: String::new(),
            auth: auth_seed.to_string(),
            seeds: [issuer_seed.to_string(), xkey_seed.to_string()],
        };
        server.url = server.listening().await?;
        Ok(server)
    }

    /// Where clients connect.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A service with the keys that this server expects, whose users are in the account USERS.
    #[must_use]
    pub fn callout(&self) -> CalloutBuilder {
        builder(&self.seeds)
    }

    /// Logs in to the account AUTH, for the service.
    pub async fn auth(&self) -> Result<Client, StartError> {
        Ok(self.auth_options().connect(&self.url).await?)
    }

    /// The service's login to the account AUTH.
    #[must_use]
    pub fn auth_options(&self) -> ConnectOptions {
        ConnectOptions::with_nkey(self.auth.clone())
    }

    async fn listening(&mut self) -> Result<String, StartError> {
        let until = Instant::now() + PATIENCE;
        let name = format!("nats-server_{}.ports", self.process.id());
        loop {
            let ports = std::fs::read(self.folder.join(&name)).ok();
            let ports = ports.and_then(|text| serde_json::from_slice::<Ports>(&text).ok());
            if let Some(url) = ports.and_then(|ports| ports.nats.into_iter().next()) {
                return Ok(url);
            }
            if self.process.try_wait()?.is_some() || Instant::now() > until {
                let log = std::fs::read_to_string(self.folder.join("log"));
                let log = log.unwrap_or_default();
                return Err(StartError::new(format!("nats-server does not run:\n{log}")));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
        drop(std::fs::remove_dir_all(&self.folder));
    }
}
