//! What a panic or a `{:?}` in a log line would print: no type that holds a secret shows it.

use std::path::Path;
use std::time::Instant;

use nats_callout::callout::{Secret, Token};
use nats_callout::config::{Config, Files};
use nats_callout::internals::{
    AuthorizationRequestBody, CalloutMessage, Claims, ConnectOptions, Credentials, Envelope,
    Parsed, Rehash, ServerId, ServerInfo,
};
use nats_callout::keys::{KeyKind, SigningKey, XKey};
use nats_callout::store::{PasswordHash, TokenHash};

use super::{Watch, canary};

/// A request as a server makes it, with this password.
fn request(password: &str) -> String {
    let server = SigningKey::generate(KeyKind::Server).unwrap().0;
    let user = SigningKey::generate(KeyKind::User).unwrap().0;
    let claims = Claims {
        audience: Some("nats-authorization-request".to_owned()),
        expires: Some(i64::MAX),
        issued_at: 0,
        name: None,
        not_before: None,
        subject: user.public_key().to_owned(),
        body: AuthorizationRequestBody {
            server: ServerInfo { id: server.public_key().to_owned(), ..ServerInfo::default() },
            user_nkey: user.public_key().to_owned(),
            connect_opts: ConnectOptions {
                user: "alice".to_owned(),
                password: password.to_owned(),
                auth_token: password.to_owned(),
                jwt: password.to_owned(),
                ..ConnectOptions::default()
            },
            ..AuthorizationRequestBody::default()
        },
    };
    claims.encode_now(&server).unwrap()
}

#[test]
fn no_type_shows_its_secret() {
    let watch = Watch::default();
    let secret = watch.secret("a password", &canary("type"));
    let see = |what: &dyn std::fmt::Debug| {
        watch.see("a type", format!("{what:?}"));
        watch.see("a type, laid out", format!("{what:#?}"));
    };
    see(&Secret::new(secret.clone()));
    let credentials =
        Credentials::Password { user: "alice".to_owned(), password: Secret::new(secret.clone()) };
    see(&credentials);
    see(&Credentials::Token { user: None, token: Secret::new(secret.clone()), is_password: false });
    see(&PasswordHash::new(secret.as_str()));
    let old = PasswordHash::new(secret.as_str());
    see(&Rehash { user: "alice".to_owned(), old, password: Secret::new(secret.clone()) });
    let token = Token::generate().unwrap();
    watch.secret("a token", token.expose());
    see(&token);
    let hash = token.hash();
    watch.secret("a token's hash", &hash.to_hex());
    see(&TokenHash(hash.0));
    for kind in [KeyKind::Account, KeyKind::User] {
        let (key, seed) = SigningKey::generate(kind).unwrap();
        watch.secret("a seed", &seed);
        see(&key);
    }
    let xkey = nkeys::XKey::new();
    let seed = watch.secret("a curve seed", &xkey.seed().unwrap());
    see(&XKey::from_seed(&seed).unwrap());
    see(&XKey::from_seed(&seed[1..]).map(drop));

    let token = request(&secret);
    let message = CalloutMessage {
        payload: token.as_bytes(),
        server_xkey: None,
        deadline: Instant::now(),
        max_reply: usize::MAX,
    };
    see(&message);
    let opened = Envelope::new(Vec::new()).open(token.as_bytes(), None).unwrap();
    see(&opened);
    let parsed = Parsed::<AuthorizationRequestBody>::parse(&token).unwrap();
    see(&parsed);
    see(&parsed.verify::<ServerId>().unwrap().0);
    watch.judge();
}

#[test]
fn a_configuration_shows_no_password_of_the_database() {
    let watch = Watch::default();
    let secret = watch.secret("the password", "canary9Q2xB7rT4wY6");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("nats-callout.toml");
    let text = format!(
        "[nats]\nmode = \"config\"\n[callout]\nissuer = [\"keys/issuer.nk\"]\n[database]\n\
         url = \"postgres://me:{secret}@localhost/db\"\n"
    );
    std::fs::write(&file, text).unwrap();
    let loaded = Config::load_with(Path::new(&file), Files::Unchecked, []).unwrap();
    watch.see("the configuration", format!("{loaded:?}"));
    watch.judge();
}
