//! The login itself, on a connection of a real client, and what that connection is told about
//! itself: by the server where the grant lets it ask, else by what is refused to it.

use std::time::{Duration, Instant};

use async_nats::{Client, ConnectError, ConnectOptions, Event, ServerAddr, ServerError};
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

use crate::config::Config;
use crate::deployment::{was_only_asked, with_tls};
use crate::policy::Grant;
use crate::policy::subject::Pattern;
use crate::protocol::credentials::Credentials;

/// Where a connection asks who it is.
const USER_INFO: &str = "$SYS.REQ.USER.INFO";
const JETSTREAM_INFO: &str = "$JS.API.INFO";

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// More than the 2 s that a server waits for the service.
const LOGIN: Duration = Duration::from_secs(8);

/// How long after its first question a server has closed a connection that it refuses.
const SECOND_THOUGHTS: Duration = Duration::from_secs(1);

/// How often somebody is let in who was not.
const ATTEMPTS: usize = 4;

/// How long a server may take to greet, and with how much.
const GREETING: Duration = Duration::from_secs(2);
const GREETING_BYTES: u64 = 64 * 1024;

/// An admitted connection.
pub(super) struct Session {
    client: Client,
    errors: mpsc::UnboundedReceiver<String>,
    losses: mpsc::UnboundedReceiver<()>,
}

/// The first words that a server says to anybody.
#[derive(Debug, Deserialize)]
pub(super) struct Greeting {
    /// This machine's address, as the server sees it.
    pub(super) client_ip: String,
    /// How many bytes a message may have.
    pub(super) max_payload: usize,
}

/// What the first server says that can be reached.
pub(super) async fn greeting(config: &Config) -> Option<Greeting> {
    for url in &config.nats.urls {
        let Ok(server) = url.parse::<ServerAddr>() else { continue };
        let greeting = async {
            let stream = TcpStream::connect((server.host(), server.port())).await.ok()?;
            let mut line = String::new();
            BufReader::new(stream.take(GREETING_BYTES)).read_line(&mut line).await.ok()?;
            serde_json::from_str(line.strip_prefix("INFO ")?).ok()
        };
        if let Ok(Some(greeting)) = tokio::time::timeout(GREETING, greeting).await {
            return Some(greeting);
        }
    }
    None
}

/// Logs in. Who is let in by no more than the server's first question tries again.
pub(super) async fn login(
    config: &Config,
    credentials: &Credentials,
    inbox_prefix: String,
) -> (Result<Session, ConnectError>, Duration) {
    let mut attempts = 1;
    loop {
        let (mut connected, took) = login_once(config, credentials, inbox_prefix.clone()).await;
        if let Ok(session) = &mut connected
            && attempts < ATTEMPTS
            && was_only_asked(took, &mut session.losses, SECOND_THOUGHTS).await
        {
            attempts += 1;
            continue;
        }
        return (connected, took);
    }
}

async fn login_once(
    config: &Config,
    credentials: &Credentials,
    inbox_prefix: String,
) -> (Result<Session, ConnectError>, Duration) {
    let options = match credentials {
        Credentials::Password { user, password } => {
            ConnectOptions::with_user_and_password(user.clone(), password.expose().to_owned())
        }
        Credentials::Token { user, token, .. } => {
            let options = ConnectOptions::with_token(token.expose().to_owned());
            match user {
                Some(user) => options.user_and_password(user.clone(), String::new()),
                None => options,
            }
        }
        _ => ConnectOptions::new(),
    };
    let (sender, errors) = mpsc::unbounded_channel();
    let (lost, losses) = mpsc::unbounded_channel();
    let options = options
        .name("nats-callout test")
        .custom_inbox_prefix(inbox_prefix)
        .connection_timeout(LOGIN)
        // One that is lost is not waited for.
        .max_reconnects(config.nats.urls.len())
        .event_callback(move |event| {
            match event {
                Event::ServerError(ServerError::Other(text)) => drop(sender.send(text)),
                Event::Disconnected => drop(lost.send(())),
                _ => {}
            }
            std::future::ready(())
        });
    let begin = Instant::now();
    let connected = with_tls(&config.nats, options).connect(config.nats.urls.as_slice()).await;
    let took = begin.elapsed();
    (connected.map(|client| Session { client, errors, losses }), took)
}

#[derive(Deserialize)]
struct Envelope<T> {
    data: Option<T>,
}

/// What the server says of a connection.
#[derive(Debug, Deserialize)]
pub(super) struct UserInfo {
    pub(super) account: String,
    #[serde(default)]
    pub(super) permissions: Permissions,
    /// Nanoseconds to go.
    #[serde(default)]
    pub(super) expires: u64,
}

/// The permissions that a server enforces.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Permissions {
    #[serde(default)]
    pub(super) publish: Lists,
    #[serde(default)]
    pub(super) subscribe: Lists,
    #[serde(default)]
    pub(super) responses: Option<Responses>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Lists {
    #[serde(default)]
    pub(super) allow: Vec<String>,
    #[serde(default)]
    pub(super) deny: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) struct Responses {
    pub(super) max: i64,
    /// Nanoseconds.
    pub(super) ttl: u64,
}

/// What JetStream says of the account.
#[derive(Debug, Deserialize)]
pub(super) struct JetStreamInfo {
    #[serde(default)]
    pub(super) limits: Option<JetStreamLimits>,
    #[serde(default)]
    pub(super) error: Option<JetStreamError>,
}

#[derive(Debug, Deserialize)]
pub(super) struct JetStreamLimits {
    pub(super) max_memory: i64,
    pub(super) max_storage: i64,
    pub(super) max_streams: i64,
    pub(super) max_consumers: i64,
}

#[derive(Debug, Deserialize)]
pub(super) struct JetStreamError {
    pub(super) code: u16,
    #[serde(default)]
    pub(super) description: String,
}

/// What probing found.
#[derive(Debug, Default)]
pub(super) struct Probed {
    /// Subscriptions of the grant that were admitted.
    pub(super) admitted: usize,
    /// What is granted and was refused, or is not granted and was not refused.
    pub(super) surprises: Vec<String>,
    /// Whether a foreign subject was refused, to publish and to subscribe.
    pub(super) foreign_refused: bool,
}

impl Session {
    pub(super) fn server(&self) -> (String, String) {
        let info = self.client.server_info();
        (info.server_name, info.version)
    }

    /// What the server says; `None` where the grant does not let the connection ask.
    pub(super) async fn user_info(&mut self, grant: &Grant) -> Option<UserInfo> {
        if !publishes(grant, USER_INFO) {
            return None;
        }
        let answer = self.request(USER_INFO).await?;
        let mut info = serde_json::from_slice::<Envelope<UserInfo>>(&answer).ok()?.data?;
        // The server gives them in no order.
        let Permissions { publish, subscribe, .. } = &mut info.permissions;
        for list in [publish, subscribe].into_iter().flat_map(|it| [&mut it.allow, &mut it.deny]) {
            list.sort_unstable();
        }
        Some(info)
    }

    /// What JetStream says; `Err` is why it says nothing.
    pub(super) async fn jetstream(
        &mut self,
        grant: &Grant,
    ) -> Option<Result<JetStreamInfo, String>> {
        if !publishes(grant, JETSTREAM_INFO) {
            return None;
        }
        Some(match self.request(JETSTREAM_INFO).await {
            Some(answer) => serde_json::from_slice(&answer).map_err(|error| error.to_string()),
            None => Err("503: no responders, JetStream does not run for this account".to_owned()),
        })
    }

    async fn request(&mut self, subject: &str) -> Option<bytes::Bytes> {
        let asked = self.client.request(subject.to_owned(), bytes::Bytes::new());
        let answer = tokio::time::timeout(PATIENCE, asked).await.ok()?.ok()?;
        Some(answer.payload)
    }

    /// Subscribes to everything that is granted, and tries a subject that is not, which nobody
    /// else uses. Nothing that the grant allows is published: it would reach somebody.
    pub(super) async fn probe(&mut self, grant: &Grant) -> anyhow::Result<Probed> {
        let foreign = format!("_CALLOUT_TEST.{}", super::super::init::random_name()?);
        let mut subscriptions = Vec::new();
        let subjects = grant.subscribe.iter().map(Pattern::as_str).chain([foreign.as_str()]);
        for subject in subjects {
            subscriptions.push(self.client.subscribe(subject.to_owned()).await?);
        }
        // The last thing sent and refused: what the server has to say of the others comes before.
        self.client.publish(foreign.clone(), bytes::Bytes::new()).await?;
        self.client.flush().await?;
        let mut refusals = Vec::new();
        let mut publish_refused = false;
        while let Ok(Some(error)) = tokio::time::timeout(PATIENCE, self.errors.recv()).await {
            let error = error.to_lowercase();
            publish_refused = error.contains("publish") && names(&error, &foreign);
            if publish_refused {
                break;
            }
            refusals.push(error);
        }
        let refused = |subject: &str| refusals.iter().any(|error| names(error, subject));
        let mut probed = Probed { foreign_refused: publish_refused, ..Probed::default() };
        for pattern in &grant.subscribe {
            if refused(pattern.as_str()) {
                probed.surprises.push(format!("to subscribe {pattern} is granted and refused"));
            } else {
                probed.admitted += 1;
            }
        }
        let tried = [
            ("publish", publish_refused, publishes(grant, &foreign)),
            ("subscribe", refused(&foreign), subscribes(grant, &foreign)),
        ];
        for (what, refused, granted) in tried {
            probed.foreign_refused &= refused;
            if refused == granted {
                let not =
                    if refused { "granted and refused" } else { "neither granted nor refused" };
                probed.surprises.push(format!("to {what} {foreign} is {not}"));
            }
        }
        Ok(probed)
    }
}

/// Whether a refusal is about this subject.
fn names(refusal: &str, subject: &str) -> bool {
    refusal.contains(&format!("\"{}\"", subject.to_lowercase()))
}

fn publishes(grant: &Grant, subject: &str) -> bool {
    grant.publish.iter().any(|pattern| pattern.matches(subject))
        && !grant.deny_publish.iter().any(|pattern| pattern.matches(subject))
}

fn subscribes(grant: &Grant, subject: &str) -> bool {
    grant.subscribe.iter().any(|pattern| pattern.matches(subject))
        && !grant.deny_subscribe.iter().any(|pattern| pattern.matches(subject))
}
