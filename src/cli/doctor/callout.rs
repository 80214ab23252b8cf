//! The callout itself: a client with no credentials is refused at once, its request travels sealed
//! for our key, and nobody but the service is in the account AUTH.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, ServerError};
use futures_util::StreamExt as _;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::super::system::{self, Expect};
use super::files::Keys;
use super::{Findings, chain};
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, Mode};
use crate::keyfile;
use crate::protocol::envelope::{Envelope, EnvelopeError, SERVER_XKEY_HEADER};
use crate::protocol::request::VerifiedRequest;

const REFUSAL: &str = "refusal";
const XKEY: &str = "xkey";
const ISOLATION: &str = "AUTH isolation";

const REQUESTS: &str = "$SYS.REQ.USER.AUTH";

/// The server waits 2 s for an answer: a refusal that took about as long was not the service's.
const AT_ONCE: Duration = Duration::from_millis(1_500);

/// How long a message may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a refusal may take.
const LOGIN: Duration = Duration::from_secs(8);

/// A connection that keeps the errors it was told.
pub(super) struct Watched {
    pub(super) client: Client,
    errors: tokio::sync::Mutex<mpsc::UnboundedReceiver<String>>,
}

impl Watched {
    pub(super) async fn connect(
        options: ConnectOptions,
        urls: &[String],
    ) -> Result<Self, ConnectError> {
        let (sender, errors) = mpsc::unbounded_channel();
        let options = options.event_callback(move |event| {
            if let Event::ServerError(ServerError::Other(text)) = event {
                let _ = sender.send(text);
            }
            std::future::ready(())
        });
        let client = options.connect(urls).await?;
        Ok(Self { client, errors: tokio::sync::Mutex::new(errors) })
    }

    /// Waits for an error that holds all of `words`.
    async fn error(&self, words: &[&str]) -> bool {
        let mut errors = self.errors.lock().await;
        while let Ok(Some(error)) = tokio::time::timeout(PATIENCE, errors.recv()).await {
            let error = error.to_lowercase();
            if words.iter().all(|word| error.contains(&word.to_lowercase())) {
                return true;
            }
        }
        false
    }
}

pub(super) async fn check(
    config: &Config,
    keys: &Keys,
    auth: &Watched,
    system: Option<&Watched>,
    alive: usize,
    findings: &mut Findings,
) {
    if let Err(error) = refusal(config, keys, auth, alive, findings).await {
        findings.fail(REFUSAL, format!("{error:#}"), "see nats-server's log");
    }
    if let Err(error) = forbidden(auth, findings).await {
        findings.fail(ISOLATION, format!("{error:#}"), "see nats-server's log");
    }
    match system {
        Some(system) => {
            if let Err(error) = bystanders(config, keys, system, findings).await {
                findings.fail(ISOLATION, format!("{error:#}"), "see nats-server's log");
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
) -> anyhow::Result<(Result<Client, ConnectError>, Duration, Seen)> {
    let mut requests = auth.client.subscribe(REQUESTS).await?;
    // A question that nobody answers: what was sent before it has arrived.
    let nowhere = auth.client.new_inbox();
    system::ask_raw(&auth.client, &nowhere, bytes::Bytes::new(), Expect::Servers(1)).await?;
    let name = format!("nats-callout doctor {}", super::super::init::random_name()?);
    let options = ConnectOptions::new().name(name.clone()).connection_timeout(LOGIN);
    let begin = Instant::now();
    let refused = options.connect(config.nats.urls.as_slice()).await;
    let took = begin.elapsed();
    let envelope = Envelope::new(keyfile::xkeys(&config.callout.xkey).unwrap_or_default());
    while let Ok(Some(request)) = tokio::time::timeout(PATIENCE, requests.next()).await {
        let header = request.headers.as_ref().and_then(|it| it.get(SERVER_XKEY_HEADER));
        let seen = match envelope.open(&request.payload, header.map(|value| value.as_str())) {
            Err(EnvelopeError::Plaintext) => Seen::Plaintext,
            Err(_) => Seen::Foreign,
            Ok(opened) => match VerifiedRequest::verify(opened, SystemClock.now()) {
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
    alive: usize,
    findings: &mut Findings,
) -> anyhow::Result<()> {
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
            let remedy = if alive == 0 {
                "start `nats-callout serve`"
            } else {
                "instances are alive, but the server takes no answer of theirs: their keys are not \
                 those that the server knows; see the service's log"
            };
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

/// The server has to refuse what would forge a request.
async fn forbidden(auth: &Watched, findings: &mut Findings) -> anyhow::Result<()> {
    auth.client.publish(REQUESTS, bytes::Bytes::new()).await?;
    auth.client.flush().await?;
    if auth.error(&["permissions violation", "publish", REQUESTS]).await {
        findings.ok(ISOLATION, "nobody in AUTH can forge a request");
    } else {
        findings.fail(
            ISOLATION,
            "a user in AUTH may publish requests to the service",
            "is AUTH the account that the server's auth callout names? Correct [callout] account",
        );
    }
    Ok(())
}

#[derive(Deserialize)]
struct Connz {
    #[serde(default)]
    connections: Vec<Connection>,
}

#[derive(Deserialize)]
struct Connection {
    cid: u64,
    #[serde(default)]
    ip: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    authorized_user: String,
}

/// Nobody but the service may be in AUTH: it could read passwords, or answer in its place.
async fn bystanders(
    config: &Config,
    keys: &Keys,
    system: &Watched,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let account = match &config.mode {
        Mode::Operator(mode) => mode.auth_account.to_string(),
        Mode::Config(mode) => mode.auth_account.clone(),
    };
    let Some(own) = &keys.service_user else {
        findings.skip(ISOLATION, "who else is in AUTH is not known without the service's own key");
        return Ok(());
    };
    let body = serde_json::json!({ "acc": account, "auth": true, "limit": 1_024 });
    let strangers = || async {
        let servers =
            system::ask::<Connz>(&system.client, "$SYS.REQ.SERVER.PING.CONNZ", &body, Expect::All)
                .await?;
        let mut found = BTreeMap::new();
        let mut known = 0_usize;
        for answer in servers {
            for connection in answer.data.map(|data| data.connections).unwrap_or_default() {
                if connection.authorized_user == *own {
                    known += 1;
                } else {
                    let who = format!(
                        "{} ({:?}, from {})",
                        connection.authorized_user, connection.name, connection.ip
                    );
                    found.insert((answer.server.id.clone(), connection.cid), who);
                }
            }
        }
        anyhow::Ok((known, found))
    };
    let (known, first) = strangers().await?;
    // A client stands in AUTH for a moment while the service decides about it.
    let stay: Vec<String> = if first.is_empty() {
        Vec::new()
    } else {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let (_, second) = strangers().await?;
        first.into_iter().filter(|(key, _)| second.contains_key(key)).map(|(_, who)| who).collect()
    };
    if stay.is_empty() {
        findings.ok(ISOLATION, format!("{known} connections in AUTH, all of them the service's"));
    } else {
        findings.fail(
            ISOLATION,
            format!("in AUTH there are others than the service: {}", stay.join(", ")),
            "whoever is there can read passwords: give AUTH no other user, and replace its keys",
        );
    }
    Ok(())
}
