//! Whatever stands in a row, a claim or a policy file: no grant in an account that tenants share
//! reaches another tenant's subjects.

use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;

use super::rules::{PolicySet, Source};
use super::subject::Pattern;
use super::{ConnectionContext, ConnectionType, Decision, Policy as _};
use crate::authn::{Claims, Principal};
use crate::store::{Isolation, Limits, LoginRecord, TenantRecord, UserKind, UserRecord};

/// What people, programs and attackers put where a name or a subject belongs.
fn anything() -> impl Strategy<Value = String> {
    prop_oneof![
        "[A-Za-z0-9_-]{1,8}",
        "[a-z.*> ]{0,12}",
        ".{0,16}",
        "(user|_INBOX_|_R_|>|\\*|\\.|4|42|\u{0}|\t|\r\n|é|日本| ){0,6}",
        Just(">".to_owned()),
        Just("*".to_owned()),
        Just("user.43.>".to_owned()),
        Just("> q".to_owned()),
        Just(".>".to_owned()),
        Just("42.>\r\nSUB user.43.> 1".to_owned()),
    ]
}

/// Ids that are near each other: one begins like another.
fn id() -> impl Strategy<Value = String> {
    prop_oneof!["4[0-9]{0,2}", "[A-Za-z0-9_-]{1,3}", "[A-Za-z0-9_-]{64}"]
}

/// A line of a policy file, put together from what such lines hold.
fn template() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => Just("user."),
        4 => Just("_INBOX_"),
        4 => Just("{{tenant.id}}"),
        4 => Just("."),
        2 => Just(".>"),
        1 => Just("{{user.name}}"),
        1 => Just("{{claims.x}}"),
        1 => Just("{{user.publish}}"),
        1 => Just("_R_.>"),
        1 => Just("*"),
        1 => Just(">"),
        1 => Just("a"),
        1 => Just("$JS.API"),
    ];
    let loose = prop::collection::vec(piece.clone(), 1..6).prop_map(|pieces| pieces.concat());
    let tight = prop::collection::vec(piece, 0..4)
        .prop_map(|pieces| format!("user.{{{{tenant.id}}}}{}", pieces.concat()));
    prop_oneof![loose, tight]
}

prop_compose! {
    fn user()(
        name in anything(),
        lists in prop::collection::vec(anything(), 0..4),
        claim in prop::option::of(prop::collection::vec(anything(), 0..3)),
        kind in prop::sample::select(vec![UserKind::Bb, UserKind::Service]),
        policy in prop::sample::select(vec![None, Some("admin"), Some("bb"), Some("service"), Some("mine")]),
    ) -> (UserRecord, Claims) {
        let user = UserRecord {
            publish: lists.clone(),
            subscribe: lists,
            policy: policy.map(str::to_owned),
            ..UserRecord::new(name, kind)
        };
        (user, claim.into_iter().map(|values| ("x".to_owned(), values)).collect())
    }
}

/// What a user of the tenant is granted in a shared account: nothing where it is refused.
fn granted(policies: &PolicySet, tenant: &str, (user, claims): (UserRecord, Claims)) -> Subjects {
    let limits = Limits { memory: 1, ..Limits::default() };
    let tenant = TenantRecord { limits, ..TenantRecord::new(tenant.parse().unwrap()) };
    let record = Arc::new(LoginRecord { tenant, user });
    let principal = Principal::new(record, "jwt", None, 0).unwrap().with_claims(claims);
    let client = ConnectionType::Nats.client();
    let context = ConnectionContext { isolation: Isolation::Shared, client: &client, now: 0 };
    match policies.decide(&principal, &context) {
        Decision::Deny(_) => Subjects::default(),
        Decision::Permit(grant) => {
            assert_eq!(grant.responses, None);
            Subjects { publish: grant.publish, subscribe: grant.subscribe }
        }
    }
}

#[derive(Debug, Default)]
struct Subjects {
    publish: Vec<Pattern>,
    subscribe: Vec<Pattern>,
}

fn pattern(text: &str) -> Pattern {
    text.parse().unwrap()
}

/// A server lets who may subscribe `a.*` subscribe `a.>` too.
fn heard(granted: &Pattern) -> Pattern {
    match granted.as_str().strip_suffix('*') {
        Some(before) => pattern(&format!("{before}>")),
        None => granted.clone(),
    }
}

/// Fails if a user of one tenant reaches what is the other's or nobody's.
fn apart(subjects: &Subjects, other: &str) -> Result<(), TestCaseError> {
    let space = [
        format!("user.{other}"),
        format!("user.{other}.>"),
        format!("_INBOX_{other}.>"),
        "_INBOX.>".to_owned(),
        "$JS.>".to_owned(),
        "$KV.>".to_owned(),
        "$SYS.>".to_owned(),
        "auth.>".to_owned(),
        "pool.>".to_owned(),
    ];
    let space = space.map(|text| pattern(&text));
    let heard: Vec<Pattern> = subjects.subscribe.iter().map(heard).collect();
    for granted in subjects.publish.iter().chain(&heard) {
        for theirs in &space {
            prop_assert!(!granted.overlaps(theirs), "{granted} reaches {theirs}");
        }
    }
    let answers = pattern("_R_.>");
    prop_assert!(!heard.iter().any(|granted| granted.overlaps(&answers)));
    Ok(())
}

fn source(lines: &[String]) -> Source {
    let list = lines.iter().map(|line| format!("{line:?}")).collect::<Vec<_>>().join(", ");
    let text = format!("[account]\n[shared]\npublish = [{list}]\nsubscribe = [{list}]\n");
    Source { name: "mine".to_owned(), path: PathBuf::from("mine.toml"), text }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_grant_reaches_another_tenant(
        one in id(), two in id(), user in user(), lines in prop::collection::vec(template(), 1..3),
    ) {
        prop_assume!(one != two);
        // A policy that is refused when it is read reaches nobody.
        let policies = PolicySet::read(vec![source(&lines)]).or_else(|_| PolicySet::shipped()).unwrap();
        apart(&granted(&policies, &one, user), &two)?;
    }
}

#[test]
fn a_megabyte_is_refused_or_harmless() {
    let policies = PolicySet::shipped().unwrap();
    for piece in ["a", ".", "*", ">", "a.", "é", " ", "\u{0}", "日"] {
        let long = piece.repeat(1 << 20);
        let user = UserRecord {
            publish: vec![long.clone()],
            subscribe: vec![long.clone()],
            ..UserRecord::new(long.clone(), UserKind::Service)
        };
        let subjects =
            granted(&policies, "42", (user, Claims::from([("x".to_owned(), vec![long])])));
        assert!(subjects.publish.is_empty() && subjects.subscribe.is_empty(), "{piece}");
    }
}

/// That the generator makes policies that are read, and grants that are given.
#[test]
fn the_property_is_about_something() {
    let mine = ["user.{{tenant.id}}.{{claims.x}}.>", "_INBOX_{{tenant.id}}.>"].map(str::to_owned);
    let policies = PolicySet::read(vec![source(&mine)]).unwrap();
    let user =
        UserRecord { policy: Some("mine".to_owned()), ..UserRecord::new("alice", UserKind::Bb) };
    let claims = Claims::from([("x".to_owned(), vec!["red".to_owned()])]);
    let subjects = granted(&policies, "42", (user, claims));
    assert_eq!(subjects.publish, [pattern("_INBOX_42.>"), pattern("user.42.red.>")]);
    let reached = Subjects { publish: vec![pattern("user.*.x")], subscribe: vec![] };
    assert!(apart(&reached, "43").is_err());
    let reached = Subjects { publish: vec![], subscribe: vec![pattern("user.*")] };
    assert!(apart(&reached, "43").is_err());
}
