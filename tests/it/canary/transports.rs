//! Secrets that come over WebSocket (cookies too), MQTT and leaf nodes.

use nats_callout::authn::token::Token;

use super::{Watch, canary};
use crate::harness::client::Login;
use crate::harness::clients::{self, Language, Scenario};
use crate::harness::deployment::Mode;
use crate::harness::{eventually, http, servers};
use crate::login::scenario;
use crate::transports::leaf::{self, Leaf};
use crate::transports::{Open, Tls};

async fn shown_nowhere(mode: Mode) {
    let open = Open::start_with(mode, servers::MAIN, Tls::No, |init| {
        init.set("level", "\"trace\"");
    });
    let watch = Watch::default();
    let Login::Password(user, password) = open.tenant_add("one", &[]) else {
        unreachable!("a password")
    };
    watch.secret("the password", &password);
    let token = watch.secret("a token", &open.token_add("one", &user));
    let wrong = watch.secret("a wrong password", &canary("wrong"));
    let unknown = watch.secret("an unknown token", Token::generate().expect("a token").expose());

    let scenario = Scenario { forbidden: None, ..scenario(mode, "one") };
    let url = format!("ws://127.0.0.1:{}", open.websocket);
    for (secret, is_password, is_token) in [
        (&password, true, false),
        (&token, true, true),
        (&wrong, false, false),
        (&unknown, false, false),
    ] {
        let mut device = clients::program(Language::Python, "mqtt").expect("python3");
        device.args([&open.mqtt.to_string(), "--client-id", "device"]);
        device.args(["--user", &user, "--password", secret]).output().expect("it runs");
        let cookies = [("user", &user), ("pass", secret), ("token", secret)]
            .map(|(name, value)| format!("nats_{name}={value}"));
        for (options, is_right) in [
            (&["--token", secret][..], is_token),
            (&["--user", &user, "--password", secret], is_password),
            (&["--cookie", &cookies[0], "--cookie", &cookies[1]], is_password),
            (&["--cookie", &cookies[2]], is_token),
        ] {
            let seen =
                clients::login_by(Language::Python, &url, options, &scenario).expect("python3");
            assert_eq!(seen.connected, is_right, "{options:?}: {seen:?}");
        }
    }
    watch.see("nats-server's log", open.server.log());
    // A server takes the user part of a leaf node's URL for its token, hands it on as a name, and
    // logs it as one.
    for login in [format!("{user}:{unknown}@"), format!("{unknown}@")] {
        Leaf::start(&leaf::remote(&open, &login)).refused();
    }

    eventually("the refusals in the log", || {
        (open.service.log().matches("refused").count() > 10).then_some(())
    });
    watch.see("metrics", http::get(open.http(), "/metrics").expect("an answer").body);
    watch.see_events(&open, mode).await;
    watch.see("the service's log", open.service.log());
    watch.judge();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_other_transports_is_seen_anywhere_in_operator_mode() {
    shown_nowhere(Mode::Operator).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_other_transports_is_seen_anywhere_in_config_mode() {
    shown_nowhere(Mode::Config).await;
}
