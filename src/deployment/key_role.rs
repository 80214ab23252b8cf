//! The keys of which there are generations, and which of them an instance has: every instance
//! answers that question in the account AUTH, so that a rotation goes on only when all of them are
//! as far as it takes.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use strum::{EnumIter, IntoStaticStr};

use crate::config::{Config, Mode};
use crate::keyfile::{self, KeyFileError};
use crate::keys::{AccountId, KeyKind, OperatorId};
use crate::protocol::jwt::IssuerKey;

/// Where instances are asked which keys they have; each answers [`KeysOfInstance`].
pub(crate) const KEYS_SUBJECT: &str = "_CALLOUT.keys";

/// A key that has generations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, EnumIter, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
#[non_exhaustive]
pub enum KeyRole {
    /// Signs accounts (operator mode).
    OperatorSigning,
    /// Signs users (operator mode).
    UserSigning,
    /// Signs answers to the server (operator mode).
    ResponseSigning,
    /// Signs users and answers (config mode).
    Issuer,
    /// Opens requests and seals answers.
    Xkey,
}

impl fmt::Display for KeyRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl KeyRole {
    /// All that a configuration has.
    pub(crate) fn of(config: &Config) -> Vec<Self> {
        match &config.mode {
            Mode::Operator(_) => {
                vec![Self::OperatorSigning, Self::UserSigning, Self::ResponseSigning, Self::Xkey]
            }
            Mode::Config(_) => vec![Self::Issuer, Self::Xkey],
        }
    }

    /// Its name, with which its files begin.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The section and the key of its list of files.
    pub(crate) fn setting(self) -> (&'static str, &'static str) {
        match self {
            Self::OperatorSigning => ("operator", "operator_signing"),
            Self::UserSigning => ("operator", "user_signing"),
            Self::ResponseSigning => ("callout", "response_signing"),
            Self::Issuer => ("callout", "issuer"),
            Self::Xkey => ("callout", "xkey"),
        }
    }

    /// The kind of its seeds; `None` is a curve key.
    pub(crate) fn kind(self) -> Option<KeyKind> {
        match self {
            Self::OperatorSigning => Some(KeyKind::Operator),
            Self::UserSigning | Self::ResponseSigning | Self::Issuer => Some(KeyKind::Account),
            Self::Xkey => None,
        }
    }

    /// Its files, the one in use first.
    pub(crate) fn files(self, config: &Config) -> &[PathBuf] {
        match (self, &config.mode) {
            (Self::OperatorSigning, Mode::Operator(mode)) => &mode.operator_signing,
            (Self::UserSigning, Mode::Operator(mode)) => &mode.user_signing,
            (Self::ResponseSigning, Mode::Operator(mode)) => &mode.response_signing,
            (Self::Issuer, Mode::Config(mode)) => &mode.issuer,
            (Self::Xkey, _) => &config.callout.xkey,
            _ => &[],
        }
    }

    /// Its public keys, the one in use first.
    pub(crate) fn public(self, config: &Config) -> Result<Vec<String>, KeyFileError> {
        let files = self.files(config);
        fn listed<K: IssuerKey + PartialEq + ToString>(
            files: &[PathBuf],
            purpose: &'static str,
        ) -> Result<Vec<String>, KeyFileError> {
            let read = keyfile::generations::<K>(files, purpose)?;
            Ok(read.listed.iter().map(ToString::to_string).collect())
        }
        match self.kind() {
            None => {
                let keys = keyfile::xkeys(files)?;
                Ok(keys.iter().map(|key| key.public_key().to_string()).collect())
            }
            Some(KeyKind::Operator) => listed::<OperatorId>(files, self.name()),
            Some(_) => listed::<AccountId>(files, self.name()),
        }
    }
}

/// Public keys by [`KeyRole::name`], those in use first.
pub(crate) type PublicKeys = BTreeMap<String, Vec<String>>;

/// All public keys that a configuration names.
pub(crate) fn of(config: &Config) -> Result<PublicKeys, KeyFileError> {
    let keys = KeyRole::of(config).into_iter();
    keys.map(|key| Ok((key.name().to_owned(), key.public(config)?))).collect()
}

/// What an instance has.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct KeysOfInstance {
    /// Which it is.
    pub(crate) instance: String,
    /// The longest life of its grants, in seconds.
    pub(crate) ttl: u64,
    /// Its keys.
    pub(crate) keys: PublicKeys,
}
