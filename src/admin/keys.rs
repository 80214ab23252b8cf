//! Keys: which generations of each there are and who knows them, the change from one to the next,
//! and what other logins take that a deployment of before has not. START with [`Rotator`].

mod claims;
mod error;
mod files;
mod fleet;
mod instances;
mod intake;
mod journal;
mod list;
mod offline;
mod plan;
mod reader;
mod rotate;
mod servers;

use std::path::{Path, PathBuf};

pub use self::error::Error;
pub(crate) use self::error::KeysError;
pub(crate) use self::intake::{IntakeDone, IntakeRequest, intake};
pub use self::list::{Generation, Known, Listing, State, list};
pub(crate) use self::plan::{Plan, plan};
pub(crate) use self::reader::reader;
pub(crate) use self::rotate::Step;
pub use self::rotate::{Progress, RotationRequest, Rotator, Wait};
use super::Admin;
use crate::config::{Config, Files, OperatorMode};
pub use crate::deployment::KeyRole;
use crate::keyfile;
use crate::keys::{KeyKind, SigningKey};

/// What an operation on keys comes to.
type Result<T, E = KeysError> = std::result::Result<T, E>;

/// Reads the configuration again, with the files that it names.
fn load(admin: &Admin) -> Result<Config> {
    let loaded = Config::load(&admin.config.file, Files::MustExist)?;
    for warning in loaded.warnings {
        admin.remark(&format!("warning: {warning}"));
    }
    Ok(loaded.config)
}

/// Where the keys that are in use lie.
fn folder(config: &Config) -> Result<PathBuf> {
    let files = KeyRole::of(config).into_iter().flat_map(|key| key.files(config).first());
    let folder = files.filter_map(|file| file.parent()).next();
    folder.map(Path::to_owned).ok_or_else(|| KeysError::unfit("the configuration lists no key"))
}

/// What signs accounts.
fn operator_key(mode: &OperatorMode) -> Result<SigningKey> {
    let first = mode.operator_signing.first();
    let first = first.ok_or_else(|| KeysError::unfit("no operator key"))?;
    Ok(keyfile::signing_key(first, KeyKind::Operator)?)
}

/// Keys that the mode does not have cannot be asked for.
fn check(config: &Config, asked: &[KeyRole]) -> Result<()> {
    let known = KeyRole::of(config);
    match asked.iter().find(|key| !known.contains(key)) {
        None => Ok(()),
        Some(other) => {
            let names: Vec<&str> = known.iter().map(|key| key.name()).collect();
            Err(KeysError::Invalid(format!(
                "there is no {other} in the mode `{}`; its keys are {}",
                config.mode.name(),
                names.join(", ")
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who embeds this runs it on any thread.
    #[test]
    fn every_operation_can_be_spawned() {
        fn is_send<T: Send>(_: impl FnOnce(&Admin) -> T) {}
        is_send(|admin: &Admin| {
            let admin = admin.clone();
            async move {
                let mut rotator = Rotator::new(&admin, RotationRequest::default()).await?;
                rotator.advance().await?;
                list(&admin).await?;
                reader(&admin, None).await?;
                intake(&admin, &IntakeRequest::default()).await.map_err(Error::from)
            }
        });
    }
}
