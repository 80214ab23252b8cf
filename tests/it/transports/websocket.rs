//! WebSocket: the same logins and grants as on TCP, and cookies.

use serde_json::{Value, json};

use super::{Open, wire};
use crate::harness::client::Login;
use crate::harness::clients::{self, Language, Seen};
use crate::harness::deployment::Mode;
use crate::harness::raw::Verdict;
use crate::harness::{depth, servers};
use crate::login::scenario;

/// What a client shows: fields of CONNECT, and cookies.
struct Shown<'a> {
    connect: Value,
    cookies: Vec<(&'static str, &'a str)>,
}

impl<'a> Shown<'a> {
    fn new(connect: Value, cookies: &[(&'static str, &'a str)]) -> Self {
        Self { connect, cookies: cookies.to_vec() }
    }

    /// The same as options of `login.py`.
    fn options(&self) -> Vec<String> {
        let mut options = Vec::new();
        for (field, option) in
            [("user", "--user"), ("pass", "--password"), ("auth_token", "--token")]
        {
            if let Some(value) = self.connect[field].as_str() {
                options.extend([option.to_owned(), value.to_owned()]);
            }
        }
        for (name, value) in &self.cookies {
            options.extend(["--cookie".to_owned(), format!("{name}={value}")]);
        }
        options
    }

    fn login(&self, open: &Open) -> Verdict {
        wire::websocket(open.websocket, &self.cookies, |_| self.connect.clone())
    }

    fn program(&self, open: &Open) -> Seen {
        let url = format!("ws://127.0.0.1:{}", open.websocket);
        let options = self.options();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        clients::login_by(Language::Python, &url, &options, &scenario(open.mode, "one"))
            .expect("python3")
    }
}

pub(super) fn passwords_and_tokens_work_in_the_connect_and_in_cookies(open: &Open) {
    open.tenant_add("one", &[]);
    let lists: &[&str] = match open.mode {
        Mode::Operator => &["--publish", "echo", "--subscribe", "echo"],
        Mode::Config => &["--kind", "bb"],
    };
    let Login::Password(user, password) = open.user_add("one", "app", lists) else {
        unreachable!("a password")
    };
    let (user, password) = (user.as_str(), password.as_str());
    let token = open.token_add("one", "app");
    let token = token.as_str();
    let by_password = |password: &str| json!({"user": user, "pass": password});
    let by_token = |token: &str| json!({"auth_token": token});
    let nothing = || json!({});
    let mut right = vec![
        Shown::new(by_password(password), &[]),
        Shown::new(by_password(token), &[]),
        Shown::new(by_token(token), &[]),
    ];
    let mut wrong = vec![Shown::new(by_password("wrong"), &[]), Shown::new(by_token("wrong"), &[])];
    // 2.10 has no cookie for anything but JWTs.
    if !servers::is(servers::version(), "2.10") {
        right.extend([
            Shown::new(nothing(), &[("nats_user", user), ("nats_pass", password)]),
            Shown::new(nothing(), &[("nats_token", token)]),
            // What CONNECT says counts before a cookie of the same kind.
            Shown::new(by_token(token), &[("nats_token", "wrong")]),
        ]);
        wrong.extend([
            Shown::new(nothing(), &[("nats_user", user), ("nats_pass", "wrong")]),
            Shown::new(nothing(), &[("nats_token", "wrong")]),
            Shown::new(nothing(), &[("nats_user", user)]),
            Shown::new(nothing(), &[("other", token)]),
            Shown::new(by_token("wrong"), &[("nats_token", token)]),
        ]);
    }
    for shown in &right {
        let verdict = shown.login(open);
        assert_eq!(verdict, Verdict::Admitted, "{:?}\n{}", shown.options(), open.service.log());
    }
    for shown in &wrong {
        let words = Verdict::Refused("-ERR 'Authorization Violation'\r\n".to_owned());
        assert_eq!(shown.login(open), words, "{:?}", shown.options());
    }

    // With a library, which tries what is granted: with a CONNECT, and with a cookie.
    for shown in right.iter().step_by(depth(4, 1)) {
        tries_its_grant(open, shown);
    }
    for shown in wrong.iter().take(depth(0, wrong.len())) {
        let seen = shown.program(open);
        assert!(!seen.connected, "{:?}: {seen:?}", shown.options());
    }
}

fn tries_its_grant(open: &Open, shown: &Shown<'_>) {
    let (options, seen) = (shown.options(), shown.program(open));
    assert_eq!((seen.connected, &seen.error), (true, &None), "{options:?}: {seen:?}");
    assert_eq!(seen.received, ["hello"], "{options:?}");
    assert_eq!(seen.reply.as_deref(), Some("pong:ping"), "{options:?}");
    assert_eq!(seen.violations.len(), 2, "{options:?}: {seen:?}");
}
