//! JetStream: on where the service and BB keep their streams, and large enough for the sum of what
//! the tenants are promised.

use super::Findings;
use super::callout::Watched;
use super::table::Table;
use crate::admin::ceiling::{self, Ceiling};
use crate::config::units::format_size;
use crate::config::{Config, Mode};
use crate::servers::ServerName;
use crate::servers::varz::{self, Promised, Varz};
use crate::streams;

const STREAMS: &str = "JetStream";
const EVENTS: &str = "events";
const BB: &str = "BB";
const LIMITS: &str = "JetStream limits";

pub(super) async fn check(
    config: &Config,
    system: &Watched,
    servers: &[(ServerName, Varz)],
    table: Option<&Table>,
    findings: &mut Findings,
) {
    let accounts = match &config.mode {
        Mode::Operator(mode) => {
            [("AUTH", mode.auth_account.to_string()), ("BB", mode.bb_account.to_string())]
        }
        Mode::Config(mode) => [("AUTH", mode.auth_account.clone()), ("BB", "BB".to_owned())],
    };
    let mut own = Promised::default();
    for (name, account) in accounts {
        match varz::promised(&system.cluster, &account, servers.len()).await {
            Ok(promised) if promised.is_empty() => findings.fail(
                STREAMS,
                format!("is not on for the account {name}, so that events cannot be kept"),
                "give nats-server a jetstream block, and the account limits above zero; the \
                 server's log says which account it could not set up",
            ),
            Ok(promised) => {
                findings.ok(STREAMS, format!("on for {name}, on {} servers", promised.len()));
                if let Some((_, promised)) = promised.first() {
                    own.memory = own.memory.saturating_add(promised.memory);
                    own.storage = own.storage.saturating_add(promised.storage);
                }
            }
            Err(error) => findings.fail(STREAMS, format!("{name}: {error}"), "see its log"),
        }
    }
    ceiling(config, servers, own, table, findings);
}

/// The streams of the service's own events and their consumers, which it makes before it is ready, and the
/// consumer by which BB reads tenants' events.
pub(super) async fn events(config: &Config, auth: &Watched, alive: usize, findings: &mut Findings) {
    if let Some(what) = streams::reader_fault(&auth.client).await {
        findings.warn(
            BB,
            what,
            "resume it with BB's login (`nats consumer resume`); one that is gone is made anew by \
             `nats-callout serve` when it starts",
        );
    }
    let faults = streams::faults(&auth.client, &config.streams.events).await;
    if faults.is_empty() {
        return findings.ok(EVENTS, "the streams and their consumers are in AUTH");
    }
    let what = faults.join("; ");
    if alive == 0 {
        return findings.warn(EVENTS, what, "start `nats-callout serve`, which makes them");
    }
    findings.fail(EVENTS, what, "the service makes what is missing, and its log says what hinders");
}

fn ceiling(
    config: &Config,
    servers: &[(ServerName, Varz)],
    own: Promised,
    table: Option<&Table>,
    findings: &mut Findings,
) {
    if matches!(config.mode, Mode::Config(_)) {
        return findings.skip(
            LIMITS,
            "operator mode only: in config mode nats-server.conf gives accounts their JetStream, \
             and tenants' own limits have no effect",
        );
    }
    let Some(table) = table else { return findings.skip(LIMITS, "not without the database") };
    let [(_, varz)] = servers else {
        return findings.skip(
            LIMITS,
            "a single server only: a cluster looks for room as each stream is placed",
        );
    };
    let Some(maxima) = varz.jetstream.config else {
        return findings.skip(LIMITS, "not without JetStream");
    };
    if !varz.cluster.name.is_empty() {
        return findings.skip(LIMITS, "a server of its own only, and this one is of a cluster");
    }
    let over = (Ceiling { maxima, own }).exceeded_by(&table.tenants, config);
    match over.first() {
        Some(excess) if over.len() == 1 => {
            findings.fail(LIMITS, excess.to_string(), ceiling::REMEDY);
        }
        Some(excess) => findings.fail(
            LIMITS,
            format!("{excess}; {} tenants in all do not fit", over.len()),
            ceiling::REMEDY,
        ),
        None => findings.ok(
            LIMITS,
            format!(
                "all tenants' fit into the server's maxima, {} of memory and {} of storage",
                format_size(maxima.memory),
                format_size(maxima.storage)
            ),
        ),
    }
}
