//! The key files: their modes, what they hold, and the public keys that the rest is compared with.

use std::path::{Path, PathBuf};

use super::Findings;
use crate::config::{Config, Mode};
use crate::keyfile::{self, KeyFileError};
use crate::keys::{AccountId, KeyKind, OperatorId, XKey, XPublicKey};

const CHECK: &str = "key files";
const OTHERS: &str = "other files";

/// The public halves of the service's keys, those that sign first. What cannot be read is missing.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pub(super) xkeys: Vec<XKey>,
    pub(super) xkey: Option<XPublicKey>,
    /// The service's user in AUTH.
    pub(super) service_user: Option<String>,
    pub(super) operator_signing: Vec<OperatorId>,
    pub(super) user_signing: Vec<AccountId>,
    pub(super) response_signing: Vec<AccountId>,
    pub(super) issuer: Vec<AccountId>,
}

pub(super) fn check(config: &Config, findings: &mut Findings) -> Keys {
    let before = findings.0.len();
    for fault in config.audit() {
        add(findings, &fault);
    }
    let mut keys = Keys::default();
    let mut problems = Vec::new();
    let mut note = |fault: KeyFileError| problems.push(fault);
    match keyfile::xkeys(&config.callout.xkey) {
        Ok(xkeys) => {
            keys.xkey = xkeys.first().map(|key| *key.public_key());
            keys.xkeys = xkeys;
        }
        Err(fault) => note(fault),
    }
    let account =
        |files: &[PathBuf], name, note: &mut dyn FnMut(KeyFileError)| match keyfile::generations::<
            AccountId,
        >(
            files,
            KeyKind::Account,
            name,
        ) {
            Ok(read) => read.listed,
            Err(fault) => {
                note(fault);
                Vec::new()
            }
        };
    match &config.mode {
        Mode::Operator(mode) => {
            let name = "[operator] operator_signing";
            match keyfile::generations::<OperatorId>(
                &mode.operator_signing,
                KeyKind::Operator,
                name,
            ) {
                Ok(read) => keys.operator_signing = read.listed,
                Err(fault) => note(fault),
            }
            keys.user_signing = account(&mode.user_signing, "[operator] user_signing", &mut note);
            keys.response_signing =
                account(&mode.response_signing, "[callout] response_signing", &mut note);
            match keyfile::user_of_creds(&mode.credentials) {
                Ok(user) => keys.service_user = Some(user),
                Err(fault) => note(fault),
            }
            if let Err(fault) = keyfile::user_of_creds(&mode.system_credentials) {
                note(fault);
            }
        }
        Mode::Config(mode) => {
            keys.issuer = account(&mode.issuer, "[callout] issuer", &mut note);
            match keyfile::signing_key(&mode.nkey, KeyKind::User) {
                Ok(key) => keys.service_user = Some(key.public_key().to_owned()),
                Err(fault) => note(fault),
            }
            if let Err(fault) = keyfile::signing_key(&mode.system_nkey, KeyKind::User) {
                note(fault);
            }
        }
    }
    for problem in problems {
        // The modes are reported above.
        if !matches!(problem, KeyFileError::Exposed { .. }) {
            add(findings, &problem);
        }
    }
    if findings.0.len() == before {
        let count = config.key_files().len();
        findings.ok(CHECK, format!("{count} files, readable by their owner alone"));
    }
    offline(config, findings);
    exposures(config, findings);
    keys
}

/// What the service goes by is nobody else's to change.
fn exposures(config: &Config, findings: &mut Findings) {
    let found = config.exposures();
    if found.is_empty() {
        findings.ok(OTHERS, "configuration, policies, key sets: nobody else can change them");
    }
    for exposure in found {
        // Its text says what to do by itself.
        findings.add(OTHERS, super::State::Fail, exposure.to_string(), None);
    }
}

/// The keys that the service never needs do not belong beside those that it does.
fn offline(config: &Config, findings: &mut Findings) {
    let folders: std::collections::BTreeSet<&Path> =
        config.key_files().into_iter().filter_map(Path::parent).collect();
    for folder in folders {
        let offline = folder.join("offline");
        if offline.is_dir() {
            findings.warn(
                "offline keys",
                format!("{} is beside the service's own keys", offline.display()),
                "move it to a safe place: whoever has it owns the deployment, and the service \
                 never reads it",
            );
        }
    }
}

fn add(findings: &mut Findings, fault: &KeyFileError) {
    // A fault's text says what to do by itself.
    findings.add(CHECK, super::State::Fail, fault.to_string(), None);
}
