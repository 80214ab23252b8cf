//! What each section's keys mean: their defaults, ranges and checks, on top of [`Reader`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::reader::Reader;
use super::{
    Cache, Callout, ConfigMode, DATABASE_REMEDY, Database, DatabaseUrl, DecisionEvents, Events,
    Hashing, Intake, Nats, NatsTls, Notifications, OperatorMode,
};
use crate::authn::guessing::GuessingLimits;
use crate::keys::AccountId;
use crate::placement::TargetAccount;
use crate::redact::shown_path;
use crate::store::{Isolation, TenantId};
use crate::streams::StreamLimits;
use crate::streams::events::{EventLimits, EventStreamLimits};

const MODE_REMEDY: &str = "write mode = \"operator\" or mode = \"config\"";

/// Whether the mode is `operator`; `None` where that cannot be told, which is a mistake.
pub(super) fn operator_mode(reader: &mut Reader) -> Option<bool> {
    reader.missing("nats.mode", MODE_REMEDY);
    reader.parsed("nats.mode", MODE_REMEDY, |text| match text {
        "operator" => Ok(true),
        "config" => Ok(false),
        other => Err(format!("`{other}` is no mode")),
    })
}

pub(super) fn nats(reader: &mut Reader) -> Nats {
    let remedy = "write it as nats://HOST:PORT (or tls://, ws://, wss://)";
    let urls: Vec<_> = reader
        .parsed("nats.url", remedy, |text| {
            // Of the whole: a password may hold a comma.
            bare_address(text)?;
            text.split(',').map(server_url).collect()
        })
        .unwrap_or_default();
    let public_url = reader
        .parsed("nats.public_url", remedy, server_url)
        .or_else(|| urls.first().cloned())
        .unwrap_or_default();
    let connections = reader.count("nats.connections");
    Nats { urls, public_url, connections, tls: nats_tls(reader) }
}

fn nats_tls(reader: &mut Reader) -> NatsTls {
    let ca = reader.optional_file("nats.tls_ca");
    let certificate = reader.optional_file("nats.tls_certificate");
    let key = reader.optional_file("nats.tls_key");
    let remedy = "name the certificate and its key, or neither";
    match (&certificate, &key) {
        (Some(_), None) => reader.wrong("nats.tls_certificate", "there is no tls_key", remedy),
        (None, Some(_)) => reader.wrong("nats.tls_key", "there is no tls_certificate", remedy),
        _ => {}
    }
    NatsTls { ca, identity: certificate.zip(key) }
}

/// Refuses an address of servers with what may be a secret in it, which the problem does not show.
pub(crate) fn bare_address(text: &str) -> Result<(), String> {
    if text.contains('@') {
        return Err("credentials do not belong into the address".to_owned());
    }
    match text.find(['?', '#']) {
        Some(at) => {
            let (before, behind) = text.split_at(at);
            let sign = &behind[..1];
            Err(format!("`{sign}` behind `{before}`: an address of a server has no such part"))
        }
        None => Ok(()),
    }
}

fn server_url(text: &str) -> Result<String, String> {
    let text = text.trim();
    bare_address(text)?;
    let (scheme, rest) = text.split_once("://").ok_or_else(|| format!("`{text}` has no scheme"))?;
    if !matches!(scheme, "nats" | "tls" | "ws" | "wss") {
        return Err(format!("`{scheme}` is no scheme of NATS"));
    }
    let (host, behind) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    // A proxy may tell by its path which server a WebSocket leads to.
    let is_web = matches!(scheme, "ws" | "wss");
    if !is_web && !matches!(behind, "" | "/") {
        return Err(format!("`{behind}` behind the host: an address of a server has no such part"));
    }
    let port = host.rsplit_once(':').filter(|(_, port)| !port.ends_with(']'));
    if host.is_empty() || host.starts_with(':') || host.contains(char::is_whitespace) {
        return Err(format!("`{text}` has no host"));
    }
    match port {
        Some((_, port)) if port.parse::<u16>().is_ok_and(|port| port > 0) => Ok(text.to_owned()),
        Some((_, port)) => Err(format!("`{port}` is no port")),
        None => Ok(text.to_owned()),
    }
}

pub(super) fn callout(reader: &mut Reader) -> Callout {
    Callout {
        deadline: reader.duration("callout.deadline"),
        max_in_flight: reader.count("callout.max_in_flight"),
        ttl: reader.duration("callout.ttl"),
        renew: reader.switch("callout.renew").unwrap_or_default(),
        xkey: reader.generations("callout.xkey"),
    }
}

pub(super) fn operator(reader: &mut Reader) -> Option<OperatorMode> {
    let mut keys = |key| key_files(reader, key, "list the key files: [\"keys/...\"]");
    let response_signing = keys("callout.response_signing");
    let operator_signing = keys("operator.operator_signing");
    let user_signing = keys("operator.user_signing");
    let remedy = "write the account's public key, A...";
    let id = |text: &str| text.parse::<AccountId>().map_err(|error| error.to_string());
    let events_account = reader.parsed("operator.events_account", remedy, id);
    let mut account = |key: &str| {
        reader.missing(key, remedy);
        reader.parsed(key, remedy, id)
    };
    let auth_account = account("callout.account");
    let bb_account = account("operator.bb_account");
    let users_account = account("operator.users_account");
    let answers_account = account("operator.answers_account");
    let words = "write \"short\" or \"full\"";
    let notifications = match reader.word("operator.notifications", words) {
        "full" => Notifications::Full,
        _ => Notifications::Short,
    };
    let credentials = reader.file("nats.credentials");
    let system_credentials = reader.file("nats.system_credentials");
    let intake = intake(reader, remedy, id, "credentials");
    Some(OperatorMode {
        credentials,
        system_credentials,
        auth_account: auth_account?,
        response_signing,
        operator_signing,
        user_signing,
        bb_account: bb_account?,
        users_account: users_account?,
        events_account,
        answers_account: answers_account?,
        intake,
        notifications,
    })
}

fn key_files(reader: &mut Reader, key: &str, remedy: &str) -> Vec<PathBuf> {
    reader.missing(key, remedy);
    let files = reader.generations(key);
    reader.empty(key, "list one or two key files");
    files
}

/// `[intake]`, which is there if it names the account.
fn intake<A>(
    reader: &mut Reader,
    remedy: &'static str,
    parse: impl Fn(&str) -> Result<A, String>,
    login: &str,
) -> Option<Intake<A>> {
    let account = reader.parsed("intake.account", remedy, parse)?;
    let mut file = |prefix: &str| reader.file(&format!("intake.{prefix}{login}"));
    Some(Intake { account, login: file(""), users_login: file("users_") })
}

pub(super) fn config(reader: &mut Reader) -> ConfigMode {
    let remedy = "list the seed of the server's auth_callout issuer";
    let issuer = key_files(reader, "callout.issuer", remedy);
    let auth_account = reader
        .parsed("callout.account", "write the name of the server's auth_callout account", |text| {
            account_name(text).map(str::to_owned)
        })
        .unwrap_or_else(|| "AUTH".to_owned());
    let targets = "list accounts of the server's configuration that hold tenants";
    let accounts = reader.list("placement.accounts");
    if accounts.is_empty() {
        reader.empty("placement.accounts", targets);
    }
    for name in &accounts {
        if let Err(what) = target(name, &auth_account) {
            reader.wrong("placement.accounts", what, targets);
        }
    }
    let remedy = "write the name of the account INTAKE";
    let name = |text: &str| account_name(text).map(str::to_owned);
    let intake = intake(reader, remedy, name, "nkey");
    let mut dedicated = BTreeMap::new();
    for (name, tenant) in reader.table("placement.dedicated") {
        let key = "placement.dedicated";
        if let Err(what) = target(&name, &auth_account) {
            reader.wrong(key, what, targets);
        } else if accounts.contains(&name) {
            let what = format!("`{name}` is a shared account too");
            reader.wrong(key, what, "list it in one of [placement] accounts and dedicated");
        } else {
            match tenant.parse::<TenantId>() {
                Ok(tenant) => drop(dedicated.insert(name, tenant)),
                Err(error) => {
                    let what = format!("`{tenant}` is no tenant id: {error}");
                    reader.wrong(key, what, "write { ACCOUNT = \"tenant id\" }");
                }
            }
        }
    }
    ConfigMode {
        nkey: reader.file("nats.nkey"),
        system_nkey: reader.file("nats.system_nkey"),
        auth_account,
        issuer,
        accounts,
        dedicated,
        intake,
    }
}

fn account_name(name: &str) -> Result<&str, String> {
    let sound = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control());
    if sound { Ok(name) } else { Err(format!("`{name}` is no account name")) }
}

fn target(name: &str, auth_account: &str) -> Result<(), String> {
    let name = account_name(name)?;
    let forbidden = |_| format!("no tenant may be placed in the account `{name}`");
    TargetAccount::named(name, auth_account).map(drop).map_err(forbidden)
}

pub(super) fn isolation(reader: &mut Reader, operator: bool) -> Isolation {
    let default = if operator { Isolation::Account } else { Isolation::Shared };
    let read = reader
        .parsed("tenants.isolation", "write \"account\" or \"shared\"", str::parse)
        .unwrap_or(default);
    if !operator && read == Isolation::Account {
        reader.wrong(
            "tenants.isolation",
            "the mode `config` has no accounts of tenants' own",
            "write \"shared\", or use the mode `operator`",
        );
    }
    read
}

pub(super) fn bb(reader: &mut Reader) -> StreamLimits {
    StreamLimits {
        messages_per_tenant: reader.count("bb.messages_per_tenant"),
        message_size: reader.size("bb.message_size"),
        bytes: reader.size("bb.max_bytes"),
        age: reader.duration("bb.max_age"),
        replicas: reader.count("bb.replicas"),
        pooled: true,
    }
}

pub(super) fn events(reader: &mut Reader) -> (Events, EventLimits) {
    let source = reader
        .parsed("events.source", "write a URI or a path, such as \"/nats-callout/eu\"", |text| {
            let sound =
                (1..=256).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
            if sound { Ok(text.to_owned()) } else { Err(format!("`{text}` is no URI reference")) }
        })
        .unwrap_or_default();
    let remedy = "write \"queue\", \"before-grant\" or \"off\"";
    let decisions = match reader.word("events.decisions", remedy) {
        "before-grant" => DecisionEvents::BeforeGrant,
        "off" => DecisionEvents::Off,
        _ => DecisionEvents::Queue,
    };
    let queue = reader.count("events.queue");
    let mut limits = |of: &str| EventStreamLimits {
        consumers: consumers(reader, &format!("events.{of}_consumers")),
        bytes: reader.size(&format!("events.{of}_max_bytes")),
        age: reader.duration(&format!("events.{of}_max_age")),
        messages: Some(reader.count(&format!("events.{of}_max_messages"))).filter(|it| *it > 0),
    };
    let (changes, of_decisions) = (limits("changes"), limits("decisions"));
    let replicas = reader.count("events.replicas");
    let limits = EventLimits { changes, decisions: of_decisions, replicas };
    (Events { source, decisions, queue }, limits)
}

/// Names of durable consumers.
fn consumers(reader: &mut Reader, key: &str) -> Vec<String> {
    let names = reader.list(key);
    for (at, name) in names.iter().enumerate() {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        let remedy = "name each once, with 1 to 32 of A-Z, a-z, 0-9, _ and -";
        if !(1..=32).contains(&name.len()) || !name.bytes().all(legal) {
            reader.wrong(key, format!("`{name}` is no name of a consumer"), remedy);
        } else if names.iter().take(at).any(|earlier| earlier == name) {
            reader.wrong(key, format!("`{name}` is there twice"), remedy);
        }
    }
    names
}

pub(super) fn database(reader: &mut Reader, folder: &Path) -> Database {
    reader.missing("database.url", DATABASE_REMEDY);
    let url = reader
        .parsed("database.url", DATABASE_REMEDY, |text| DatabaseUrl::parse(text, folder))
        .unwrap_or_else(|| DatabaseUrl(String::new()));
    Database {
        url,
        origin: reader.origin("database.url"),
        timeout: reader.duration("database.timeout"),
    }
}

/// Where grants live for `ttl`.
pub(super) fn cache(reader: &mut Reader, ttl: Duration) -> Cache {
    let least = if reader.is_set("cache.password_idle") { Duration::ZERO } else { ttl };
    Cache {
        ttl: reader.duration("cache.ttl"),
        entries: reader.count("cache.entries"),
        password_idle: reader.duration("cache.password_idle").max(least),
        stale_if_error: reader.duration("cache.stale_if_error"),
    }
}

pub(super) fn hashing(reader: &mut Reader) -> Hashing {
    Hashing {
        threads: reader.count("hashing.threads"),
        queue: reader.count("hashing.queue"),
        rehash: reader.switch("hashing.rehash").unwrap_or_default(),
    }
}

pub(super) fn guessing(reader: &mut Reader) -> GuessingLimits {
    GuessingLimits {
        account_failures: reader.count("guessing.account_failures"),
        source_failures: reader.count("guessing.source_failures"),
    }
}

pub(super) fn policies(reader: &mut Reader, folder: &Path) -> Option<PathBuf> {
    let path = folder.join(reader.text("policies.folder").filter(|text| !text.is_empty())?);
    if !path.is_dir() {
        let what = format!("{} is no folder", shown_path(&path).display());
        let remedy = "make it, or write \"\" for the shipped policies";
        reader.wrong_path("policies.folder", what, remedy);
    }
    Some(path)
}

pub(super) fn http_listen(reader: &mut Reader) -> Option<SocketAddr> {
    let remedy = "write listen = \"127.0.0.1:9222\", or \"\" to serve nothing";
    reader
        .parsed("http.listen", remedy, |text| match text.trim() {
            "" => Ok(None),
            text => {
                text.parse().map(Some).map_err(|_| format!("`{text}` is no IP address with a port"))
            }
        })
        .unwrap_or_default()
}
