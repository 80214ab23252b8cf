//! Who may not log in, for whatever reason: what the tests and the benchmark of refusals share.

use nats_callout::callout::{Token, hash_password};
use serde_json::{Value, json};

use crate::harness::deployment::{Deployment, Mode};
use crate::harness::servers;

/// The password of everybody who has one.
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// With an offset, so that it is the same time in both databases.
const PAST: &str = "2020-01-01 00:00:00+00:00";

/// What documents have in the place of a hash, and the database lets through.
const UNUSABLE: &str = "$argon2id$...";

/// Tenants and users in every state in which they may not log in.
pub(crate) struct States {
    pub(crate) deployment: Deployment,
    pub(crate) tokens: Vec<Token>,
}

impl States {
    /// With so many free failures of an account; none slows down nobody, so that the same ones can
    /// be tried again and again.
    pub(crate) fn new(mode: Mode, account_failures: &str) -> Self {
        let deployment = Deployment::start_prepared(mode, servers::version(), |init| {
            init.set("account_failures", account_failures);
            init.set("source_failures", "0");
        });
        let hash = hash_password(PASSWORD).expect("a hash");
        let hash = hash.expose();
        let tokens: Vec<Token> = (0..4).map(|_| Token::generate().expect("a token")).collect();
        let token = |n: usize| tokens[n].hash().to_hex();
        deployment.sql(&format!(
        "BEGIN;\n\
         INSERT INTO tenants (id, name) VALUES ('1', 'one');\n\
         INSERT INTO tenants (id, name, status) VALUES ('2', 'two', 'suspended');\n\
         INSERT INTO tenants (id, name, expires_at) VALUES ('3', 'three', '{PAST}');\n\
         INSERT INTO users (tenant_id, name, password_hash) VALUES ('1', 'alice', '{hash}');\n\
         INSERT INTO users (tenant_id, name, password_hash) VALUES ('1', 'bob', '{hash}');\n\
         INSERT INTO users (tenant_id, name, password_hash, status) VALUES ('1', 'suspended', '{hash}', 'suspended');\n\
         INSERT INTO users (tenant_id, name, password_hash, expires_at) VALUES ('1', 'expired', '{hash}', '{PAST}');\n\
         INSERT INTO users (tenant_id, name, password_hash) VALUES ('2', 'of-suspended', '{hash}');\n\
         INSERT INTO users (tenant_id, name, password_hash) VALUES ('3', 'of-expired', '{hash}');\n\
         INSERT INTO users (tenant_id, name) VALUES ('1', 'without');\n\
         INSERT INTO users (tenant_id, name, password_hash) VALUES ('1', 'unusable', '{UNUSABLE}');\n\
         INSERT INTO tokens (user_name, token_hash) VALUES ('alice', '{}');\n\
         INSERT INTO tokens (user_name, token_hash) VALUES ('suspended', '{}');\n\
         INSERT INTO tokens (user_name, token_hash, expires_at) VALUES ('bob', '{}', '{PAST}');\n\
         COMMIT;",
        token(0),
        token(1),
        token(2),
    ));
        Self { deployment, tokens }
    }
}

/// Refusals of passwords: what each is about, the reason in the log, and what the client sends.
pub(crate) fn passwords() -> Vec<(&'static str, &'static str, Value)> {
    let right = |user: &str| json!({"user": user, "pass": PASSWORD});
    let wrong = |user: &str| json!({"user": user, "pass": "wrong"});
    vec![
        ("unknown user", "unknown_user", right("nobody")),
        ("wrong password", "wrong_password", wrong("alice")),
        ("wrong password of a suspended user", "wrong_password", wrong("suspended")),
        ("suspended user", "user_suspended", right("suspended")),
        ("suspended tenant", "tenant_suspended", right("of-suspended")),
        ("expired user", "user_expired", right("expired")),
        ("expired tenant", "tenant_expired", right("of-expired")),
        ("user without a password", "wrong_password", right("without")),
        ("unusable hash", "unusable_hash", right("unusable")),
        // As long as a line of the protocol may be; of longer ones, the server hears nothing.
        ("long password", "wrong_password", json!({"user": "alice", "pass": "x".repeat(3_800)})),
        ("overlong user", "unknown_user", right(&"u".repeat(129))),
        ("user with a control character", "unknown_user", right("a\tb")),
    ]
}

/// Refusals of tokens in the place of a password or beside a user name: they are looked up, and hashed
/// nowhere.
pub(crate) fn tokens(states: &States) -> Vec<(&'static str, &'static str, Value)> {
    let token = |user: &str, n: usize| json!({"user": user, "pass": states.tokens[n].expose()});
    vec![
        ("token of another user", "unknown_token", token("bob", 0)),
        ("token of a suspended user", "user_suspended", token("suspended", 1)),
        ("expired token", "token_expired", token("bob", 2)),
        ("unknown token", "unknown_token", token("alice", 3)),
        (
            "token of another user beside the name",
            "unknown_token",
            json!({"user": "bob", "auth_token": states.tokens[0].expose()}),
        ),
        ("empty password", "no_credentials", json!({"user": "alice", "pass": ""})),
    ]
}
