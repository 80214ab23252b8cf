//! The callout itself: a client with no credentials is refused at once, its request travels sealed
//! for our key, and nobody but the service is in the account AUTH.

use std::time::{Duration, Instant};

use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions, Event};
use futures_util::StreamExt as _;
use tokio::sync::mpsc;

use super::files::Keys;
use super::{Findings, SILENT, State, reader};
use crate::authn::random;
use crate::causes::{BoxError, chain};
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, Mode};
use crate::daemon::isolation::{Denials, Isolation};
use crate::deployment::{round_trip, was_only_asked, with_tls};
use crate::keyfile::{self, KeyFileError};
use crate::protocol::envelope::{Envelope, EnvelopeError, SERVER_XKEY_HEADER};
use crate::protocol::replay::SpentKeys;
use crate::protocol::request::VerifiedRequest;
use crate::servers::Cluster;
use crate::service::CALLOUT_SUBJECT;

const REFUSAL: &str = "refusal";
const XKEY: &str = "xkey";
const ISOLATION: &str = "AUTH isolation";

/// The server waits 2 s for an answer: a refusal that took about as long was not the service's.
const AT_ONCE: Duration = Duration::from_millis(1_500);

/// How long a message may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// For how long clients in AUTH are looked at that may just be logging in.
const WAITING: Duration = Duration::from_secs(15);

/// How long a refusal may take.
const LOGIN: Duration = Duration::from_secs(8);

/// How many instances there are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Instances {
    /// With a young heartbeat.
    pub(super) alive: usize,
    /// That have answered us, where that is known.
    pub(super) answering: Option<usize>,
}

impl Instances {
    /// What there is to do where the server got no answer that it takes.
    fn remedy(self) -> String {
        match self {
            Self { alive: 0, answering: None | Some(0) } => {
                "start `nats-callout serve`; where it runs, it hangs: see its log, and restart it"
                    .to_owned()
            }
            Self { answering: Some(0), .. } => format!("no instance answers: {SILENT}"),
            _ => "instances are alive, but the server takes no answer of theirs: see the service's log and \
                  nats-server's, and what is said here of `account AUTH` or `auth_callout`"
                .to_owned(),
        }
    }
}

/// A connection that counts what it was refused.
pub(super) struct Watched {
    pub(super) client: Client,
    /// What is asked on it, in the system account.
    pub(super) cluster: Cluster,
    denials: Denials,
}

impl Watched {
    pub(super) async fn connect(
        options: ConnectOptions,
        urls: &[String],
    ) -> Result<Self, ConnectError> {
        let denials = Denials::default();
        let counting = denials.clone();
        let options = options.event_callback(move |event| {
            counting.note(&event);
            std::future::ready(())
        });
        let client = options.connect(urls).await?;
        Ok(Self { cluster: Cluster::new(client.clone()), client, denials })
    }
}

pub(super) async fn check(
    config: &Config,
    keys: &Keys,
    auth: &Watched,
    system: Option<&Watched>,
    instances: Instances,
    findings: &mut Findings,
) {
    if let Err(error) = refusal(config, keys, auth, instances, findings).await {
        findings.fail(REFUSAL, chain(&*error), "see nats-server's log");
    }
    match system {
        Some(system) => {
            if let Err(error) = isolation(config, auth, system, findings).await {
                // It says what to do by itself.
                findings.add(ISOLATION, State::Fail, chain(&error), None);
            }
        }
        None => findings.skip(ISOLATION, "who else is in AUTH is not known without the login SYS"),
    }
}

/// How the request of a client without credentials looked on its way.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// Nothing came.
    Nothing,
    Opened,
    Plaintext,
    /// None of our keys opens it.
    Foreign,
}

/// Connects with no credentials, and looks at the request that comes of it.
async fn probe(
    config: &Config,
    auth: &Watched,
) -> Result<(Result<Client, ConnectError>, Duration, Seen), BoxError> {
    let mut requests = auth.client.subscribe(CALLOUT_SUBJECT).await?;
    round_trip(&auth.client).await;
    let name = format!("nats-callout doctor {}", *random::text(random::BASE62, 16)?);
    let (lost, mut losses) = mpsc::unbounded_channel();
    let options = ConnectOptions::new()
        .name(name.clone())
        .connection_timeout(LOGIN)
        .max_reconnects(config.nats.urls.len())
        .event_callback(move |event| {
            if event == Event::Disconnected {
                let _ = lost.send(());
            }
            std::future::ready(())
        });
    let begin = Instant::now();
    let mut refused = with_tls(&config.nats, options).connect(config.nats.urls.as_slice()).await;
    if refused.is_ok() && was_only_asked(begin.elapsed(), &mut losses, LOGIN).await {
        refused = Err(ConnectErrorKind::AuthorizationViolation.into());
    }
    let took = begin.elapsed();
    let envelope = Envelope::new(keyfile::xkeys(&config.callout.xkey).unwrap_or_default());
    let spent = SpentKeys::default();
    while let Ok(Some(request)) = tokio::time::timeout(PATIENCE, requests.next()).await {
        let header = request.headers.as_ref().and_then(|it| it.get(SERVER_XKEY_HEADER));
        let seen = match envelope.open(&request.payload, header.map(|value| value.as_str())) {
            Err(EnvelopeError::Plaintext) => Seen::Plaintext,
            Err(_) => Seen::Foreign,
            Ok(opened) => match VerifiedRequest::verify(opened, &spent, SystemClock.now()) {
                Ok((request, _)) if request.client().name == name => Seen::Opened,
                // Another client's.
                _ => continue,
            },
        };
        return Ok((refused, took, seen));
    }
    Ok((refused, took, Seen::Nothing))
}

async fn refusal(
    config: &Config,
    keys: &Keys,
    auth: &Watched,
    instances: Instances,
    findings: &mut Findings,
) -> Result<(), BoxError> {
    let (mut refused, mut took, mut seen) = probe(config, auth).await?;
    if seen == Seen::Nothing || took >= AT_ONCE {
        // In a cluster, our subscription may have been news to the client's server; and one slow
        // answer on a busy machine is no fault.
        (refused, took, seen) = probe(config, auth).await?;
    }
    let operator = matches!(config.mode, Mode::Operator(_));
    match &refused {
        Ok(_) => findings.fail(
            REFUSAL,
            "a client with no credentials is let in",
            "remove `no_auth_user` from nats-server.conf, and the permission from the policy",
        ),
        Err(error) if error.kind() != ConnectErrorKind::AuthorizationViolation => {
            findings.fail(REFUSAL, chain(error), "see nats-server's log");
        }
        Err(_) if seen == Seen::Nothing && operator => findings.fail(
            REFUSAL,
            "a client with no credentials is refused without the service being asked: the server \
             has no default_sentinel, or one that is no bearer of AUTH",
            "put the sentinel of `init` into nats-server.conf and restart the server",
        ),
        Err(_) if seen == Seen::Nothing => findings.fail(
            REFUSAL,
            "a client with no credentials is refused without the service being asked",
            "write the block auth_callout into nats-server.conf, with the account of [callout]",
        ),
        Err(_) if took >= AT_ONCE => {
            let remedy = instances.remedy();
            let what = format!(
                "a client waits {:.1} s for its refusal: no answer came",
                took.as_secs_f64()
            );
            findings.fail(REFUSAL, what, remedy);
        }
        Err(_) => {
            let sentinel = if operator { ", through the sentinel" } else { "" };
            let what = format!(
                "a client with no credentials is refused in {} ms{sentinel}",
                took.as_millis()
            );
            findings.ok(REFUSAL, what);
        }
    }
    match seen {
        Seen::Nothing => findings.skip(XKEY, "no request was seen"),
        Seen::Opened => findings.ok(XKEY, "in force: the request travelled sealed for our key"),
        Seen::Plaintext => findings.fail(
            XKEY,
            "requests travel in plain text, passwords included",
            "name the public key of [callout] xkey as the server's xkey (auth_callout, or the JWT \
             of AUTH)",
        ),
        Seen::Foreign if keys.xkeys.is_empty() && !config.callout.xkey.is_empty() => findings.skip(
            XKEY,
            "requests travel sealed; whether for our key is not known while its file cannot be used: see `key files`",
        ),
        Seen::Foreign => findings.fail(
            XKEY,
            if keys.xkeys.is_empty() {
                "requests travel sealed, and there is no key to open them"
            } else {
                "requests are sealed for another key than [callout] xkey"
            },
            "restore the key file, or name its public key as the server's xkey",
        ),
    }
    Ok(())
}

/// Nobody but the service may be in AUTH: it could read requests, or answer in its place.
async fn isolation(
    config: &Config,
    auth: &Watched,
    system: &Watched,
    findings: &mut Findings,
) -> Result<(), KeyFileError> {
    let cluster = system.cluster.clone();
    let isolation = Isolation::new(config, auth.client.clone(), auth.denials.clone(), cluster)?;
    let mut report = isolation.look().await;
    // A client stands in AUTH for a moment while the service decides about it.
    let until = Instant::now() + WAITING;
    while report.violations.is_empty() && report.waiting > 0 && Instant::now() < until {
        tokio::time::sleep(PATIENCE).await;
        report = isolation.look().await;
    }
    for violation in &report.violations {
        findings.fail(ISOLATION, violation.to_string(), violation.remedy());
    }
    for what in &report.unknown {
        findings.warn(ISOLATION, format!("not all is known: {what}"), "run doctor again");
    }
    if report.violations.is_empty() && report.unknown.is_empty() {
        let what = format!(
            "{} connections in AUTH, all of them the service's; nobody there can forge a request",
            report.own
        );
        findings.ok(ISOLATION, what);
    }
    if let Some(exports) = &report.exports {
        reader::offered(config, exports, findings);
    }
    Ok(())
}
