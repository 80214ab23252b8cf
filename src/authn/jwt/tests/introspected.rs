//! Tokens that an issuer is asked about, by a server that says what it is told to.

use std::net::Ipv4Addr;
use std::sync::Mutex;
use std::sync::atomic::AtomicUsize;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::authn::jwt::fetch::Way;

const TOKEN: &str = "an-opaque-token-of-alice";

/// What is said of whatever token, and how often it was.
#[derive(Debug, Default)]
struct Endpoint {
    says: Mutex<Value>,
    asked: AtomicUsize,
}

async fn endpoint() -> (Arc<Endpoint>, String) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}/introspect", listener.local_addr().unwrap());
    let endpoint = Arc::<Endpoint>::default();
    let here = Arc::clone(&endpoint);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4_096];
            let _ = stream.read(&mut request).await.unwrap();
            here.asked.fetch_add(1, SeqCst);
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
