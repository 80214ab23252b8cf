//! The files of a deployment as `init` writes it, with what a rotation looks at.

use std::collections::BTreeMap;

use tempfile::TempDir;

use super::super::super::files;
use crate::deployment::creds::creds;
use crate::keys::{AccountId, KeyKind, SigningKey, XKey};
use crate::protocol::claims::{AccountBody, OperatorBody, Permissions, UserBody};
use crate::protocol::jwt::Claims;

/// Accounts and their JWTs, by their names.
pub(super) type AccountsByName = BTreeMap<&'static str, (AccountId, String)>;

pub(super) fn config_mode(folder: &TempDir) -> AccountsByName {
    let issuer = made(folder, "keys/issuer.nk", KeyKind::Account);
    made(folder, "keys/auth.nk", KeyKind::User);
    made(folder, "keys/sys.nk", KeyKind::User);
    let xkey = xkey(folder);
    let (issuer, xkey) = (issuer.public_key(), xkey.public_key());
    write(folder, "nats-server.conf", &format!("issuer: {issuer}\nxkey: {xkey}\n"));
    write(
        folder,
        "nats-callout.toml",
        "[nats]\nmode = \"config\"\n[callout]\nissuer = [\"keys/issuer.nk\"]\n\
         xkey = [\"keys/xkey.nk\"]\n[database]\nurl = \"sqlite://tenants.db\"\n",
    );
    BTreeMap::new()
}

pub(super) fn operator_mode(folder: &TempDir) -> AccountsByName {
    let mut signing = Vec::new();
    for (name, kind) in [
        ("operator-signing", KeyKind::Operator),
        ("user-signing", KeyKind::Account),
        ("response-signing", KeyKind::Account),
    ] {
        signing.push(made(folder, &format!("keys/{name}.nk"), kind));
        let next = made(folder, &format!("keys/offline/{name}-next.nk"), kind);
        write(folder, &format!("keys/{name}-next.pub"), next.public_key());
    }
    let xkey = xkey(folder);
    let operator = made(folder, "keys/offline/operator.nk", KeyKind::Operator);
    let body = OperatorBody {
        signing_keys: vec![signing[0].public().unwrap()],
        ..OperatorBody::default()
    };
    let claims = Claims { subject: operator.public_key().to_owned(), body, ..Claims::default() };
    let token = claims.encode_now(&operator).unwrap();
    write(folder, "nats-server.conf", &format!("operator: {token}\n"));

    let mut accounts = BTreeMap::new();
    for (name, key) in [("SYS", None), ("AUTH", Some(2)), ("USERS", Some(1)), ("own", Some(1))] {
        let (identity, _) = SigningKey::generate(KeyKind::Account).unwrap();
        let mut body = AccountBody::default();
        body.signing_keys.extend(key.map(|key: usize| signing[key].public::<AccountId>().unwrap()));
        if name == "AUTH" {
            body.authorization.xkey = Some(*xkey.public_key());
        }
        let id: AccountId = identity.public().unwrap();
        let claims = Claims { subject: id.to_string(), body, ..Claims::default() };
        accounts.insert(name, (id, claims.encode_now(&signing[0]).unwrap()));
        let (user, seed) = SigningKey::generate(KeyKind::User).unwrap();
        let body = UserBody::new(Permissions::default());
        let login = creds(name, (&user, &seed), &identity, body, 0).unwrap();
        write(folder, &format!("keys/{}.creds", name.to_lowercase()), &login);
    }
    let [auth, users] = ["AUTH", "USERS"].map(|name| accounts[name].0);
    write(
        folder,
        "nats-callout.toml",
        &format!(
            "[nats]\nmode = \"operator\"\n[callout]\naccount = \"{auth}\"\n\
             response_signing = [\"keys/response-signing.nk\", \"keys/response-signing-next.pub\"]\n\
             xkey = [\"keys/xkey.nk\"]\n[operator]\n\
             operator_signing = [\"keys/operator-signing.nk\", \"keys/operator-signing-next.pub\"]\n\
             user_signing = [\"keys/user-signing.nk\", \"keys/user-signing-next.pub\"]\n\
             bb_account = \"{auth}\"\nusers_account = \"{users}\"\nanswers_account = \"{auth}\"\n\
             [database]\nurl = \"sqlite://tenants.db\"\n"
        ),
    );
    accounts
}

fn write(folder: &TempDir, name: &str, text: &str) {
    files::replace(&folder.path().join(name), text).unwrap();
}

/// A new key, whose seed is in this file.
fn made(folder: &TempDir, name: &str, kind: KeyKind) -> SigningKey {
    let (key, seed) = SigningKey::generate(kind).unwrap();
    write(folder, name, &seed);
    key
}

fn xkey(folder: &TempDir) -> XKey {
    let (xkey, seed) = XKey::generate().unwrap();
    write(folder, "keys/xkey.nk", &seed);
    xkey
}
