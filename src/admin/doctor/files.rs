//! The key files: their modes, what they hold, and the public keys that the rest is compared with.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::Findings;
use crate::config::{Config, Mode};
use crate::exposure::Trust;
use crate::keyfile::{self, KeyFileError};
use crate::keys::{AccountId, KeyKind, OperatorId, XKey, XPublicKey};

const CHECK: &str = "key files";
const OTHERS: &str = "other files";

/// Of what is not compared with any of our keys.
pub(super) const UNREAD: &str = "not while our key files cannot be used: see `key files`";

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
    let audit = config.audit();
    for fault in audit.faults {
        add(findings, &fault);
    }
    let mut faults = Vec::new();
    let account = |files: &[PathBuf], purpose| {
        keyfile::generations::<AccountId>(files, purpose).map(|read| read.listed)
    };
    let xkeys = noted(keyfile::xkeys(&config.callout.xkey), &mut faults);
    let mut keys = Keys { xkey: xkeys.first().map(|key| *key.public_key()), ..Keys::default() };
    keys.xkeys = xkeys;
    match &config.mode {
        Mode::Operator(mode) => {
            let purpose = "[operator] operator_signing";
            let operator = keyfile::generations::<OperatorId>(&mode.operator_signing, purpose);
            keys.operator_signing = noted(operator.map(|read| read.listed), &mut faults);
            let users = account(&mode.user_signing, "[operator] user_signing");
            keys.user_signing = noted(users, &mut faults);
            let responses = account(&mode.response_signing, "[callout] response_signing");
            keys.response_signing = noted(responses, &mut faults);
            let user = keyfile::user_of_creds(&mode.credentials);
            keys.service_user = noted(user.map(Some), &mut faults);
            noted(keyfile::user_of_creds(&mode.system_credentials), &mut faults);
        }
        Mode::Config(mode) => {
            keys.issuer = noted(account(&mode.issuer, "[callout] issuer"), &mut faults);
            let key = keyfile::signing_key(&mode.nkey, KeyKind::User);
            let user = key.map(|key| Some(key.public_key().to_owned()));
            keys.service_user = noted(user, &mut faults);
            noted(keyfile::signing_key(&mode.system_nkey, KeyKind::User).map(drop), &mut faults);
        }
    }
    for fault in faults {
        // The modes are reported above.
        if !matches!(fault, KeyFileError::Exposed(_)) {
            add(findings, &fault);
        }
    }
    if findings.0.len() == before {
        let files = config.key_files();
        let groups: BTreeSet<u32> = files.iter().flat_map(|it| Trust::reading_groups(it)).collect();
        let groups: Vec<String> = groups.iter().map(ToString::to_string).collect();
        let also = match &groups[..] {
            [] => String::new(),
            [group] => format!(" and the group {group}"),
            groups => format!(" and the groups {}", groups.join(", ")),
        };
        let count = files.len();
        findings.ok(CHECK, format!("{count} files, readable by the service's user{also} alone"));
    }
    for what in audit.unsearched {
        findings.add(CHECK, super::State::Warn, what, None);
    }
    offline(config, findings);
    exposures(config, findings);
    keys
}

fn noted<T: Default>(read: Result<T, KeyFileError>, faults: &mut Vec<KeyFileError>) -> T {
    read.unwrap_or_else(|fault| {
        faults.push(fault);
        T::default()
    })
}

/// The names of what was compared: a key that cannot be read was not. None if nothing was.
pub(super) fn names(compared: &[(&str, bool)]) -> Option<String> {
    let names: Vec<&str> = compared.iter().filter(|(_, was)| *was).map(|(name, _)| *name).collect();
    let (last, others) = names.split_last()?;
    let others = others.join(", ");
    Some(if others.is_empty() { (*last).to_owned() } else { format!("{others} and {last}") })
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
    let folders: BTreeSet<&Path> =
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
