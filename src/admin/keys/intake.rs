//! Brings a deployment of before there was an intake to it. In operator mode first all that it takes
//! is made, and nothing changes for anybody; then, once every instance takes events, each tenant's
//! events come that way and no other. Each step can be done again, so that it may be stopped at any
//! point.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::claims::{AnyClaims, keep, relist};
use super::fleet::Fleet as _;
use super::offline::Hands;
use super::servers::RunningFleet;
use super::{Admin, KeysError, Result, files, load};
use crate::config::{Config, Mode};
use crate::deployment;
use crate::deployment::topology::{Account, account_body, account_jwt};
use crate::keyfile;
use crate::keys::{AccountId, SigningKey};
use crate::protocol::claims::UserBody;
use crate::streams::{self, POOLED_EVENTS};

/// How instances call themselves in AUTH, in INTAKE, and in USERS.
const NAMES: [&str; 3] =
    ["nats-callout main", "nats-callout intake", "nats-callout intake of shared tenants"];

/// How long the instances may take to log in to USERS, and the pool to be read empty.
const PATIENCE: Duration = Duration::from_secs(60);

/// For how long a pool that is read empty has to stay so: what was on its way has come by then.
const SETTLED: Duration = Duration::from_secs(2);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(100);

/// How far a deployment is to be brought.
#[derive(Debug, Clone, Default)]
pub(crate) struct IntakeRequest {
    /// Have events come by the intake alone, once all instances take them in.
    pub switch: bool,
    /// The folder of the offline keys; without one, `offline` beside the keys in use.
    pub offline: Option<PathBuf>,
}

/// What was done.
#[derive(Debug, Clone)]
pub(crate) enum IntakeDone {
    /// Nothing: events come by the intake since `init`.
    Nothing,
    /// All that it takes is there, and the instances have to be restarted.
    Prepared {
        /// The account INTAKE.
        account: AccountId,
        /// The configurations of servers that were changed.
        server_configs: Vec<PathBuf>,
    },
    /// Config mode: nothing comes by the pool any more.
    Emptied,
    /// Events come by the intake alone.
    Switched {
        /// How many tenants' accounts were changed.
        accounts: usize,
        /// The configurations of servers that were changed.
        server_configs: Vec<PathBuf>,
        /// How long those of shared tenants were interrupted at most.
        interrupted: Duration,
    },
}

/// Brings a deployment to the intake: a step with each call.
pub(crate) async fn intake(admin: &Admin, request: &IntakeRequest) -> Result<IntakeDone> {
    let config = load(admin)?;
    let Mode::Operator(mode) = &config.mode else {
        return by_hand(admin, request, &config).await;
    };
    if let Some(intake) = &mode.intake
        && keyfile::is_signed_by_identity(&intake.users_login)?
    {
        return Ok(IntakeDone::Nothing);
    }
    let hands = Hands::on(admin, &config, mode, request.offline.as_deref()).await?;
    if request.switch { switch(&hands).await } else { prepare(&hands).await }
}

/// Config mode: the rest is in nats-server.conf, which nobody changes but its owner.
async fn by_hand(admin: &Admin, request: &IntakeRequest, config: &Config) -> Result<IntakeDone> {
    if !request.switch || config.mode.intake().is_none() {
        return Err(KeysError::IntakeByHand);
    }
    empty(&RunningFleet::connect(config, &admin.store).await?).await?;
    Ok(IntakeDone::Emptied)
}

/// Makes the account, the logins, and what the configurations say of them.
async fn prepare(hands: &Hands<'_>) -> Result<IntakeDone> {
    let Hands { admin, config, mode, servers, operator, .. } = hands;
    let identity = hands.key_or_new("intake")?;
    let account: AccountId = identity.public()?;
    configure(hands, account)?;
    let id = |of: Account| match of {
        Account::Bb => Ok(mode.bb_account),
        Account::Intake => Ok(account),
        other => Err(KeysError::Unfit(format!("INTAKE has nothing to do with {}", other.name()))),
    };
    let body = account_body(Account::Intake, 1, id)?;
    let token = account_jwt(Account::Intake, account, body, operator, admin.now())?;
    if !servers.accounts().await?.contains(&account) {
        servers.hold(&token).await?;
    }
    hands.login("intake", &identity, Account::Intake.login())?;
    // Servers learn of this key with the switch, and admit nobody by it before.
    let users = hands.key_or_new("users-intake")?;
    let body = UserBody { issuer_account: Some(mode.users_account), ..Account::Users.login() };
    hands.login("users", &users, body)?;
    let mut words = Vec::new();
    if files::tokens_in_confs(config, account.as_str()).is_empty() {
        let bb = format!("    # BB\n    {}: ", mode.bb_account);
        words.push((bb.clone(), format!("    # INTAKE\n    {account}: {token}\n{bb}")));
    }
    let server_configs = files::change_confs(config, &words)?;
    Ok(IntakeDone::Prepared { account, server_configs })
}

/// Has the configuration name the account and the logins.
fn configure(hands: &Hands<'_>, account: AccountId) -> Result<()> {
    let Hands { config, mode, folder, .. } = hands;
    match &mode.intake {
        None => files::add_section(
            config,
            "intake",
            &[
                ("account", account.as_str()),
                ("credentials", &shown(config, &folder.join("intake.creds"))),
                ("users_credentials", &shown(config, &folder.join("users.creds"))),
            ],
        ),
        Some(intake) if intake.account != account => Err(KeysError::Unfit(format!(
            "{} is not the identity of [intake] account",
            hands.file("intake").display()
        ))),
        Some(_) => Ok(()),
    }
}

/// Has events come by the intake alone.
async fn switch(hands: &Hands<'_>) -> Result<IntakeDone> {
    let Hands { config, mode, servers, .. } = hands;
    let Some(intake) = &mode.intake else { return Err(KeysError::NoIntake) };
    let [instances, taking] = [
        servers.named(&mode.auth_account, NAMES[0]).await?,
        servers.named(&intake.account, NAMES[1]).await?,
    ];
    if taking == 0 || taking < instances {
        return Err(KeysError::Unfit(format!(
            "{taking} of {instances} instances take events in; restart the others with the new \
             {} and keys/ first",
            config.file.display()
        )));
    }
    let (bb, users) = (mode.bb_account, mode.users_account);
    let key = hands.key("users-intake")?;
    let begun = Instant::now();
    // From here on shared tenants' events reach BB no more, until an instance has logged in to USERS.
    let without = |body: &mut AnyClaims| {
        keep(body, "imports", |it| it["account"] != users.as_str() || !is_events(it))
    };
    let mut tokens = hands.change(bb, without).await?;
    tokens.extend(hands.change(users, |body| open_users(body, &key)).await?);
    wait_for_logins(servers, users, instances).await?;
    let interrupted = begun.elapsed();

    let accounts = push_all(hands).await?;
    hands.login("bb", &hands.key("bb")?, Account::Bb.login())?;
    let server_configs = files::change_confs(config, &files::newer(config, &tokens))?;
    empty(servers).await?;
    Ok(IntakeDone::Switched { accounts, server_configs, interrupted })
}

/// Lets the service's login into USERS, which gives no events to BB any more.
fn open_users(body: &mut AnyClaims, key: &SigningKey) -> bool {
    let listed = relist(body, None, &[key.public_key()]);
    let exports = keep(body, "exports", |it| !is_events(it));
    listed | exports | without_leaf_nodes(body)
}

async fn wait_for_logins(servers: &RunningFleet, users: AccountId, instances: usize) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    while servers.named(&users, NAMES[2]).await? < instances {
        if Instant::now() > until {
            return Err(KeysError::unfit(
                "the instances do not log in to USERS with keys/users.creds; see their logs",
            ));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Takes the pool away from BB's stream once that has read all of it.
async fn empty(servers: &RunningFleet) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    let mut read_since = None;
    loop {
        let now = Instant::now();
        read_since = match streams::left_in_pool(&servers.auth).await? {
            None => return Ok(()),
            Some(0) => read_since.or(Some(now)),
            Some(_) => None,
        };
        if read_since.is_some_and(|since| now.duration_since(since) > SETTLED) {
            return Ok(streams::forget_pool(&servers.auth).await?);
        }
        if now > until {
            let what = format!("{POOLED_EVENTS} is not read empty yet; run this again later");
            return Err(KeysError::Unfit(what));
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Has every tenant's account take its events to INTAKE, whoever is connected; says how many.
async fn push_all(hands: &Hands<'_>) -> Result<usize> {
    let Hands { admin, config, mode, servers, .. } = hands;
    let issuer = deployment::account_issuer(config, mode)?;
    let mut pushed = 0;
    for tenant in admin.store.with_account().await? {
        let Some(account) = tenant.account else { continue };
        let standing = issuer.standing(&tenant, admin.now());
        servers.hold(&issuer.issue(&tenant, account, standing).await?).await?;
        pushed += 1;
    }
    Ok(pushed)
}

/// Whether something is given or taken under the name of events.
fn is_events(it: &Value) -> bool {
    it["subject"] == "user.*.Events"
}

fn without_leaf_nodes(body: &mut AnyClaims) -> bool {
    let Some(limits) = body.get_mut("limits").and_then(Value::as_object_mut) else { return false };
    limits.insert("leaf".to_owned(), json!(0)) != Some(json!(0))
}

/// The path as the configuration has it.
fn shown(config: &Config, file: &Path) -> String {
    file.strip_prefix(&config.folder).unwrap_or(file).display().to_string()
}
