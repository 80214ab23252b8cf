//! Against a file, which is there at once and fails as the network does.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::super::fetch::Way;
use super::super::origin::Source;
use super::*;

const ALGORITHM: Algorithm = Algorithm::EdDSA;

struct Case {
    folder: tempfile::TempDir,
    keeper: Arc<Keeper>,
    stop: CancellationToken,
}

impl Drop for Case {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

const NEVER: Duration = Duration::from_secs(3_600);
const SOON: Duration = Duration::from_millis(10);

/// Nothing is fetched but for keys that are not known, and those once.
const STILL: Pace =
    Pace { unknown_key: NEVER, life: NEVER, lives: (NEVER, NEVER), retry: (NEVER, NEVER) };

fn case(pace: Pace, ids: &[&str]) -> Case {
    let folder = tempfile::tempdir().unwrap();
    let source = Source::File(folder.path().join("keys.json"));
    let origin = Origin { source, way: Way::default(), algorithms: vec![ALGORITHM] };
    let keeper = Arc::new(Keeper::new("test".to_owned(), origin, pace));
    let case = Case { folder, keeper, stop: CancellationToken::new() };
    if !ids.is_empty() {
        case.write(ids);
    }
    case
}

impl Case {
    fn write(&self, ids: &[&str]) {
        let x = URL_SAFE_NO_PAD.encode([7; 32]);
        let keys: Vec<_> = ids
            .iter()
            .map(|id| json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": id }))
            .collect();
        self.replace(&json!({ "keys": keys }).to_string());
    }

    fn replace(&self, text: &str) {
        let path = self.folder.path().join("keys.json");
        let next = path.with_extension("next");
        std::fs::write(&next, text).unwrap();
        std::fs::rename(next, path).unwrap();
    }

    fn start(&self) {
        let (keeper, stop) = (Arc::clone(&self.keeper), self.stop.clone());
        tokio::spawn(async move { keeper.run(stop).await });
    }

    async fn finds(&self, id: &str) -> Result<bool, String> {
        match self.keeper.keys(Some(id), ALGORITHM).await {
            Ok(_) => Ok(true),
            Err(NotVerified::Flaw(Flaw::NoKey)) => Ok(false),
            Err(NotVerified::Flaw(other)) => panic!("{other}"),
            Err(NotVerified::Unavailable(reason)) => Err(reason.to_string()),
        }
    }

    async fn fetched(&self, times: u64) {
        let mut progress = self.keeper.progress.subscribe();
        progress.wait_for(|progress| progress.fetches >= times).await.unwrap();
    }
}

#[tokio::test]
async fn unknown_keys_are_looked_for_once_however_many_ask() {
    let case = case(STILL, &["a"]);
    case.start();
    case.fetched(1).await;
    assert_eq!(case.finds("a").await, Ok(true));
    assert_eq!(case.keeper.standing().fetches, 1, "a known key is asked of nobody");
    case.write(&["b"]);
    let ids: Vec<String> = (0..50).map(|n| format!("unknown-{n}")).collect();
    let found = futures_util::future::join_all(ids.iter().map(|id| case.finds(id))).await;
    assert!(found.iter().all(|found| *found == Ok(false)), "{found:?}");
    // One for all who ask, and one where the change of the file is seen before they do.
    let fetches = case.keeper.standing().fetches;
    assert!((2..=3).contains(&fetches), "{fetches}");
    assert_eq!(case.finds("b").await, Ok(true), "the fetch brought the new key");
    assert_eq!(case.finds("a").await, Ok(false), "and took the old one");
    assert_eq!(case.finds("c").await, Ok(false));
    assert!(case.keeper.standing().fetches <= 3);
}

#[tokio::test]
async fn unknown_keys_are_looked_for_again_after_a_while() {
    let case = case(Pace { unknown_key: SOON, ..STILL }, &["a"]);
    case.start();
    assert_eq!(case.finds("b").await, Ok(false));
    case.write(&["a", "b"]);
    tokio::time::sleep(SOON * 2).await;
    assert_eq!(case.finds("b").await, Ok(true));
}

#[tokio::test]
async fn a_login_waits_for_the_first_fetch() {
    let case = case(STILL, &["a"]);
    let (finds, ()) = tokio::join!(case.finds("a"), async { case.start() });
    assert_eq!(finds, Ok(true));
}

#[tokio::test]
async fn as_long_as_there_is_no_answer_nobody_is_refused() {
    let case = case(Pace { retry: (SOON, SOON), ..STILL }, &[]);
    case.start();
    let error = case.finds("a").await.unwrap_err();
    assert!(error.contains("keys.json") && error.contains("No such file"), "{error}");
    case.write(&["a"]);
    let mut progress = case.keeper.progress.subscribe();
    progress.wait_for(|progress| progress.keys.is_some()).await.unwrap();
    assert_eq!(case.finds("a").await, Ok(true));
    assert_eq!(case.keeper.standing().fault, None);
}

#[tokio::test]
async fn keys_are_kept_through_an_outage() {
    let case = case(Pace { unknown_key: Duration::ZERO, ..STILL }, &["a"]);
    case.start();
    case.fetched(1).await;
    for outage in
        ["", "<html>busy</html>", "{\"keys\":[]}", "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AA\"}]}"]
    {
        case.replace(outage);
        assert!(case.finds("b").await.is_err(), "{outage}: nobody knows whether there is one");
        assert_eq!(case.finds("a").await, Ok(true), "{outage}");
        let standing = case.keeper.standing();
        assert!(standing.keys == 1 && standing.fault.is_some(), "{standing:?}");
    }
    std::fs::remove_file(case.folder.path().join("keys.json")).unwrap();
    assert!(case.finds("b").await.is_err());
    assert_eq!(case.finds("a").await, Ok(true));
    case.write(&["b"]);
    assert_eq!(case.finds("b").await, Ok(true));
    assert_eq!(case.finds("a").await, Ok(false));
}

#[tokio::test]
async fn keys_are_renewed_before_they_expire() {
    let case = case(Pace { life: SOON, ..STILL }, &["a"]);
    case.start();
    case.fetched(3).await;
    let keeper = &case.keeper;
    let renewal = |max_age: u64| {
        let keys = KeySet::parse(
            &std::fs::read(case.folder.path().join("keys.json")).unwrap(),
            &[ALGORITHM],
        );
        let max_age = Some(Duration::from_secs(max_age));
        let fetched = Fetched { keys: keys.unwrap(), max_age };
        Keeper { pace: Pace::DEFAULT, ..clone(keeper) }.until_renewal(&fetched).as_secs()
    };
    assert_eq!(renewal(0), 24);
    assert_eq!(renewal(1_000), 800);
    assert_eq!(renewal(1_000_000), 2_880, "a key that is taken back is not accepted for long");
}

fn clone(keeper: &Keeper) -> Keeper {
    let Source::File(path) = &keeper.origin.source else { panic!("a file") };
    let source = Source::File(path.clone());
    Keeper::new(
        String::new(),
        Origin { source, way: Way::default(), algorithms: vec![] },
        keeper.pace,
    )
}

/// A file that changes is read again, with no login that asks for it.
#[tokio::test]
async fn a_file_that_changes_is_read_again() {
    let case = case(STILL, &["a"]);
    case.start();
    case.fetched(1).await;
    case.write(&["a", "b"]);
    case.fetched(2).await;
    assert_eq!(case.keeper.standing().keys, 2);
}

/// As many as an attacker likes could come while the issuer hangs.
#[tokio::test]
async fn only_so_many_wait_for_a_fetch() {
    let case = case(STILL, &["a"]);
    let ids: Vec<String> = (0..=WAITING).map(|n| format!("unknown-{n}")).collect();
    let mut all: Vec<_> = ids.iter().map(|id| Box::pin(case.finds(id))).collect();
    let mut last = all.pop().unwrap();
    for one in &mut all {
        assert!(futures_util::poll!(one).is_pending());
    }
    let std::task::Poll::Ready(refused) = futures_util::poll!(&mut last) else { panic!("waits") };
    assert!(refused.unwrap_err().contains("too many"));
    case.start();
    let found = futures_util::future::join_all(all).await;
    assert!(found.iter().all(|found| *found == Ok(false)), "{found:?}");
    assert_eq!(case.finds("a").await, Ok(true));
}
