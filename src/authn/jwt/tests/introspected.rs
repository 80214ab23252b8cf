//! Tokens that an issuer is asked about, by a server that says what it is told to.

use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use futures_util::{FutureExt as _, future};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::authn::jwt::fetch::Way;
use crate::protocol::claims::ClientInfo;

const TOKEN: &str = "an-opaque-token-of-alice";

/// What is said of whatever token, how often it was, and the questions in their order, one at a time.
#[derive(Debug, Default)]
struct Endpoint {
    says: Mutex<Value>,
    asked: AtomicUsize,
    heard: Mutex<Vec<String>>,
    turn: tokio::sync::Mutex<()>,
}

async fn endpoint() -> (Arc<Endpoint>, String) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/introspect", listener.local_addr().unwrap());
    let endpoint = Arc::<Endpoint>::default();
    let here = Arc::clone(&endpoint);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"token_type_hint=access_token") {
                stream.read_buf(&mut request).await.unwrap();
            }
            let _turn = here.turn.lock().await;
            here.asked.fetch_add(1, SeqCst);
            here.heard.lock().unwrap().push(String::from_utf8(request).unwrap());
            let body = here.says.lock().unwrap().to_string();
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: ";
            let answer = format!("{head}{}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (endpoint, url)
}

async fn asking(more: IssuerSettings) -> (Arc<Endpoint>, Case) {
    let (endpoint, url) = endpoint().await;
    let introspection = IntrospectionSettings {
        url,
        prefix: String::new(),
        client: Some(("nats".to_owned(), Secret::new("s3cret".to_owned()))),
        way: Way::default(),
    };
    let (introspection, keys) = (Some(introspection), KeyLocation::None);
    let issuer = Issuer::open(IssuerSettings { keys, introspection, ..more }).unwrap();
    let case = with_issuer(issuer);
    case.store.put(record("alice", None));
    (endpoint, case)
}

fn active(end: Option<i64>) -> Value {
    let mut said = claims();
    said["active"] = json!(true);
    said["exp"] = json!(end);
    if end.is_none() {
        said.as_object_mut().unwrap().remove("exp");
    }
    said
}

#[tokio::test]
async fn what_the_issuer_says_is_taken_for_a_while_and_asked_again_then() {
    let (endpoint, case) = asking(settings()).await;
    *endpoint.says.lock().unwrap() = active(Some(NOW + 1));
    let principal = accepted(case.token(TOKEN).await);
    assert_eq!(principal.method(), "introspection");
    assert_eq!(principal.expires_at(), Some(NOW + 1));
    accepted(case.token(TOKEN).await);
    assert_eq!(endpoint.asked.load(SeqCst), 1);
    let proof = principal.proof().unwrap();
    proof.again().await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    *endpoint.says.lock().unwrap() = json!({ "active": false });
    let Err(Rejected::Denied(denied)) = proof.again().await else { panic!("it was taken back") };
    assert!(denied.reason.is_of_credential(), "its connection is closed");
    assert_eq!(refused(case.token(TOKEN).await), DenyReason::UnknownToken);
    assert_eq!(endpoint.asked.load(SeqCst), 2);
}

#[tokio::test]
async fn a_token_without_an_end_is_bounded_by_nothing_else() {
    let (endpoint, case) = asking(settings()).await;
    *endpoint.says.lock().unwrap() = active(None);
    assert_eq!(accepted(case.token(TOKEN).await).expires_at(), None);
}

/// A JWT of an issuer without keys is asked about as well, and of another it is not.
#[tokio::test]
async fn jwts_of_an_issuer_without_keys() {
    let (endpoint, case) = asking(settings()).await;
    *endpoint.says.lock().unwrap() = active(Some(NOW + 60));
    accepted(case.token(&jwt(&claims())).await);
    accepted(case.password("alice", &jwt(&claims())).await);
    assert_eq!(endpoint.asked.load(SeqCst), 1);
    let other = jwt(&with("iss", json!("https://other.example.com")));
    assert_eq!(refused(case.token(&other).await), DenyReason::UnknownIssuer);
    *endpoint.says.lock().unwrap() = json!({ "active": false });
    let forged = sign("x".repeat(32).as_str(), &claims());
    assert_eq!(refused(case.token(&forged).await), DenyReason::UnknownToken);
    assert_eq!(endpoint.asked.load(SeqCst), 2);
}

#[tokio::test]
async fn what_the_table_has_is_asked_about_nowhere() {
    let (endpoint, case) = asking(settings()).await;
    case.store.put_token(TokenHash::of(TOKEN), "alice", None);
    assert!(not_mine(&case.token(TOKEN).await));
    assert!(not_mine(&case.password("alice", "a-password-of-alice").await));
    assert_eq!(endpoint.asked.load(SeqCst), 0);
}

#[tokio::test]
async fn no_answer_is_no_refusal() {
    let (endpoint, case) = asking(settings()).await;
    *endpoint.says.lock().unwrap() = json!({ "active": "yes" });
    for _ in 0..2 {
        let Err(AuthnError::Introspection { issuer, reason }) = case.token(TOKEN).await else {
            panic!("nothing was said");
        };
        assert!(issuer == "license" && reason.contains("`active` is missing"), "{reason}");
    }
    assert_eq!(endpoint.asked.load(SeqCst), 2, "it is not kept");
}

/// Sixteen are asked about at once, and strangers wait already.
#[tokio::test]
async fn who_comes_from_where_a_token_was_active_is_next() {
    let (endpoint, case) = asking(settings()).await;
    let from = async |host: &str, token: String| {
        let client = ClientInfo { host: host.to_owned(), ..ClientInfo::default() };
        let credentials = Credentials::token(None, Secret::new(token));
        let attempt = Attempt { client: &client, ..attempt(&credentials, far()) };
        case.authenticator.authenticate(attempt).await
    };
    *endpoint.says.lock().unwrap() = active(Some(NOW + 60));
    accepted(from("192.0.2.1", TOKEN.to_owned()).await);
    *endpoint.says.lock().unwrap() = json!({ "active": false });
    let held = endpoint.turn.lock().await;
    let hosts: Vec<String> = (0..40).map(|number| format!("198.51.100.{number}")).collect();
    let mut strangers: FuturesUnordered<_> =
        hosts.iter().map(|host| from(host, format!("made-up-token-of-{host}"))).collect();
    assert!(strangers.next().now_or_never().is_none());
    let mut known = Box::pin(from("192.0.2.1", "another-token-of-alice".to_owned()));
    assert!((&mut known).now_or_never().is_none());
    drop(held);
    future::join(strangers.count(), known).await.1.unwrap();
    let heard = endpoint.heard.lock().unwrap();
    let at = heard.iter().position(|it| it.contains("another-token-of-alice")).unwrap();
    assert!(at < 20, "{at} of {}", heard.len());
}
