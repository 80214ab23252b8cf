//! What was committed, by whomever, and what the instances of the service tell each other by the way.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;

use super::{Result, TenantId};
use crate::clock::UnixSeconds;
use crate::keys::AccountId;

/// A committed change that a cache has to forget.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A tenant, and with it all its users, by id.
    Tenant(String),
    /// A user, by login name.
    User(String),
    /// A token, by its hash in hex.
    Token(String),
    /// Anything: what changed is not known.
    Everything,
}

/// What a committed change means for connections that are alive and for what servers hold.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    /// The change's number.
    pub seq: i64,
    /// What was changed.
    pub on: EffectOn,
    /// Operator mode: the account of the tenant at that time.
    pub account: Option<AccountId>,
    /// Which connections it closes.
    pub closes: Closes,
    /// Whether a credential was taken away or replaced: what it let in is closed in some minutes.
    pub revokes: bool,
    /// Whether servers have to learn new limits of the account.
    pub pushes: bool,
    /// How long ago that was, by the database's own clock.
    pub age: Duration,
}

/// What an [`Effect`] is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EffectOn {
    /// A tenant, by id: all its users.
    Tenant(TenantId),
    /// A user, by login name.
    User(String),
    /// The effect's account belongs to nobody any more.
    Account,
}

/// Which connections that are alive a change closes, of those it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closes {
    /// None.
    Nothing,
    /// Those whose grant may outlive this time.
    GrantsBeyond(UnixSeconds),
    /// All of them.
    Everything,
}

/// What was committed since the last question.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct News {
    /// What caches have to forget.
    pub changes: Vec<Change>,
    /// What it means for connections and servers. Not known where `changes` is
    /// [`Change::Everything`].
    pub effects: Vec<Effect>,
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl News {
    /// It is not known what was committed.
    pub(super) fn everything() -> Self {
        Self { changes: vec![Change::Everything], effects: Vec::new() }
    }
}

/// What the instances of the service tell each other through the database.
#[async_trait]
pub trait Coordination: Debug + Send + Sync {
    /// Everything committed since the last call, by whomever. Cheap when there is nothing.
    async fn news(&self) -> Result<News>;

    /// The effects of all changes that are still noted, oldest first.
    async fn effects(&self) -> Result<Vec<Effect>>;

    /// The accounts that tenants had and that belong to nobody any more.
    async fn removed_accounts(&self) -> Result<Vec<AccountId>>;

    /// Notes that this instance is alive, by the database's clock: those of hosts differ.
    async fn heartbeat(&self, instance: &str) -> Result<()>;

    /// Removes this instance's heartbeat: it stops.
    async fn depart(&self, instance: &str) -> Result<()>;

    /// Returns when there may be news: at the latest after a time well below a second, and as soon
    /// as the database says so where it can.
    async fn wait_for_news(&self);

    /// The sessions of other programs that hold others up now. A database that knows none finds none.
    async fn hindrances(&self) -> Result<Vec<Hindrance>>;

    /// The instances whose heartbeat is at most so many seconds old.
    async fn instances(&self, seconds: u32) -> Result<Vec<String>>;
}

/// A session of another program in the database that hinders others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hindrance {
    /// Its role.
    pub role: String,
    /// The database's number for it.
    pub session: i64,
    /// How many sessions wait for its locks.
    pub blocks: u64,
    /// How many notices a second it sends, if these are far more than changes make.
    pub notices: u64,
}
