//! The login of the events' reader, its account EVENTS, and what AUTH offers to it, as
//! `[events]` lists the consumers (operator mode). For a deployment of before there was such an
//! account, whose BB has mirrors, and for other consumers than there were. Each step can be done
//! again, so that it may be stopped at any point.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::claims::{AnyClaims, keep};
use super::fleet::Fleet as _;
use super::offline::Hands;
use super::{Admin, KeysError, Result, files, load};
use crate::config::Mode;
use crate::deployment::topology::{self, Account, account_jwt};
use crate::keys::{AccountId, SigningKey};
use crate::protocol::claims::{AccountBody, AccountLimits, Export, ExportType, Import};
use crate::streams::readers::{self, Request};

/// What the reader of events has.
#[derive(Debug, Clone)]
pub(crate) struct ReaderLogin {
    /// The account EVENTS.
    pub account: AccountId,
    /// The creds file of its login.
    pub credentials: PathBuf,
    /// The accounts that were changed.
    pub accounts: Vec<String>,
    /// The configurations of servers that were changed.
    pub server_configs: Vec<PathBuf>,
}

/// Gives the reader of events what `[events]` lists the consumers of. The offline keys are in
/// `offline`, or else in that folder beside the keys in use.
pub(crate) async fn reader(admin: &Admin, offline: Option<&Path>) -> Result<ReaderLogin> {
    let config = load(admin)?;
    let Mode::Operator(mode) = &config.mode else {
        return Err(KeysError::Invalid(format!(
            "in the mode `config` nats-server.conf says who reads events; {}",
            readers::REMEDY
        )));
    };
    let hands = Hands::on(admin, &config, mode, offline).await?;
    let requests = readers::requests(&config.streams.events.consumers());

    let identity = identity(&hands)?;
    let account: AccountId = identity.public()?;
    let tokens = change_accounts(&hands, account, &requests).await?;
    let credentials = hands.login("events", &identity, topology::reader(&requests))?;
    let server_configs = write_confs(&hands, account, &tokens)?;
    Ok(ReaderLogin { account, credentials, accounts: tokens.into_keys().collect(), server_configs })
}

/// The identity of EVENTS, which is made where the configuration names none.
fn identity(hands: &Hands<'_>) -> Result<SigningKey> {
    let Some(account) = hands.mode.events_account else {
        let key = hands.key_or_new("events")?;
        files::add_events_account(hands.config, key.public_key())?;
        return Ok(key);
    };
    let key = hands.key("events")?;
    if account.as_str() != key.public_key() {
        let file = hands.file("events");
        let what = format!("{} is not the identity of [operator] events_account", file.display());
        return Err(KeysError::Unfit(what));
    }
    Ok(key)
}

/// Has every server hold EVENTS, AUTH and BB as they should be; gives the new tokens of those that
/// were others.
async fn change_accounts(
    hands: &Hands<'_>,
    events: AccountId,
    requests: &[Request],
) -> Result<BTreeMap<String, String>> {
    let Hands { admin, mode, servers, operator, .. } = hands;
    let (auth, bb) = (mode.auth_account, mode.bb_account);
    let imports: Vec<Import> = requests.iter().map(|request| import(request, auth)).collect();
    let exports: Vec<Export> = requests.iter().map(export).collect();
    let mut tokens = BTreeMap::new();
    if servers.accounts().await?.contains(&events) {
        let taken = serde_json::to_value(&imports)?;
        tokens.extend(hands.change(events, |body| set(body, "imports", taken.clone())).await?);
    } else {
        let body = AccountBody {
            imports,
            limits: AccountLimits { leaf: 0, ..AccountLimits::default() },
            ..AccountBody::default()
        };
        let token = account_jwt(Account::Events, events, body, operator, admin.now())?;
        servers.hold(&token).await?;
        tokens.insert(events.to_string(), token);
    }
    // Nobody takes what is no longer there: first those who take, then AUTH.
    let change = |body: &mut AnyClaims| {
        let imports = keep(body, "imports", |it| it["account"] != auth.as_str());
        let exports = keep(body, "exports", |it| !is_for_mirrors(&it["subject"]));
        imports | exports
    };
    tokens.extend(hands.change(bb, change).await?);
    let offered = serde_json::to_value(&exports)?;
    let change = |body: &mut AnyClaims| {
        let exports = set(body, "exports", offered.clone());
        let imports = keep(body, "imports", |it| !is_for_mirrors(&it["subject"]));
        exports | imports
    };
    tokens.extend(hands.change(auth, change).await?);
    Ok(tokens)
}

/// Whether AUTH makes and keeps BB's mirrors by this request, as it once did.
fn is_for_mirrors(subject: &Value) -> bool {
    let subject = subject.as_str().unwrap_or_default();
    let stream = subject.strip_prefix("$JS.API.STREAM.").and_then(|rest| rest.split_once('.'));
    stream.is_some_and(|(_, name)| readers::NEW.iter().any(|(stream, _)| name == *stream))
}

/// Says whether that changed anything.
fn set(body: &mut AnyClaims, key: &str, value: Value) -> bool {
    if body.get(key) == Some(&value) {
        return false;
    }
    body.insert(key.to_owned(), value);
    true
}

fn export(request: &Request) -> Export {
    Export {
        response_type: request.many_answers.then(|| "Stream".to_owned()),
        ..Export::new(request.subject.clone(), ExportType::Service)
    }
}

fn import(request: &Request, auth: AccountId) -> Import {
    let Request { subject, local, .. } = request;
    Import::new(ExportType::Service, auth, subject.clone(), local.clone())
}

/// Writes new tokens into the configurations of servers beside the service's own, and the account
/// EVENTS behind AUTH where it is not there.
fn write_confs(
    hands: &Hands<'_>,
    events: AccountId,
    tokens: &BTreeMap<String, String>,
) -> Result<Vec<PathBuf>> {
    let mut words = files::newer(hands.config, tokens);
    if files::tokens_in_confs(hands.config, events.as_str()).is_empty()
        && let Some(token) = tokens.get(events.as_str())
    {
        let auth = hands.mode.auth_account;
        let line = format!("    # EVENTS\n    {events}: {token}\n    # AUTH\n    {auth}: ");
        words.push((format!("    # AUTH\n    {auth}: "), line));
    }
    files::change_confs(hands.config, &words)
}
