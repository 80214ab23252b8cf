//! What each section's keys mean: their defaults, ranges and checks, on top of [`Reader`].

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::reader::Reader;
use super::units::seconds;
use super::{
    Cache, Callout, ConfigMode, DATABASE_REMEDY, Database, DatabaseUrl, DecisionEvents, Events,
    Guessing, Hashing, Intake, Log, LogFormat, Nats, NatsTls, Notifications, OperatorMode,
};
use crate::authn::guessing::GuessingLimits;
use crate::authn::lane::HashingLane;
use crate::keys::AccountId;
use crate::placement::TargetAccount;
use crate::store::{Isolation, TenantId};
use crate::streams::StreamLimits;
use crate::streams::events::{DUPLICATE_WINDOW, EventLimits, EventStreamLimits};
use crate::streams::readers;

/// How long nats-server waits for an answer (`authorization.timeout`) by default.
const SERVER_AUTH_TIMEOUT: Duration = seconds(2);

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
    let urls = reader
        .parsed("nats.url", remedy, |text| text.split(',').map(server_url).collect())
        .unwrap_or_else(|| vec!["nats://127.0.0.1:4222".to_owned()]);
    let public_url = reader
        .parsed("nats.public_url", remedy, server_url)
        .or_else(|| urls.first().cloned())
        .unwrap_or_default();
    let connections = reader.count("nats.connections", 2, 1..=64);
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

fn server_url(text: &str) -> Result<String, String> {
    let text = text.trim();
    let (scheme, rest) = text.split_once("://").ok_or_else(|| format!("`{text}` has no scheme"))?;
    if !matches!(scheme, "nats" | "tls" | "ws" | "wss") {
        return Err(format!("`{scheme}` is no scheme of NATS"));
    }
    if rest.contains('@') {
        return Err("credentials do not belong into the address".to_owned());
    }
    let host = rest.split('/').next().unwrap_or_default();
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
    let deadline =
        reader.duration("callout.deadline", Duration::from_millis(1_800), millis(50)..=seconds(60));
    if deadline >= SERVER_AUTH_TIMEOUT {
        reader.wrong(
            "callout.deadline",
            format!("{deadline:?} is not under the server's own timeout of 2 s"),
            "choose one below 2s, such as \"1800ms\"",
        );
    }
    Callout {
        deadline,
        max_in_flight: reader.count("callout.max_in_flight", 1_024, 1..=1_000_000),
        ttl: reader.duration("callout.ttl", seconds(900), seconds(10)..=seconds(86_400)),
        xkey: reader.generations("callout.xkey"),
    }
}

pub(super) fn operator(reader: &mut Reader) -> Option<OperatorMode> {
    let mut required = |key: &str| {
        reader.missing(key, "list the key files: [\"keys/...\"]");
        let files = reader.generations(key);
        if files.is_empty() {
            reader.empty(key, "list one or two key files");
        }
        files
    };
    let response_signing = required("callout.response_signing");
    let operator_signing = required("operator.operator_signing");
    let user_signing = required("operator.user_signing");
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
    let notifications = reader
        .parsed("operator.notifications", "write \"short\" or \"full\"", |text| match text {
            "short" => Ok(Notifications::Short),
            "full" => Ok(Notifications::Full),
            other => Err(format!("`{other}` is neither")),
        })
        .unwrap_or(Notifications::Short);
    let credentials = reader.file("nats.credentials", "keys/auth.creds");
    let system_credentials = reader.file("nats.system_credentials", "keys/sys.creds");
    let intake = intake(reader, remedy, id, ["credentials", "creds"]);
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

/// `[intake]`, which is there if it names the account.
fn intake<A>(
    reader: &mut Reader,
    remedy: &'static str,
    parse: impl Fn(&str) -> Result<A, String>,
    [kind, end]: [&str; 2],
) -> Option<Intake<A>> {
    let account = reader.parsed("intake.account", remedy, parse)?;
    let mut file = |name: &str, prefix: &str| {
        reader.file(&format!("intake.{prefix}{kind}"), &format!("keys/{name}.{end}"))
    };
    Some(Intake { account, login: file("intake", ""), users_login: file("users", "users_") })
}

pub(super) fn config(reader: &mut Reader) -> ConfigMode {
    reader.missing("callout.issuer", "list the seed of the server's auth_callout issuer");
    let issuer = reader.generations("callout.issuer");
    if issuer.is_empty() {
        reader.empty("callout.issuer", "list one or two key files");
    }
    let auth_account = reader
        .parsed("callout.account", "write the name of the server's auth_callout account", |text| {
            account_name(text).map(str::to_owned)
        })
        .unwrap_or_else(|| "AUTH".to_owned());
    let targets = "list accounts of the server's configuration that hold tenants";
    let accounts = reader.list("placement.accounts").unwrap_or_else(|| vec!["USERS".to_owned()]);
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
    let intake = intake(reader, remedy, name, ["nkey", "nk"]);
    let mut dedicated = BTreeMap::new();
    for (name, tenant) in reader.table("placement.dedicated").unwrap_or_default() {
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
        nkey: reader.file("nats.nkey", "keys/auth.nk"),
        system_nkey: reader.file("nats.system_nkey", "keys/sys.nk"),
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
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    StreamLimits {
        messages_per_tenant: count(reader.count(
            "bb.messages_per_tenant",
            10_000,
            1..=1_000_000_000,
        )),
        message_size: reader.size("bb.message_size", 64 << 10, 1_024..=64 << 20),
        bytes: reader.size("bb.max_bytes", 4 << 30, 1 << 20..=1 << 60),
        age: reader.duration("bb.max_age", seconds(7 * 86_400), seconds(1)..=seconds(315_360_000)),
        replicas: count(reader.count("bb.replicas", 1, 1..=5)),
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
        .unwrap_or_else(|| "nats-callout".to_owned());
    let remedy = "write \"queue\", \"before-grant\" or \"off\"";
    let decisions = reader
        .parsed("events.decisions", remedy, |text| match text {
            "queue" => Ok(DecisionEvents::Queue),
            "before-grant" => Ok(DecisionEvents::BeforeGrant),
            "off" => Ok(DecisionEvents::Off),
            other => Err(format!("`{other}` is none of them")),
        })
        .unwrap_or(DecisionEvents::Queue);
    let queue = reader.count("events.queue", 10_000, 1..=1_000_000);
    let mut limits = |of: &str, days: u64, consumer: &str| EventStreamLimits {
        consumers: consumers(reader, &format!("events.{of}_consumers"), consumer),
        bytes: reader.size(&format!("events.{of}_max_bytes"), 1 << 30, 1 << 20..=1 << 60),
        age: reader.duration(
            &format!("events.{of}_max_age"),
            seconds(days * 86_400),
            DUPLICATE_WINDOW..=seconds(315_360_000),
        ),
        messages: u64::try_from(reader.count(
            &format!("events.{of}_max_messages"),
            0,
            0..=1_000_000_000_000,
        ))
        .ok()
        .filter(|count| *count > 0),
    };
    let (changes, of_decisions) =
        (limits("changes", 90, readers::CHANGES), limits("decisions", 7, readers::DECISIONS));
    let replicas = u64::try_from(reader.count("events.replicas", 1, 1..=5)).unwrap_or(1);
    let limits = EventLimits { changes, decisions: of_decisions, replicas };
    (Events { source, decisions, queue }, limits)
}

/// Names of durable consumers.
fn consumers(reader: &mut Reader, key: &str, default: &str) -> Vec<String> {
    let names = reader.list(key).unwrap_or_else(|| vec![default.to_owned()]);
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
        timeout: reader.duration("database.timeout", millis(1_500), millis(10)..=seconds(60)),
    }
}

pub(super) fn cache(reader: &mut Reader) -> Cache {
    Cache {
        ttl: reader.duration("cache.ttl", seconds(30), Duration::ZERO..=seconds(3_600)),
        entries: reader.count("cache.entries", 100_000, 0..=100_000_000),
        password_idle: reader.duration(
            "cache.password_idle",
            seconds(600),
            Duration::ZERO..=seconds(86_400),
        ),
    }
}

pub(super) fn hashing(reader: &mut Reader) -> Hashing {
    Hashing {
        threads: reader.count("hashing.threads", 0, 0..=1_024),
        queue: reader.count("hashing.queue", HashingLane::DEFAULT_QUEUE, 1..=1_000_000),
        rehash: reader.switch("hashing.rehash", true),
    }
}

pub(super) fn guessing(reader: &mut Reader) -> Guessing {
    let default = GuessingLimits::default();
    let mut failures = |key: &str, default: u32| {
        let count = reader.count(key, default.try_into().unwrap_or(usize::MAX), 0..=1_000_000);
        u32::try_from(count).unwrap_or(default)
    };
    Guessing {
        account_failures: failures("guessing.account_failures", default.account_failures),
        source_failures: failures("guessing.source_failures", default.source_failures),
    }
}

pub(super) fn policies(reader: &mut Reader, folder: &Path) -> Option<PathBuf> {
    let path = folder.join(reader.text("policies.folder").filter(|text| !text.is_empty())?);
    if !path.is_dir() {
        let what = format!("{} is no folder", path.display());
        reader.wrong("policies.folder", what, "make it, or write \"\" for the shipped policies");
    }
    Some(path)
}

/// Where health and metrics are served, unless told otherwise.
const HTTP_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9_222);

pub(super) fn http_listen(reader: &mut Reader) -> Option<SocketAddr> {
    let remedy = "write listen = \"127.0.0.1:9222\", or \"\" to serve nothing";
    reader
        .parsed("http.listen", remedy, |text| match text.trim() {
            "" => Ok(None),
            text => {
                text.parse().map(Some).map_err(|_| format!("`{text}` is no IP address with a port"))
            }
        })
        .unwrap_or(Some(HTTP_LISTEN))
}

pub(super) fn log(reader: &mut Reader) -> Log {
    let level = reader
        .parsed("log.level", "write error, warn, info, debug or trace", |text| {
            tracing_subscriber::EnvFilter::builder()
                .parse(text)
                .map(|_| text.to_owned())
                .map_err(|error| format!("`{text}`: {error}"))
        })
        .unwrap_or_else(|| "info".to_owned());
    let format = reader
        .parsed("log.format", "write \"text\" or \"json\"", |text| match text {
            "text" => Ok(LogFormat::Text),
            "json" => Ok(LogFormat::Json),
            other => Err(format!("`{other}` is neither")),
        })
        .unwrap_or(LogFormat::Text);
    Log { level, format }
}

const fn millis(count: u64) -> Duration {
    Duration::from_millis(count)
}
