//! The issuers of JWTs: whether their keys can be had, and what the service does while they cannot.

use std::sync::Arc;

use futures_util::future::join_all;

use super::{EXPOSED, Findings, http};
use crate::authn::jwt::{Algorithm, Issuer, KeyLocation, TRIED, shown_address};
use crate::config::Config;
use crate::keyfile::KeyFileError;

const ISSUER: &str = "issuer";

/// What to do about keys that no JWT can choose.
const NAMELESS: &str = "have the issuer give each of its keys a `kid`, and its JWTs that of theirs";

pub(super) async fn check(config: &Config, findings: &mut Findings) {
    let mut issuers = Vec::new();
    for settings in &config.issuers {
        match Issuer::open(settings.clone()) {
            Ok(issuer) => issuers.push(Arc::new(issuer)),
            Err(KeyFileError::Exposed(_)) => {
                findings.skip(ISSUER, format!("{}: {EXPOSED}", settings.name));
            }
            // A fault's text says what to do by itself.
            Err(fault) => findings.add(
                ISSUER,
                super::State::Fail,
                format!("{}: {fault}", settings.name),
                None,
            ),
        }
    }
    let asked = join_all(issuers.iter().map(|issuer| issuer.probe_introspection())).await;
    for (issuer, answer) in issuers.iter().zip(asked) {
        let Some(answer) = answer else { continue };
        let name = &issuer.settings().name;
        match answer {
            Ok(()) => findings.ok(ISSUER, format!("{name}: answers questions about tokens")),
            Err(fault) => findings.fail(
                ISSUER,
                format!("{name}: {fault}"),
                format!(
                    "nobody logs in with a token that it has to be asked about; correct [issuers.{name}] \
                     introspection_url, client_id and client_secret (or bearer_file), ca_file or proxy, or see to the \
                     issuer"
                ),
            ),
        }
    }
    issuers.retain(|issuer| issuer.has_keys());
    let answers = join_all(issuers.iter().map(|issuer| issuer.probe())).await;
    for (issuer, answer) in issuers.iter().zip(answers) {
        let settings = issuer.settings();
        let name = &settings.name;
        let fault = match answer {
            Ok(found) => {
                let keys = if found.keys == 1 { "key" } else { "keys" };
                let what = format!("{name}: {} {keys}, {}", found.keys, origin(&settings.keys));
                match &*found.crowded {
                    [] => findings.ok(ISSUER, what),
                    crowded => findings.warn(ISSUER, unchosen(&what, crowded), NAMELESS),
                }
                continue;
            }
            Err(fault) => fault,
        };
        let is_file = matches!(settings.keys, KeyLocation::File(_));
        match kept(config, name).await {
            0 => findings.fail(
                ISSUER,
                format!("{name}: {fault}"),
                match is_file {
                    true => format!(
                        "nobody logs in with its JWTs; mend the file, or correct [issuers.{name}] jwks_file"
                    ),
                    false => {
                        format!("nobody logs in with its JWTs; correct [issuers.{name}], or see to it")
                    }
                },
            ),
            kept => findings.warn(
                ISSUER,
                format!(
                    "{name}: {fault}; the instance on this machine goes on with the {kept} keys \
                     that it has"
                ),
                match is_file {
                    true => "mend the file: new keys are not known before, nor is one that was taken back",
                    false => {
                        "see to the issuer: new keys are not known before it answers, nor is a key that it \
                         takes back"
                    }
                },
            ),
        }
    }
}

/// Keys that no JWT can choose.
fn unchosen(what: &str, crowded: &[Algorithm]) -> String {
    let names: Vec<_> = crowded.iter().map(|it| format!("{it:?}")).collect();
    format!(
        "{what}; more than {TRIED} without `kid` are for {}, and as long as nothing tells them apart no JWT is \
         verified with one of them",
        names.join(" and ")
    )
}

fn origin(keys: &KeyLocation) -> String {
    match keys {
        KeyLocation::Discovery(_) => "by discovery".to_owned(),
        KeyLocation::Url(url, _) => format!("from {}", shown_address(url)),
        KeyLocation::File(path) => format!("in {}", path.display()),
        KeyLocation::Secret(_) => "shared with it".to_owned(),
        KeyLocation::None => "nowhere".to_owned(),
    }
}

/// How many keys of an issuer the instance on this machine holds.
async fn kept(config: &Config, name: &str) -> u64 {
    let series = format!("nats_callout_issuer_keys{{issuer=\"{name}\"}} ");
    let metrics = http::metrics(config).await.unwrap_or_default();
    let value = metrics.lines().find_map(|line| line.strip_prefix(&series)?.trim().parse().ok());
    value.unwrap_or(0)
}
