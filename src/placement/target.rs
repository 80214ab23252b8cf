//! The accounts that users may be placed in. Whoever holds a [`TargetAccount`] need not ask again
//! whether it is one of the system's.

use std::fmt;

use crate::keys::{AccountId, KeyError};

/// The system's accounts in config mode, by the names that `init` gives them.
const SYSTEM: [&str; 7] = ["AUTH", "SYS", "$SYS", "$G", "BB", "EVENTS", "INTAKE"];

/// An account that users may be placed in: never one of the system's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetAccount(Target);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// Operator mode: the account's identity.
    Id(AccountId),
    /// Config mode: the account's name.
    Name(String),
}

/// An account that must not be a target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It belongs to the system.
    #[error(
        "account {0} must not be a target: users are never placed in AUTH, SYS, BB, EVENTS, INTAKE or $G"
    )]
    Forbidden(String),
    /// No account has such a name.
    #[error(
        "{0:?} cannot be the name of an account: it is empty, or has blanks or control characters"
    )]
    Name(String),
    /// It is not the public key of an account.
    #[error(transparent)]
    Key(KeyError),
    /// There is none.
    #[error("at least one shared target account is needed, such as USERS")]
    Empty,
    /// It is listed as shared and given to one tenant.
    #[error("account {0} is listed both as shared and as dedicated to one tenant")]
    Both(String),
}

/// The system's accounts in operator mode.
#[derive(Debug, Clone)]
pub struct SystemAccounts(Vec<AccountId>);

impl SystemAccounts {
    /// The accounts SYS and AUTH, and `others` that no user is ever placed in, such as BB.
    #[must_use]
    pub fn new(
        sys: AccountId,
        auth: AccountId,
        others: impl IntoIterator<Item = AccountId>,
    ) -> Self {
        Self([sys, auth].into_iter().chain(others).collect())
    }

    /// All of them.
    #[must_use]
    pub fn ids(&self) -> &[AccountId] {
        &self.0
    }

    /// The account `id` as one that users may be placed in.
    pub fn target(&self, id: AccountId) -> Result<TargetAccount, TargetError> {
        if self.0.contains(&id) {
            return Err(TargetError::Forbidden(id.to_string()));
        }
        Ok(TargetAccount(Target::Id(id)))
    }
}

impl TargetAccount {
    /// Config mode: the account `name` as one that users may be placed in, where the service is
    /// connected to the account `auth`.
    pub fn named(name: &str, auth: &str) -> Result<Self, TargetError> {
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(TargetError::Name(name.to_owned()));
        }
        if name == auth || SYSTEM.iter().any(|it| it.eq_ignore_ascii_case(name)) {
            return Err(TargetError::Forbidden(name.to_owned()));
        }
        Ok(Self(Target::Name(name.to_owned())))
    }

    pub(crate) fn target(&self) -> &Target {
        &self.0
    }
}

impl fmt::Display for TargetAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Target::Id(id) => id.fmt(f),
            Target::Name(name) => name.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{KeyKind, SigningKey};

    #[test]
    fn none_is_one_of_the_systems() {
        let account =
            || SigningKey::generate(KeyKind::Account).unwrap().0.public::<AccountId>().unwrap();
        let [sys, auth, bb, other] = [account(), account(), account(), account()];
        let system = SystemAccounts::new(sys, auth, [bb]);
        for id in [sys, auth, bb] {
            assert_eq!(system.target(id), Err(TargetError::Forbidden(id.to_string())));
        }
        assert_eq!(system.target(other).unwrap().to_string(), other.to_string());
        for name in ["AUTH", "auth", "Sys", "$SYS", "$g", "BB", "EVENTS", "INTAKE", "callout"] {
            let made = TargetAccount::named(name, "callout");
            assert_eq!(made, Err(TargetError::Forbidden(name.to_owned())));
        }
        assert_eq!(TargetAccount::named("USERS", "callout").unwrap().to_string(), "USERS");
    }
}
