//! Operator mode: identities, the operator's and the accounts' JWTs, and the configuration that
//! holds them.

use anyhow::Context as _;

use super::cluster::{nodes, replicas};
use super::conf::quote_path;
use super::server::head;
use super::stage::Stage;
use super::{Deployment, service};
use crate::clock::UnixSeconds;
use crate::deployment::creds::{creds, user_claims};
use crate::deployment::topology::{Account, account_body, account_jwt};
use crate::keys::{AccountId, KeyKind, OperatorId, SigningKey, UserNkey, XKey, XPublicKey};
use crate::protocol::claims::{
    ExternalAuthorization, OperatorBody, Permission, Permissions, UserBody,
};
use crate::protocol::jwt::Claims;
use crate::servers::versions;

/// The identities of the accounts, whose seeds go to `keys/offline`.
struct Accounts(Vec<(Account, SigningKey)>);

impl Accounts {
    fn new(stage: &Stage) -> anyhow::Result<Self> {
        let identities = Account::OPERATOR
            .into_iter()
            .map(|account| Ok((account, identity(stage, &account.file_name(), KeyKind::Account)?)));
        identities.collect::<anyhow::Result<_>>().map(Self)
    }

    fn key(&self, account: Account) -> anyhow::Result<&SigningKey> {
        let mut keys = self.0.iter();
        let found = keys.find_map(|(of, key)| (*of == account).then_some(key));
        found.context("an account has no identity")
    }

    fn id(&self, account: Account) -> anyhow::Result<AccountId> {
        Ok(self.key(account)?.public()?)
    }
}

/// A key that signs, and the one that will replace it.
struct Pair<K> {
    current: SigningKey,
    public: [K; 2],
}

/// Writes everything that operator mode needs.
pub(super) fn write(
    deployment: &Deployment,
    stage: &Stage,
    now: UnixSeconds,
) -> anyhow::Result<()> {
    let operator = identity(stage, "operator", KeyKind::Operator)?;
    let accounts = Accounts::new(stage)?;
    let operator_signing: Pair<OperatorId> =
        signing_pair(stage, "operator-signing", KeyKind::Operator)?;
    let user_signing: Pair<AccountId> = signing_pair(stage, "user-signing", KeyKind::Account)?;
    let response_signing: Pair<AccountId> =
        signing_pair(stage, "response-signing", KeyKind::Account)?;
    let (xkey, xkey_seed) = XKey::generate()?;
    stage.file("keys/xkey.nk", &format!("{}\n", *xkey_seed))?;

    let mut auth_users = Vec::new();
    for account in Account::CONFIG {
        let user = login(stage, account, accounts.key(account)?, now)?;
        if account == Account::Auth {
            auth_users.push(user);
        }
    }

    let body = OperatorBody {
        signing_keys: operator_signing.public.to_vec(),
        system_account: Some(accounts.id(Account::Sys)?),
        strict_signing_key_usage: false,
    };
    let operator_jwt =
        Claims::new(operator.public_key(), "nats-callout", now, body).encode_now(&operator)?;

    let mut preload = String::new();
    for account in Account::OPERATOR {
        let mut body = account_body(account, replicas(deployment), |account| accounts.id(account))?;
        match account {
            Account::Auth => {
                body.signing_keys = response_signing.public.to_vec();
                body.authorization = authorization(auth_users.clone(), *xkey.public_key());
            }
            Account::Users => body.signing_keys = user_signing.public.to_vec(),
            Account::Sys | Account::Bb | Account::Intake | Account::Events | Account::Answers => {}
        }
        let id = accounts.id(account)?;
        let token = account_jwt(account, id, body, &operator_signing.current, now)?;
        preload.push_str(&format!("    # {}\n    {id}: {token}\n", account.name()));
    }

    let rest = conf(
        deployment,
        &operator_jwt,
        &accounts.id(Account::Sys)?,
        &preload,
        &sentinel(accounts.key(Account::Auth)?, now)?,
    );
    for node in nodes(deployment)? {
        stage.file(&node.file, &(head(deployment, &node, versions::OPERATOR_MODE) + &rest))?;
    }
    stage.file("nats-callout.toml", &service::operator(deployment, |account| accounts.id(account))?)
}

fn identity(stage: &Stage, name: &str, kind: KeyKind) -> anyhow::Result<SigningKey> {
    let (key, seed) = SigningKey::generate(kind)?;
    stage.file(&format!("keys/offline/{name}.nk"), &format!("{}\n", *seed))?;
    Ok(key)
}

fn signing_pair<K>(stage: &Stage, name: &str, kind: KeyKind) -> anyhow::Result<Pair<K>>
where
    K: std::str::FromStr<Err = crate::keys::KeyError>,
{
    let (current, seed) = SigningKey::generate(kind)?;
    let (next, next_seed) = SigningKey::generate(kind)?;
    stage.file(&format!("keys/{name}.nk"), &format!("{}\n", *seed))?;
    stage.file(&format!("keys/{name}-next.pub"), &format!("{}\n", next.public_key()))?;
    stage.file(&format!("keys/offline/{name}-next.nk"), &format!("{}\n", *next_seed))?;
    let public = [current.public()?, next.public()?];
    Ok(Pair { current, public })
}

/// Writes a creds file for a new user of `account`.
fn login(
    stage: &Stage,
    account: Account,
    identity: &SigningKey,
    now: UnixSeconds,
) -> anyhow::Result<UserNkey> {
    let name = account.file_name();
    let (user, seed) = SigningKey::generate(KeyKind::User)?;
    let creds = creds(&name, (&user, &seed), identity, account.login(), now)?;
    stage.file(&format!("keys/{name}.creds"), &creds)?;
    user.public().context("a key that was just made is unusable")
}

fn authorization(auth_users: Vec<UserNkey>, xkey: XPublicKey) -> ExternalAuthorization {
    ExternalAuthorization { auth_users, allowed_accounts: vec!["*".to_owned()], xkey: Some(xkey) }
}

/// The user that stands in for a client without a JWT until the callout has answered. Nobody keeps
/// its seed, and it may do nothing.
fn sentinel(auth: &SigningKey, now: UnixSeconds) -> anyhow::Result<String> {
    let (user, _) = SigningKey::generate(KeyKind::User)?;
    let nothing = Permission::deny([">"]);
    let permissions = Permissions { publish: nothing.clone(), subscribe: nothing, responses: None };
    let body = UserBody { bearer_token: true, ..UserBody::new(permissions) };
    Ok(user_claims("sentinel", &user, body, now).encode_now(auth)?)
}

/// What the servers have in common.
fn conf(
    deployment: &Deployment,
    operator: &str,
    system_account: &AccountId,
    preload: &str,
    sentinel: &str,
) -> String {
    format!(
        "\n\
         # How long a client may take to log in, the answer of nats-callout included.\n\
         authorization {{ timeout: 2 }}\n\
         \n\
         # Who vouches for accounts: its identity is kept in keys/offline and signs nothing from\n\
         # day to day; the service signs tenants' accounts with keys/operator-signing.nk.\n\
         operator: {operator}\n\
         system_account: {system_account}\n\
         \n\
         # Accounts are JWTs in this folder. The service pushes those of tenants at their first\n\
         # login; the server keeps them, so that JetStream recovers a tenant's data at a start.\n\
         # `full` and without a limit, since a forgotten account would lose its streams.\n\
         resolver {{\n    \
             type: full\n    \
             dir: {accounts}\n    \
             allow_delete: true\n    \
             interval: \"2m\"\n    \
             timeout: \"1.9s\"\n\
         }}\n\
         \n\
         # The accounts there are from the start. AUTH holds the auth callout's settings; the\n\
         # service rewrites ANSWERS.\n\
         resolver_preload {{\n{preload}}}\n\
         \n\
         # Lets clients with a plain user and password, or a token, reach the callout.\n\
         default_sentinel: {sentinel}\n",
        accounts = quote_path(&deployment.folder.join("accounts")),
    )
}
