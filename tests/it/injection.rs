//! Whatever a row or a client says its id, name, lists or policy are: no grant reaches a subject of
//! another tenant. Here as a property of every grant that comes out of an authorizer for an
//! account that tenants share; in [`rows`] with rows in real databases, on a real server.
//!
//! A policy of one's own belongs into [`policies`]; what is another tenant's is in [`Space`].

mod claims;
mod rows;
mod session;

use std::sync::Arc;

use async_trait::async_trait;
use nats_callout::callout::Outcome;
use nats_callout::internals::{
    Attempt, Authentication, Authenticator, AuthnError, MAX_SUBJECT_BYTES, Permissions,
};
use nats_callout::policy::{Pattern, PolicySet, Principal};
use nats_callout::store::{Limits, LoginRecord, TenantId, TenantRecord, UserKind, UserRecord};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::forgery::{Bench, payload, sign};
use crate::harness::depth;

fn overlap(one: &str, other: &str) -> bool {
    let pattern = |text: &str| text.parse::<Pattern>().expect("a pattern");
    pattern(one).overlaps(&pattern(other))
}

/// What a permission to subscribe comes to: nats-server takes the `>` of a subscription for a token
/// that a `*` in its place matches.
fn widened(pattern: &str) -> String {
    match pattern.strip_suffix('*') {
        Some(front) if front.is_empty() || front.ends_with('.') => format!("{front}>"),
        _ => pattern.to_owned(),
    }
}

/// The subjects that are a tenant's alone, and those that are the system's.
struct Space(Vec<String>);

impl Space {
    fn of(tenant: &str) -> Self {
        Self(vec![
            format!("user.{tenant}.>"),
            format!("_INBOX_{tenant}.>"),
            format!("user.{tenant}"),
        ])
    }

    fn system() -> Self {
        let subjects =
            ["$SYS.>", "$JS.>", "$KV.>", "$O.>", "_CALLOUT.>", "auth.>", "pool.>", "JS.>"];
        Self(subjects.map(str::to_owned).into())
    }

    fn overlaps(&self, pattern: &str) -> bool {
        self.0.iter().any(|own| overlap(own, pattern))
    }
}

/// Names of other tenants that look like this one's, or like a part of it.
fn neighbours(id: &str) -> Vec<String> {
    let mut others = vec![
        format!("{id}x"),
        format!("x{id}"),
        format!("{id}-"),
        format!("_{id}"),
        id.to_uppercase(),
        id.to_lowercase(),
        id[1..].to_owned(),
        id[..id.len() - 1].to_owned(),
        "victim".to_owned(),
        "Notifications".to_owned(),
    ];
    others.retain(|other| other != id && other.parse::<TenantId>().is_ok());
    others
}

/// Whoever asks is this user.
#[derive(Debug)]
struct Given(Arc<LoginRecord>);

#[async_trait]
impl Authenticator for Given {
    async fn authenticate(&self, _attempt: Attempt<'_>) -> Result<Authentication, AuthnError> {
        let principal = Principal::new(Arc::clone(&self.0), "given", None, 0).unwrap();
        Ok(Authentication::Accepted(principal))
    }
}

/// The shipped policies, and some that splice in all that can be.
fn policies() -> PolicySet {
    let folder = tempfile::tempdir().unwrap();
    let named = "[account]\n[shared]\n\
        publish = [\"user.{{tenant.id}}.{{user.name}}.>\", \"user.{{tenant.id}}.of-{{user.name}}\"]\n\
        subscribe = [\"user.{{tenant.id}}.{{user.name}}\", \"user.{{tenant.id}}.a{{user.publish}}\"]\n";
    std::fs::write(folder.path().join("named.toml"), named).unwrap();
    PolicySet::with_folder(folder.path()).unwrap()
}

/// The permissions of the grant, if there is one, from the JWT that the server would read.
fn granted(policies: &Arc<PolicySet>, record: LoginRecord) -> Option<Permissions> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bench = Bench::deciding(Arc::new(Given(Arc::new(record))), policies.clone());
    let message = bench.send(&sign(&bench.request(), &bench.server));
    let Outcome::Reply(reply) = runtime.block_on(bench.decide(&message)) else {
        panic!("a decision")
    };
    let said = payload(std::str::from_utf8(nats_callout::internals::payload(&reply)).unwrap());
    let jwt = said["nats"].get("jwt")?.as_str().unwrap().to_owned();
    let user = payload(&jwt);
    assert_eq!(user["aud"], "USERS");
    Some(serde_json::from_value(user["nats"].clone()).unwrap())
}

/// Nothing in the permissions is another tenant's or the system's, or can be read in two ways.
fn keeps_to_itself(id: &str, permissions: &Permissions) {
    for (list, is_subscribe) in [(&permissions.publish, false), (&permissions.subscribe, true)] {
        assert!(!list.allow.is_empty() || list.deny == [">"], "{list:?}");
        for pattern in list.allow.iter().chain(&list.deny) {
            assert!(pattern.parse::<Pattern>().is_ok(), "{pattern:?}");
            assert!(pattern.len() <= MAX_SUBJECT_BYTES);
            assert!(
                !pattern.contains(|c: char| c.is_whitespace() || c.is_control()),
                "{pattern:?}"
            );
        }
        for pattern in &list.allow {
            let reach = if is_subscribe { widened(pattern) } else { pattern.clone() };
            assert!(!Space::system().overlaps(&reach), "{id}: {reach:?}");
            for other in neighbours(id) {
                assert!(!Space::of(&other).overlaps(&reach), "{id} reaches {other}: {reach:?}");
            }
        }
    }
    assert_eq!(permissions.responses, None, "in an account that tenants share");
}

/// Texts made of what means something to somebody on the way.
fn odd_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            ".", "*", ">", " ", "user", "victim", "user.victim.>", "_INBOX_victim", "{{tenant.id}}",
            "{{user.publish}}", "}}", "{{",
        ]).prop_map(str::to_owned),
        3 => prop::sample::select(vec![
            "\0", "\t", "\r\n", "\u{7f}", "\u{85}", "\u{a0}", "\u{1680}", "\u{200b}", "\u{200d}",
            "\u{2028}", "\u{202e}", "\u{2066}", "\u{3000}", "\u{feff}", "\u{ffff}", "\u{e0001}",
        ]).prop_map(str::to_owned),
        2 => prop::sample::select(vec![
            "．", "。", "｡", "․", "＊", "＞", "٭", "›", "ｖictim", "vіctim", "v\u{301}", "日本", "עברית",
            "العربية", "é", "🦀", "$SYS", "$JS.API", "%2e", "\\u002e", "\"", "'", "\\",
        ]).prop_map(str::to_owned),
        3 => "[a-zA-Z0-9_-]{1,8}",
        1 => any::<char>().prop_map(String::from),
    ];
    vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

fn ids() -> impl Strategy<Value = String> {
    prop_oneof![
        5 => "[A-Za-z0-9_-]{1,64}",
        2 => prop::sample::select(vec!["42", "4", "victi", "victimm", "Victim", "-", "_", "user", "R_", "INBOX"])
            .prop_map(str::to_owned),
        3 => odd_text(),
    ]
}

fn users() -> impl Strategy<Value = UserRecord> {
    let kind = prop_oneof![Just(UserKind::Bb), Just(UserKind::Service)];
    let policy = prop_oneof![
        3 => Just(None),
        3 => prop::sample::select(vec!["admin", "bb", "service", "named"])
            .prop_map(|name| Some(name.to_owned())),
        1 => odd_text().prop_map(Some),
    ];
    let name = prop_oneof![2 => odd_text(), 1 => "[a-z0-9_-]{1,12}"];
    let list = || vec(prop_oneof![2 => odd_text(), 1 => "[a-z.*>]{1,9}"], 0..4);
    (name, kind, list(), list(), policy).prop_map(|(name, kind, publish, subscribe, policy)| {
        UserRecord { publish, subscribe, policy, ..UserRecord::new(name, kind) }
    })
}

fn record(id: TenantId, user: UserRecord, jetstream: bool) -> LoginRecord {
    let limits = Limits { memory: u64::from(jetstream), ..Limits::default() };
    LoginRecord { tenant: TenantRecord { limits, ..TenantRecord::new(id) }, user }
}

#[test]
fn no_grant_reaches_another_tenant() {
    let policies = Arc::new(policies());
    let seen = std::cell::Cell::new([0_u32; 3]);
    let count = |index: usize| {
        let mut now = seen.get();
        now[index] += 1;
        seen.set(now);
    };
    let cases = depth(800, 2_000);
    let config = ProptestConfig { cases, failure_persistence: None, ..Default::default() };
    proptest!(config, |(id in ids(), user in users(), jetstream in any::<bool>())| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let legal = (1..=64).contains(&id.len()) && id.chars().all(plain);
        match id.parse::<TenantId>() {
            Err(_) => {
                prop_assert!(!legal);
                count(0);
            }
            Ok(tenant) => {
                prop_assert!(legal);
                match granted(&policies, record(tenant, user, jetstream)) {
                    None => count(1),
                    Some(permissions) => {
                        keeps_to_itself(&id, &permissions);
                        count(2);
                    }
                }
            }
        }
    });
    let [illegal, refused, granted] = seen.get();
    println!("{illegal} illegal ids, {refused} refused, {granted} granted");
    assert!(illegal > 100 && refused > 100 && granted > 100);
}

#[test]
fn what_is_a_megabyte_gets_nothing_of_others() {
    let policies = Arc::new(policies());
    let megabyte = |text: &str| text.repeat(1024 * 1024 / text.len());
    for text in ["x", ".", "*", ">", " ", "\0", "a.", "user.victim.", "日"] {
        let text = megabyte(text);
        assert!(text.parse::<TenantId>().is_err());
        assert!(text.parse::<Pattern>().is_err());
        let list = vec![text.clone()];
        let base = || UserRecord::new("app", UserKind::Service);
        let id: TenantId = "42".parse().unwrap();
        for user in [
            UserRecord { publish: list.clone(), ..base() },
            UserRecord { subscribe: list.clone(), ..base() },
            UserRecord { policy: Some(text.clone()), ..base() },
            UserRecord { policy: Some("named".to_owned()), ..UserRecord::new(&text, UserKind::Bb) },
        ] {
            assert_eq!(granted(&policies, record(id.clone(), user, true)), None);
        }
        // A name that no template splices in is the client's business.
        let user = UserRecord::new(&text, UserKind::Bb);
        keeps_to_itself("42", &granted(&policies, record(id, user, true)).expect("a grant"));
    }
    let many = vec!["victim.>".to_owned(); 50_000];
    let user = UserRecord { publish: many, ..UserRecord::new("app", UserKind::Service) };
    let permissions = granted(&policies, record("42".parse().unwrap(), user, false));
    keeps_to_itself("42", &permissions.expect("a grant"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..Default::default() })]

    /// The check itself, against every subject of at most four tokens out of two words.
    #[test]
    fn overlaps_are_found_as_subjects_in_common(
        one in vec("[ab*]", 1..4), other in vec("[ab*]", 1..4), tails in any::<(bool, bool)>(),
    ) {
        let pattern = |tokens: Vec<String>, tail| {
            let text = tokens.join(".");
            if tail { format!("{text}.>") } else { text }
        };
        let (one, other) = (pattern(one, tails.0), pattern(other, tails.1));
        let (first, second): (Pattern, Pattern) = (one.parse().unwrap(), other.parse().unwrap());
        let mut subjects = vec![String::new()];
        let mut common = false;
        for _ in 0..4 {
            subjects = subjects
                .iter()
                .flat_map(|front| ["a", "b"].map(|word| {
                    if front.is_empty() { word.to_owned() } else { format!("{front}.{word}") }
                }))
                .collect();
            common |= subjects.iter().any(|it| first.matches(it) && second.matches(it));
        }
        prop_assert_eq!(overlap(&one, &other), common, "{} and {}", one, other);
    }
}
