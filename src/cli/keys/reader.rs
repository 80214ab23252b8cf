//! `keys reader`: the login of the events' reader, its account EVENTS, and what AUTH offers to it, as
//! `[events]` lists the consumers (operator mode). For a deployment of before there was such an
//! account, whose BB has mirrors, and for other consumers than there were. Each step can be done
//! again, so that it may be stopped at any point.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::bail;
use serde_json::{Map, Value, json};

use super::super::{Context, Usage, load};
use super::offline::Hands;
use super::{ReaderArgs, files, logins};
use crate::clock::{Clock as _, SystemClock};
use crate::config::{Config, Files, Mode, OperatorMode};
use crate::deployment::topology::{self, Account, account_jwt};
use crate::keys::{AccountId, SigningKey};
use crate::protocol::claims::{AccountBody, AccountLimits, Export, ExportType, Import};
use crate::streams::readers::{self, Request};

pub(super) async fn run(args: &ReaderArgs, context: &Context) -> anyhow::Result<()> {
    let config = load(&context.admin.config().file, Files::MustExist)?;
    let Mode::Operator(mode) = &config.mode else {
        return Err(Usage(format!(
            "in the mode `config` nats-server.conf says who reads events; {}",
            readers::REMEDY
        ))
        .into());
    };
    let hands = Hands::on(&config, mode, args.offline.as_deref()).await?;
    let requests = readers::requests(&config.streams.events.consumers());

    let identity = identity(&hands)?;
    let account: AccountId = identity.public()?;
    let tokens = change_accounts(&hands, account, &requests).await?;
    let login = hands.folder.join("events.creds");
    logins::write(&login, "events", &identity, topology::reader(&requests))?;
    let confs = write_confs(&config, mode, account, &tokens)?;

    let pushed: Vec<&String> = tokens.keys().collect();
    context.output.print(
        &json!({
            "account": account.as_str(), "credentials": login, "accounts": pushed,
            "server_configs": confs,
        }),
        || {
            format!(
                "{} reads the consumers that [events] lists; restart the instances of the service, \
                 with the new {} and keys/ on each host.",
                login.display(),
                config.file.display()
            )
        },
    )
}

/// The identity of EVENTS, which is made where the configuration names none.
fn identity(hands: &Hands<'_>) -> anyhow::Result<SigningKey> {
    let key = match hands.mode.events_account {
        None => hands.key_or_new("events")?,
        Some(_) => hands.key("events")?,
    };
    match hands.mode.events_account {
        None => files::add_events_account(hands.config, key.public_key())?,
        Some(account) if account.as_str() != key.public_key() => {
            let file = hands.file("events");
            bail!("{} is not the identity of [operator] events_account", file.display());
        }
        Some(_) => {}
    }
    Ok(key)
}

/// Has every server hold EVENTS, AUTH and BB as they should be; gives the new tokens of those that
/// were others.
async fn change_accounts(
    hands: &Hands<'_>,
    events: AccountId,
    requests: &[Request],
) -> anyhow::Result<BTreeMap<String, String>> {
    let Hands { mode, servers, operator, .. } = hands;
    let (auth, bb) = (mode.auth_account, mode.bb_account);
    let imports: Vec<Import> = requests.iter().map(|request| import(request, auth)).collect();
    let exports: Vec<Export> = requests.iter().map(export).collect();
    let mut tokens = BTreeMap::new();
    if servers.accounts().await?.contains(&events) {
        let taken = serde_json::to_value(&imports)?;
        let change = |body: &mut Map<String, Value>| set(body, "imports", taken.clone());
        tokens.extend(servers.change(&[events], &[events], operator, false, change).await?);
    } else {
        let body = AccountBody {
            imports,
            limits: AccountLimits { leaf: 0, ..AccountLimits::default() },
            ..AccountBody::default()
        };
        let token = account_jwt(Account::Events, events, body, operator, SystemClock.now())?;
        servers.hold(&token).await?;
        tokens.insert(events.to_string(), token);
    }
    // Nobody takes what is no longer there: first those who take, then AUTH.
    let change = |body: &mut Map<String, Value>| {
        let imports = keep(body, "imports", |it| it["account"] != auth.as_str());
        let exports = keep(body, "exports", |it| !is_for_mirrors(&it["subject"]));
        imports | exports
    };
    tokens.extend(servers.change(&[bb], &[bb], operator, false, change).await?);
    let offered = serde_json::to_value(&exports)?;
    let change = |body: &mut Map<String, Value>| {
        let exports = set(body, "exports", offered.clone());
        let imports = keep(body, "imports", |it| !is_for_mirrors(&it["subject"]));
        exports | imports
    };
    tokens.extend(servers.change(&[auth], &[auth], operator, false, change).await?);
    Ok(tokens)
}

/// Whether AUTH makes and keeps BB's mirrors by this request, as it once did.
fn is_for_mirrors(subject: &Value) -> bool {
    let subject = subject.as_str().unwrap_or_default();
    let stream = subject.strip_prefix("$JS.API.STREAM.").and_then(|rest| rest.split_once('.'));
    stream.is_some_and(|(_, name)| readers::NEW.iter().any(|(stream, _)| name == *stream))
}

/// Says whether that changed anything.
fn set(body: &mut Map<String, Value>, key: &str, value: Value) -> bool {
    if body.get(key) == Some(&value) {
        return false;
    }
    body.insert(key.to_owned(), value);
    true
}

/// Keeps of a list what passes; says whether that changed anything.
pub(super) fn keep(
    body: &mut Map<String, Value>,
    key: &str,
    passes: impl Fn(&Value) -> bool,
) -> bool {
    let Some(list) = body.get_mut(key).and_then(Value::as_array_mut) else { return false };
    let before = list.len();
    list.retain(passes);
    list.len() != before
}

fn export(request: &Request) -> Export {
    Export {
        response_type: request.many_answers.then(|| "Stream".to_owned()),
        ..Export::new(request.subject.clone(), ExportType::Service)
    }
}

fn import(request: &Request, auth: AccountId) -> Import {
    let Request { subject, local, .. } = request;
    Import {
        name: None,
        subject: subject.clone(),
        account: auth,
        local_subject: (local != subject).then(|| local.clone()),
        kind: ExportType::Service,
    }
}

/// Writes new tokens into the configurations of servers beside the service's own, and the account
/// EVENTS behind AUTH where it is not there.
fn write_confs(
    config: &Config,
    mode: &OperatorMode,
    events: AccountId,
    tokens: &BTreeMap<String, String>,
) -> anyhow::Result<Vec<PathBuf>> {
    let mut words = conf_words(config, tokens);
    if files::tokens_in_confs(config, events.as_str()).is_empty()
        && let Some(token) = tokens.get(events.as_str())
    {
        let auth = mode.auth_account;
        let line = format!("    # EVENTS\n    {events}: {token}\n    # AUTH\n    {auth}: ");
        words.push((format!("    # AUTH\n    {auth}: "), line));
    }
    files::change_confs(config, &words)
}

/// What has to be replaced in the configurations of servers for these accounts' new tokens.
pub(super) fn conf_words(
    config: &Config,
    tokens: &BTreeMap<String, String>,
) -> Vec<(String, String)> {
    let words = tokens.iter().flat_map(|(account, token)| {
        let old = files::tokens_in_confs(config, account).into_iter();
        old.filter(move |old| old != token).map(|old| (old, token.clone()))
    });
    words.collect()
}
