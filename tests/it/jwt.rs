//! Logins with JWTs, through the service and real servers, from a real HTTP issuer: whom it admits,
//! what is refused, and what becomes of logins when the issuer rotates its keys, fails or lies.

mod admission;
pub(crate) mod attacks;
mod introspection;
pub(crate) mod issuers;
mod keycloak;
mod login;
mod others;
mod outage;
mod told;

use std::fmt::Write as _;
use std::sync::Arc;

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use crate::harness::deployment::{Deployment, Initialised, Mode};
use crate::harness::issuer::{Issuer, Signer};
use crate::harness::raw::{self, Verdict};
use crate::harness::{eventually, http, servers, service};

/// A deployment that takes the JWTs of an issuer, by discovery.
pub(crate) struct Bench {
    /// One for all issuers that [`Self::all`] begins with: each has keys and an outage of its own.
    pub(crate) deployment: Arc<Deployment>,
    pub(crate) issuer: Issuer,
    pub(crate) signer: Signer,
    /// The issuer's table in the configuration.
    name: &'static str,
}

/// An issuer to begin with: its table's name and lines, and what it signs with.
type Known<'a> = (&'static str, Algorithm, &'a str);

impl Bench {
    /// One deployment that takes the JWTs of these issuers, from the side of each.
    pub(crate) fn all<const N: usize>(mode: Mode, known: [Known<'_>; N]) -> [Self; N] {
        Self::all_prepared(mode, known, |_| {})
    }

    fn all_prepared<const N: usize>(
        mode: Mode,
        known: [Known<'_>; N],
        prepare: impl Fn(&Initialised),
    ) -> [Self; N] {
        let mut tables = String::new();
        let known = known.map(|(name, algorithm, lines)| {
            let signer = Signer::new("first", algorithm);
            let issuer = Issuer::start(&[&signer]);
            tables.push_str(&issuer.table(name, lines));
            (name, issuer, signer)
        });
        let deployment = Deployment::start_prepared(mode, servers::version(), |init| {
            prepare(init);
            add_to_config(init, &tables);
        });
        let deployment = Arc::new(deployment);
        known.map(|(name, issuer, signer)| {
            let deployment = Arc::clone(&deployment);
            has_keys(&deployment, name, 1);
            Self { deployment, issuer, signer, name }
        })
    }

    /// With a policy of this name, the same in both forms.
    pub(crate) fn start_with_policy(mode: Mode, lines: &str, name: &str, rule: &str) -> Self {
        let known = ("kc", Algorithm::EdDSA, lines);
        let [bench] = Self::all_prepared(mode, [known], |init| add_policy(init, name, rule));
        bench
    }

    /// A metric of this issuer.
    fn metric(&self, name: &str) -> String {
        metric(&self.deployment, self.name, name)
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

    /// Panics unless we refuse it, and for this reason: the decision is in the log, and what is not
    /// decided in time is none.
    #[track_caller]
    fn refuses(&self, what: &str, token: &str, reason: &str) {
        self.refuses_as(what, &json!({ "auth_token": token }), reason);
    }

    #[track_caller]
    fn refuses_as(&self, what: &str, fields: &Value, reason: &str) {
        let count = || reasons(&self.deployment, reason);
        let before = count();
        assert_ne!(self.verdict(fields), Verdict::Admitted, "{what}");
        let log = self.deployment.service.log();
        eventually(&format!("{what}: {reason} in\n{log}"), || (count() > before).then_some(()));
    }

    /// Panics unless the server lets the client go without having got an answer, since the keys
    /// cannot be had.
    #[track_caller]
    fn gives_no_answer(&self, token: &str) {
        let unfetched = format!("the keys of the issuer {} cannot be fetched", self.name);
        self.gives_no_answer_since(token, &unfetched);
    }

    /// [`Self::gives_no_answer`] for this reason, which no other login has meanwhile. A busy machine
    /// may have had no time to find it out: then the client comes again.
    #[track_caller]
    fn gives_no_answer_since(&self, token: &str, reason: &str) {
        let port = self.deployment.server.port();
        let is_told =
            |line: &&str| line.contains("no reply; the client is let go") && line.contains(reason);
        let count = || self.deployment.service.log().lines().filter(is_told).count();
        let before = count();
        let mut tried = Vec::new();
        eventually(&format!("no answer since {reason}"), || {
            let (verdict, number) = raw::connect_numbered(port, &json!({ "auth_token": token }));
            assert_ne!(verdict, Verdict::Admitted);
            tried.push(format!(" cid={number} "));
            (count() > before).then_some(())
        });
        let log = self.deployment.service.log();
        let is_one = |line: &str| tried.iter().any(|number| line.contains(number));
        let refused = log.lines().find(|line| line.contains(" refused reason=") && is_one(line));
        assert_eq!(refused, None, "a fault of ours must not look like a refusal");
        let is_named = |line: &str| is_one(line) && line.contains("host=\"127.0.0.1\"");
        assert!(log.lines().filter(is_told).any(is_named), "whose login it was");
    }
}

/// A metric of the issuer with this table.
fn metric(deployment: &Deployment, issuer: &str, name: &str) -> String {
    let series = format!("nats_callout_issuer_{name}{{issuer=\"{issuer}\"}} ");
    let metrics = http::get(deployment.http(), "/metrics").expect("metrics").body;
    let line = metrics.lines().find_map(|line| line.strip_prefix(&series));
    line.unwrap_or_else(|| panic!("no {series} in\n{metrics}")).to_owned()
}

/// Waits until the service has its first keys. Before that any JWT has it ask for them, which it
/// does once in 30 s.
pub(crate) fn has_keys(deployment: &Deployment, issuer: &str, count: usize) {
    eventually(&format!("the keys of {issuer}"), || {
        (metric(deployment, issuer, "keys") == count.to_string()).then_some(())
    });
}

/// How many refusals the log has for this reason.
pub(crate) fn reasons(deployment: &Deployment, reason: &str) -> usize {
    let word = format!("reason=\"{reason}\"");
    deployment.service.log().lines().filter(|line| line.contains(&word)).count()
}

/// A deployment whose configuration has this at its end.
pub(crate) fn deployment(mode: Mode, tables: &str) -> Deployment {
    Deployment::start_prepared(mode, servers::version(), |init| add_to_config(init, tables))
}

pub(crate) fn add_to_config(init: &Initialised, tables: &str) {
    let path = init.config();
    let mut text = std::fs::read_to_string(&path).unwrap();
    write!(text, "{tables}").unwrap();
    std::fs::write(path, text).unwrap();
}

/// Adds a policy of this name, the same in both forms.
fn add_policy(init: &Initialised, name: &str, rule: &str) {
    let folder = init.dir().join("own");
    std::fs::create_dir(&folder).unwrap();
    let text = format!("[account]\n{rule}[shared]\n{rule}");
    std::fs::write(folder.join(format!("{name}.toml")), text).unwrap();
    init.set("folder", "\"own\"");
}

/// Runs `nats-callout test` on a deployment, with something on stdin.
pub(crate) fn test_command(deployment: &Deployment, args: &[&str], stdin: &str) -> service::Output {
    let config = deployment.config();
    let mut all = vec!["--config", config.to_str().unwrap(), "--json", "test"];
    all.extend(args);
    service::cli_with_stdin(&deployment.dir(), &all, stdin)
}
