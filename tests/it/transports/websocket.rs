//! WebSocket: the same logins and grants as on TCP, and cookies.

use super::{BOTH, Open};
use crate::harness::client::Login;
use crate::harness::clients::{self, Language, Seen};
use crate::login::scenario;

fn login(open: &Open, options: &[&str]) -> Seen {
    let url = format!("ws://127.0.0.1:{}", open.websocket);
    clients::login_by(Language::Python, &url, options, &scenario(open.mode, "one"))
        .expect("python3")
}

fn cookies(fields: &[(&str, &str)]) -> Vec<String> {
    let cookie = |(name, value): &(&str, &str)| ["--cookie".to_owned(), format!("{name}={value}")];
    fields.iter().flat_map(cookie).collect()
}

#[test]
fn passwords_and_tokens_work_in_the_connect_and_in_cookies() {
    for mode in BOTH {
        let open = Open::start(mode);
        open.tenant_add("one", &[]);
        let lists: &[&str] = match mode {
            crate::harness::deployment::Mode::Operator => {
                &["--publish", "echo", "--subscribe", "echo"]
            }
            crate::harness::deployment::Mode::Config => &["--kind", "bb"],
        };
        let Login::Password(user, password) = open.user_add("one", "app", lists) else {
            unreachable!("a password")
        };
        let token = open.token_add("one", "app");
        let strings = |words: &[&str]| words.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        for options in [
            strings(&["--user", &user, "--password", &password]),
            strings(&["--user", &user, "--password", &token]),
            strings(&["--token", &token]),
            cookies(&[("nats_user", &user), ("nats_pass", &password)]),
            cookies(&[("nats_token", &token)]),
            // What CONNECT says counts before a cookie of the same kind.
            [strings(&["--token", &token]), cookies(&[("nats_token", "wrong")])].concat(),
        ] {
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            let seen = login(&open, &options);
            assert_eq!((seen.connected, &seen.error), (true, &None), "{options:?}: {seen:?}");
            assert_eq!(seen.received, ["hello"], "{options:?}");
            assert_eq!(seen.reply.as_deref(), Some("pong:ping"), "{options:?}");
            assert_eq!(seen.violations.len(), 2, "{options:?}: {seen:?}");
        }
        for options in [
            strings(&["--user", &user, "--password", "wrong"]),
            strings(&["--token", "wrong"]),
            cookies(&[("nats_user", &user), ("nats_pass", "wrong")]),
            cookies(&[("nats_token", "wrong")]),
            cookies(&[("nats_user", &user)]),
            cookies(&[("other", &token)]),
            [strings(&["--token", "wrong"]), cookies(&[("nats_token", &token)])].concat(),
        ] {
            let options: Vec<&str> = options.iter().map(String::as_str).collect();
            let seen = login(&open, &options);
            assert!(!seen.connected, "{options:?}: {seen:?}");
        }
    }
}
