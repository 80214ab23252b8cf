use std::sync::Mutex;

use tracing_subscriber::fmt;

use super::*;
use crate::authn::AuthnError;
use crate::authorize::{Abort, Fault, NotAudited, Who};
use crate::mint::MintError;
use crate::placement::AccountError;
use crate::protocol::envelope::EnvelopeError;
use crate::protocol::jwt::JwtError;
use crate::protocol::request::RequestError;

/// One of each kind.
fn faults() -> Vec<Fault> {
    let authentication = [
        AuthnError::Other("closed".to_owned()),
        AuthnError::Overloaded,
        AuthnError::SlowHash { tenant: "one".to_owned(), user: "alice".to_owned() },
        AuthnError::Throttled,
        AuthnError::UnknownTokens,
    ];
    let others = [
        Abort::Envelope(EnvelopeError::Plaintext),
        Abort::Request(RequestError::Token(JwtError::Shape)),
        Abort::Account(AccountError::Gone),
        Abort::Uncounted("no server answers".to_owned()),
        Abort::Mint(MintError::SharedResponses),
        Abort::Response(JwtError::TooLong),
        Abort::Audit(NotAudited("no stream".to_owned())),
        Abort::Shed,
        Abort::Deadline,
        Abort::Panicked,
    ];
    authentication.map(Abort::from).into_iter().chain(others).map(Fault::from).collect()
}

#[test]
fn every_silence_has_its_line_with_cause_and_client() {
    let mut codes: Vec<&str> = faults().iter().map(Fault::code).collect();
    let mut all = Fault::CODES.to_vec();
    codes.sort_unstable();
    codes.dedup();
    all.sort_unstable();
    assert_eq!(codes, all);
    for fault in faults() {
        let (code, said) = (fault.code(), fault.to_string().replace('"', "\\\""));
        let log = tempfile::NamedTempFile::new().unwrap();
        // With one alone, what tests on other threads log first is taken to be of no interest here.
        let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
        let writer = Mutex::new(log.reopen().unwrap());
        let logger = fmt().with_writer(writer).with_ansi(false).without_time().finish();
        let connection = Connection::new("nats-1".to_owned(), "192.0.2.1".to_owned(), 7, "app");
        let who = Who {
            connection: Connection {
                library: "go 1.2".to_owned(),
                offers: "password",
                ..connection
            },
            user: Some("alice".to_owned()),
            tenant: Some("one".to_owned()),
        };
        let outcome = Outcome::NoReply(NoReply { fault, who: Some(who) });
        let audit = AuditLog { instance: Some("i-1".into()) };
        tracing::subscriber::with_default(logger, || audit.observe(&outcome, Duration::ZERO));
        let line = std::fs::read_to_string(log.path()).unwrap();
        assert_eq!(line.lines().count(), 1, "{line}");
        let level = match code {
            "envelope" | "request" | "slow_hash" => " WARN ",
            "throttled" => " INFO ",
            _ => "ERROR ",
        };
        assert!(line.starts_with(level), "{line}");
        for part in [
            format!("reason=\"{code}\""),
            format!("fault=\"{said}\""),
            "user=\"alice\" tenant=\"one\" server=\"nats-1\" cid=7 host=\"192.0.2.1\"".to_owned(),
            "method=\"password\" library=\"go 1.2\"".to_owned(),
            "instance=\"i-1\"".to_owned(),
        ] {
            assert!(line.contains(&part), "no {part} in {line}");
        }
    }
}
