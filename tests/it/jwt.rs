//! Logins with JWTs, through the service and real servers, from a real HTTP issuer: whom it admits,
//! what is refused, and what becomes of logins when the issuer rotates its keys, fails or lies.

mod admission;
mod attacks;
mod issuers;
mod login;
mod outage;

use jsonwebtoken::Algorithm;

use crate::harness::deployment::{Deployment, Mode};
use crate::harness::issuer::{Issuer, Signer};
use crate::harness::raw::{self, Verdict};
use crate::harness::service;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::time::Duration;

/// Far below the two seconds that a server waits for an answer.
const AT_ONCE: Duration = Duration::from_millis(1_500);

/// A deployment that takes the JWTs of one issuer, by discovery.
pub(crate) struct Bench {
    pub(crate) deployment: Deployment,
    pub(crate) issuer: Issuer,
    pub(crate) signer: Signer,
}

impl Bench {
    /// With these lines in the issuer's table.
    fn start(mode: Mode, lines: &str) -> Self {
        Self::start_with(mode, Signer::new("first", Algorithm::RS256), lines)
    }

    fn start_with(mode: Mode, signer: Signer, lines: &str) -> Self {
        let issuer = Issuer::start(&[&signer]);
        let table = issuer.table("kc", lines);
        Self { deployment: deployment(mode, &table), issuer, signer }
    }

    /// With a policy of this name, the same in both forms.
    pub(crate) fn start_with_policy(mode: Mode, lines: &str, name: &str, rule: &str) -> Self {
        let signer = Signer::new("first", Algorithm::EdDSA);
        let issuer = Issuer::start(&[&signer]);
        let mut deployment = Deployment::start(mode);
        let folder = deployment.dir().join("own");
        std::fs::create_dir(&folder).unwrap();
        let text = format!("[account]\n{rule}[shared]\n{rule}");
        std::fs::write(folder.join(format!("{name}.toml")), text).unwrap();
        let config = deployment.config();
        let text = std::fs::read_to_string(&config).unwrap().replace("[policies]\n", "");
        let lines = format!("{lines}\n[policies]\nfolder = \"own\"");
        std::fs::write(&config, text + &issuer.table("kc", &lines)).unwrap();
        deployment.service.restart();
        Self { deployment, issuer, signer }
    }

    /// A sound JWT of a user.
    fn jwt(&self, user: &str) -> String {
        self.signer.sign(&self.issuer.claims(user))
    }

    /// One with something else in a claim; null leaves it out.
    fn jwt_with(&self, user: &str, claim: &str, value: Value) -> String {
        self.signer.sign(&self.claims_with(user, claim, value))
    }

    fn claims_with(&self, user: &str, claim: &str, value: Value) -> Value {
        let mut claims = self.issuer.claims(user);
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(claim);
        } else {
            claims[claim] = value;
        }
        claims
    }

    fn verdict(&self, fields: &Value) -> Verdict {
        raw::connect(self.deployment.server.port(), fields).0
    }

    #[track_caller]
    fn admits(&self, token: &str) {
        self.admits_as(&json!({ "auth_token": token }));
    }

    #[track_caller]
    fn admits_as(&self, fields: &Value) {
        let verdict = self.verdict(fields);
        assert_eq!(verdict, Verdict::Admitted, "{}", self.deployment.service.log());
    }

    /// Panics unless it is refused at once, and for this reason.
    #[track_caller]
    fn refuses(&self, what: &str, token: &str, reason: &str) {
        self.refuses_as(what, &json!({ "auth_token": token }), reason);
    }

    #[track_caller]
    fn refuses_as(&self, what: &str, fields: &Value, reason: &str) {
        let count = || reasons(&self.deployment, reason);
        let before = count();
        let (verdict, took) = raw::connect(self.deployment.server.port(), fields);
        assert_ne!(verdict, Verdict::Admitted, "{what}");
        assert!(took < AT_ONCE, "{what}: {took:?}\n{}", self.deployment.service.log());
        let log = self.deployment.service.log();
        crate::harness::eventually(&format!("{what}: {reason} in\n{log}"), || {
            (count() > before).then_some(())
        });
    }

    /// Panics unless the server lets the client go without having got an answer.
    #[track_caller]
    fn gives_no_answer(&self, token: &str) {
        let fields = json!({ "auth_token": token });
        let (verdict, took) = raw::connect(self.deployment.server.port(), &fields);
        assert_ne!(verdict, Verdict::Admitted);
        assert!(took > AT_ONCE, "answered after {took:?}\n{}", self.deployment.service.log());
    }
}

/// How many refusals the log has for this reason.
fn reasons(deployment: &Deployment, reason: &str) -> usize {
    let word = format!("reason=\"{reason}\"");
    deployment.service.log().lines().filter(|line| line.contains(&word)).count()
}

/// A deployment whose configuration has this at its end.
pub(crate) fn deployment(mode: Mode, tables: &str) -> Deployment {
    let mut deployment = Deployment::start(mode);
    add_to_config(&deployment, tables);
    deployment.service.restart();
    deployment
}

pub(crate) fn add_to_config(deployment: &Deployment, tables: &str) {
    let path = deployment.config();
    let mut text = std::fs::read_to_string(&path).unwrap();
    write!(text, "{tables}").unwrap();
    std::fs::write(path, text).unwrap();
}

/// Runs `nats-callout test` on a deployment, with something on stdin.
fn test_command(deployment: &Deployment, args: &[&str], stdin: &str) -> service::Output {
    let config = deployment.config();
    let mut all = vec!["--config", config.to_str().unwrap(), "--json", "test"];
    all.extend(args);
    service::cli_with_stdin(&deployment.dir(), &all, stdin)
}
