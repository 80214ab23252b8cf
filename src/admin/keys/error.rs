//! Why keys were not changed, or not looked at.

use std::io;
use std::path::{Path, PathBuf};

use crate::accounts::account::IssueError;
use crate::accounts::resolver::ResolverError;
use crate::causes::BoxError;
use crate::config;
use crate::deployment::{KeyRole, LoginError};
use crate::keyfile::KeyFileError;
use crate::keys::KeyError;
use crate::protocol::jwt::JwtError;
use crate::servers::ClusterError;
use crate::store::StoreError;
use crate::streams::StreamsError;

/// Why an operation on keys was not carried out. All of them can be begun again, and go on from
/// where they were.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(pub(crate) KeysError);

impl<T> From<T> for Error
where
    KeysError: From<T>,
{
    fn from(error: T) -> Self {
        Self(error.into())
    }
}

/// What [`Error`] says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeysError {
    /// What was asked for cannot be: nothing was changed.
    #[error("{0}")]
    Invalid(String),
    /// The folder that was named for the offline keys is none: nothing was changed.
    #[error("{} is no folder", .0.display())]
    NoFolder(PathBuf),
    /// The folder that was named for the offline keys holds those in use: nothing was changed.
    #[error("{} is the folder of the keys in use; keep the others elsewhere", .0.display())]
    SameFolder(PathBuf),
    /// The offline keys are needed, and were neither named nor found.
    #[error("there is no {}, where the offline keys are at first", .0.display())]
    OfflineUnnamed(PathBuf),
    /// The offline keys are needed, and are not in this folder: nothing was changed.
    #[error("{} is no folder", .0.display())]
    OfflineAway(PathBuf),
    /// The generation that is to come cannot be found: nothing was changed for this key.
    #[error(
        "the seed of {public}, the next generation of {key}, is neither in {} nor among the offline \
         keys",
        folder.display()
    )]
    NextAway {
        /// The key.
        key: KeyRole,
        /// Its next generation.
        public: String,
        /// The folder of the keys in use.
        folder: PathBuf,
    },
    /// A generation cannot be found.
    #[error("there is no seed of {0}")]
    SeedAway(String),
    /// Events cannot come by the intake before there is one.
    #[error("there is no [intake] yet")]
    NoIntake,
    /// Config mode has its accounts in nats-server.conf, which its owner changes.
    #[error(
        "in the mode `config` nats-server.conf says how events are taken; see \"Taking events in\" in \
         deploy/README.md"
    )]
    IntakeByHand,
    /// Something in the deployment is in the way; the text says what, and what to do.
    #[error("{0}")]
    Unfit(String),
    /// A rotation was stopped; run again, it goes on where it was.
    #[error("{key}, which can be resumed")]
    Stopped {
        /// The key.
        key: KeyRole,
        /// Why.
        source: Box<KeysError>,
    },
    /// A file.
    #[error("{what} {}", path.display())]
    File {
        /// What could not be done with it.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An account could not be changed on every server.
    #[error("account {account}")]
    Account {
        /// Its id.
        account: String,
        /// Why.
        source: ResolverError,
    },
    /// The configuration.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The tenant table does not say which instances run.
    #[error(transparent)]
    Instances(StoreError),
    /// Something of the deployment that the cause says.
    #[error(transparent)]
    Other(BoxError),
}

box_errors!(
    KeysError::Other: ClusterError, IssueError, JwtError, KeyError, KeyFileError, LoginError,
    ResolverError, StoreError, StreamsError, serde_json::Error
);

impl KeysError {
    pub(super) fn unfit(what: impl Into<String>) -> Self {
        Self::Unfit(what.into())
    }

    /// An error that says what could not be done with a file.
    pub(super) fn file(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { what, path, source }
    }

    pub(super) fn connection(error: impl Into<BoxError>) -> Self {
        Self::Other(error.into())
    }
}
