//! A panic in the middle of a login, with all that the login brought at hand.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use nats_callout::callout::{NoReply, Observer, Outcome, Token};
use nats_callout::internals::{Attempt, Authentication, Authenticator, AuthnError};
use nkeys::KeyPair;
use serde_json::json;

use super::{Watch, canary};
use crate::harness::raw::{self, Verdict};
use crate::service::embedding::Embedded;

/// What its panics begin with.
const ON_PURPOSE: &str = "on purpose";

/// Panics with all that it is given.
#[derive(Debug)]
struct Panicking;

#[async_trait]
impl Authenticator for Panicking {
    async fn authenticate(&self, attempt: Attempt<'_>) -> Result<Authentication, AuthnError> {
        panic!("{ON_PURPOSE}: {attempt:?} {attempt:#?}")
    }
}

/// What became of each request.
#[derive(Debug, Default)]
struct Seen(Mutex<Vec<String>>);

impl Observer for Seen {
    fn observe(&self, outcome: &Outcome, _took: Duration) {
        let panicked = |it: &NoReply| it.fault.code() == "panicked";
        assert!(matches!(outcome, Outcome::NoReply(it) if panicked(it)), "{outcome:?}");
        let Outcome::NoReply(NoReply { who: Some(who), .. }) = outcome else { panic!("nobody") };
        assert!(who.connection.id > 0, "{who:?}");
        self.0.lock().unwrap().push(format!("{outcome:?} {outcome:#?}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_is_a_fault_of_ours_and_shows_no_secret() {
    let panics = Arc::new(Mutex::new(Vec::new()));
    let (heard, others) = (Arc::clone(&panics), std::panic::take_hook());
    std::panic::set_hook(Box::new(move |panic| {
        let text = panic.to_string();
        match text.contains(ON_PURPOSE) {
            true => heard.lock().unwrap().push(text),
            false => others(panic),
        }
    }));
    let outcomes = Arc::new(Seen::default());
    let Embedded { server, running, init: _init } =
        Embedded::start(Arc::new(Panicking), Some(outcomes.clone())).await;

    let watch = Watch::default();
    let password = watch.secret("a password", &canary("panic"));
    let token = watch.secret("a token", Token::generate().unwrap().expose());
    let seed = watch.secret("a seed", &KeyPair::new_user().seed().unwrap());
    let jwt = watch.secret("a JWT", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl");
    let logins = [&password, &token, &seed, &jwt]
        .map(|secret| [json!({"user": "alice", "pass": secret}), json!({"auth_token": secret})]);
    let logins = logins.as_flattened();
    std::thread::scope(|scope| {
        for login in logins {
            let port = server.port();
            scope.spawn(move || {
                let (verdict, took) = raw::connect(port, login);
                assert!(matches!(verdict, Verdict::Refused(_)));
                assert!(took >= Duration::from_millis(1_500), "refused by us, after {took:?}");
            });
        }
    });
    running.stop().await;
    let (panics, outcomes) = (panics.lock().unwrap(), outcomes.0.lock().unwrap());
    assert_eq!((panics.len(), outcomes.len()), (logins.len(), logins.len()));
    watch.see("what the panics say", panics.concat());
    watch.see("what observers see", outcomes.concat());
    watch.judge();
}
