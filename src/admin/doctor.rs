//! Checks a deployment from end to end. START with [`Doctor::examine`]: the checks stand there in their
//! order, from what lies on this machine to what needs everything.

mod callout;
mod dedicated;
mod files;
mod grants;
mod hashes;
mod http;
mod issuers;
mod jetstream;
mod lines;
mod logins;
mod mqtt;
mod named;
mod policies;
mod powerless;
mod reader;
mod rows;
mod servers;
mod table;
mod waits;
mod websocket;

use super::instances;
use crate::config::{self, Config, Loaded, Mode};
use crate::deployment::{Login, connect_failure};
use crate::keyfile::KeyFileError;
use crate::store::StoreError;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// Well.
    Ok,
    /// Well enough, but something should be done.
    Warn,
    /// Something does not work, or not safely.
    Fail,
    /// It could not be made, or there is nothing to check.
    Skip,
}

impl State {
    /// The state's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
            Self::Skip => "skip",
        }
    }
}

/// What a check found.
#[derive(Debug)]
#[non_exhaustive]
pub struct Finding {
    /// The check.
    pub check: &'static str,
    /// How it ended.
    pub state: State,
    /// What was found.
    pub what: String,
    /// What to do about it, unless the text says so by itself.
    pub remedy: Option<String>,
}

/// All that was found, in the order of the checks.
#[derive(Debug, Default)]
pub struct Findings(Vec<Finding>);

impl Findings {
    /// Each of them.
    #[must_use]
    pub fn all(&self) -> &[Finding] {
        &self.0
    }

    /// How many checks ended so.
    #[must_use]
    pub fn count(&self, state: State) -> usize {
        self.0.iter().filter(|finding| finding.state == state).count()
    }

    pub(crate) fn ok(&mut self, check: &'static str, what: impl Into<String>) {
        self.add(check, State::Ok, what, None);
    }

    pub(crate) fn skip(&mut self, check: &'static str, why: impl Into<String>) {
        self.add(check, State::Skip, why, None);
    }

    pub(crate) fn fail(
        &mut self,
        check: &'static str,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.add(check, State::Fail, what, Some(remedy.into()));
    }

    fn warn(&mut self, check: &'static str, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(check, State::Warn, what, Some(remedy.into()));
    }

    fn add(
        &mut self,
        check: &'static str,
        state: State,
        what: impl Into<String>,
        remedy: Option<String>,
    ) {
        self.0.push(Finding { check, state, what: what.into(), remedy });
    }
}

/// What there is to do where an instance that should does not answer.
const SILENT: &str =
    "it hangs, has just died, or cannot read its database: see its log, and restart it";

/// Of what is not checked because of the mode of its key file, which is said of the key files.
const EXPOSED: &str = "not while others can get at its key file: see `key files`";

/// Makes the checks.
#[derive(Debug, Clone, Copy)]
pub struct Doctor {
    /// What is said of a fault of the tenant table.
    explain: fn(StoreError) -> String,
}

impl Default for Doctor {
    fn default() -> Self {
        Self { explain: |error| error.to_string() }
    }
}

impl Doctor {
    /// Says of faults of the tenant table what `explain` says of them, such as what to do.
    #[must_use]
    pub(crate) fn with_explanation(explain: fn(StoreError) -> String) -> Self {
        Self { explain }
    }

    /// Checks the deployment of a configuration that was read without its files, or says why it was
    /// not.
    pub async fn examine(&self, loaded: Result<Loaded, config::Error>) -> Findings {
        let mut findings = Findings::default();
        match loaded {
            Ok(Loaded { config, warnings }) => {
                let mode = match config.mode {
                    Mode::Operator(_) => "operator",
                    Mode::Config(_) => "config",
                };
                findings.ok("configuration", format!("{}, mode {mode}", config.file.display()));
                for warning in warnings {
                    findings.warn("configuration", warning, "correct it, or leave it out");
                }
                self.check(&config, &mut findings).await;
            }
            Err(error) => findings.fail(
                "configuration",
                error.to_string(),
                "nothing else can be checked before it is right",
            ),
        }
        findings
    }

    /// Everything that a sound configuration names.
    async fn check(&self, config: &Config, findings: &mut Findings) {
        let keys = files::check(config, findings);
        let policies = policies::check(config, findings);
        let table = table::check(self, config, policies.as_ref(), findings).await;
        let hash = match &table {
            Some(table) => hashes::check(self, config, &*table.store, findings).await,
            None => {
                findings.skip(hashes::CHECK, "not without the database");
                None
            }
        };

        let auth = login(config, Login::Auth, "login AUTH", findings).await;
        let system = login(config, Login::System, "login SYS", findings).await;
        let answering = match (&auth, &table) {
            (Some(auth), Some(table)) => instances::answering(&auth.client, &*table.store).await,
            // Without the database they would not answer either.
            _ => None,
        };
        let mut timeout = waits::DEFAULT;
        match &system {
            Some(system) => {
                let found = servers::check(config, &keys, system, findings).await;
                timeout = waits::check(config, &found, hash, findings);
                websocket::check(config, &found, findings);
                lines::check(config, &found, findings);
                mqtt::check(config, &found, findings);
                jetstream::check(config, system, &found, table.as_ref(), findings).await;
                powerless::check(config, system, found.len(), answering, findings).await;
                dedicated::check(config, &system.cluster, table.as_ref(), findings).await;
            }
            None => findings.skip("servers", "not without the login to SYS"),
        }
        http::check(config, table.as_ref(), findings).await;
        issuers::check(config, findings).await;
        match &auth {
            Some(auth) => {
                let alive = table.as_ref().map_or(0, |table| table.instances);
                jetstream::events(config, auth, alive, findings).await;
                waits::way(config, auth, timeout, findings).await;
                let instances = callout::Instances { alive, answering };
                callout::check(config, &keys, auth, system.as_ref(), instances, findings).await;
            }
            None => findings.skip("callout", "not without the login to AUTH"),
        }
    }
}

async fn login(
    config: &Config,
    login: Login,
    check: &'static str,
    findings: &mut Findings,
) -> Option<callout::Watched> {
    let options = match login.working(config) {
        Ok(options) => options,
        Err(KeyFileError::Exposed(_)) => {
            findings.skip(check, EXPOSED);
            return None;
        }
        Err(error) => {
            // It says what to do by itself.
            findings.add(check, State::Fail, error.to_string(), None);
            return None;
        }
    };
    let urls = config.nats.urls.join(", ");
    match callout::Watched::connect(options, &config.nats.urls).await {
        Ok(watched) => {
            findings.ok(check, format!("admitted at {urls}"));
            Some(watched)
        }
        Err(error) => {
            let remedy = match error.kind() {
                async_nats::ConnectErrorKind::AuthorizationViolation
                | async_nats::ConnectErrorKind::Authentication => {
                    "its key is not the one that nats-server knows: restore the key file and \
                     nats-server.conf from the same `init`"
                }
                async_nats::ConnectErrorKind::TimedOut => {
                    "it is there and does not answer: it is overloaded, or that is no nats-server"
                }
                _ => "start nats-server, or correct [nats] url",
            };
            findings.fail(check, format!("{urls}: {}", connect_failure(&error)), remedy);
            None
        }
    }
}
