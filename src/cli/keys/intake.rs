//! `keys intake`: brings a deployment of before there was an intake to it. In operator mode first all
//! that it takes is made, and nothing changes for anybody; then, once every instance takes events,
//! `--switch` has each tenant's events come that way and no other. Each step can be done again, so that
//! it may be stopped at any point.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::bail;
use serde_json::{Map, Value, json};

use super::super::{Context, Usage, load};
use super::offline::Hands;
use super::reader::{conf_words, keep};
use super::servers::{Servers, relist};
use super::{IntakeArgs, files, logins};
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, Files, Mode, OperatorMode};
use crate::deployment;
use crate::deployment::topology::{
    Account, account_body, account_jwt, bb_permissions, intake_permissions, users_permissions,
};
use crate::keyfile;
use crate::keys::AccountId;
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

pub(super) async fn run(args: &IntakeArgs, context: &Context) -> anyhow::Result<()> {
    let config = load(&context.admin.config().file, Files::MustExist)?;
    let Mode::Operator(mode) = &config.mode else {
        return by_hand(args, context, &config).await;
    };
    if let Some(intake) = &mode.intake
        && keyfile::is_signed_by_identity(&intake.users_login)?
    {
        return context.output.print(&json!({}), || {
            "events come by the intake since `init`: there is nothing to do".to_owned()
        });
    }
    let hands = Hands::on(&config, mode, args.offline.as_deref()).await?;
    match args.switch {
        false => prepare(context, &hands).await,
        true => switch(context, &hands).await,
    }
}

/// Config mode: the rest is in nats-server.conf, which nobody changes but its owner.
async fn by_hand(args: &IntakeArgs, context: &Context, config: &Config) -> anyhow::Result<()> {
    if !args.switch || config.mode.intake().is_none() {
        let what = "in the mode `config` nats-server.conf says how events are taken; see \"Taking \
                    events in\" in deploy/README.md, and run this with --switch in the end";
        return Err(Usage(what.to_owned()).into());
    }
    empty(&Servers::connect(config).await?).await?;
    context.output.print(&json!({}), || {
        format!(
            "events come by the intake alone; remove the stream {POOLED_EVENTS} with BB's login"
        )
    })
}

/// Makes the account, the logins, and what the configurations say of them.
async fn prepare(context: &Context, hands: &Hands<'_>) -> anyhow::Result<()> {
    let Hands { config, mode, folder, servers, operator, .. } = hands;
    let identity = hands.key_or_new("intake")?;
    let account: AccountId = identity.public()?;
    match &mode.intake {
        None => files::add_section(
            config,
            "intake",
            &[
                ("account", account.as_str()),
                ("credentials", &shown(config, &folder.join("intake.creds"))),
                ("users_credentials", &shown(config, &folder.join("users.creds"))),
            ],
        )?,
        Some(intake) if intake.account != account => {
            bail!("{} is not the identity of [intake] account", hands.file("intake").display());
        }
        Some(_) => {}
    }
    let id = |of: Account| match of {
        Account::Bb => Ok(mode.bb_account),
        Account::Intake => Ok(account),
        other => bail!("INTAKE has nothing to do with {}", other.name()),
    };
    let body = account_body(Account::Intake, 1, id)?;
    let token = account_jwt(Account::Intake, account, body, operator, SystemClock.now())?;
    if !servers.accounts().await?.contains(&account) {
        servers.hold(&token).await?;
    }
    logins::write(
        &folder.join("intake.creds"),
        "intake",
        &identity,
        UserBody::new(intake_permissions()),
    )?;
    // Servers learn of this key with the switch, and admit nobody by it before.
    let users = hands.key_or_new("users-intake")?;
    let body =
        UserBody { issuer_account: Some(mode.users_account), ..UserBody::new(users_permissions()) };
    logins::write(&folder.join("users.creds"), "users", &users, body)?;
    let mut words = Vec::new();
    if files::tokens_in_confs(config, account.as_str()).is_empty() {
        let bb = format!("    # BB\n    {}: ", mode.bb_account);
        words.push((bb.clone(), format!("    # INTAKE\n    {account}: {token}\n{bb}")));
    }
    let confs = files::change_confs(config, &words)?;
    context.output.print(&json!({ "account": account.as_str(), "server_configs": confs }), || {
        format!(
            "bring the new {} and keys/ to every host, restart the instances one after the other, \
             then run this again with --switch",
            config.file.display()
        )
    })
}

/// Has events come by the intake alone.
async fn switch(context: &Context, hands: &Hands<'_>) -> anyhow::Result<()> {
    let Hands { config, mode, folder, servers, operator, .. } = hands;
    let Some(intake) = &mode.intake else {
        bail!("there is no [intake] yet; run this without --switch first");
    };
    let [instances, taking] = [
        servers.named(&mode.auth_account, NAMES[0]).await?,
        servers.named(&intake.account, NAMES[1]).await?,
    ];
    if taking == 0 || taking < instances {
        bail!(
            "{taking} of {instances} instances take events in; restart the others with the new \
             {} and keys/ first",
            config.file.display()
        );
    }
    let (bb, users) = (mode.bb_account, mode.users_account);
    let key = hands.key("users-intake")?;
    let begun = Instant::now();
    // From here on shared tenants' events reach BB no more, until an instance has logged in to USERS.
    let mut tokens = servers
        .change(&[bb], &[bb], operator, false, |body| {
            keep(body, "imports", |it| it["account"] != users.as_str() || !is_events(it))
        })
        .await?;
    tokens.extend(
        servers
            .change(&[users], &[users], operator, false, |body| {
                let listed = relist(body, None, &[key.public_key()]);
                let exports = keep(body, "exports", |it| !is_events(it));
                listed | exports | without_leaf_nodes(body)
            })
            .await?,
    );
    let until = Instant::now() + PATIENCE;
    while servers.named(&users, NAMES[2]).await? < instances {
        if Instant::now() > until {
            bail!("the instances do not log in to USERS with keys/users.creds; see their logs");
        }
        tokio::time::sleep(LOOK).await;
    }
    let took = begun.elapsed();

    let accounts = push_all(context, config, mode, servers).await?;
    let body = UserBody::new(bb_permissions());
    logins::write(&folder.join("bb.creds"), "bb", &hands.key("bb")?, body)?;
    let confs = files::change_confs(config, &conf_words(config, &tokens))?;
    empty(servers).await?;
    context.output.print(
        &json!({
            "accounts": accounts, "server_configs": confs,
            "interrupted_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        }),
        || {
            format!(
                "events come by the intake alone; those of shared tenants were interrupted for at \
                 most {took:.1?}. Bring the new keys/bb.creds to the application behind the tenants, \
                 and remove the stream {POOLED_EVENTS} with it"
            )
        },
    )
}

/// Takes the pool away from BB's stream once that has read all of it.
async fn empty(servers: &Servers) -> anyhow::Result<()> {
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
            bail!("{POOLED_EVENTS} is not read empty yet; run this again later");
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Has every tenant's account take its events to INTAKE, whoever is connected; says how many.
async fn push_all(
    context: &Context,
    config: &Config,
    mode: &OperatorMode,
    servers: &Servers,
) -> anyhow::Result<usize> {
    let issuer = deployment::account_issuer(config, mode)?;
    let mut pushed = 0;
    for tenant in context.admin.store().with_account().await? {
        let Some(account) = tenant.account else { continue };
        let standing = issuer.standing(&tenant, context.admin.now());
        servers.hold(&issuer.issue(&tenant, account, standing).await?).await?;
        pushed += 1;
    }
    Ok(pushed)
}

/// Whether something is given or taken under the name of events.
fn is_events(it: &Value) -> bool {
    it["subject"] == "user.*.Events"
}

fn without_leaf_nodes(body: &mut Map<String, Value>) -> bool {
    let Some(limits) = body.get_mut("limits").and_then(Value::as_object_mut) else { return false };
    limits.insert("leaf".to_owned(), json!(0)) != Some(json!(0))
}

/// The path as the configuration has it.
fn shown(config: &Config, file: &Path) -> String {
    file.strip_prefix(&config.folder).unwrap_or(file).display().to_string()
}
