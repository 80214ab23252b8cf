//! `[log]`: its level, which may have directives for parts of the program.

use tracing_subscriber::filter::{EnvFilter, LevelFilter};

use super::reader::Reader;
use super::{Log, LogFormat};
use crate::spelling::nearest;

/// What the log calls the service's own parts.
const OWN: &str = env!("CARGO_CRATE_NAME");

/// The parts: what stands in `src`.
const PARTS: [&str; 35] = [
    "accounts",
    "admin",
    "audit",
    "authn",
    "authorize",
    "callout",
    "causes",
    "clock",
    "config",
    "connections",
    "daemon",
    "deployment",
    "document",
    "events",
    "exposure",
    "hidden",
    "instance",
    "intake",
    "keyfile",
    "keys",
    "mint",
    "peers",
    "placement",
    "policy",
    "problem",
    "protocol",
    "redact",
    "renewal",
    "revoke",
    "servers",
    "service",
    "spelling",
    "store",
    "streams",
    "telemetry",
];

pub(super) fn log(reader: &mut Reader) -> Log {
    let remedy = "write error, warn, info, debug, trace or off, alone or before directives such as \
                  `info,nats_callout::audit=debug`";
    let level = reader
        .parsed("log.level", remedy, |text| level(text).map_err(|why| format!("`{text}`: {why}")));
    let level = level.unwrap_or_default();
    let format = match reader.word("log.format", "write \"text\" or \"json\"") {
        "json" => LogFormat::Json,
        _ => LogFormat::Text,
    };
    Log { level, format }
}

/// Reads directives, with blanks between them or without. What is no level names a part of the program to
/// them, and a part that there is not would leave nothing of the log.
fn level(text: &str) -> Result<String, String> {
    let halves = |it: &str| it.split('=').map(str::trim).collect::<Vec<_>>().join("=");
    let directives: Vec<String> = text.split(',').map(halves).filter(|it| !it.is_empty()).collect();
    // What spans hold may have any sign in it.
    let plain = directives.iter().filter(|it| !it.contains(['[', ']', '{', '}']));
    let mut levels = plain.map(|it| it.rsplit('=').next().unwrap_or_default());
    if let Some(word) = levels.find(|it| !is_level(it)) {
        return Err(format!("`{word}` is no level"));
    }
    let text = directives.join(",");
    EnvFilter::builder().parse(&text).map_err(|error| error.to_string())?;
    let target = |it: &String| Some(it.split_once('=')?.0.split('[').next()?.to_owned());
    let targets: Vec<String> = directives.iter().filter_map(target).collect();
    targets.iter().filter_map(|it| it.strip_prefix(OWN)).try_for_each(check_part)?;
    let mut crates = targets.iter().filter_map(|it| it.split(':').next()).filter(|it| *it != OWN);
    let misspelt = crates.find(|it| nearest(it, [OWN]).is_some());
    let is_of_all = |it: &String| is_level(it) || it.starts_with(OWN);
    match (directives.iter().any(is_of_all), misspelt) {
        (true, None) => Ok(text),
        (true, Some(part)) => Err(format!("there is no part `{part}`; did you mean {OWN}?")),
        (false, None) => Err("nothing would be left of the service's own log".to_owned()),
        (false, Some(_)) => {
            Err(format!("nothing would be left of the service's own log; did you mean {OWN}?"))
        }
    }
}

fn is_level(word: &str) -> bool {
    word.parse::<LevelFilter>().is_ok()
}

/// Checks what stands behind the program's name.
fn check_part(behind: &str) -> Result<(), String> {
    let Some(parts) = behind.strip_prefix("::") else {
        return match behind.strip_prefix(':') {
            Some(_) => Err(format!("there is no part `{OWN}{behind}`; write {OWN}::PART")),
            None => Ok(()),
        };
    };
    let part = parts.split(':').next().unwrap_or_default();
    // The log looks at how a part begins.
    if PARTS.iter().any(|it| it.starts_with(part)) {
        return Ok(());
    }
    let near = nearest(part, PARTS).map(|it| format!("; did you mean {OWN}::{it}?"));
    Err(format!("there is no part `{OWN}::{part}`{}", near.unwrap_or_default()))
}
