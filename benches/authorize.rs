//! One decision in process: request token in, response bytes out, record and password cached,
//! beside its floor: the signatures and boxes alone, with the same library.
//!
//! `cargo bench --bench authorize`; compare the ratios within one run.

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench fails by panicking")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use crypto_box::SalsaBox;
use crypto_box::aead::Aead as _;
use nats_callout::callout::{ClientInfo, Outcome, Verdict, hash_password};
use nats_callout::clock::SystemClock;
use nats_callout::internals::{
    AuthorizationRequestBody, Authorizer, Cached, CalloutMessage, Claims, ConfigTargets,
    ConnectOptions, Envelope, Mint, PasswordAuthenticator, PasswordSettings, Placement, Responder,
    ServerInfo, verify,
};
use nats_callout::keys::{KeyKind, SigningKey, XKey};
use nats_callout::policy::PolicySet;
use nats_callout::store::{MemoryStore, TenantRecord, UserKind, UserRecord};

const FAR_FUTURE: i64 = 4_000_000_000;

fn alice(password: &str) -> MemoryStore {
    let store = MemoryStore::default();
    let tenant = TenantRecord::new("42".parse().unwrap());
    let password_hash = Some(hash_password(password).unwrap());
    let alice = UserRecord { password_hash, ..UserRecord::new("alice", UserKind::Bb) };
    store.put_tenant(tenant.clone());
    store.put_user(&tenant.id, alice).unwrap();
    store
}

fn request(server: &SigningKey, xkey: String, password: &str) -> String {
    let claims = Claims {
        audience: Some("nats-authorization-request".to_owned()),
        expires: Some(FAR_FUTURE),
        issued_at: FAR_FUTURE - 2,
        name: None,
        not_before: None,
        subject: SigningKey::generate(KeyKind::Account).unwrap().0.public_key().to_owned(),
        body: AuthorizationRequestBody {
            server: ServerInfo {
                name: "nats-1".to_owned(),
                host: "0.0.0.0".to_owned(),
                id: server.public_key().to_owned(),
                version: "2.15.1".to_owned(),
                xkey,
                ..ServerInfo::default()
            },
            user_nkey: SigningKey::generate(KeyKind::User).unwrap().0.public_key().to_owned(),
            client_info: ClientInfo {
                host: "127.0.0.1".to_owned(),
                id: 7,
                user: "alice".to_owned(),
                kind: "Client".to_owned(),
                connection_type: "nats".to_owned(),
                ..ClientInfo::default()
            },
            connect_opts: ConnectOptions {
                user: "alice".to_owned(),
                password: password.to_owned(),
                lang: "rust".to_owned(),
                version: "0.51.0".to_owned(),
                protocol: 1,
                ..ConnectOptions::default()
            },
            ..AuthorizationRequestBody::default()
        },
    };
    claims.encode_now(server).unwrap()
}

fn authorizer(password: &str, xkeys: Vec<XKey>) -> Authorizer {
    let issuer = Arc::new(SigningKey::generate(KeyKind::Account).unwrap().0);
    let store = Cached::new(Arc::new(alice(password)), &Default::default());
    let settings = PasswordSettings { threads: 1, ..PasswordSettings::default() };
    let password =
        PasswordAuthenticator::new(settings, Arc::new(store), Arc::new(SystemClock)).unwrap();
    let targets = ConfigTargets::new("AUTH", vec!["USERS".to_owned()], Default::default()).unwrap();
    let mint = Mint::new(issuer.clone(), Duration::from_secs(900));
    Authorizer::new(
        Envelope::new(xkeys),
        Placement::Config(targets),
        Arc::new(PolicySet::shipped().unwrap()),
        mint,
        Responder { signer: issuer, issuer_account: None },
    )
    .with_authenticator(Arc::new(password))
}

fn decision(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let password = "correct-horse-battery-staple";
    let server = SigningKey::generate(KeyKind::Server).unwrap().0;

    // A request is taken once, so each decision is about one of its own; each floor likewise, so
    // that both meet theirs as cold.
    let plain = || request(&server, String::new(), password);
    let without = authorizer(password, Vec::new());

    let (service_xkey, _) = XKey::generate().unwrap();
    let server_xkey = nkeys::XKey::new();
    let recipient = nkeys::XKey::from_public_key(service_xkey.public_key().as_str()).unwrap();
    let inner = || request(&server, server_xkey.public_key(), password);
    let sealed = || server_xkey.seal(inner().as_bytes(), &recipient).unwrap();
    let header = server_xkey.public_key();
    let with = authorizer(password, vec![service_xkey]);

    let decide = |authorizer: &Authorizer, payload: &[u8], server_xkey: Option<&str>| {
        let deadline = Instant::now() + Duration::from_secs(60);
        let message = CalloutMessage { payload, server_xkey, deadline, max_reply: 1 << 20 };
        match runtime.block_on(authorizer.authorize(message)) {
            Outcome::Reply(reply) if matches!(reply.verdict, Verdict::Granted { .. }) => reply,
            other => panic!("not granted: {other:?}"),
        }
    };
    let response = decide(&without, plain().as_bytes(), None).payload;
    decide(&with, &sealed(), Some(&header));

    let mut group = c.benchmark_group("decision");
    group.bench_function("floor, without xkey", |b| {
        let floor = |plain: String| floor(&server, &plain, &response, None);
        b.iter_batched(plain, floor, BatchSize::SmallInput);
    });
    group.bench_function("decision, without xkey", |b| {
        let decide = |plain: String| decide(&without, black_box(plain.as_bytes()), None);
        b.iter_batched(plain, decide, BatchSize::SmallInput);
    });
    let boxes = boxes();
    group.bench_function("floor, with xkey", |b| {
        let floor = |inner: String| floor(&server, &inner, &response, Some(&boxes));
        b.iter_batched(inner, floor, BatchSize::SmallInput);
    });
    group.bench_function("decision, with xkey", |b| {
        let decide = |sealed: Vec<u8>| decide(&with, black_box(&sealed), Some(&header));
        b.iter_batched(sealed, decide, BatchSize::SmallInput);
    });
    group.finish();
}

fn boxes() -> (SalsaBox, SalsaBox) {
    let secret = |byte| crypto_box::SecretKey::from_bytes([byte; 32]);
    let (one, two) = (secret(1), secret(2));
    (SalsaBox::new(&two.public_key(), &one), SalsaBox::new(&one.public_key(), &two))
}

/// What no decision can do without: one verification, two signatures, and with an xkey one box
/// opened and one sealed, of texts as long as the real ones.
fn floor(key: &SigningKey, request: &str, response: &[u8], boxes: Option<&(SalsaBox, SalsaBox)>) {
    let public: &[u8; 32] = key.public_raw().try_into().unwrap();
    let (signed, signature) = request.rsplit_once('.').unwrap();
    let signature = data_encoding::BASE64URL_NOPAD.decode(signature.as_bytes()).unwrap();
    assert!(verify(public, black_box(signed.as_bytes()), &signature));
    let user = response.get(..response.len() / 2).unwrap();
    black_box(key.sign_now(black_box(user)));
    black_box(key.sign_now(black_box(response)));
    if let Some((ours, theirs)) = boxes {
        let nonce = [7; 24];
        let sealed = theirs.encrypt((&nonce).into(), request.as_bytes()).unwrap();
        let opened = ours.decrypt((&nonce).into(), sealed.as_slice()).unwrap();
        black_box(opened);
    }
}

criterion_group!(benches, decision);
criterion_main!(benches);
