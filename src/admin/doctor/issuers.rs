//! The issuers of JWTs: whether their keys can be had, and what the service does while they cannot.

use std::sync::Arc;

use futures_util::future::join_all;

use super::{Findings, http};
use crate::authn::jwt::{Issuer, KeyLocation, shown_address};
use crate::config::Config;

const ISSUER: &str = "issuer";

pub(super) async fn check(config: &Config, findings: &mut Findings) {
    let mut issuers = Vec::new();
    for settings in &config.issuers {
        match Issuer::open(settings.clone()) {
            Ok(issuer) => issuers.push(Arc::new(issuer)),
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
            Ok(1) => {
                findings.ok(ISSUER, format!("{name}: 1 key, {}", origin(&settings.keys)));
                continue;
            }
            Ok(count) => {
                findings.ok(ISSUER, format!("{name}: {count} keys, {}", origin(&settings.keys)));
                continue;
            }
            Err(fault) => fault,
        };
        match kept(config, name).await {
            0 => findings.fail(
                ISSUER,
                format!("{name}: {fault}"),
                format!("nobody logs in with its JWTs; correct [issuers.{name}], or see to it"),
            ),
            kept => findings.warn(
                ISSUER,
                format!(
                    "{name}: {fault}; the instance on this machine goes on with the {kept} keys \
                     that it has"
                ),
                "see to the issuer: new keys are not known before it answers, nor is a key that it \
                 takes back",
            ),
        }
    }
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
