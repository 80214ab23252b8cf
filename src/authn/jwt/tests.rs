//! The whole path, with shared secrets and a store in memory. Real issuers with keys of their own
//! are in the integration tests.

mod introspected;

use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::Ordering::SeqCst;

use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};

use super::super::fakes::{FakeStore, NOW, SetClock, accepted, attempt, far, record, refused};
use super::fuzzing::settings;
use super::*;
use crate::protocol::credentials::Secret;
use crate::store::{Status, StoreError, TenantId, TenantRecord, TokenHash, UserKind};

const ISS: &str = "https://license.example.com";
const SECRET: &str = "0123456789abcdef0123456789abcdef";
const OLD_SECRET: &str = "fedcba9876543210fedcba9876543210";

struct Case {
    store: Arc<FakeStore>,
    authenticator: JwtAuthenticator,
}

fn case(settings: IssuerSettings) -> Case {
    let folder = tempfile::tempdir().unwrap();
    let mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    };
    mode(folder.path(), 0o700);
    let files = [SECRET, OLD_SECRET].map(|secret| {
        let path = folder.path().join(&secret[..4]);
        std::fs::write(&path, format!("{secret}\n")).unwrap();
        mode(&path, 0o600);
        path
    });
    let keys = KeyLocation::Secret(files.to_vec());
    with_issuer(Issuer::open(IssuerSettings { keys, ..settings }).unwrap())
}

fn with_issuer(issuer: Issuer) -> Case {
    let store = Arc::new(FakeStore::default());
    let authenticator = JwtAuthenticator::new(
        vec![Arc::new(issuer)],
        Arc::clone(&store) as Arc<dyn CredentialStore>,
        Arc::new(SetClock::default()),
        100,
    );
    Case { store, authenticator }
}

fn by_policy(tenant: TenantOf) -> IssuerSettings {
    let users =
        Users::Policy { kind: UserKind::Bb, policy: Some("guest".to_owned()), by_claim: None };
    IssuerSettings { tenant: Some(tenant), users, ..settings() }
}

fn claims() -> Value {
    json!({ "iss": ISS, "aud": "nats", "sub": "alice", "exp": NOW + 60 })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn sign(secret: &str, claims: &Value) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::default(), claims, &key).unwrap()
}

fn jwt(claims: &Value) -> String {
    sign(SECRET, claims)
}

impl Case {
    async fn token(&self, text: &str) -> Result<Authentication, AuthnError> {
        let credentials = Credentials::token(None, Secret::new(text.to_owned()));
        self.authenticator.authenticate(attempt(&credentials, far())).await
    }

    async fn password(&self, user: &str, text: &str) -> Result<Authentication, AuthnError> {
        let password = Secret::new(text.to_owned());
        let credentials = Credentials::Password { user: user.to_owned(), password };
        self.authenticator.authenticate(attempt(&credentials, far())).await
    }
}

fn not_mine(answer: &Result<Authentication, AuthnError>) -> bool {
    matches!(answer, Ok(Authentication::NotMine))
}

#[tokio::test]
async fn the_row_that_a_jwt_names_with_its_claims() {
    let case = case(settings());
    case.store.put(record("alice", None));
    let mut said = with("roles", json!(["a", "b"]));
    said["deep"] = json!({ "list": [1, true] });
    let principal = accepted(case.token(&jwt(&said)).await);
    assert_eq!(principal.record().user.name, "alice");
    assert_eq!(principal.method(), "jwt");
    assert_eq!(principal.expires_at(), Some(NOW + 60), "the grant ends with it");
    let handed: Vec<_> = principal.claims().iter().collect();
    let texts = |list: &[&str]| list.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    assert_eq!(
        handed,
        [
            (&"deep.list".to_owned(), &texts(&["1", "true"])),
            (&"roles".to_owned(), &texts(&["a", "b"])),
        ]
    );
    assert_eq!(case.store.reads(), (1, 0));
    accepted(case.token(&sign(OLD_SECRET, &claims())).await);
    let late = accepted(case.token(&jwt(&with("exp", json!(NOW - 10)))).await);
    assert_eq!(late.expires_at(), Some(NOW + 20), "what is left of the leeway");
}

#[tokio::test]
async fn in_the_password_field_it_is_its_users_alone() {
    let case = case(settings());
    case.store.put(record("alice", None));
    case.store.put(record("bob", None));
    accepted(case.password("alice", &jwt(&claims())).await);
    assert_eq!(refused(case.password("bob", &jwt(&claims())).await), DenyReason::InvalidToken);
    let wrong = sign("x".repeat(32).as_str(), &claims());
    assert_eq!(refused(case.password("alice", &wrong).await), DenyReason::InvalidToken);
    for (other, reason) in [
        (jwt(&with("iss", json!("https://other.example.com"))), DenyReason::UnknownIssuer),
        (jwt(&json!({ "sub": "alice" })), DenyReason::UnknownIssuer),
        (format!("{}.{}.x", "eyJhbGciOiJIUzI1NiJ9", "A".repeat(9_000)), DenyReason::InvalidToken),
    ] {
        assert_eq!(refused(case.password("alice", &other).await), reason, "{other}");
    }
    assert!(not_mine(&case.password("alice", "hunter2").await), "a hash follows");
}

#[tokio::test]
async fn beside_a_user_name_it_is_that_users_alone() {
    let case = case(settings());
    case.store.put(record("alice", None));
    let beside = async |user: &str, text: String| {
        let credentials = Credentials::token(Some(user.to_owned()), Secret::new(text));
        case.authenticator.authenticate(attempt(&credentials, far())).await
    };
    accepted(beside("alice", jwt(&claims())).await);
    for other in ["bob", "42/alice"] {
        assert_eq!(refused(beside(other, jwt(&claims())).await), DenyReason::InvalidToken);
    }
    for end in ["\n", "\r\n", " "] {
        accepted(beside("alice", jwt(&claims()) + end).await);
        accepted(case.password("alice", &(jwt(&claims()) + end)).await);
    }
}

/// As logs and events have it.
#[tokio::test]
async fn the_name_of_who_has_no_row_may_stand_beside_it_with_its_tenant() {
    let tenant = Some(TenantOf::Fixed("42".parse().unwrap()));
    let users = Users::Policy { kind: UserKind::Bb, policy: None, by_claim: None };
    let case = case(IssuerSettings { tenant, users, ..settings() });
    case.store.put_tenant(record("x", None).tenant);
    let beside = async |user: &str| {
        let token = Secret::new(jwt(&claims()));
        let credentials = Credentials::token(Some(user.to_owned()), token);
        case.authenticator.authenticate(attempt(&credentials, far())).await
    };
    for own in ["alice", "42/alice"] {
        assert_eq!(accepted(beside(own).await).name(), "alice");
    }
    for other in ["43/alice", "/alice", "42/bob", "42/"] {
        assert_eq!(refused(beside(other).await), DenyReason::InvalidToken);
    }
}

/// Some programs make their tokens as JWTs.
#[tokio::test]
async fn one_that_the_table_has_as_a_token_is_left_to_others() {
    let case = case(settings());
    let other = jwt(&with("iss", json!("a license server")));
    assert_eq!(refused(case.token(&other).await), DenyReason::UnknownIssuer);
    case.store.put_token(TokenHash::of(&other), "alice", None);
    assert!(not_mine(&case.token(&other).await));
    assert!(not_mine(&case.password("alice", &other).await));
    case.store.put_token(TokenHash::of(&jwt(&with("exp", json!(0)))), "alice", None);
    let ours = case.token(&jwt(&with("exp", json!(0)))).await;
    assert_eq!(refused(ours), DenyReason::TokenExpired, "an issuer's own is judged by its rules");
}

#[tokio::test]
async fn tokens_that_are_refused_or_left_to_others() {
    let case = case(settings());
    case.store.put(record("alice", None));
    for text in ["", "hunter2", "nct_0000000000000000000000000000000019Bvis", "a.b.c"] {
        assert!(not_mine(&case.token(text).await), "{text}");
    }
    assert!(not_mine(&case.authenticator.authenticate(attempt(&Credentials::None, far())).await));
    for (said, reason) in [
        (with("iss", json!("https://license.example.com/")), DenyReason::UnknownIssuer),
        (with("iss", json!([ISS])), DenyReason::UnknownIssuer),
        (with("iss", Value::Null), DenyReason::UnknownIssuer),
        (with("aud", json!("other")), DenyReason::InvalidToken),
        (with("aud", Value::Null), DenyReason::InvalidToken),
        (with("exp", Value::Null), DenyReason::InvalidToken),
        (with("exp", json!(NOW - 30)), DenyReason::TokenExpired),
        (with("nbf", json!(NOW + 31)), DenyReason::InvalidToken),
        (with("iat", json!(NOW + 31)), DenyReason::InvalidToken),
        (with("sub", json!("")), DenyReason::InvalidToken),
        (with("sub", json!(5)), DenyReason::UnknownUser),
        (with("sub", json!(["alice", "bob"])), DenyReason::InvalidToken),
        (with("sub", json!(1.5)), DenyReason::InvalidToken),
        (with("sub", json!("a\nb")), DenyReason::InvalidToken),
        (with("sub", json!("x".repeat(129))), DenyReason::InvalidToken),
        (with("sub", json!("x".repeat(128))), DenyReason::UnknownUser),
    ] {
        assert_eq!(refused(case.token(&jwt(&said)).await), reason, "{said}");
    }
    let long = jwt(&with("pad", json!("x".repeat(9_000))));
    assert_eq!(refused(case.token(&long).await), DenyReason::InvalidToken);
    let mut altered = jwt(&claims()).into_bytes();
    let last = altered.len() - 2;
    altered[last] = if altered[last] == b'A' { b'B' } else { b'A' };
    let altered = String::from_utf8(altered).unwrap();
    assert_eq!(refused(case.token(&altered).await), DenyReason::InvalidToken);
}

#[tokio::test]
async fn an_address_counts_only_when_it_is_verified() {
    let case = case(IssuerSettings { user_claim: "email".to_owned(), ..settings() });
    case.store.put(record("a@x.org", None));
    let said = |verified: Value| {
        let mut said = with("email", json!("a@x.org"));
        said["email_verified"] = verified;
        jwt(&said)
    };
    accepted(case.token(&said(json!(true))).await);
    accepted(case.token(&said(json!("true"))).await);
    accepted(case.token(&jwt(&with("email", json!("a@x.org")))).await);
    for verified in [json!(false), json!("false"), json!("True"), json!(1), Value::Null] {
        assert_eq!(refused(case.token(&said(verified)).await), DenyReason::InvalidToken);
    }
}

#[tokio::test]
async fn no_refusal_rests_on_a_cached_row() {
    let case = case(settings());
    assert_eq!(refused(case.token(&jwt(&claims())).await), DenyReason::UnknownUser);
    assert_eq!(case.store.reads(), (1, 1));
    let mut suspended = record("alice", None);
    suspended.user.status = Status::Suspended;
    case.store.put_cached(suspended.clone());
    case.store.put_database(record("alice", None));
    accepted(case.token(&jwt(&claims())).await);
    case.store.put(suspended);
    assert_eq!(refused(case.token(&jwt(&claims())).await), DenyReason::UserSuspended);
    case.store.outage.store(true, SeqCst);
    let answer = case.token(&jwt(&claims())).await;
    assert!(matches!(answer, Err(AuthnError::Store(StoreError::Unavailable(_)))), "{answer:?}");
}

#[tokio::test]
async fn users_without_a_row_belong_to_a_tenant_that_has_one() {
    let case = case(by_policy(TenantOf::Claim("org".to_owned())));
    let said = with("org", json!("42"));
    assert_eq!(refused(case.token(&jwt(&said)).await), DenyReason::UnknownUser);
    let tenant = TenantRecord::new("42".parse().unwrap());
    case.store.put_tenant(tenant.clone());
    let principal = accepted(case.token(&jwt(&said)).await);
    let user = &principal.record().user;
    assert_eq!((user.name.as_str(), user.kind), ("42/alice", UserKind::Bb));
    assert_eq!(user.policy.as_deref(), Some("guest"));
    let of_login = TenantId::of_login(&user.name);
    assert_eq!(of_login, Some(tenant.id.clone()), "what tells of its end knows whose it was");
    assert_eq!(principal.record().tenant, tenant);
    accepted(case.password("alice", &jwt(&said)).await);
    for org in [json!(42), json!(["42"]), json!([42])] {
        accepted(case.token(&jwt(&with("org", org))).await);
    }
    for org in [json!("43"), json!("4.2"), json!(43), json!(["42", "43"]), Value::Null] {
        let answer = refused(case.token(&jwt(&with("org", org.clone()))).await);
        let is_id = org == "43" || org == 43;
        let expected = if is_id { DenyReason::UnknownUser } else { DenyReason::InvalidToken };
        assert_eq!(answer, expected, "{org}");
    }
    let suspended = TenantRecord { status: Status::Suspended, ..tenant.clone() };
    case.store.put_tenant_cached(suspended.clone());
    accepted(case.token(&jwt(&said)).await);
    case.store.put_tenant(suspended);
    assert_eq!(refused(case.token(&jwt(&said)).await), DenyReason::TenantSuspended);
    case.store.put_tenant(TenantRecord { expires_at: Some(NOW), ..tenant });
    assert_eq!(refused(case.token(&jwt(&said)).await), DenyReason::TenantExpired);
}

#[tokio::test]
async fn a_row_comes_first_and_is_of_the_tenant_that_is_named() {
    let case = case(by_policy(TenantOf::Fixed("42".parse().unwrap())));
    case.store.put_tenant(TenantRecord::new("42".parse().unwrap()));
    let mut row = record("alice", None);
    row.user.kind = UserKind::Service;
    case.store.put(row.clone());
    let principal = accepted(case.token(&jwt(&claims())).await);
    assert_eq!(*principal.record(), row, "the row decides");
    row.user.status = Status::Suspended;
    case.store.put(row.clone());
    assert_eq!(refused(case.token(&jwt(&claims())).await), DenyReason::UserSuspended);
    row.user.status = Status::Active;
    row.tenant = TenantRecord::new("43".parse().unwrap());
    case.store.put(row);
    let principal = accepted(case.token(&jwt(&claims())).await);
    let login = principal.record();
    assert_eq!((&*login.user.name, login.tenant.id.as_str()), ("42/alice", "42"), "another user");
    // A row of the tenant by the very name that a user without one would have is another user of it.
    let bob = with("sub", json!("bob"));
    let mut foreign = record("42/bob", None);
    foreign.tenant = TenantRecord::new("43".parse().unwrap());
    case.store.put(foreign);
    accepted(case.token(&jwt(&bob)).await);
    case.store.put(record("42/bob", None));
    assert_eq!(refused(case.token(&jwt(&bob)).await), DenyReason::UnknownUser);
}

#[tokio::test]
async fn a_tenant_that_is_named_binds_rows_too() {
    let case =
        case(IssuerSettings { tenant: Some(TenantOf::Fixed("43".parse().unwrap())), ..settings() });
    case.store.put(record("alice", None));
    assert_eq!(refused(case.token(&jwt(&claims())).await), DenyReason::UnknownUser);
}

#[test]
fn short_secrets_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o700)).unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, "x".repeat(40)).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    let open = |algorithms: &[Algorithm]| {
        let keys = KeyLocation::Secret(vec![path.clone()]);
        Issuer::open(IssuerSettings { keys, algorithms: algorithms.to_vec(), ..settings() })
    };
    assert!(open(&[Algorithm::HS256]).is_ok());
    let error = open(&[Algorithm::HS256, Algorithm::HS512]).unwrap_err().to_string();
    assert!(error.contains("holds 40 bytes") && error.contains("at least 64"), "{error}");
}

#[tokio::test]
async fn whoever_is_unknown_is_told_why_in_the_log() {
    let detail = async |case: &Case, claims: &Value| match case.token(&jwt(claims)).await {
        Ok(Authentication::Refused(denied)) => denied.detail.unwrap(),
        other => panic!("{other:?}"),
    };
    let by_table = case(settings());
    let name = by_table.authenticator.issuers[0].settings().name.clone();
    let says = |what: &str| format!("issuer {name}: {what}");
    assert_eq!(detail(&by_table, &claims()).await, says("there is no user `alice`"));
    let wrong = with("aud", json!("other"));
    let flaw = "its `audience_claim` (`aud`) is missing, or names none of the issuer's `audience`";
    assert_eq!(detail(&by_table, &wrong).await, says(&format!("{flaw} (`aud` is `other`)")));
    let later = detail(&by_table, &with("exp", json!(1_796_076_742_000_u64))).await;
    assert!(
        later.starts_with(&says("`exp` is after the year 9999; have the issuer write seconds")),
        "{later}"
    );
    assert!(later.ends_with("(`exp` is `1796076742000`)"), "{later}");
    let several = with("aud", json!(["a", { "b": 1 }]));
    let found = format!("{flaw} (`aud` is `['a',{{'b':1}}]`)");
    assert_eq!(detail(&by_table, &several).await, says(&found));
    let by_policy = case(by_policy(TenantOf::Fixed("43".parse().unwrap())));
    assert_eq!(detail(&by_policy, &claims()).await, says("there is no tenant 43"));
    let mut row = record("43/alice", None);
    row.tenant = TenantRecord::new("43".parse().unwrap());
    by_policy.store.put(row);
    let taken = says("the row `43/alice` bars the user `alice` of the tenant 43");
    assert_eq!(detail(&by_policy, &claims()).await, taken);
    let bound = told(|it| it.tenant = Some(TenantOf::Fixed("43".parse().unwrap())));
    bound.store.put(record("alice", None));
    let other = says("the user `alice` is not of the tenant 43");
    assert_eq!(detail(&bound, &claims()).await, other);
}

/// What issuers may be told to do besides.
fn told(change: impl FnOnce(&mut IssuerSettings)) -> Case {
    let mut settings = settings();
    change(&mut settings);
    case(settings)
}

#[tokio::test]
async fn another_claim_may_say_whom_it_is_for() {
    let case = told(|settings| {
        settings.audience_claim = "client_id".to_owned();
        settings.audience = vec!["4p1client".to_owned()];
    });
    case.store.put(record("alice", None));
    accepted(case.token(&jwt(&with("client_id", json!("4p1client")))).await);
    let refusals = [with("client_id", json!("other")), with("aud", json!("4p1client"))];
    for said in refusals {
        assert_eq!(refused(case.token(&jwt(&said)).await), DenyReason::InvalidToken, "{said}");
    }
}

#[tokio::test]
async fn any_name_may_stand_beside_it_where_told_to() {
    let case = told(|settings| settings.any_name = true);
    case.store.put(record("alice", None));
    let principal = accepted(case.password("unused", &jwt(&claims())).await);
    assert_eq!(principal.record().user.name, "alice");
    let wrong = sign("x".repeat(32).as_str(), &claims());
    assert_eq!(refused(case.password("unused", &wrong).await), DenyReason::InvalidToken);
}

#[tokio::test]
async fn words_in_one_text_and_values_that_are_dropped() {
    let roles = json!("orders:read orders my.role");
    for (drops_unusable, handed) in
        [(false, &["orders:read", "orders", "my.role"][..]), (true, &["orders"])]
    {
        let case = told(|settings| {
            settings.split = vec!["roles".to_owned()];
            settings.drops_unusable = drops_unusable;
        });
        case.store.put(record("alice", None));
        let principal = accepted(case.token(&jwt(&with("roles", roles.clone()))).await);
        assert_eq!(principal.claims()["roles"], handed);
    }
}

/// The first of the listed values that the JWT has chooses.
#[tokio::test]
async fn a_claim_chooses_the_policy_of_users_without_a_row() {
    let policies = [("my role", "high"), ("staff", "low")];
    for default in [None, Some("guest")] {
        let users = Users::Policy {
            kind: UserKind::Bb,
            policy: default.map(str::to_owned),
            by_claim: Some(PolicyClaim {
                claim: "roles".to_owned(),
                policies: policies.map(|(a, b)| (a.to_owned(), b.to_owned())).to_vec(),
            }),
        };
        let tenant = Some(TenantOf::Fixed("42".parse().unwrap()));
        let rules = IssuerSettings { tenant, users, ..settings() };
        // Test tables say it of claims alone.
        let handed = |said: &Value| {
            let handed = rules.hand(said.as_object().unwrap()).unwrap();
            handed.without_row.unwrap()
        };
        let case = case(rules.clone());
        case.store.put_tenant(TenantRecord::new("42".parse().unwrap()));
        for (roles, policy) in [(json!(["staff", "my role"]), "high"), (json!("staff"), "low")] {
            let said = with("roles", roles);
            let principal = accepted(case.token(&jwt(&said)).await);
            assert_eq!(principal.record().user.policy.as_deref(), Some(policy));
            assert_eq!(principal.name(), "alice");
            assert_eq!(handed(&said).policy.unwrap().as_deref(), Some(policy));
        }
        for (none, said) in [
            (claims(), "(`roles` is missing)"),
            (with("roles", json!(["x", "y"])), "(`roles` is `['x','y']`)"),
            (with("roles", json!([])), "(`roles` is `[]`)"),
        ] {
            let handed = handed(&none);
            assert_eq!(handed.by, format!(" {said}"));
            match (default, case.token(&jwt(&none)).await) {
                (Some(policy), answer) => {
                    let principal = accepted(answer);
                    assert_eq!(principal.record().user.policy.as_deref(), Some(policy));
                    assert_eq!(handed.policy.unwrap().as_deref(), Some(policy));
                }
                (None, Ok(Authentication::Refused(denied))) => {
                    assert_eq!(denied.reason, DenyReason::InvalidToken);
                    assert_eq!(handed.policy.unwrap_err().detail, denied.detail);
                    let detail = denied.detail.unwrap();
                    assert!(detail.ends_with(&format!("`policy` names none {said}")), "{detail}");
                }
                (None, answer) => panic!("{answer:?}"),
            }
        }
    }
}
