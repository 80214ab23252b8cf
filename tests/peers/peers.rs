//! Two other Rust libraries, nats-jwt and nats-token, as far as each reaches: their tokens are
//! read here, and ours there. A package of its own, since they bring more crates than all other tests
//! together; `.ci/nightly peers` runs it.

#![cfg(test)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nats_callout::internals::{
    AccountBody, AccountLimits, AuthorizationRequestBody, AuthorizationResponseBody, Body, Claims,
    ConnectOptions, Export, ExportType, ExternalAuthorization, Import, IssuerKey, OperatorBody,
    OperatorId, Parsed, Permission, Permissions, ResponsePermission, ServerId, ServerInfo,
    UserBody,
};
use nats_callout::keys::{AccountId, KeyKind, SigningKey, UserNkey};
use nats_token::{KeyPair, ValidationResults};
use serde_json::Value;

fn key(kind: KeyKind) -> SigningKey {
    SigningKey::generate(kind).expect("a key").0
}

fn account_id() -> AccountId {
    key(KeyKind::Account).public().expect("an account key")
}

fn user_nkey() -> UserNkey {
    key(KeyKind::User).public().expect("a user key")
}

fn server_id() -> ServerId {
    key(KeyKind::Server).public().expect("a server key")
}

/// The payload of a token, unverified.
fn payload(token: &str) -> Value {
    let part = token.split('.').nth(1).expect("three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("json")
}

fn read<B: Body, K: IssuerKey>(token: &str) -> (Claims<B>, K) {
    Parsed::parse(token).expect("parses").verify().expect("verifies")
}

fn claims<B>(subject: &str, body: B) -> Claims<B> {
    Claims {
        audience: None,
        expires: Some(4_102_444_800),
        issued_at: 1_700_000_000,
        name: Some("alice".to_owned()),
        not_before: None,
        subject: subject.to_owned(),
        body,
    }
}

fn granted() -> Permissions {
    let list = |subject: &str| vec![subject.to_owned()];
    Permissions {
        publish: Permission { allow: list("user.42.>"), deny: list("user.42.secret") },
        subscribe: Permission { allow: list("_INBOX_42.>"), deny: list("_INBOX_42.secret") },
        responses: Some(ResponsePermission { max: 1, ttl: 30_000_000_000 }),
    }
}

fn no_issues(validate: impl FnOnce(&mut ValidationResults)) {
    let mut results = ValidationResults::default();
    validate(&mut results);
    assert!(results.is_empty(), "{:?}", results.issues);
}

#[test]
fn a_user_of_nats_jwt_is_read() {
    let account = account_id();
    let alice = user_nkey();
    let signing = KeyPair::new_account();
    let token = nats_jwt::Token::new_user(account.as_str(), alice.as_str())
        .name("alice")
        .bearer_token(true)
        .max_subscriptions(7)
        .max_payload(1024)
        .allow_publish("user.42.>")
        .deny_subscribe("secret")
        .expires(4_102_444_800)
        .sign(&signing);
    let (read, issuer) = read::<UserBody, AccountId>(&token);
    assert_eq!(issuer.as_str(), signing.public_key());
    assert_eq!(read.subject, alice.as_str());
    assert_eq!(read.name.as_deref(), Some("alice"));
    assert_eq!(read.expires, Some(4_102_444_800));
    assert_eq!(read.body.issuer_account, Some(account));
    assert_eq!((read.body.subs, read.body.data, read.body.payload), (7, -1, 1024));
    assert!(read.body.bearer_token);
    assert_eq!(read.body.permissions.publish.allow, ["user.42.>"]);
    assert_eq!(read.body.permissions.subscribe.deny, ["secret"]);
}

#[test]
fn an_account_of_nats_jwt_is_read() {
    let account = account_id();
    let signing = account_id();
    let operator = KeyPair::new_operator();
    let token = nats_jwt::Token::new_account(account.as_str())
        .name("tenant")
        .add_signing_key(signing.as_str())
        .max_connections(100)
        .max_imports(3)
        .deny_publish(">")
        .sign(&operator);
    let (read, issuer) = read::<AccountBody, OperatorId>(&token);
    assert_eq!(issuer.as_str(), operator.public_key());
    assert_eq!(read.subject, account.as_str());
    assert_eq!(read.body.signing_keys, [signing]);
    assert_eq!((read.body.limits.conn, read.body.limits.imports), (100, 3));
    assert_eq!(read.body.default_permissions.publish.deny, [">"]);
}

#[test]
fn nats_jwt_reads_the_shape_of_our_user() {
    let mut body = UserBody::new(granted());
    body.issuer_account = Some(account_id());
    body.bearer_token = true;
    let ours = claims(user_nkey().as_str(), body);
    let token = ours.encode_now(&key(KeyKind::Account)).expect("encodes");
    let theirs: nats_jwt::Claims = serde_json::from_value(payload(&token)).expect("their shape");
    assert_eq!(theirs.sub, ours.subject);
    assert_eq!(theirs.expires, ours.expires);
    let nats_jwt::NatsClaims::User { permissions, subs, version, .. } = theirs.nats else {
        panic!("not a user");
    };
    assert_eq!(permissions.publish.allow, ["user.42.>"]);
    assert_eq!((subs, version), (-1, 2));
}

#[test]
fn users_cross_to_nats_token_and_back() {
    let mut body = UserBody::new(granted());
    body.issuer_account = Some(account_id());
    let ours = claims(user_nkey().as_str(), body);
    let token = ours.encode_now(&key(KeyKind::Account)).expect("encodes");
    let mut theirs = nats_token::decode_user_claims(&token).expect("their decoder");
    no_issues(|results| theirs.validate(results));
    assert_eq!(theirs.claims.name, "alice");

    theirs.user.issuer_account = String::new();
    let back = theirs.encode(&KeyPair::new_account()).expect("their encoder");
    let (back, _) = read::<UserBody, AccountId>(&back);
    assert_eq!(back.body.issuer_account, None);
    assert_eq!(back.body.permissions, ours.body.permissions);
    assert_eq!((back.subject, back.expires), (ours.subject, ours.expires));
}

#[test]
fn accounts_cross_to_nats_token_and_back() {
    let body = AccountBody {
        imports: vec![Import {
            name: Some("events".to_owned()),
            subject: "user.42.Events".to_owned(),
            account: account_id(),
            local_subject: Some("Events".to_owned()),
            kind: ExportType::Service,
        }],
        exports: vec![Export {
            name: None,
            subject: "user.*.Notifications".to_owned(),
            kind: ExportType::Stream,
            token_req: false,
            response_type: None,
            response_threshold: None,
        }],
        limits: AccountLimits { mem_storage: 1 << 20, disk_storage: 1 << 30, ..Default::default() },
        signing_keys: vec![account_id(), account_id()],
        revocations: [(user_nkey().to_string(), 1_700_000_000)].into(),
        default_permissions: granted(),
        authorization: ExternalAuthorization {
            auth_users: vec![user_nkey()],
            allowed_accounts: vec!["*".to_owned()],
            xkey: None,
        },
    };
    let ours = claims(account_id().as_str(), body);
    let token = ours.encode_now(&key(KeyKind::Operator)).expect("encodes");
    let mut theirs = nats_token::decode_account_claims(&token).expect("their decoder");
    no_issues(|results| theirs.validate(results));

    let back = theirs.encode(&KeyPair::new_operator()).expect("their encoder");
    let (mut back, _) = read::<AccountBody, OperatorId>(&back);
    // It writes a name that is not there as an empty one.
    back.body.exports[0].name = None;
    back.body.exports[0].response_type = None;
    let sorted = |mut keys: Vec<AccountId>| {
        keys.sort_by_key(ToString::to_string);
        keys
    };
    let mut expected = ours.body;
    expected.signing_keys = sorted(expected.signing_keys);
    back.body.signing_keys = sorted(back.body.signing_keys);
    assert_eq!(back.body, expected);
}

#[test]
fn operators_cross_to_nats_token_and_back() {
    let operator = key(KeyKind::Operator);
    let body = OperatorBody {
        signing_keys: vec![key(KeyKind::Operator).public().expect("an operator key")],
        system_account: Some(account_id()),
        strict_signing_key_usage: true,
    };
    let ours = claims(operator.public_key(), body);
    let token = ours.encode_now(&operator).expect("encodes");
    let mut theirs = nats_token::decode_operator_claims(&token).expect("their decoder");
    no_issues(|results| theirs.validate(results));
    let back = theirs.encode(&KeyPair::new_operator()).expect("their encoder");
    assert_eq!(read::<OperatorBody, OperatorId>(&back).0.body, ours.body);
}

#[test]
fn requests_cross_to_nats_token_and_back() {
    let nkey = user_nkey();
    let key = key(KeyKind::Server);
    let body = AuthorizationRequestBody {
        server: ServerInfo {
            name: "n1".to_owned(),
            host: "127.0.0.1".to_owned(),
            id: key.public_key().to_owned(),
            ..ServerInfo::default()
        },
        user_nkey: nkey.to_string(),
        connect_opts: ConnectOptions {
            user: "alice".to_owned(),
            password: "secret".to_owned(),
            protocol: 1,
            ..ConnectOptions::default()
        },
        ..AuthorizationRequestBody::default()
    };
    let ours = claims(nkey.as_str(), body);
    let token = ours.encode_now(&key).expect("encodes");
    let mut theirs = nats_token::decode_authorization_request_claims(&token).expect("decoder");
    no_issues(|results| theirs.validate(results));
    let back = theirs.encode(&KeyPair::new_server()).expect("their encoder");
    assert_eq!(read::<AuthorizationRequestBody, ServerId>(&back).0.body, ours.body);
}

#[test]
fn responses_cross_to_nats_token_and_back() {
    let jwt = claims(user_nkey().as_str(), UserBody::new(granted()))
        .encode_now(&key(KeyKind::Account))
        .expect("encodes");
    for (jwt, error) in [(Some(jwt), None), (None, Some("access denied".to_owned()))] {
        let body = AuthorizationResponseBody { jwt, error, issuer_account: Some(account_id()) };
        let mut ours = claims(user_nkey().as_str(), body);
        ours.audience = Some(server_id().to_string());
        let token = ours.encode_now(&key(KeyKind::Account)).expect("encodes");
        let mut theirs = nats_token::decode_authorization_response_claims(&token).expect("decoder");
        no_issues(|results| theirs.validate(results));
        let back = theirs.encode(&KeyPair::new_account()).expect("their encoder");
        let (back, _) = read::<AuthorizationResponseBody, AccountId>(&back);
        assert_eq!((back.body, back.audience), (ours.body, ours.audience));
    }
}
