//! A listener beside the service, in the account AUTH and with the service's curve key: it hears
//! what servers ask and what the service answers, and can answer in its place.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use async_nats::{Client, ConnectOptions, HeaderMap, Message, Subscriber};
use futures_util::StreamExt as _;
use nkeys::XKey;
use serde_json::Value;

use super::tokens;
use super::wire::verdict;
use crate::harness::PATIENCE;
use crate::harness::client::{Login, settled};
use crate::harness::deployment::{Initialised, Mode};

/// How long a request that was heard before takes at most.
const KNOCK: Duration = Duration::from_millis(100);

/// Connects with a login that `init` wrote below `keys/`: a creds file in operator mode, a seed in
/// config mode.
pub(super) async fn own_login(init: &Initialised, mode: Mode, url: &str, name: &str) -> Client {
    own_login_with(init, mode, url, name, |options| options).await
}

async fn own_login_with(
    init: &Initialised,
    mode: Mode,
    url: &str,
    name: &str,
    more: impl FnOnce(ConnectOptions) -> ConnectOptions,
) -> Client {
    let keys = init.dir().join("keys");
    let options = match mode {
        Mode::Operator => {
            let creds = keys.join(format!("{name}.creds"));
            ConnectOptions::with_credentials_file(creds).await.expect("a creds file")
        }
        Mode::Config => {
            let seed = tokens::key(init, &format!("{name}.nk")).seed().expect("a seed");
            ConnectOptions::with_nkey(seed)
        }
    };
    more(options).connect(url).await.expect("a login of init's")
}

/// What a server asked.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// The claims of the request.
    pub(super) claims: Value,
    /// Whether it came in an envelope.
    pub(super) sealed: bool,
    /// The header with the curve key that the envelope is from.
    pub(super) xkey: String,
    /// Where the answer goes.
    pub(super) reply: String,
}

/// What the service answered.
#[derive(Debug, Clone)]
pub(super) struct Answered {
    /// The payload as it is.
    pub(super) payload: Vec<u8>,
    /// Whether it is in an envelope.
    pub(super) sealed: bool,
    /// The claims of the response.
    pub(super) claims: Value,
}

impl Asked {
    /// What the server knows of the client.
    pub(super) fn client(&self, field: &str) -> &str {
        self.claims["nats"]["client_info"][field].as_str().unwrap_or_default()
    }

    /// What the client sent in CONNECT.
    pub(super) fn sent(&self, field: &str) -> &str {
        self.claims["nats"]["connect_opts"][field].as_str().unwrap_or_default()
    }
}

impl Answered {
    /// The refusal's text, or empty.
    pub(super) fn error(&self) -> &str {
        self.claims["nats"]["error"].as_str().unwrap_or_default()
    }

    /// The claims of the user that is granted.
    pub(super) fn user(&self) -> Option<Value> {
        self.claims["nats"]["jwt"].as_str().filter(|token| !token.is_empty()).map(tokens::claims)
    }
}

/// The listener.
#[derive(Debug)]
pub(super) struct Tap {
    pub(super) client: Client,
    xkey: XKey,
    requests: Subscriber,
    replies: Subscriber,
    early: HashMap<String, Vec<Message>>,
}

impl Tap {
    /// Listens from now on.
    pub(super) async fn on(init: &Initialised, mode: Mode, url: &str) -> Self {
        Self::with(init, mode, url, |options| options).await
    }

    /// Listens from now on, over a connection with more options.
    pub(super) async fn with(
        init: &Initialised,
        mode: Mode,
        url: &str,
        more: impl FnOnce(ConnectOptions) -> ConnectOptions,
    ) -> Self {
        let client = own_login_with(init, mode, url, "auth", more).await;
        let requests = client.subscribe("$SYS.REQ.USER.AUTH").await.expect("subscribes");
        let replies = client.subscribe("$SYS._INBOX.>").await.expect("subscribes");
        settled(&client).await;
        let seed = std::fs::read_to_string(init.dir().join("keys/xkey.nk")).expect("a seed");
        let xkey = XKey::from_seed(seed.trim()).expect("a curve seed");
        Self { client, xkey, requests, replies, early: HashMap::new() }
    }

    /// Waits until what the server on this port asks comes here: interest takes its time over a route.
    pub(super) async fn hears(&mut self, port: u16) {
        let start = Instant::now();
        loop {
            verdict(port, "knock", &Login::Nothing);
            if tokio::time::timeout(KNOCK, self.asked("knock")).await.is_ok() {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "nothing comes from the server on port {port}");
        }
    }

    /// The next request about the client of this name.
    pub(super) async fn asked(&mut self, name: &str) -> Asked {
        self.asked_after(name).await.0
    }

    /// The next request about the client of this name, and how many about others came before it.
    pub(super) async fn asked_after(&mut self, name: &str) -> (Asked, usize) {
        let mut others = 0;
        loop {
            let message = tokio::time::timeout(PATIENCE, self.requests.next()).await;
            let message = message.unwrap_or_else(|_| panic!("nobody asked about {name}"));
            let message = message.expect("the connection is open");
            // The service asks itself whether it is there.
            let Some(reply) = message.reply.as_deref().filter(|to| to.starts_with("$SYS._INBOX."))
            else {
                continue;
            };
            let xkey = header(message.headers.as_ref());
            let (token, sealed) = self.open(&message.payload, &xkey);
            let claims = tokens::claims(&token);
            let asked = Asked { claims, sealed, xkey, reply: reply.to_owned() };
            if asked.sent("name") == name || asked.client("mqtt_id") == name {
                return (asked, others);
            }
            others += 1;
        }
    }

    /// The answer to a request.
    pub(super) async fn answered(&mut self, asked: &Asked) -> Answered {
        loop {
            if let Some(message) = self.early.get_mut(&asked.reply).and_then(Vec::pop) {
                let (token, sealed) = self.open(&message.payload, &asked.xkey);
                let claims = tokens::claims(&token);
                return Answered { payload: message.payload.to_vec(), sealed, claims };
            }
            let message = tokio::time::timeout(PATIENCE, self.replies.next()).await;
            let message = message.unwrap_or_else(|_| panic!("no answer to {:?}", asked.claims));
            let message = message.expect("the connection is open");
            self.early.entry(message.subject.to_string()).or_default().push(message);
        }
    }

    /// What was asked about the client of this name, and answered.
    pub(super) async fn exchange(&mut self, name: &str) -> (Asked, Answered) {
        let asked = self.asked(name).await;
        let answered = self.answered(&asked).await;
        (asked, answered)
    }

    /// Answers a request with these bytes.
    pub(super) async fn answer(&self, asked: &Asked, payload: Vec<u8>) {
        self.client.publish(asked.reply.clone(), payload.into()).await.expect("publishes");
        self.client.flush().await.expect("is connected");
    }

    /// Opens an envelope between the service and the server of this curve key, in either direction.
    fn open(&self, payload: &[u8], peer: &str) -> (String, bool) {
        if payload.starts_with(b"eyJ") {
            return (String::from_utf8(payload.to_vec()).expect("a JWT"), false);
        }
        let peer = XKey::from_public_key(peer).expect("the server's curve key");
        let token = self.xkey.open(payload, &peer).expect("an envelope");
        (String::from_utf8(token).expect("a JWT"), true)
    }
}

fn header(headers: Option<&HeaderMap>) -> String {
    let value = headers.and_then(|headers| headers.get("Nats-Server-Xkey"));
    value.map(|value| value.as_str().to_owned()).unwrap_or_default()
}
