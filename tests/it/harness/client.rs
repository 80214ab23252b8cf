//! async-nats clients, with the errors that the server reports to them kept for the test.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions, Event};
use futures_util::StreamExt as _;
use serde_json::Value;

use super::eventually_async;

/// What a client logs in with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Login {
    /// A user name and a password (or a token as the password).
    Password(String, String),
    /// A token.
    Token(String),
    /// Nothing at all.
    Nothing,
}

impl Login {
    pub(crate) fn password(user: &str, password: &str) -> Self {
        Self::Password(user.to_owned(), password.to_owned())
    }

    /// The same as fields of CONNECT.
    pub(crate) fn connect_fields(&self) -> Value {
        match self {
            Self::Password(user, password) => serde_json::json!({"user": user, "pass": password}),
            Self::Token(token) => serde_json::json!({"auth_token": token}),
            Self::Nothing => serde_json::json!({}),
        }
    }
}

/// A connected client that remembers the errors it was told.
#[derive(Debug, Clone)]
pub(crate) struct Connected {
    pub(crate) client: Client,
    errors: Arc<Mutex<Vec<String>>>,
}

/// Logs in, once.
pub(crate) async fn connect(
    url: &str,
    login: &Login,
    inbox_prefix: &str,
) -> Result<Connected, ConnectError> {
    let options = match login.clone() {
        Login::Password(user, password) => ConnectOptions::with_user_and_password(user, password),
        Login::Token(token) => ConnectOptions::with_token(token),
        Login::Nothing => ConnectOptions::new(),
    };
    connect_with(url, options, inbox_prefix).await
}

/// [`connect`] with a login of another kind.
pub(crate) async fn connect_with(
    url: &str,
    options: ConnectOptions,
    inbox_prefix: &str,
) -> Result<Connected, ConnectError> {
    let errors = Arc::new(Mutex::new(Vec::new()));
    let seen = errors.clone();
    let client = options
        .custom_inbox_prefix(inbox_prefix)
        .connection_timeout(Duration::from_secs(20))
        .request_timeout(Some(Duration::from_secs(10)))
        .ignore_discovered_servers()
        .event_callback(move |event| {
            let seen = seen.clone();
            async move {
                if let Event::ServerError(error) = event {
                    seen.lock().expect("no panic").push(error.to_string());
                }
            }
        })
        .connect(url)
        .await?;
    Ok(Connected { client, errors })
}

/// Logs in and panics unless the server says "authorization violation".
pub(crate) async fn refused(url: &str, login: &Login) {
    match connect(url, login, "_INBOX").await {
        Ok(connected) => {
            assert!(!connected.is_in().await, "{login:?} was admitted");
            let errors = connected.errors();
            assert!(
                errors.iter().any(|error| error.contains("authorization violation")),
                "{errors:?}"
            );
        }
        Err(error) => {
            assert_eq!(error.kind(), ConnectErrorKind::AuthorizationViolation, "{error}");
        }
    }
}

/// Waits until the server has seen everything that this client sent before: a flush says only that it
/// is on its way, and everybody may ask this.
pub(crate) async fn settled(client: &Client) {
    let asking = client.request("$SYS.REQ.USER.INFO", "".into());
    let answer = tokio::time::timeout(super::PATIENCE, asking).await.expect("an answer in time");
    answer.expect("an answer of the server");
}

impl Connected {
    /// Waits for a permissions violation that names all of `words`.
    pub(crate) async fn violation(&self, words: &[&str]) {
        let what = format!("a permissions violation with {words:?}");
        eventually_async(&what, || async {
            let errors = self.errors.lock().expect("no panic");
            errors.iter().map(|error| error.to_lowercase()).find(|error| {
                error.contains("permissions violation")
                    && words.iter().all(|word| error.contains(&word.to_lowercase()))
            })
        })
        .await;
    }

    /// Whether the server has let it in, by its answer to a request, or by its word that this one may not ask:
    /// for async-nats the first PING of a server, about a second after the connection, ends a login too.
    pub(crate) async fn is_in(&self) -> bool {
        let word = eventually_async("a server's word", || async {
            let errors = self.errors();
            errors.first().map(|error| error.to_lowercase().contains("permissions violation"))
        });
        tokio::select! {
            is_in = word => is_in,
            () = self.settled() => true,
        }
    }

    /// Every error that the server reported.
    pub(crate) fn errors(&self) -> Vec<String> {
        self.errors.lock().expect("no panic").clone()
    }

    /// Waits until the server has seen everything that this client sent before.
    pub(crate) async fn settled(&self) {
        settled(&self.client).await;
    }

    /// Subscribes to and publishes on `subject`, which must be allowed, and waits for the message:
    /// the server has then seen everything that this client sent before.
    pub(crate) async fn round_trip(&self, subject: &str) {
        let mut subscription = self.client.subscribe(subject.to_owned()).await.expect("subscribes");
        self.client.publish(subject.to_owned(), "round trip".into()).await.expect("publishes");
        let message = tokio::time::timeout(super::PATIENCE, subscription.next())
            .await
            .unwrap_or_else(|_| panic!("no round trip on {subject}: {:?}", self.errors()))
            .expect("the connection is open");
        assert_eq!(message.payload, "round trip");
    }

    /// A JSON request to the JetStream API; panics on an error in the answer.
    pub(crate) async fn jetstream(&self, subject: &str, body: &Value) -> Value {
        let answer = self
            .client
            .request(subject.to_owned(), body.to_string().into())
            .await
            .unwrap_or_else(|error| panic!("{subject}: {error}; {:?}", self.errors()));
        let answer: Value = serde_json::from_slice(&answer.payload).expect("json");
        assert!(answer.get("error").is_none(), "{subject}: {answer}");
        answer
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_and_the_bare_protocol_see_the_same_refusals() {
    use super::raw::{self, Verdict};
    use super::{ports, servers};

    let dir = tempfile::tempdir().expect("a folder");
    let port = ports::free();
    let conf = dir.path().join("nats.conf");
    let text = format!(
        "listen: 127.0.0.1:{port}\nauthorization {{ users: [\n  {{ user: alice, password: secret, \
         permissions {{ publish: [\"user.1.>\"], subscribe: [\"user.1.>\", \"_INBOX_1.>\"] }} }}\n] }}\n"
    );
    std::fs::write(&conf, text).expect("a configuration");
    let server = servers::NatsServer::start(servers::version(), &conf, port, None).expect("starts");

    let alice = Login::password("alice", "secret");
    assert_eq!(raw::connect(port, &alice.connect_fields()).0, Verdict::Admitted);
    let connected = connect(&server.url(), &alice, "_INBOX_1").await.expect("connects");
    connected.round_trip("user.1.echo").await;
    assert_eq!(connected.errors(), [""; 0]);
    for subject in ["user.2.Events", "$JS.API.INFO", "_INBOX.x"] {
        connected.client.publish(subject, "x".into()).await.expect("is sent");
        connected.violation(&["publish", &format!("\"{subject}\"")]).await;
    }
    for subject in ["user.2.>", "user.*.Events", ">"] {
        let _refused = connected.client.subscribe(subject).await.expect("is sent");
        connected.violation(&["subscription", &format!("\"{subject}\"")]).await;
    }

    let words = Verdict::Refused("-ERR 'Authorization Violation'\r\n".to_owned());
    for login in [
        Login::password("alice", "wrong"),
        Login::password("", ""),
        Login::Token("wrong".to_owned()),
        Login::Nothing,
    ] {
        assert_eq!(raw::connect(port, &login.connect_fields()).0, words, "{login:?}");
        refused(&server.url(), &login).await;
    }
}
