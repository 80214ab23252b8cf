//! Creds files that a command writes anew.

use std::path::Path;

use super::files;
use crate::clock::{Clock as _, SystemClock};
use crate::deployment::creds::creds;
use crate::keyfile;
use crate::keys::{KeyKind, SigningKey};
use crate::protocol::claims::UserBody;

/// Writes a login with what it may do now; who has it already keeps its key.
pub(super) fn write(
    file: &Path,
    name: &str,
    issuer: &SigningKey,
    body: UserBody,
) -> anyhow::Result<()> {
    let seed = match file.exists() {
        true => keyfile::seed_of_creds(file)?,
        false => SigningKey::generate(KeyKind::User)?.1,
    };
    let user = SigningKey::from_seed(&seed, KeyKind::User)?;
    files::replace(file, &creds(name, (&user, &seed), issuer, body, SystemClock.now())?)
}
