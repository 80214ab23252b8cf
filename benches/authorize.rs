//! One decision in process: request token in, response bytes out, record and password cached,
//! beside its floor: the signatures and boxes alone, with the same library.
//!
//! `cargo bench --bench authorize`; compare the ratios within one run.
//!
//! `-- count plain 500` makes so many requests and decides about each, `-- prepare plain 500` about the first
//! one alone; `sealed` are those with an xkey. What the one costs more than the other is what decisions
//! cost: `.ci/nightly instructions` counts it under valgrind.

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench fails by panicking")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, criterion_group};
use crypto_box::SalsaBox;
use crypto_box::aead::Aead as _;
use nats_callout::callout::{ClientInfo, Outcome, Reply, Verdict, hash_password};
use nats_callout::clock::SystemClock;
use nats_callout::internals::{
    AuthorizationRequestBody, Authorizer, Cached, CalloutMessage, Claims, ConfigTargets,
    ConnectOptions, Envelope, Mint, PasswordAuthenticator, PasswordSettings, Placement, Responder,
    ServerInfo, payload, verify,
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

/// Requests of a server, and who decides about them.
struct Scene {
    runtime: tokio::runtime::Runtime,
    server: SigningKey,
    server_xkey: nkeys::XKey,
    recipient: nkeys::XKey,
    without: Authorizer,
    with: Authorizer,
}

const PASSWORD: &str = "correct-horse-battery-staple";

impl Scene {
    fn new() -> Self {
        let (service_xkey, _) = XKey::generate().unwrap();
        Self {
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
            server: SigningKey::generate(KeyKind::Server).unwrap().0,
            server_xkey: nkeys::XKey::new(),
            recipient: nkeys::XKey::from_public_key(service_xkey.public_key().as_str()).unwrap(),
            without: authorizer(PASSWORD, Vec::new()),
            with: authorizer(PASSWORD, vec![service_xkey]),
        }
    }

    // A request is taken once, so each decision is about one of its own; each floor likewise, so
    // that both meet theirs as cold.
    fn plain(&self) -> String {
        request(&self.server, String::new(), PASSWORD)
    }

    fn inner(&self) -> String {
        request(&self.server, self.server_xkey.public_key(), PASSWORD)
    }

    fn sealed(&self) -> Vec<u8> {
        self.server_xkey.seal(self.inner().as_bytes(), &self.recipient).unwrap()
    }

    fn decide_plain(&self, payload: &str) -> Reply {
        self.decide(&self.without, black_box(payload.as_bytes()), None)
    }

    fn decide_sealed(&self, payload: &[u8]) -> Reply {
        self.decide(&self.with, black_box(payload), Some(&self.server_xkey.public_key()))
    }

    fn decide(&self, authorizer: &Authorizer, payload: &[u8], server_xkey: Option<&str>) -> Reply {
        let deadline = Instant::now() + Duration::from_secs(60);
        let message = CalloutMessage { payload, server_xkey, deadline, max_reply: 1 << 20 };
        match self.runtime.block_on(authorizer.authorize(message)) {
            Outcome::Reply(reply) if matches!(reply.verdict, Verdict::Granted { .. }) => reply,
            other => panic!("not granted: {other:?}"),
        }
    }
}

fn decision(c: &mut Criterion) {
    let scene = Scene::new();
    let response = payload(&scene.decide_plain(&scene.plain())).to_vec();
    scene.decide_sealed(&scene.sealed());

    let mut group = c.benchmark_group("decision");
    let (plain, inner, sealed) = (|| scene.plain(), || scene.inner(), || scene.sealed());
    group.bench_function("floor, without xkey", |b| {
        let floor = |plain: String| floor(&scene.server, &plain, &response, None);
        b.iter_batched(plain, floor, BatchSize::SmallInput);
    });
    group.bench_function("decision, without xkey", |b| {
        b.iter_batched(plain, |plain| scene.decide_plain(&plain), BatchSize::SmallInput);
    });
    let boxes = boxes();
    group.bench_function("floor, with xkey", |b| {
        let floor = |inner: String| floor(&scene.server, &inner, &response, Some(&boxes));
        b.iter_batched(inner, floor, BatchSize::SmallInput);
    });
    group.bench_function("decision, with xkey", |b| {
        b.iter_batched(sealed, |sealed| scene.decide_sealed(&sealed), BatchSize::SmallInput);
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

/// Decides about so many of these requests, or makes them all the same.
fn count(kind: &str, requests: usize, decisions: usize) {
    let scene = Scene::new();
    match kind {
        "plain" => {
            let made: Vec<String> = (0..requests).map(|_| scene.plain()).collect();
            made.iter().take(decisions).for_each(|it| drop(scene.decide_plain(it)));
        }
        "sealed" => {
            let made: Vec<Vec<u8>> = (0..requests).map(|_| scene.sealed()).collect();
            made.iter().take(decisions).for_each(|it| drop(scene.decide_sealed(it)));
        }
        other => panic!("neither plain nor sealed: {other}"),
    }
}

criterion_group!(benches, decision);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["count", kind, requests] => count(kind, requests.parse().unwrap(), usize::MAX),
        ["prepare", kind, requests] => count(kind, requests.parse().unwrap(), 1),
        _ => {
            benches();
            Criterion::default().configure_from_args().final_summary();
        }
    }
}
