//! The Go library that nats-server uses reads what is written here, with no issue at all: the
//! server refuses a JWT for a mere warning.

use std::io::Write as _;
use std::process::{Command, Stdio};

use nats_callout::internals::{
    AccountBody, AccountLimits, AuthorizationRequestBody, AuthorizationResponseBody, Body, Claims,
    ConnectOptions, Export, ExportType, ExternalAuthorization, Import, OperatorBody, Permission,
    Permissions, ResponsePermission, ServerInfo, UserBody,
};
use nats_callout::keys::KeyKind;
use serde::Deserialize;
use serde_json::Value;

use super::{payload, samples, without_empty};
use crate::harness::clients;

#[derive(Deserialize)]
struct Verdict {
    issues: Vec<String>,
    #[serde(default)]
    claims: Value,
}

fn token<B: Body>(subject: &str, audience: Option<&str>, kind: KeyKind, body: B) -> String {
    let claims = Claims {
        audience: audience.map(str::to_owned),
        expires: Some(4_102_444_800),
        issued_at: 1_700_000_000,
        name: Some("tenant 42 \"Ünï\" <&>".to_owned()),
        not_before: None,
        subject: subject.to_owned(),
        body,
    };
    claims.encode_now(&samples::key(kind)).expect("encodes")
}

fn subjects(list: &[&str]) -> Vec<String> {
    list.iter().map(|&subject| subject.to_owned()).collect()
}

fn permissions() -> Permissions {
    Permissions {
        publish: Permission { allow: subjects(&["user.42.>", "_R_.>"]), deny: subjects(&["a.b"]) },
        subscribe: Permission { allow: subjects(&["_INBOX_42.>", "jobs.* workers"]), deny: vec![] },
        responses: Some(ResponsePermission { max: 1, ttl: 30_000_000_000 }),
    }
}

fn account() -> AccountBody {
    let bb = samples::account_id();
    let import = |subject: &str, local: Option<&str>, kind| Import {
        name: None,
        subject: subject.to_owned(),
        account: bb,
        local_subject: local.map(str::to_owned),
        kind,
    };
    let export = |subject: &str, kind| Export {
        name: Some("an export".to_owned()),
        subject: subject.to_owned(),
        kind,
        token_req: false,
        response_type: None,
        response_threshold: None,
    };
    AccountBody {
        imports: vec![
            import("user.42.Events", Some("Events"), ExportType::Service),
            import("user.*.Events", Some("pool.user.*.Events"), ExportType::Stream),
            import("user.42.Notifications", None, ExportType::Stream),
        ],
        exports: vec![
            export("user.*.Events", ExportType::Service),
            export("user.*.Notifications", ExportType::Stream),
        ],
        limits: AccountLimits {
            mem_storage: 64 << 20,
            disk_storage: 5 << 30,
            ..Default::default()
        },
        signing_keys: vec![samples::account_id(), samples::account_id()],
        revocations: [("*".to_owned(), 1_700_000_000)].into(),
        default_permissions: permissions(),
        authorization: ExternalAuthorization {
            auth_users: vec![samples::user_nkey()],
            allowed_accounts: subjects(&["*"]),
            xkey: Some(*nats_callout::keys::XKey::generate().expect("a key").0.public_key()),
        },
    }
}

fn tokens() -> Vec<String> {
    let nkey = samples::user_nkey();
    let server = samples::key(KeyKind::Server);
    let operator = OperatorBody {
        signing_keys: vec![samples::key(KeyKind::Operator).public().expect("an operator key")],
        system_account: Some(samples::account_id()),
        strict_signing_key_usage: true,
    };
    let mut limited = UserBody::new(permissions());
    limited.issuer_account = Some(samples::account_id());
    let mut sentinel = UserBody::new(Permissions {
        publish: Permission { allow: vec![], deny: subjects(&[">"]) },
        subscribe: Permission { allow: vec![], deny: subjects(&[">"]) },
        responses: None,
    });
    sentinel.bearer_token = true;
    let user = token(nkey.as_str(), Some("USERS"), KeyKind::Account, limited);
    let response = |jwt: Option<String>, error: Option<&str>| {
        let body = AuthorizationResponseBody {
            jwt,
            error: error.map(str::to_owned),
            issuer_account: Some(samples::account_id()),
        };
        token(nkey.as_str(), Some(samples::server_id().as_str()), KeyKind::Account, body)
    };
    let request = AuthorizationRequestBody {
        server: ServerInfo { id: server.public_key().to_owned(), ..ServerInfo::default() },
        user_nkey: nkey.to_string(),
        connect_opts: ConnectOptions { user: "alice".to_owned(), ..ConnectOptions::default() },
        ..AuthorizationRequestBody::default()
    };
    let identity = samples::key(KeyKind::Operator);
    vec![
        token(identity.public_key(), None, KeyKind::Operator, operator),
        token(samples::account_id().as_str(), None, KeyKind::Operator, account()),
        token(samples::account_id().as_str(), None, KeyKind::Operator, AccountBody::default()),
        token(nkey.as_str(), None, KeyKind::Account, sentinel),
        token(nkey.as_str(), None, KeyKind::Account, UserBody::new(Permissions::default())),
        response(Some(user.clone()), None),
        response(None, Some("access denied")),
        token(nkey.as_str(), Some("nats-authorization-request"), KeyKind::Server, request),
        user,
    ]
}

/// The library keeps signing keys in a map, so their order is its own.
fn comparable(mut claims: Value) -> Value {
    if let Some(keys) = claims.pointer_mut("/nats/signing_keys").and_then(Value::as_array_mut) {
        keys.sort_by_key(Value::to_string);
    }
    without_empty(claims)
}

#[test]
fn the_go_library_finds_no_issue_in_our_tokens() {
    let Some(check) = clients::go_program("tests/vectors/check") else { return };
    let tokens = tokens();
    let mut child = Command::new(check)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the checker starts");
    let mut stdin = child.stdin.take().expect("stdin");
    stdin.write_all((tokens.join("\n") + "\n").as_bytes()).expect("the checker reads");
    drop(stdin);
    let output = child.wait_with_output().expect("the checker ends");
    assert!(output.status.success(), "{}", output.status);
    let verdicts: Vec<Verdict> = String::from_utf8(output.stdout)
        .expect("utf-8")
        .lines()
        .map(|line| serde_json::from_str(line).expect("a verdict"))
        .collect();
    assert_eq!(verdicts.len(), tokens.len());
    for (token, verdict) in tokens.iter().zip(verdicts) {
        let ours = payload(token);
        assert!(verdict.issues.is_empty(), "{:?} in {ours}", verdict.issues);
        assert_eq!(comparable(verdict.claims), comparable(ours));
    }
}
