//! The accounts of operator mode in a server's configuration, for tests that change them.

use nats_callout::internals::{AccountBody, Claims, OperatorId, Parsed, keyfile};
use nats_callout::keys::KeyKind;

use super::deployment::Initialised;

/// The id and the token of an account in the configuration.
pub(crate) fn named<'a>(conf: &'a str, name: &str) -> (&'a str, &'a str) {
    let (_, rest) = conf.split_once(&format!("    # {name}\n")).expect("the account");
    rest.lines().next().expect("a line").trim().split_once(": ").expect("a token")
}

/// What a token says.
pub(crate) fn read(token: &str) -> Claims<AccountBody> {
    let parsed = Parsed::<AccountBody>::parse(token).expect("a JWT");
    parsed.verify::<OperatorId>().expect("a signature").0
}

/// The configuration with an account changed, and signed again.
pub(crate) fn with(
    init: &Initialised,
    conf: &str,
    name: &str,
    change: impl FnOnce(&mut AccountBody),
) -> String {
    let operator = init.dir().join("keys/operator-signing.nk");
    let operator = keyfile::signing_key(&operator, KeyKind::Operator).expect("a key");
    let (_, token) = named(conf, name);
    let mut claims = read(token);
    change(&mut claims.body);
    conf.replace(token, &claims.encode_now(&operator).expect("a JWT"))
}

/// The configuration without an account.
pub(crate) fn without(conf: &str, name: &str) -> String {
    let (id, token) = named(conf, name);
    conf.replace(&format!("    # {name}\n    {id}: {token}\n"), "")
}
