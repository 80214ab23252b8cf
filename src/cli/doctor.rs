//! `doctor`: checks a deployment from end to end, one line for each finding. START with [`run`]:
//! the checks stand there in their order, from what lies on this machine to what needs everything.

mod callout;
mod dedicated;
mod files;
mod hashes;
mod http;
mod issuers;
mod jetstream;
mod policies;
mod powerless;
mod reader;
mod rows;
mod servers;
mod table;
mod websocket;

use anyhow::bail;
use serde_json::{Value, json};

use super::output::Output;
use crate::causes::chain;
use crate::config::{Config, Files, Mode};
use crate::deployment::Login;

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ok,
    Warn,
    Fail,
    Skip,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
            Self::Skip => "skip",
        }
    }
}

/// One line.
#[derive(Debug)]
struct Finding {
    check: &'static str,
    state: State,
    what: String,
    remedy: Option<String>,
}

/// All findings so far.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, check: &'static str, what: impl Into<String>) {
        self.add(check, State::Ok, what, None);
    }

    fn skip(&mut self, check: &'static str, why: impl Into<String>) {
        self.add(check, State::Skip, why, None);
    }

    fn warn(&mut self, check: &'static str, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(check, State::Warn, what, Some(remedy.into()));
    }

    fn fail(&mut self, check: &'static str, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(check, State::Fail, what, Some(remedy.into()));
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

    fn count(&self, state: State) -> usize {
        self.0.iter().filter(|finding| finding.state == state).count()
    }

    fn json(&self) -> Value {
        let checks: Vec<Value> = self
            .0
            .iter()
            .map(|finding| {
                json!({
                    "check": finding.check,
                    "state": finding.state.word().to_lowercase(),
                    "what": finding.what,
                    "remedy": finding.remedy,
                })
            })
            .collect();
        json!({
            "healthy": self.count(State::Fail) == 0,
            "failed": self.count(State::Fail),
            "warnings": self.count(State::Warn),
            "checks": checks,
        })
    }

    fn text(&self) -> String {
        let lines: Vec<String> = self
            .0
            .iter()
            .map(|finding| {
                let remedy =
                    finding.remedy.as_ref().map(|it| format!("; {it}")).unwrap_or_default();
                // One line each, whatever a message holds.
                let what = format!("{}{remedy}", finding.what).replace('\n', " ");
                format!("{:<5}{:<18}{what}", finding.state.word(), finding.check)
            })
            .collect();
        lines.join("\n")
    }
}

/// Checks the deployment that `file` describes.
pub(super) async fn run(file: &std::path::Path, output: Output) -> anyhow::Result<()> {
    let mut findings = Findings::default();
    match Config::load(file, Files::Unchecked) {
        Ok(loaded) => {
            let mode = match loaded.config.mode {
                Mode::Operator(_) => "operator",
                Mode::Config(_) => "config",
            };
            let what = format!("{}, mode {mode}", loaded.config.file.display());
            findings.ok("configuration", what);
            for warning in loaded.warnings {
                findings.warn("configuration", warning, "correct it, or leave it out");
            }
            check(&loaded.config, &mut findings).await;
        }
        Err(error) => findings.fail(
            "configuration",
            error.to_string(),
            "nothing else can be checked before it is right",
        ),
    }
    output.print(&findings.json(), || findings.text())?;
    match findings.count(State::Fail) {
        0 => Ok(()),
        failed => bail!("{failed} of {} checks failed", findings.0.len()),
    }
}

/// Everything that a sound configuration names.
async fn check(config: &Config, findings: &mut Findings) {
    let keys = files::check(config, findings);
    policies::check(config, findings);
    let table = table::check(config, findings).await;
    match &table {
        Some(_) => hashes::check(config, findings).await,
        None => findings.skip(hashes::CHECK, "not without the database"),
    }

    let auth = login(config, Login::Auth, "login AUTH", findings).await;
    let system = login(config, Login::System, "login SYS", findings).await;
    match &system {
        Some(system) => {
            let found = servers::check(config, &keys, system, findings).await;
            websocket::check(config, &found, findings);
            jetstream::check(config, system, &found, table.as_ref(), findings).await;
            powerless::check(config, system, found.len(), findings).await;
            dedicated::check(config, &system.cluster, table.as_ref(), findings).await;
        }
        None => findings.skip("servers", "not without the login to SYS"),
    }
    http::check(config, findings).await;
    issuers::check(config, findings).await;
    match &auth {
        Some(auth) => {
            let alive = table.as_ref().map_or(0, |table| table.instances);
            jetstream::events(config, auth, alive, findings).await;
            callout::check(config, &keys, auth, system.as_ref(), alive, findings).await;
        }
        None => findings.skip("callout", "not without the login to AUTH"),
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
        Err(error) => {
            findings.fail(check, format!("{error:#}"), "restore the file");
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
            findings.fail(check, format!("{urls}: {}", chain(&error)), remedy);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_as_lines_and_json() {
        let mut findings = Findings::default();
        findings.ok("one", "well");
        findings.fail("two", "broken\nbadly", "mend it");
        findings.skip("three", "not now");
        assert_eq!(
            findings.text(),
            "ok   one               well\n\
             FAIL two               broken badly; mend it\n\
             skip three             not now"
        );
        let json = findings.json();
        assert_eq!(json["healthy"], false);
        assert_eq!(json["checks"][1]["state"], "fail");
    }
}
