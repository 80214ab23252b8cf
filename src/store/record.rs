//! The rows of the tenant table as values: parsed once, so that what follows need not check again.

use std::borrow::Borrow;
use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;

use crate::clock::UnixSeconds;
use crate::keys::AccountId;

/// A text that is not one legal subject token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a tenant id is one subject token of 1 to 64 characters out of A-Z, a-z, 0-9, _ and -")]
pub struct InvalidTenantId;

/// A tenant's id: one subject token, `[A-Za-z0-9_-]{1,64}`. It is spliced into subjects, so
/// nothing else may ever become one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(Box<str>);

impl TenantId {
    /// The id's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Stands for a tenant where there is none.
    pub(crate) fn none() -> Self {
        Self("-".into())
    }

    /// The login name of a user of this tenant who has no row: `<tenant id>/<user>`.
    pub(crate) fn login(&self, user: &str) -> String {
        format!("{self}/{user}")
    }

    /// The tenant in the login name of a user without a row. A row may have such a name too, and
    /// belongs to whatever tenant it says.
    pub(crate) fn of_login(login: &str) -> Option<Self> {
        login.split_once('/')?.0.parse().ok()
    }
}

impl FromStr for TenantId {
    type Err = InvalidTenantId;

    fn from_str(text: &str) -> Result<Self, InvalidTenantId> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        if (1..=64).contains(&text.len()) && text.bytes().all(legal) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidTenantId)
        }
    }
}

impl Borrow<str> for TenantId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! text_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// The text in the table and on the command line.
            #[must_use]
            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    other => Err(format!("`{other}` is none of: {}", [$($text),+].join(", "))),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

text_enum!(
    /// Whether a tenant or a user may log in.
    Status {
        /// It may.
        Active = "active",
        /// It may not, until resumed.
        Suspended = "suspended",
    }
);

text_enum!(
    /// How a tenant is kept apart from the others.
    Isolation {
        /// By an account of its own.
        Account = "account",
        /// By permissions alone, in an account that it shares.
        Shared = "shared",
    }
);

text_enum!(
    /// What a user is for.
    UserKind {
        /// A person's or an app's BB account, which owns `user.<tenant id>`.
        Bb = "bb",
        /// A service with explicit publish and subscribe lists.
        Service = "service",
    }
);

/// A stored password hash in PHC or modular crypt form. Shown by no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(Box<str>);

impl PasswordHash {
    /// Takes a hash as it is stored.
    #[must_use]
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The stored text, for the verifier and the database alone.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(redacted)")
    }
}

/// SHA-256 of a whole token: what the table keeps of it, in lower-case hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenHash(pub [u8; 32]);

impl TokenHash {
    /// That of a token.
    #[must_use]
    pub fn of(token: &str) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest::digest(&digest::SHA256, token.as_bytes()).as_ref());
        Self(hash)
    }

    /// The hash that has this form in the table.
    #[cfg(feature = "cli")]
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let bytes = data_encoding::HEXLOWER.decode(text.as_bytes()).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }

    /// The form in the table: 64 lower-case hex digits.
    #[must_use]
    pub fn to_hex(self) -> String {
        data_encoding::HEXLOWER.encode(&self.0)
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(redacted)")
    }
}

/// What a tenant's account may use. Zero storage and memory mean: no JetStream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Limits {
    /// JetStream memory in bytes.
    pub memory: u64,
    /// JetStream file storage in bytes.
    pub storage: u64,
    /// Streams; `None` is unlimited.
    pub streams: Option<u64>,
    /// Consumers; `None` is unlimited.
    pub consumers: Option<u64>,
    /// Client connections; `None` is unlimited.
    pub connections: Option<u64>,
}

impl Limits {
    /// Whether the tenant may use JetStream at all.
    #[must_use]
    pub fn jetstream(&self) -> bool {
        self.memory > 0 || self.storage > 0
    }
}

/// A row of `tenants`, with the account that is kept for it. It is made as a [`UserRecord`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRecord {
    /// The id.
    pub id: TenantId,
    /// A random word that a tenant deleted and inserted again does not share with the one before.
    pub incarnation: String,
    /// The display name; not unique.
    pub name: String,
    /// Whether its users may log in.
    pub status: Status,
    /// The isolation asked for; `None` is the configured default.
    pub isolation: Option<Isolation>,
    /// The policy of its `bb` users, where not the default.
    pub policy: Option<String>,
    /// Config mode: the name of the NATS account, where not the default.
    pub placement: Option<String>,
    /// Operator mode: the account of this incarnation, once it has one.
    pub account: Option<AccountId>,
    /// What the account may use.
    pub limits: Limits,
    /// Own account: whether BB's requests on `user.<id>.Notifications` are answered.
    pub answers: bool,
    /// When the licence ends.
    pub expires_at: Option<UnixSeconds>,
    /// When the row was made.
    pub created_at: UnixSeconds,
    /// When the row last changed.
    pub updated_at: UnixSeconds,
}

/// A row of `users`. [`Self::new`] makes one, and `..` takes from it what is not set, so that a column more
/// breaks nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRecord {
    /// The login name, unique over all tenants.
    pub name: String,
    /// What the user is for.
    pub kind: UserKind,
    /// The password's hash, if it has one.
    pub password_hash: Option<PasswordHash>,
    /// The public user nkey that may log in as this user.
    pub nkey: Option<String>,
    /// The certificate identity that may log in as this user.
    pub certificate: Option<String>,
    /// Subjects that a service may publish.
    pub publish: Vec<String>,
    /// Subjects that a service may subscribe.
    pub subscribe: Vec<String>,
    /// The policy, where not the one of the kind.
    pub policy: Option<String>,
    /// Whether it may log in.
    pub status: Status,
    /// When it ends.
    pub expires_at: Option<UnixSeconds>,
    /// When it last logged in.
    pub last_login_at: Option<UnixSeconds>,
    /// When the row was made.
    pub created_at: UnixSeconds,
    /// When the row last changed.
    pub updated_at: UnixSeconds,
}

/// A user together with its tenant, read in one statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginRecord {
    /// The user.
    pub user: UserRecord,
    /// Its tenant.
    pub tenant: TenantRecord,
}

impl TenantRecord {
    /// An active tenant named after its id, with everything else as the table's defaults have it.
    #[must_use]
    pub fn new(id: TenantId) -> Self {
        Self {
            name: id.to_string(),
            id,
            incarnation: String::new(),
            status: Status::Active,
            isolation: None,
            policy: None,
            placement: None,
            account: None,
            limits: Limits::default(),
            answers: false,
            expires_at: None,
            created_at: 0,
            updated_at: 0,
        }
    }

    /// Whether it is suspended, or has ended.
    pub(crate) fn is_over(&self, now: UnixSeconds) -> bool {
        self.status == Status::Suspended || self.expires_at.is_some_and(|end| end <= now)
    }
}

impl UserRecord {
    /// An active user without credentials, with everything else as the table's defaults have it.
    #[must_use]
    pub fn new(name: impl Into<String>, kind: UserKind) -> Self {
        Self {
            name: name.into(),
            kind,
            password_hash: None,
            nkey: None,
            certificate: None,
            publish: Vec::new(),
            subscribe: Vec::new(),
            policy: None,
            status: Status::Active,
            expires_at: None,
            last_login_at: None,
            created_at: 0,
            updated_at: 0,
        }
    }
}

/// The password hash of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HashListing {
    /// The tenant of the user.
    pub tenant: TenantId,
    /// The login name.
    pub user_name: String,
    /// The hash.
    pub hash: PasswordHash,
}

/// What a user logs in with beside passwords and tokens, and by which policy of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginListing {
    /// The tenant of the user.
    pub tenant: TenantId,
    /// The login name.
    pub user_name: String,
    /// The public user nkey that may log in as this user.
    pub nkey: Option<String>,
    /// The name in a client certificate that may.
    pub certificate: Option<String>,
    /// The policy that the row names.
    pub policy: Option<String>,
}

/// A row of `tokens`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// The user whose credential it is.
    pub user_name: String,
    /// When it ends.
    pub expires_at: Option<UnixSeconds>,
}

/// A token as a person tells it from others.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenListing {
    /// Its public id.
    pub id: String,
    /// The tenant of its user.
    pub tenant: TenantId,
    /// The user whose credential it is.
    pub user_name: String,
    /// A note for people.
    pub label: Option<String>,
    /// When it ends.
    pub expires_at: Option<UnixSeconds>,
    /// When it was made.
    pub created_at: UnixSeconds,
}

/// A tenant to be added.
#[derive(Debug, Clone)]
pub struct NewTenant {
    /// The id.
    pub id: TenantId,
    /// The display name.
    pub name: String,
    /// The isolation, where not the configured default.
    pub isolation: Option<Isolation>,
    /// The policy of its `bb` users, where not the default.
    pub policy: Option<String>,
    /// What its account may use.
    pub limits: Limits,
    /// Own account: whether BB's requests on `user.<id>.Notifications` are answered.
    pub answers: bool,
    /// When the licence ends.
    pub expires_at: Option<UnixSeconds>,
}

/// A user to be added.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// Its tenant.
    pub tenant: TenantId,
    /// The login name.
    pub name: String,
    /// What it is for.
    pub kind: UserKind,
    /// The password's hash, if it gets one.
    pub password_hash: Option<PasswordHash>,
    /// A public user nkey that may log in.
    pub nkey: Option<String>,
    /// A name in certificates that may log in.
    pub certificate: Option<String>,
    /// Subjects to publish (services).
    pub publish: Vec<String>,
    /// Subjects to subscribe (services).
    pub subscribe: Vec<String>,
    /// The policy, where not the one of the kind.
    pub policy: Option<String>,
}

/// A token to be added.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// The user whose credential it becomes.
    pub user_name: String,
    /// The hash of the token.
    pub hash: TokenHash,
    /// A note for people.
    pub label: Option<String>,
    /// When it ends.
    pub expires_at: Option<UnixSeconds>,
}
